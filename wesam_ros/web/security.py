"""Checks on those who open the page, and on those who change something with it.

- The server is bound to 127.0.0.1 unless told otherwise.
- Requests must name a host that is allowed, so that a foreign site cannot lead a browser here under a name of its own (DNS rebinding).
- Web sockets, over which all changes go, must come from a page of this server: their Origin is checked.
- Nothing is taken but GET and HEAD: there are no uploads, and no address that changes something.
- A page has controls only if its browser has the token, in a cookie that scripts and foreign sites cannot use.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST_TOKEN = 16
HEADERS = {
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; object-src 'none'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""Sent with every answer. Vue compiles templates in the browser, which needs unsafe-eval."""


class Access:
    """The token, and the names under which the server may be asked.

    Args:
        token: of those who may change something.
        hosts: names and addresses beside the loopback's.
        port: of the server.
    """

    def __init__(self, token: str, hosts: Iterable[str], port: int) -> None:
        self.token, self.port = token, port
        self.hosts = {each.lower() for each in (*LOOPBACK, *hosts)}
        self.cookie = f"wesam_token_{port}"  # cookies are of a host, whatever its port

    def is_token(self, text: str) -> bool:
        """True for the token."""
        return secrets.compare_digest(text.encode(), self.token.encode())

    def may_change(self, cookie_header: str) -> bool:
        """True where a request's cookies have the token."""
        try:
            found = SimpleCookie(cookie_header).get(self.cookie)
        except CookieError:
            return False
        return found is not None and self.is_token(found.value)

    def is_host(self, text: str) -> bool:
        """True for a Host header under which the server may be asked."""
        try:
            parts = urlsplit(f"//{text}")
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        return name in self.hosts and port in (None, self.port)

    def is_own(self, origin: str, host: str) -> bool:
        """True for an Origin header of a page that came from this server under the name in `host`."""
        scheme, _, rest = origin.partition("://")
        return scheme in ("http", "https") and rest.lower() == host.lower() and self.is_host(rest)


class Guarded:
    """An ASGI application behind the checks.

    Args:
        app: the application.
        access: decides.
    """

    def __init__(self, app: App, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if scope["type"] == "websocket":
            await (self.app(scope, receive, send) if refusal is None else send({"type": "websocket.close", "code": 1008}))
            return
        if refusal is not None:
            await _answer(send, *refusal)
            return
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
        if given is not None:
            await self._log_in(given[-1], send)
            return
        await self.app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and sentence for a request that is not taken; None for any other."""
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self.access.is_host(host):
            return 421, f"this server does not go by the name {host!r}; start it with --allow-host NAME"
        if scope["type"] == "websocket" and origin is None:
            return 403, "a web socket must tell its origin"
        if origin is not None and not self.access.is_own(origin, host):
            return 403, f"requests from {origin!r} are not taken"
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD"):
            return 405, "only GET is taken: nothing is uploaded or changed by a request"
        return None

    async def _log_in(self, token: str, send: Send) -> None:
        """Puts the token into a cookie, and out of the address, where it would stay in the browser's history."""
        if not self.access.is_token(token):
            await _answer(send, 403, "that is not the token which `wesam web` has printed")
            return
        cookie = f"{self.access.cookie}={self.access.token}; HttpOnly; SameSite=Strict; Path=/"
        await _answer(send, 303, "", {"location": "/", "set-cookie": cookie})


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *((name.encode(), text.encode()) for name, text in HEADERS.items())]
        await send(message)

    return sending


async def _answer(send: Send, status: int, text: str, more: dict[str, str] | None = None) -> None:
    headers = {"content-type": "text/plain; charset=utf-8", **HEADERS, **(more or {})}
    rows = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": rows})
    await send({"type": "http.response.body", "body": text.encode()})


def read_token(file: Path | None) -> str:
    """The token in a file, which is made for the owner alone where it is missing; without a file, a new token.

    Raises:
        ValueError: the file holds no token.
    """
    fresh = secrets.token_urlsafe(24)
    if file is None:
        return fresh
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.touch(0o600)
        file.write_text(fresh + "\n")
    token = file.read_text().strip()
    if len(token) < SHORTEST_TOKEN or any(not (each.isascii() and (each.isalnum() or each in "-_")) for each in token):
        raise ValueError(
            f"{file} must hold a token of at least {SHORTEST_TOKEN} letters, digits, - and _; remove the file, and a new one is made"
        )
    return token

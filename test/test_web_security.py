"""The checks on who may open the page and change something: the checks alone, and a server that is attacked over the network."""

from __future__ import annotations

import asyncio
import http.client
import stat
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from browser import TOKEN

from wesam_ros.web.security import Access, Guarded, read_token

PORT = 8765
HOST, ORIGIN = f"127.0.0.1:{PORT}", f"http://127.0.0.1:{PORT}"


def access() -> Access:
    return Access(TOKEN, ("robot.local",), PORT)


def asked(kind: str = "http", method: str = "GET", query: str = "", **headers: str) -> list[MutableMapping[str, Any]]:
    """The messages that a request leads to; the application behind the checks answers with status 200, or accepts."""
    sent: list[MutableMapping[str, Any]] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"} if kind == "websocket" else {"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request"}

    rows = [(name.encode(), text.encode()) for name, text in headers.items() if text]
    scope = {"type": kind, "method": method, "path": "/", "query_string": query.encode(), "headers": rows}
    asyncio.run(Guarded(inner, access())(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"host": HOST}, 200),
        ({"host": f"LOCALHOST:{PORT}"}, 200),
        ({"host": f"[::1]:{PORT}"}, 200),
        ({"host": f"robot.local:{PORT}"}, 200),
        ({"host": HOST, "origin": ORIGIN}, 200),
        ({"host": HOST, "method": "HEAD"}, 200),
        ({"host": ""}, 421),
        ({"host": f"evil.example:{PORT}"}, 421),  # DNS rebinding: the browser believes that this is its address
        ({"host": "127.0.0.1:80"}, 421),
        ({"host": "127.0.0.1:x"}, 421),
        ({"host": HOST, "origin": "http://evil.example"}, 403),
        ({"host": HOST, "origin": "null"}, 403),
        ({"host": HOST, "origin": f"http://robot.local:{PORT}"}, 403),  # another page, though of an allowed name
        ({"host": HOST, "origin": "http://127.0.0.1:9999"}, 403),
        ({"host": HOST, "origin": f"{ORIGIN}.evil.example"}, 403),
        *(({"host": HOST, "origin": ORIGIN, "method": method}, 405) for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS")),
        ({"host": HOST, "query": "token=wrong"}, 403),
        ({"host": HOST, "query": "token="}, 200),  # nothing was given
        ({"host": HOST, "query": f"token={TOKEN}"}, 303),
    ],
)
def test_requests(request_: dict[str, str], status: int) -> None:
    first = asked(**request_)[0]
    assert first["status"] == status
    headers = dict(first["headers"])
    assert headers[b"x-frame-options"] == b"DENY"
    assert b"frame-ancestors 'none'" in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    ("headers", "accepted"),
    [
        ({"host": HOST, "origin": ORIGIN}, True),
        ({"host": f"robot.local:{PORT}", "origin": f"http://robot.local:{PORT}"}, True),
        ({"host": HOST}, False),
        ({"host": HOST, "origin": "http://evil.example"}, False),
        ({"host": f"evil.example:{PORT}", "origin": f"http://evil.example:{PORT}"}, False),
    ],
)
def test_web_sockets_must_come_from_a_page_of_this_server(headers: dict[str, str], accepted: bool) -> None:
    assert (asked("websocket", **headers)[0]["type"] == "websocket.accept") == accepted


def test_the_token_goes_into_a_cookie_that_scripts_and_other_sites_cannot_use() -> None:
    headers = dict(asked(host=HOST, query=f"token={TOKEN}")[0]["headers"])
    assert headers[b"location"] == b"/"
    cookie = headers[b"set-cookie"].decode()
    assert {"HttpOnly", "SameSite=Strict"} <= {each.strip() for each in cookie.split(";")}
    assert access().may_change(cookie.partition(";")[0])


@pytest.mark.parametrize(
    "cookies",
    ["", "wesam_token_8765=", "wesam_token_8765=wrong", f"wesam_token_8766={TOKEN}", f"other={TOKEN}", "\x00", "wesam_token_8765=ü"],
)
def test_other_cookies_do_not_do(cookies: str) -> None:
    assert not access().may_change(cookies)


def test_a_token_file_is_made_for_its_owner_alone_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "token"
    token = read_token(file)
    assert read_token(file) == token
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len({token, read_token(None), read_token(None)}) == 3
    for text in ("", "short", "with spaces and more than that", 'quotes";and=more_of_them'):
        file.write_text(text)
        with pytest.raises(ValueError, match="token"):
            read_token(file)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server with the page."""
    pytest.importorskip("nicegui", reason="needs nicegui: pip install -r requirements-web.txt")
    from test_web_browser import Server

    server = Server(tmp_path_factory.mktemp("attacked"))
    server.start()
    yield server.port
    server.kill()


def status_of(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    finally:
        connection.close()


def test_the_server_takes_no_foreign_names_uploads_or_paths(port: int, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    own = f"http://127.0.0.1:{port}"
    assert status_of(port, "GET", "/")[0] == 200
    assert status_of(port, "GET", "/", Host=f"evil.example:{port}")[0] == 421
    assert status_of(port, "POST", "/", b"x" * 1000, Origin=own)[0] == 405
    assert status_of(port, "POST", "/_nicegui_ws/socket.io/?EIO=4&transport=polling", b"40", Origin=own)[0] == 405
    for path in (f"/..{secret}", f"/%2e%2e{secret}", f"/_nicegui/3/static/..%2f..{secret}", f"/?robot={secret}", f"/?robot=..{secret}"):
        status, text = status_of(port, "GET", path)
        assert "a secret" not in text
        assert status in (200, 404), path
    for path in ("/docs", "/openapi.json", "/redoc"):
        assert status_of(port, "GET", path)[0] == 404


def test_a_page_without_the_token_is_built_without_controls(port: int) -> None:
    text = status_of(port, "GET", "/")[1]
    assert "Back to live" not in text
    assert "Back to live" in status_of(port, "GET", "/", Cookie=f"wesam_token_{port}={TOKEN}")[1]


@pytest.mark.parametrize(("origin", "opened"), [("own", True), ("http://evil.example", False), (None, False)])
def test_sockets_of_the_server(port: int, origin: str | None, opened: bool) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    address = f"ws://127.0.0.1:{port}/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    given: Any = f"http://127.0.0.1:{port}" if origin == "own" else origin
    if opened:
        with connect(address, origin=given, open_timeout=20) as socket:
            assert str(socket.recv(timeout=20)).startswith("0{")
    else:
        with pytest.raises(InvalidStatus, match="403"), connect(address, origin=given, open_timeout=20):
            pass

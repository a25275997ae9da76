"""The server: NiceGUI's application behind the checks of `security`, on one port."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from nicegui import app as nicegui_app
from nicegui import ui

from wesam_ros.web.page import Page, waiting_page
from wesam_ros.web.security import Access, Guarded
from wesam_ros.web.values import Robots

LARGEST_MESSAGE = 2**18
"""Bytes that a browser may send at once: a brush stroke has some ten thousand."""
RECONNECT_SECONDS = 5.0
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#2f6fc4"/>'
    '<path d="M6 10l4 13 6-9 6 9 4-13" fill="none" stroke="#fff" stroke-width="3.2" stroke-linejoin="round" stroke-linecap="round"/></svg>'
)


@dataclass(frozen=True)
class WebSettings:
    """Settings of the server.

    Attributes:
        host: address to listen on.
        port: to listen on.
        access: the token and the allowed names.
        folder: of adapter files that may be loaded; None for none.
    """

    host: str
    port: int
    access: Access
    folder: Path | None = None


def make_server(robots: Robots, settings: WebSettings) -> uvicorn.Server:
    """The server, ready to run. One process has one."""

    @ui.page("/", title="wesam")  # type: ignore[untyped-decorator]
    def page(request: Request, robot: str = "") -> None:
        names = robots.names()
        if not names:
            waiting_page(robots)
            return
        chosen = robots.robot(robot if robot in names else names[0])
        may_change = settings.access.may_change(request.headers.get("cookie", ""))
        Page(robots, chosen, may_change, settings.folder, ui.context.client)

    nicegui_app.config.socket_io_js_transports = ["websocket"]  # whose Origin is checked; the other one would need POST
    api = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    ui.run_with(
        api,
        title="wesam",
        favicon=ICON,
        dark=None,
        tailwind=False,
        show_welcome_message=False,
        reconnect_timeout=RECONNECT_SECONDS,
        message_history_length=0,
    )
    config = uvicorn.Config(
        Guarded(api, settings.access),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        ws_max_size=LARGEST_MESSAGE,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    return uvicorn.Server(config)

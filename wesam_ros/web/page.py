"""The page of one robot: its cards, and the timers that refresh them while somebody looks."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from urllib.parse import quote

from nicegui import ui
from nicegui.client import Client

from wesam_ros.web.parts.controls_card import ControlsCard, confirmed
from wesam_ros.web.parts.health_card import HealthCard
from wesam_ros.web.parts.learning_card import LearningCard
from wesam_ros.web.parts.objects_card import ObjectsCard
from wesam_ros.web.parts.picture_card import PERIOD, PictureCard
from wesam_ros.web.parts.question_card import QuestionCard
from wesam_ros.web.parts.welcome import welcome
from wesam_ros.web.values import NodeHealth, Robot, Robots

STYLE = Path(__file__).with_name("page.css").read_text()
SEEN_SECONDS = 10.0
"""An adapter that the node has gone back to comes within so many seconds."""
SLOW = 1.0
"""Seconds between two refreshes of everything but the picture."""


class Page:
    """One browser's page on one robot.

    Args:
        robots: of the graph.
        robot: the one that is shown.
        may_change: the browser has the token.
        folder: of adapter files that may be loaded; None for none.
        client: the browser.
    """

    def __init__(self, robots: Robots, robot: Robot, may_change: bool, folder: Path | None, client: Client) -> None:
        self._robots, self._robot, self._may_change, self._client = robots, robot, may_change, client
        self._in_view = True
        _frame_of_page()
        self._header()
        with ui.element("main").props("id=main"):
            welcome()
            with ui.element("div").classes("columns"):
                with ui.element("div").classes("aside"):
                    self._picture = PictureCard(robot, may_change, self._pick, self._seen)
                    self._questions = QuestionCard(robot, may_change)
                with ui.element("div").classes("aside"):
                    self._controls = ControlsCard(robot, may_change, folder)
                    self._objects = ObjectsCard(self._pick)
            self._learning = LearningCard(robot, self._go_back if may_change else None)
            self._health = HealthCard()
        ui.timer(PERIOD, self._refresh_picture)
        ui.timer(SLOW, self._refresh)
        client.on_connect(lambda: self._watch(True))
        client.on_disconnect(lambda: self._watch(False))
        client.on_delete(lambda: self._watch(False))

    def _header(self) -> None:
        with ui.header().classes("bar"):
            ui.label("wesam").classes("name").props("role=heading aria-level=1")
            names = sorted({*self._robots.names(), self._robot.name})
            if len(names) > 1:
                robots = ui.select(names, value=self._robot.name, on_change=lambda event: go_to(event.value))
                robots.props('dense borderless options-dense aria-label="Robot"')
            with ui.row().classes("chips").props('role=status aria-live="polite" aria-label="State"'):
                self._chips = {name: ui.label("").classes("chip") for name in ("state", "model", "rate", "latency")}
            dark = ui.dark_mode(None)
            ui.button(icon="contrast", on_click=lambda: dark.set_value(not dark.value)).props(
                'flat round dense color=white aria-label="Dark or light"'
            ).tooltip("Dark or light")

    def _seen(self, in_view: bool) -> None:
        self._in_view = in_view
        self._watch(self._client.has_socket_connection)

    def _watch(self, connected: bool) -> None:
        """Subscribes while the page is connected and in view, and only then."""
        (self._robot.watch if connected and self._in_view else self._robot.unwatch)(self._client.id)

    def _pick(self, row: int) -> None:
        self._picture.element.highlight(row)
        self._objects.highlight(row)

    async def _refresh_picture(self) -> None:
        if self._in_view and self._client.has_socket_connection:
            await self._picture.refresh()

    def _refresh(self) -> None:
        if not (self._in_view and self._client.has_socket_connection):
            return
        reports = self._robot.health()
        segmenter = next((each for each in reports if each.name.endswith("/segmenter")), None)
        adapter = next((each for each in reports if each.name.endswith("/adapter")), None)
        self._show_state(segmenter, adapter)
        self._objects.refresh(self._picture.frame)
        self._controls.refresh(segmenter, adapter)
        self._questions.refresh()
        self._learning.refresh()
        self._health.refresh(reports, self._robot.nodes())

    def _show_state(self, segmenter: NodeHealth | None, adapter: NodeHealth | None) -> None:
        frame = self._picture.frame
        state = adapter.values.get("learning", "") if adapter is not None else ""
        texts = {
            "state": {"on": "learning", "paused": "learning paused"}.get(state, "learner not heard"),
            "model": (f"adapter v{frame.adapter_version}" if frame.adapter_version else "frozen model") if frame is not None else "",
            "rate": f"{segmenter.values['rate_hz']} frames/s" if segmenter is not None and "rate_hz" in segmenter.values else "",
            "latency": f"{frame.latency_ms:.0f} ms" if frame is not None else "",
        }
        for name, text in texts.items():
            self._chips[name].text = text
            self._chips[name].visible = bool(text)

    async def _go_back(self, number: int) -> None:
        """Rolls back to a version, one step after the other."""
        history = self._robot.history
        try:
            steps, wanted = history.steps_back(number), history.digest(number)
        except KeyError:
            ui.notify(f"Version {number} is not kept any more.", type="warning")
            return
        text = f"Its weights are served again under a new version. The {steps} newer ones cannot be brought back."
        if not await confirmed(f"Go back to version {number}?", text):
            return
        for _ in range(steps):
            outcome = await self._robot.call("rollback")
            if not outcome.done:
                ui.notify(f"Stopped: {outcome.message}", type="negative")
                return
        end = time.monotonic() + SEEN_SECONDS
        while history.versions[-1].digest != wanted and time.monotonic() < end:
            await asyncio.sleep(0.1)
        if history.versions[-1].digest == wanted:
            ui.notify(f"Version {number} is served again, as version {history.versions[-1].number}.", type="positive")
        else:
            ui.notify(f"Another adapter was published meanwhile: version {history.versions[-1].number} is served.", type="warning")


def waiting_page(robots: Robots, problem: str = "") -> None:
    """The page while no robot is there: it looks for one, and opens it."""
    _frame_of_page()
    with ui.element("main"), ui.card().classes("card"):
        ui.label("wesam").classes("heading").props("role=heading aria-level=1")
        ui.label(problem or "No segmenter is running in this ROS graph yet. The page opens as soon as there is one.").props("role=status")
        ui.label("Start the nodes with `ros2 launch wesam_ros adapt.launch.py`. Both must have the same ROS_DOMAIN_ID.").classes("quiet")
    ui.timer(SLOW, lambda: go_to("") if robots.names() else None)


def go_to(name: str) -> None:
    """Opens the page of a robot, "" for the first one."""
    ui.navigate.to(f"/?robot={quote(name, safe='')}" if name else "/")


def _frame_of_page() -> None:
    ui.add_css(STYLE)
    ui.colors(primary="#2f6fc4", positive="#18805f", negative="#b8336a", warning="#9a6700")

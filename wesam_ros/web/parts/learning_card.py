"""The course of learning: counts, reasons, curves, and versions that one can go back to."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from wesam_ros.web import curves
from wesam_ros.web.history import Learnt
from wesam_ros.web.values import Robot

REASONS = {
    "misplaced_boxes": "the boxes do not belong to the depth",
    "small_objects": "all objects are too small",
    "no_prompts": "nothing is asked for",
    "nothing_trusted": "taken, but no mask could be trusted",
    "nothing_new": "nothing new for long",
    "paused": "learning is paused",
}
"""Reasons of a status in plain words."""
CHARTS = (
    (
        "Validation score",
        curves.scores_chart,
        "How well masks fit on pictures that are kept for judging. A new adapter is served only if it does not fall.",
    ),
    ("Losses", curves.losses_chart, "The errors that training makes smaller."),
    ("Pictures", curves.outcomes_chart, "Taken to learn from, or not, and why not."),
    ("Latency", curves.latency_chart, "From a picture's arrival to its masks."),
)


class LearningCard:
    """Counts, curves and versions.

    Args:
        robot: whose learning it is.
        go_back: called with the number of a version to go back to; None where the page may change nothing.
    """

    def __init__(self, robot: Robot, go_back: Callable[[int], Awaitable[None]] | None) -> None:
        self._robot, self._go_back = robot, go_back
        self._drawn: object = None
        self._listed: list[int] = []
        with ui.card().classes("card wide-card"):
            ui.label("Learning").classes("heading").props("role=heading aria-level=2")
            self._counts = ui.label("Nothing was heard of the learner yet.")
            self._proposal = ui.label("").classes("quiet")
            with ui.element("div").classes("charts"):
                self._charts = [self._chart(title, text) for title, _, text in CHARTS]
            ui.label("Versions").classes("subheading").props("role=heading aria-level=3")
            self._versions = ui.row().classes("versions")
            with self._versions:
                ui.label("None was published while this page was open.").classes("quiet")

    def _chart(self, title: str, text: str) -> ui.html:
        with ui.element("figure"), ui.element("figcaption"):
            ui.label(title).classes("subheading")
            ui.label(text).classes("quiet")
            return ui.html("", sanitize=False)  # SVG of ours; words in it are escaped

    def refresh(self) -> None:
        """Shows what has come since."""
        history = self._robot.history
        last = history.learnt[-1] if history.learnt else None
        newest = (last.at if last is not None else 0.0, history.latencies[-1] if history.latencies else None)
        if newest == self._drawn:
            return
        self._drawn, now = newest, time.monotonic()
        if last is not None:
            self._counts.text = counts_text(last, history.reasons)
            self._proposal.text = f"Last candidate: {last.proposal}." if last.proposal else self._proposal.text
        for chart, (_, draw, _) in zip(self._charts, CHARTS, strict=True):
            chart.content = draw(history, now) or '<p class="quiet">no values yet</p>'
        self._list_versions()

    def _list_versions(self) -> None:
        versions = self._robot.history.versions
        numbers = [each.number for each in versions]
        if numbers == self._listed or not versions:
            return
        self._listed = numbers
        self._versions.clear()
        with self._versions:
            for each in reversed(versions):
                served = each is versions[-1]
                text = f"v{each.number}, served" if served else f"v{each.number}"
                button = ui.button(text, icon="check" if served else "history").props("no-caps dense" + ("" if served else " outline"))
                button.tooltip("It is served now" if served else "Go back to it")
                if served or self._go_back is None:
                    button.disable()
                else:
                    button.on_click(partial(self._go_back, each.number))


def counts_text(last: Learnt, reasons: dict[str, int]) -> str:
    """The counts of the learner in words."""
    words = [f"{REASONS.get(reason, reason)} ({n})" for reason, n in sorted(reasons.items(), key=lambda row: -row[1])[:4]]
    why = f" Reasons since this page is open: {', '.join(words)}." if words else ""
    score = f" Its validation score is {last.published:.3f}, the frozen model's {last.frozen:.3f}." if math.isfinite(last.published) else ""
    return (
        f"{last.seen} pictures seen, {last.took} taken to learn from, {last.refused} rejected.{why} "
        f"Version {last.version} was published last; {last.candidates_refused} candidates were rejected.{score}"
    )

"""The element that shows the live picture (picture.js)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from wesam_ros.web.outlines import drawn, jpeg_of, picture_of
from wesam_ros.web.values import SeenFrame, SeenObject

TOOLS = ("look", "on", "off", "box", "paint")
"""Uses of a pointer on the picture: none, click on or off the object, drag a box, paint."""
LABEL = (
    "Camera picture with the outlines of the objects. With a tool chosen, arrow keys move a cursor, with Shift faster, and Enter clicks; "
    "Shift and Enter click off the object."
)


class Picture(ui.element, component="picture.js"):  # type: ignore[misc, call-arg] # NiceGUI is an extra: no types
    """An image with outlines, sharp at any size, that takes a person's marks.

    Args:
        mark: called with each mark, as the browser sends it.
        shown: called when the browser has drawn a frame.
        pick: called with the row of the object that was clicked, -1 for none.
        seen: called with False when the page is hidden, and with True when it is in view again.
    """

    def __init__(
        self,
        mark: Callable[[GenericEventArguments], Any],
        shown: Callable[[], Any],
        pick: Callable[[int], Any],
        seen: Callable[[bool], Any],
    ) -> None:
        super().__init__()
        self.props["tool"], self.props["label"], self.props["waiting"], self.props["held"] = TOOLS[0], LABEL, "waiting for a picture", False
        self.on("mark", mark)
        self.on("shown", lambda: shown())
        self.on("pick", lambda event: pick(event.args))
        self.on("seen", lambda event: seen(event.args))

    def use(self, tool: str) -> None:
        """Chooses a tool of TOOLS."""
        self.props["tool"] = tool

    def wait_for(self, sentence: str) -> None:
        """Says why there is no picture yet."""
        if self.props["waiting"] != sentence:
            self.props["waiting"] = sentence

    def hold(self, held: bool) -> None:
        """Marks the picture as held, or as live, and takes all marks away."""
        self.props["held"] = held
        if not held:
            self.run_method("live")

    def show(self, payload: dict[str, Any]) -> None:
        """Shows what `payload_of` made."""
        self.run_method("show", payload)

    def propose(self, found: list[SeenObject], sketch: dict[str, Any] | None) -> None:
        """Shows the outline that a sketch led to, and the sketch."""
        self.run_method("propose", [drawn(each, 0) for each in found], sketch)

    def compare(self, adapted: list[SeenObject], frozen: list[SeenObject]) -> None:
        """Shows two sets of outlines with a border between them that can be moved."""
        self.run_method("compare", *([drawn(each, row) for row, each in enumerate(found)] for found in (adapted, frozen)))

    def highlight(self, row: int) -> None:
        """Highlights an object, -1 for none."""
        self.run_method("highlight", row)


@lru_cache(maxsize=2)
def payload_of(frame: SeenFrame) -> dict[str, Any]:
    """A frame for the browser, with its pixels; two pages of one robot share it."""
    return {**picture_of(frame), "src": f"data:image/jpeg;base64,{base64.b64encode(jpeg_of(frame.image)).decode()}"}

"""The live picture, and a person's marks on it."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from nicegui import ui
from nicegui.events import GenericEventArguments

from wesam_ros.web.keeping import iou, keep, whole_mask
from wesam_ros.web.picture import Picture, payload_of
from wesam_ros.web.sketch import Sketch, SketchError
from wesam_ros.web.values import Marks, Robot, RobotError, SeenFrame, SeenObject

PERIOD = 0.2
"""Seconds between two pictures: 5 Hz are enough to watch, and cost the robot little."""
PATIENCE = 3.0
"""A browser that has not shown a picture after so many seconds gets the next one all the same."""
TOOLS = {
    "look": ("visibility", "Look", "Look: click an object to see its details"),
    "on": ("add_circle", "Add", "Add: click what belongs to the object"),
    "off": ("remove_circle", "Remove", "Remove: click what does not belong to it"),
    "box": ("crop_free", "Box", "Box: drag a box around the object"),
    "paint": ("brush", "Paint", "Paint roughly over the object"),
}
"""By tool: icon, word and explanation."""


class PictureCard:
    """The picture with its tools.

    Args:
        robot: whose picture it is.
        may_change: a person may have masks computed and kept.
        picked: called with the row of the object that was clicked, -1 for none.
        seen: called when the page is hidden, or in view again.
    """

    def __init__(self, robot: Robot, may_change: bool, picked: Callable[[int], None], seen: Callable[[bool], None]) -> None:
        self.frame: SeenFrame | None = None
        self._robot, self._may_change = robot, may_change
        self._frames: deque[SeenFrame] = deque(maxlen=4)
        self._sent = 0.0
        self._held: SeenFrame | None = None
        self._sketch: Sketch | None = None
        self._found: SeenObject | None = None
        self._asking, self._again = False, False
        with ui.card().classes("card picture-card"):
            self.element = Picture(self._mark, self._shown, picked, seen)
            if may_change:
                self._tools()
            self._hint = ui.label("").classes("hint").props('role=status aria-live="polite"')

    def _tools(self) -> None:
        with ui.row().classes("tools").props('role=toolbar aria-label="Tools for the picture"'):
            options = {name: word for name, (_, word, _) in TOOLS.items()}
            self._tool = ui.toggle(options, value="look", on_change=lambda event: self._choose(event.value)).props("no-caps dense")
            self._compare = ui.button("Compare with frozen", icon="compare", on_click=self._start_comparing).props("flat no-caps dense")
            self._live = ui.button("Back to live", icon="play_arrow", on_click=self.go_live).props("flat no-caps dense")
            self._undo = ui.button("Undo", icon="undo", on_click=self._take_back).props("flat no-caps dense")
            self._keep = ui.button("Keep for learning", icon="school", on_click=self._send).props("no-caps dense unelevated")
        self._show_buttons()

    async def refresh(self) -> None:
        """Sends the newest picture, if there is a new one and the browser has shown the last."""
        if self._held is not None or (self._sent and time.monotonic() - self._sent < PATIENCE):
            return
        frame = await asyncio.to_thread(self._robot.frame)
        if frame is None:
            self.element.wait_for(self._robot.problem() or "waiting for a picture")
        elif frame is not self.frame and self._held is None:
            payload = await asyncio.to_thread(payload_of, frame)
            self.frame, self._sent = frame, time.monotonic()
            self._frames.append(frame)
            self.element.show(payload)

    def _shown(self) -> None:
        self._sent = 0.0

    def go_live(self) -> None:
        """Forgets the held picture and all marks."""
        self._held = self._sketch = self._found = None
        self._sent = 0.0
        self.element.hold(False)
        self._hint.text = ""
        self._show_buttons()

    def _choose(self, tool: str) -> None:
        self.element.use(tool)
        self._hint.text = TOOLS[tool][2]
        if tool == "look" and self._sketch is None and self._held is None:
            self._hint.text = ""

    def _hold(self, frame: SeenFrame) -> None:
        self._held = frame
        self.element.show(payload_of(frame))
        self.element.hold(True)
        self._show_buttons()

    def _show_buttons(self) -> None:
        if not self._may_change:
            return
        held, sketch = self._held is not None, self._sketch is not None
        self._live.visible = held
        self._compare.visible = not held
        self._undo.visible, self._keep.visible = sketch, sketch
        self._keep.enabled = self._found is not None

    async def _mark(self, event: GenericEventArguments) -> None:
        """Takes a mark of the browser, and has the segmenter answer."""
        if not self._may_change or not isinstance(event.args, dict):
            return
        stamp = str(event.args.get("stamp", ""))
        frame = self._held or next((each for each in self._frames if str(each.stamp) == stamp), None)
        if frame is None:
            self._hint.text = "That picture is gone; click again."
            return
        try:
            sketch = self._sketch or Sketch(frame.size)
            sketch.add(event.args)
        except SketchError as error:
            self._hint.text = str(error)
            return
        self._sketch = sketch
        if self._held is None:
            self._hold(frame)
        await self._ask()

    async def _take_back(self) -> None:
        if self._sketch is None:
            return
        self._sketch.undo()
        if len(self._sketch):
            await self._ask()
        else:
            self.go_live()

    async def _ask(self) -> None:
        """Asks for the mask of the sketch; of marks that come meanwhile, only the newest state is asked for."""
        self._again = True
        if self._asking:
            return
        self._asking = True
        try:
            while self._again and self._sketch is not None and self._held is not None:
                self._again = False
                await self._ask_once(self._held, self._sketch)
        finally:
            self._asking = False

    async def _ask_once(self, frame: SeenFrame, sketch: Sketch) -> None:
        self.element.propose([self._found] if self._found is not None else [], sketch.drawn())
        began = time.monotonic()
        try:
            found = await self._robot.segment(frame, [sketch.marks()])
        except (SketchError, RobotError) as error:
            found, text = [], str(error)
        else:
            text = (
                f"Predicted quality {found[0].score:.2f}, after {time.monotonic() - began:.1f} s." if found else "Nothing was found there."
            )
        if self._sketch is not sketch:
            return
        self._found = found[0] if found and found[0].mask.any() else None
        self._hint.text = text
        self.element.propose([self._found] if self._found is not None else [], sketch.drawn())
        self._show_buttons()

    async def _send(self) -> None:
        if self._held is None or self._found is None:
            return
        frame, found = self._held, self._found
        self._keep.enabled = False
        self._hint.text = "Sent to the learner …"
        outcome = await keep(self._robot, frame, found)
        ui.notify(
            f"Kept: {outcome.message}" if outcome.done else f"Not kept: {outcome.message}", type="positive" if outcome.done else "warning"
        )
        if outcome.done and self._found is found:
            self.go_live()
            self._tool.value = "look"
        elif not outcome.done:
            self._hint.text = f"Not kept: {outcome.message}"
            self._show_buttons()

    async def _start_comparing(self) -> None:
        frame = self.frame
        if frame is None or not frame.objects:
            ui.notify("There is no picture with objects yet.")
            return
        if not frame.adapter_version:
            ui.notify("The frozen model serves now: there is nothing to compare with.")
            return
        self._tool.value = "look"
        self._hold(frame)
        self._hint.text = "Both are computed …"
        boxes = [Marks(box=each.box) for each in frame.objects]
        try:
            frozen = await self._robot.segment(frame, boxes, frozen=True)
            adapted = await self._robot.segment(frame, boxes)
        except RobotError as error:
            self.go_live()
            self._hint.text = str(error)
            return
        if self._held is frame and self._sketch is None:
            self.element.compare(coloured(adapted, frame), coloured(frozen, frame))
            self._hint.text = compared(frame, frozen, adapted)


def coloured(found: Sequence[SeenObject], frame: SeenFrame) -> list[SeenObject]:
    """The objects of a comparison with the tracks of the frame's objects, and so with their colours."""
    return [replace(each, track_id=of.track_id) for each, of in zip(found, frame.objects, strict=True)]


def compared(frame: SeenFrame, frozen: Sequence[SeenObject], adapted: Sequence[SeenObject]) -> str:
    """A comparison in words."""
    pairs = zip(frozen, adapted, strict=True)
    same = float(np.mean([iou(whole_mask(a, frame.size), whole_mask(b, frame.size)) for a, b in pairs]))
    return (
        f"Left the frozen model, right with the adapter. Their masks agree to {100 * same:.0f} %. Both are of colour and boxes alone; "
        "what is served also uses depth and the frames before."
    )

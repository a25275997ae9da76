"""The learner's questions, one at a time: is this mask the thing?"""

from __future__ import annotations

from nicegui import ui
from nicegui.events import GenericEventArguments

from wesam_ros.web.picture import Picture, payload_of
from wesam_ros.web.sketch import Sketch, SketchError
from wesam_ros.web.values import Asked, Asking, Marks, Robot, RobotError, SeenObject

LABEL = (
    "Part of a picture with the outline that is asked about. Click what is missing, or choose Too much and click what does not belong. "
    "Arrow keys move a cursor, and Enter clicks."
)
TOOLS = {"on": "Missing", "off": "Too much"}
"""By tool: the meaning of a click on the picture."""
OFF = (
    "Questions are off. With the parameter `questions` of the adapter node above 0 it asks about the few things on which an answer would "
    "teach it most: `ros2 param set /adapter questions 8`."
)
NONE = "No question waits. They come when the learner meets something that it is not sure of."
WATCHING = "To answer, open the link with the token."


class QuestionCard:
    """One question with its buttons.

    Args:
        robot: whose learner asks.
        may_change: the page's browser has the token.
    """

    def __init__(self, robot: Robot, may_change: bool) -> None:
        self._robot, self._may_change = robot, may_change
        self._asked: Asked | None = None
        self._sketch: Sketch | None = None
        self._mended: SeenObject | None = None
        self._done: set[tuple[int, int]] = set()  # a restarted node counts its questions anew
        self._busy = False
        with ui.card().classes("card question-card") as self._card:
            ui.label("Questions").classes("heading").props("role=heading aria-level=2")
            self._text = ui.label("").props('role=status aria-live="polite"')
            if may_change:
                self._picture = Picture(self._mark, lambda: None, lambda row: None, lambda seen: None)
                self._picture.props["label"] = LABEL
                self._picture.use("on")
                self._buttons()
            self._hint = ui.label("").classes("hint").props('role=status aria-live="polite"')
        self._card.visible = False

    def _buttons(self) -> None:
        with ui.row().classes("buttons") as self._row:
            self._yes = ui.button("Yes, it is", icon="check", on_click=lambda: self._answer("yes")).props("no-caps dense unelevated")
            self._no = ui.button("No, it is not", icon="close", on_click=lambda: self._answer("no")).props("outline no-caps dense")
            self._tool = ui.toggle(TOOLS, value="on", on_change=lambda event: self._picture.use(event.value)).props("no-caps dense")
            self._send = ui.button("Send mended", icon="healing", on_click=lambda: self._answer("mended")).props("no-caps dense unelevated")
            self._skip = ui.button("Skip", on_click=lambda: self._answer("skip")).props("flat no-caps dense")
        self._undo = ui.button("Take the last answer back", icon="undo", on_click=lambda: self._answer("undo"))
        self._undo.props("flat no-caps dense")

    def refresh(self) -> None:
        """Shows the first question that has not been answered here; the one at hand stays until it has been."""
        if self._busy:
            return
        asking = self._robot.asking()
        self._card.visible = asking is not None
        if asking is None:
            return
        waiting = [each for each in asking.waiting if named(each) not in self._done]
        current = next((each for each in waiting if self._asked is not None and named(each) == named(self._asked)), None)
        self._text.text = text_of(asking, len(waiting), self._may_change)
        if self._may_change:
            self._undo.visible = asking.answers > 0 or bool(self._done)
            self._show(current or (waiting[0] if waiting else None))

    def _show(self, asked: Asked | None) -> None:
        self._picture.visible = self._row.visible = asked is not None
        if asked is None or (self._asked is not None and named(asked) == named(self._asked)):
            self._asked = asked
            return
        self._asked, self._sketch, self._mended = asked, None, None
        self._picture.show(payload_of(asked.frame))
        self._picture.propose([], None)
        self._hint.text = ""
        self._enable(True)

    def _enable(self, enabled: bool) -> None:
        for each in (self._yes, self._no, self._skip, self._undo):
            each.enabled = enabled
        self._send.enabled = enabled and self._mended is not None

    async def _mark(self, event: GenericEventArguments) -> None:
        """Mends the mask by a click: the segmenter is asked with the question's box and all clicks."""
        asked = self._asked
        if asked is None or not self._may_change or not isinstance(event.args, dict):
            return
        sketch = self._sketch or Sketch(asked.frame.size)
        try:
            if event.args.get("kind") != "point":
                raise SketchError("click on the picture")
            sketch.add(event.args)
            self._sketch = sketch
            found = await self._robot.segment(asked.frame, [Marks(asked.thing.box, tuple(sketch.points))])
        except (SketchError, RobotError) as error:
            self._hint.text = str(error)
            return
        if self._asked is not asked or self._sketch is not sketch:
            return
        self._mended = found[0] if found and found[0].mask.any() else None
        self._hint.text = "Is it right now? Then send it; else click again." if self._mended is not None else "Nothing was found there."
        self._picture.propose([self._mended] if self._mended is not None else [], sketch.drawn())
        self._enable(True)

    async def _answer(self, kind: str) -> None:
        """Sends an answer, and tells what follows from it. Until then nothing else is shown, and no other answer taken."""
        asked, mended = (None if kind == "undo" else self._asked), self._mended
        if self._busy or (kind != "undo" and asked is None):
            return
        self._busy = True
        self._enable(False)
        try:
            outcome = await self._robot.answer(asked, kind, mended if kind == "mended" else None)
        finally:
            self._busy = False
            self._enable(True)
        ui.notify(f"Thank you: {outcome.message}" if outcome.done else outcome.message, type="positive" if outcome.done else "warning")
        if outcome.done and asked is None:
            self._done.clear()
            self._asked = None  # the one that is asked again is shown
        elif outcome.done and asked is not None:
            self._done.add(named(asked))
        self.refresh()


def named(asked: Asked) -> tuple[int, int]:
    """A question's number and the stamp of its picture."""
    return asked.id, asked.frame.stamp


def text_of(asking: Asking, waiting: int, may_answer: bool) -> str:
    """The state of the questions in words."""
    so_far = f" {asking.answers} answers so far." if asking.answers else ""
    if not waiting:
        return (NONE if asking.enabled else OFF) + so_far
    question = "Is this outline the whole thing, and nothing else?" if may_answer else WATCHING
    return f"{question} {waiting} {'question waits' if waiting == 1 else 'questions wait'}.{so_far}"

"""Switches and buttons that have the nodes do something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nicegui import ui

from wesam_ros.web.values import NodeHealth, Outcome, Robot

SUFFIX = ".safetensors"
CONFIRMED = {
    "rollback": (
        "Go back one adapter?",
        "The adapter before the last one is served again. The last one cannot be brought back, unless it was saved elsewhere.",
    ),
    "reset": (
        "Forget all that was learnt?",
        "The adapter and all frames to learn from are thrown away, and learning starts anew. This cannot be undone. Your answers stay.",
    ),
}
"""Commands that cannot be undone: a question, and what would happen."""


class ControlsCard:
    """Switches and buttons; without the token they are shown, and do nothing.

    Args:
        robot: whose nodes they are.
        may_change: the page's browser has the token.
        folder: of adapter files that may be loaded; None for none.
    """

    def __init__(self, robot: Robot, may_change: bool, folder: Path | None) -> None:
        self._robot, self._may_change, self._folder = robot, may_change, folder
        with ui.card().classes("card"):
            ui.label("Control").classes("heading").props("role=heading aria-level=2")
            if not may_change:
                ui.label("You can watch. To change something, open the link with the token, which wesam web has printed.").classes("quiet")
            self._learning = self._switch("Learning", "pause", inverted=True)
            self._frozen = self._switch("Use the frozen model", "use_frozen")
            with ui.row().classes("buttons"):
                self._button("Save", "save", "save", "Saves adapter and training now")
                self._button("Roll back", "history", "rollback", "Serves the adapter before the last one again")
                self._button("Load", "folder_open", "load", "Has the learner judge an adapter file, and serve it if it is at least as good")
                self._button("Reset", "restart_alt", "reset", "Forgets all that was learnt")

    def _switch(self, text: str, command: str, inverted: bool = False) -> ui.switch:
        switch = ui.switch(text).props("dense")

        async def turned() -> None:
            await self.do(command, switch.value != inverted)

        if self._may_change:
            switch.on("update:model-value", turned)  # a person's turn only, and not what `refresh` sets
        else:
            switch.disable()
        return switch

    def _button(self, text: str, icon: str, command: str, explanation: str) -> None:
        button = ui.button(text, icon=icon).props("outline no-caps dense").tooltip(explanation)
        if not self._may_change:
            button.disable()
        elif command == "load":
            button.on_click(self._choose_file)
        else:
            button.on_click(lambda: self.do(command))

    def refresh(self, segmenter: NodeHealth | None, adapter: NodeHealth | None) -> None:
        """Shows the state that the nodes report."""
        if adapter is not None and "learning" in adapter.values:
            self._learning.set_value(adapter.values["learning"] == "on")
        if segmenter is not None and "in_use" in segmenter.values and segmenter.values.get("adapter_version") != "0":
            self._frozen.set_value(segmenter.values["in_use"] == "frozen model")

    async def do(self, command: str, value: Any = None) -> Outcome | None:
        """Has a node do something, and tells the outcome; None where the person did not confirm."""
        if not self._may_change or (command in CONFIRMED and not await confirmed(*CONFIRMED[command])):
            return None
        outcome = await self._robot.call(command, value)
        ui.notify(outcome.message, type="positive" if outcome.done else "negative", multi_line=True)
        return outcome

    async def _choose_file(self) -> None:
        """Offers the files of the folder: a browser names one of them, and no path."""
        files = adapter_files(self._folder)
        with ui.dialog() as dialog, ui.card().classes("card"):
            ui.label("Load an adapter").classes("heading")
            if not files:
                where = "the folder of --adapters has none" if self._folder is not None else "start wesam web with --adapters FOLDER"
                ui.label(f"There is no adapter file to choose from: {where}.")
            else:
                ui.label("It is judged on this robot's own pictures, and served only if it is at least as good as the present one.")
            for name in files:
                ui.button(name, on_click=lambda name=name: dialog.submit(name)).props("flat no-caps align=left").classes("wide")
            ui.button("Cancel", on_click=lambda: dialog.submit(None)).props("outline no-caps")
        name = await dialog
        dialog.delete()
        if name in adapter_files(self._folder) and self._folder is not None:
            await self.do("load", self._folder / name)


def adapter_files(folder: Path | None) -> list[str]:
    """The names of the adapter files in a folder."""
    return sorted(each.name for each in folder.iterdir() if each.suffix == SUFFIX and each.is_file()) if folder is not None else []


async def confirmed(question: str, text: str) -> bool:
    """A person's answer to a question, in a dialog."""
    with ui.dialog() as dialog, ui.card().classes("card"):
        ui.label(question).classes("heading").props("role=heading aria-level=2")
        ui.label(text)
        with ui.row().classes("buttons"):
            ui.button("Yes", on_click=lambda: dialog.submit(True)).props("unelevated no-caps color=negative")
            ui.button("No", on_click=lambda: dialog.submit(False)).props("outline no-caps autofocus")
    answer = bool(await dialog)
    dialog.delete()
    return answer

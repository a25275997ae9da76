"""Diagnostics in plain words."""

from __future__ import annotations

from collections.abc import Sequence

from nicegui import ui

from wesam_ros.web.remedies import ERROR, NOTE, OK, WARNING, findings
from wesam_ros.web.values import NodeHealth

ICONS = {OK: "check_circle", NOTE: "info", WARNING: "warning", ERROR: "error"}
FACTS = ("engine", "device", "latency_ms_p50", "memory_mib", "step_ms_p50", "save_to", "saved_version")
"""Values of a node that are shown as they are."""


class HealthCard:
    """A list of what the nodes tell, the gravest first."""

    def __init__(self) -> None:
        self._shown: object = None
        with ui.card().classes("card wide-card"):
            ui.label("Health").classes("heading").props("role=heading aria-level=2")
            self._list = ui.column().classes("findings").props('role=list aria-live="polite"')
            with ui.expansion("Figures of the nodes").props("dense").classes("wide"):
                self._facts = ui.column().classes("facts")

    def refresh(self, reports: Sequence[NodeHealth], expected: Sequence[str]) -> None:
        """Shows the nodes' last reports."""
        found = findings(reports, expected)
        facts = [f"{each.name}: " + ", ".join(f"{name} {each.values[name]}" for name in FACTS if each.values.get(name)) for each in reports]
        if (found, facts) == self._shown:
            return
        self._shown = found, facts
        self._list.clear()
        with self._list:
            for each in found:
                with ui.row().classes(f"finding {each.level}").props("role=listitem"):
                    ui.icon(ICONS[each.level]).props(f'role=img aria-label="{each.level}"')
                    with ui.column().classes("text"):
                        ui.label(each.sentence)
                        if each.remedy:
                            ui.label(each.remedy).classes("quiet")
        self._facts.clear()
        with self._facts:
            for text in facts:
                ui.label(text).classes("quiet")

"""The objects of the newest frame, in words."""

from __future__ import annotations

from collections.abc import Callable

from nicegui import ui

from wesam_ros.web.outlines import caption_of, colour_of, size_text
from wesam_ros.web.values import SeenFrame, SeenObject

COLUMNS = [
    {"name": "what", "label": "Object, and what its mask is from", "field": "what", "align": "left"},
    {"name": "score", "label": "Score", "field": "score", "align": "right"},
    {"name": "size", "label": "Size, cm", "field": "size", "align": "right"},
    {"name": "distance", "label": "Away, m", "field": "distance", "align": "right"},
]
DOT = """
<q-td :props="props"><span class="dot" :style="{ background: props.row.colour }" aria-hidden="true"></span>{{ props.row.what }}
<span class="source">{{ props.row.source }}</span></q-td>
"""


class ObjectsCard:
    """A table of the objects.

    Args:
        picked: called with the row of the object that was chosen, -1 for none.
    """

    def __init__(self, picked: Callable[[int], None]) -> None:
        self._row = -1
        with ui.card().classes("card"):
            ui.label("Objects").classes("heading").props("role=heading aria-level=2")
            self._table = ui.table(columns=COLUMNS, rows=[], row_key="row").props("dense flat hide-bottom")
            self._table.classes("objects").props('aria-label="Objects in the picture"')
            self._table.add_slot("body-cell-what", DOT)
            self._table.on("rowClick", lambda event: picked(int(event.args[1]["row"])), args=[[], ["row"], None])
            self._none = ui.label("No objects yet.").classes("quiet")

    def highlight(self, row: int) -> None:
        """Highlights a row, -1 for none."""
        self._row = row
        self._table.selected = [each for each in self._table.rows if each["row"] == row]

    def refresh(self, frame: SeenFrame | None) -> None:
        """Shows the objects of a frame."""
        rows = [_row(each, n) for n, each in enumerate(frame.objects)] if frame is not None else []
        self._none.visible = not rows
        self._table.visible = bool(rows)
        if rows != self._table.rows:
            self._table.rows = rows


def _row(each: SeenObject, n: int) -> dict[str, object]:
    return {
        "row": n,
        "what": f"{caption_of(each)} {each.class_id}".strip(),
        "colour": colour_of(each.track_id - 1 if each.track_id else n),
        "score": f"{each.score:.2f}",
        "size": size_text(each.size) if each.size is not None else "-",
        "distance": f"{each.distance:.2f}" if each.distance is not None else "-",
        "source": f"from {each.source.replace('+', ', ')}",
    }

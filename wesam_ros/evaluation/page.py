"""Pages of HTML that need nothing from the net."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib.resources import files


def html_page(title: str, sections: Iterable[str]) -> str:
    """A page with its title and style, of sections that are HTML already."""
    style = files("wesam_ros.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>{''.join(sections)}</main></body></html>\n"
    )

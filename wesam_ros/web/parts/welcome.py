"""The page's explanation of itself, for somebody who sees it for the first time."""

from __future__ import annotations

from nicegui import ui

PARAGRAPHS = (
    (
        "See",
        "The robot's camera looks at a table. A detector draws a box around each thing. A model (Segment Anything) finds its exact "
        "outline: the coloured shapes. With them the robot knows where a thing is, how large it is, and how to grasp it.",
    ),
    (
        "Learn",
        "No model knows your things in your light. So a second program practises on the pictures that pass by. Nobody has to label "
        "them. It leaves the model as it is, and learns a small add-on, an adapter (LoRA): some hundred kilobytes of corrections.",
    ),
    (
        "Guard",
        "A new adapter is served only if it does no worse than the last one on pictures that are kept for judging. Each has a version. "
        "You can go back, or have the model as it was, the frozen one, at once.",
    ),
    (
        "Help",
        "A mask is wrong? Choose Add and click on the thing, and Remove for what is not part of it. Keep sends the mask to the "
        "learner, which then practises on it, too. Under Questions it asks about the few things that it is least sure of: your answers "
        "count more than its own guesses.",
    ),
)


def welcome() -> None:
    """A panel that tells what there is to see; it can be folded away."""
    panel = ui.expansion("New here? What this page shows", icon="help_outline").classes("card welcome").props("dense")
    with panel, ui.element("div").classes("steps"):
        for title, text in PARAGRAPHS:
            with ui.element("section"):
                ui.label(title).classes("subheading").props("role=heading aria-level=3")
                ui.label(text)

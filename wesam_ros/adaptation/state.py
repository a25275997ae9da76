"""The file of a learner's whole state, so that training can go on after a kill exactly as if there had been none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from wesam_ros.adaptation.learner import Learner
from wesam_ros.files import write_atomically

FORMAT = 8
"""Of the state. One of another format is refused."""


def save(learner: Learner, path: Path) -> None:
    """Writes the learner's state so that `path` always holds a whole one."""
    write(pack(learner), path)


def write(values: dict[str, Any], path: Path) -> None:
    """Writes what torch.save takes so that `path` always holds a whole file, the old or the new."""
    data = io.BytesIO()
    torch.save(values, data)
    write_atomically(path, data.getvalue())


def resume(learner: Learner, path: Path, *, own_adapter: bool = False) -> None:
    """Puts a new learner where the saved one was, but for the adapter, which stays the one that it was made with.

    If that is the saved state's own, training goes on exactly as if there had been no end. If it is another, because the process was
    killed between a publication and the next save, training goes on from it with a fresh optimizer and with the frames of the state.
    With `own_adapter` it is the state's in any case.

    Raises:
        ValueError: the state cannot be read, or is of another model or seed. The learner is then to be made anew.
    """
    started = learner.adapter
    try:
        unpack(learner, torch.load(path, weights_only=True))
    except Exception as error:  # torch raises many kinds for a damaged file, and a state of another kind lacks keys
        raise ValueError(f"{path} cannot be resumed ({type(error).__name__}: {error})") from error
    if not own_adapter and started.to_bytes() != learner.adapter.to_bytes():
        learner.continue_from(started)


def pack(learner: Learner) -> dict[str, Any]:
    """The state as tensors, numbers, strings, lists and dictionaries, which torch.load takes with weights_only."""
    return {"format": FORMAT, **learner.state_dict()}


def unpack(learner: Learner, state: dict[str, Any]) -> None:
    """Puts a new learner, of the same model, configuration and seed, where the packed one was.

    Raises:
        ValueError: the state is of another format, model or seed, or damaged; the learner is then in no state to be used.
    """
    try:
        if state.get("format") != FORMAT:
            raise ValueError(f"the saved state has format {state.get('format')!r}, but this version reads {FORMAT}; start anew")
        learner.load_state_dict(state)
    except (LookupError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"the saved state is damaged ({type(error).__name__}: {error}); start anew") from error

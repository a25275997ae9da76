"""A learner's whole state as plain values, so that training can go on after a kill exactly as if there had been none."""

from __future__ import annotations

import io
from collections import Counter, deque
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.replay_buffer import BufferedFrame, TeacherPrediction
from wesam_ros.files import write_atomically
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.prompts import Prompt, Prompts
from wesam_ros.scene.constraints import Constraints

FORMAT = 6
"""Of the state; a state of another format is refused."""


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

    Where that is the saved state's own, training goes on exactly as if there had been no end. Where it is another, because the process was
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
        learner.go_on_from(started)


def pack(learner: Learner) -> dict[str, Any]:
    """The state as tensors, numbers, strings, lists and dictionaries, which torch.load takes with weights_only."""
    memory = learner.replay_buffer
    newest = [] if memory.newest is None else [memory.newest]
    held_back = [frame for of_each in (memory.validation, memory.misplaced) for each in of_each.values() for frame in each]
    frames = list(dict.fromkeys([*memory.frames, *held_back, *newest]))
    place = {frame: index for index, frame in enumerate(frames)}
    return {
        "format": FORMAT,
        "seed": learner.seed,
        "rng": learner.rng.bit_generator.state,
        "counters": dict(learner.counters),
        "low_rank": [tensor.detach().cpu().clone() for tensor in learner.low_rank],
        "optimizer": learner.optimizer.state_dict(),
        "progress": learner.progress,
        "good": [(each.a, each.b, each.base, each.version) for each in learner.good],
        "frames": [_frame(frame) for frame in frames],
        "memory": [place[frame] for frame in memory.frames],
        "held_back": {robot: [place[frame] for frame in each] for robot, each in memory.validation.items()},
        "misplaced": {robot: [place[frame] for frame in each] for robot, each in memory.misplaced.items()},
        "alarms": dict(memory.alarms),
        "newest": None if memory.newest is None else place[memory.newest],
        "seen": dict(memory.seen),
        "learnable": memory.learnable,
        "answers": [
            (place[frame], answer.logits.cpu(), answer.step) for frame, answer in memory.teacher_predictions.items() if frame in place
        ],
    }


def unpack(learner: Learner, state: dict[str, Any]) -> None:
    """Puts a new learner, of the same model, configuration and seed, where the packed one was.

    Raises:
        ValueError: the state is of another format, model or seed, or damaged; the learner is then in no state to be used.
    """
    try:
        _unpack(learner, state)
    except (LookupError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"the saved state is damaged ({type(error).__name__}: {error}); start anew") from error


def _unpack(learner: Learner, state: dict[str, Any]) -> None:
    if state.get("format") != FORMAT:
        raise ValueError(f"the saved state has format {state.get('format')!r}, but this version writes {FORMAT}; start anew")
    if state["seed"] != learner.seed or state["good"][-1][2] != learner.adapter.base:
        raise ValueError("the saved state is of another model or seed; give the ones that it was begun with, or start anew")
    frames = [_kept(values, learner.sam.device) for values in state["frames"]]
    learner.rng.bit_generator.state = state["rng"]
    learner.counters = Counter(state["counters"])
    learner.good[:] = [Adapter(*values) for values in state["good"]]
    learner.go_on(tuple(state["low_rank"]), state["optimizer"], state["progress"])
    memory = learner.replay_buffer
    kept = [frames[index] for index in state["memory"]]
    if len(kept) > memory.capacity:  # it is smaller now; a sample of a sample of the stream is one, too
        kept = [kept[index] for index in np.sort(learner.rng.choice(len(kept), memory.capacity, replace=False))]
    memory.frames[:] = kept
    memory.validation, memory.misplaced = (
        {robot: deque(frames[index] for index in each) for robot, each in state[kind].items()} for kind in ("held_back", "misplaced")
    )
    memory.alarms = Counter({robot: int(n) for robot, n in state["alarms"].items()})
    memory.newest = None if state["newest"] is None else frames[state["newest"]]
    memory.seen, memory.learnable = Counter({source: int(n) for source, n in state["seen"].items()}), int(state["learnable"])
    for index, logits, step in state["answers"]:
        memory.teacher_predictions[frames[index]] = TeacherPrediction(logits.to(learner.sam.device), step)


def _frame(frame: BufferedFrame) -> dict[str, Any]:
    tensors = {each.name: getattr(frame, each.name).cpu() for each in fields(BufferedFrame) if each.type == "Tensor"}
    constraints = {each.name: getattr(frame.constraints, each.name).cpu() for each in fields(Constraints)}
    prompts = [
        (
            None if each.box is None else torch.from_numpy(each.box),
            torch.from_numpy(each.points),
            torch.from_numpy(each.point_labels),
            None if each.mask is None else torch.from_numpy(each.mask),
        )
        for each in frame.prompts.objects
    ]
    shared = {"pixels": torch.from_numpy(frame.pixels), "size": frame.prompts.size, "stamp_ns": frame.stamp_ns}
    return {**shared, "tensors": tensors, "evidence": constraints, "prompts": prompts}


def _kept(values: dict[str, Any], device: torch.device) -> BufferedFrame:
    objects = tuple(
        Prompt(None if box is None else box.numpy(), points.numpy(), labels.numpy(), None if mask is None else mask.numpy())
        for box, points, labels, mask in values["prompts"]
    )
    return BufferedFrame(
        pixels=values["pixels"].numpy(),
        prompts=Prompts(tuple(values["size"]), objects),
        constraints=Constraints(**values["evidence"]).to(device),
        stamp_ns=values["stamp_ns"],
        **{name: tensor.to(device) for name, tensor in values["tensors"].items()},
    )

"""The choice of the engine that serves: the one asked for, or the best one present that agrees with torch."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from wesam_ros.engines import CHOICES
from wesam_ros.engines.compiled_engine import CompiledEngine
from wesam_ros.engines.engine import Engine, EngineError, as_engine_error, give_up
from wesam_ros.engines.export import export, random_adapter
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.parity import check_parity, scene
from wesam_ros.engines.store import folder_of
from wesam_ros.engines.tensorrt_engine import TensorRtEngine
from wesam_ros.engines.tensorrt_plans import Platform
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.files import write_atomically
from wesam_ros.machine import processor

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

    from wesam_ros.sam.adapter import Adapter

TURNS = 5
"""Frames of each engine, in turns. The least time counts: times of single frames overlap, and would decide by chance."""
TIE = 0.05
"""An engine that is faster than torch by less than this share is not taken."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Selection:
    """The engine that serves, and for each one that was refused before it a sentence with the reason."""

    engine: Engine
    refused: tuple[str, ...] = ()


def create_engine(sam: Sam, choice: str = "auto", say: Callable[[str], object] = _log.info, *, adapter: Adapter | None = None) -> Selection:
    """Makes the engine for a model from load_sam.

    Every engine but torch passes the parity gate first: with the frozen model, with a random adapter, and with `adapter`.

    "auto" takes ONNX Runtime on a CPU and TensorRT on an NVIDIA GPU, and torch where that one does not qualify. An engine qualifies if it
    is installed, its files are there (`wesam export`, for TensorRT also `wesam doctor`), its masks agree with torch, and, on a CPU, it is
    faster by at least TIE. The speed is measured once and remembered beside the export: a node that was killed serves again within
    seconds. "auto" neither exports nor builds files that never were, since that takes minutes; plans that no longer load are built again.

    Any other name takes that engine or raises, and exports, builds and compiles what is missing.

    Args:
        sam: the model, on the device to compute on.
        choice: one of CHOICES.
        say: called with a sentence on the engine that was taken, and the reasons against the others.
        adapter: of this model, the first one that the engine will use; None for the frozen model.

    Raises:
        EngineError: the engine asked for by name cannot serve.
        OSError: its files cannot be written, as on a full disk.
    """
    if choice not in CHOICES:
        raise EngineError(f"engine must be one of {', '.join(CHOICES)}, but got {choice!r}")
    if choice == "torch":
        return _taken(Selection(TorchEngine(sam)), say)
    if choice != "auto":
        return _taken(Selection(_checked(choice, sam, adapter, say)), say)
    refused: list[str] = []
    for name in ("tensorrt", "compiled", "onnxruntime") if sam.device.type == "cuda" else ("onnxruntime",):
        try:
            if name != "tensorrt" and sam.device.type != "cpu":
                raise EngineError(f"nobody has measured it on {sam.device} yet; set engine to {name} to have it there")
            return _taken(Selection(_checked(name, sam, adapter, say, auto=True), tuple(refused)), say)
        except (EngineError, OSError) as error:
            refused.append(f"{name}: {error}")
    return _taken(Selection(TorchEngine(sam), tuple(refused)), say)


def _taken(selection: Selection, say: Callable[[str], object]) -> Selection:
    say(f"engine: {selection.engine.capabilities}" + "".join(f"; not {sentence}" for sentence in selection.refused))
    return selection


def _checked(name: str, sam: Sam, adapter: Adapter | None, say: Callable[[str], object], *, auto: bool = False) -> Engine:
    """An engine other than torch that agrees with it. With `auto`, nothing is exported or built, and on a CPU it has to be faster."""
    engine: Engine | None = None
    race = Race(folder_of(sam), name) if auto and sam.device.type == "cpu" else None  # which is faster depends on processor and model
    try:
        with as_engine_error(f"it failed on {sam.device}"):
            if race is not None:
                race.check()
            engine = _compiled(sam, say) if name == "compiled" else _exported(name, sam, say, make_missing=not auto)
            _hold_against_torch(engine, adapter, say)
            if race is not None and not race.result:
                race.hold(engine, TorchEngine(sam), say)
                race.check()
    except BaseException:
        if engine is not None:
            give_up(engine)
        raise
    return engine


def _hold_against_torch(engine: Engine, adapter: Adapter | None, say: Callable[[str], object]) -> None:
    """Raises EngineError if its masks do not agree with torch's in a state that it may serve in."""
    # An engine that ignores adapters shows only with an adapter of some size.
    states = {"the frozen model": None, "a random adapter": random_adapter(engine.sam, 4, 0)}
    if adapter is not None:
        states[f"adapter version {adapter.version}"] = adapter
    found = []
    for name, each in states.items():
        try:
            found.append(check_parity(engine, TorchEngine(engine.sam), each))
        except EngineError as error:
            raise EngineError(f"with {name}, {error}") from error
    iou, logits = min(each.iou.min() for each in found), max(each.logits for each in found)
    say(f"{engine.capabilities.name} agrees with torch: IoU at least {iou:.4f}, logits within {logits:.1g}")


class Race:
    """The speed of an engine against torch on this machine, measured once for the same versions and number of threads.

    Args:
        folder: of the export; a new export there is measured anew.
        name: of the engine, and of the package that it needs.
    """

    def __init__(self, folder: Path, name: str) -> None:
        installed = {}
        for package in (name, f"{name}-gpu"):  # ONNX Runtime comes as either
            with suppress(PackageNotFoundError):
                installed[package] = version(package)
        key = {**installed, "torch": torch.__version__, "threads": torch.get_num_threads(), "processor": processor()}
        self._file = folder / f"race-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
        self._key = key
        try:
            found = json.loads(self._file.read_text())
            self.result: tuple[float, float, str] | None = float(found["engine_ms"]), float(found["torch_ms"]), str(found["measured"])
            """Milliseconds of the engine and of torch for the parity gate's frame, and the day; None where it has not been measured."""
        except (OSError, ValueError, LookupError, TypeError):
            self.result = None

    def hold(self, engine: Engine, reference: Engine, say: Callable[[str], object]) -> None:
        """Measures both engines, which have computed before, and remembers the times."""
        times = [(_seconds(engine), _seconds(reference)) for _ in range(TURNS)]
        taken, other = (1e3 * min(each) for each in zip(*times, strict=True))
        self.result = taken, other, date.today().isoformat()
        found = {"engine_ms": taken, "torch_ms": other, "measured": self.result[2], **self._key}
        try:
            write_atomically(self._file, (json.dumps(found, indent=1) + "\n").encode())
        except OSError as error:
            say(f"{self._file} cannot be written ({error.strerror or error}): the next start measures again which engine is faster")

    def check(self) -> None:
        """Raises EngineError if the engine is not faster."""
        if self.result is None:
            return
        taken, other, day = self.result
        if taken > other * (1 - TIE):
            raise EngineError(
                f"not faster on this machine than torch by {TIE:.0%}, with {taken:.0f} and {other:.0f} ms for a frame of 12 objects on "
                f"{day} (`wesam export --again` has it measured anew); if you want it all the same, set engine to its name"
            )


def _seconds(engine: Engine) -> float:
    """Seconds that an engine takes for the parity gate's frame."""
    image, prompts = scene()
    began = time.perf_counter()
    engine.segment(image, prompts)
    return time.perf_counter() - began


def _compiled(sam: Sam, say: Callable[[str], object]) -> Engine:
    if sam.device.type != "cuda":
        raise EngineError(f"compiled serves models on cuda, but this one is on {sam.device}; onnxruntime is the fast one there")
    say("torch compiles the model, which takes minutes where it has not done so before")
    return CompiledEngine(sam)


def _exported(name: str, sam: Sam, say: Callable[[str], object], *, make_missing: bool) -> Engine:
    if name == "tensorrt":
        Platform.of(sam.device)  # names what is missing before minutes are spent on the export
    folder = folder_of(sam)
    if make_missing and not folder.exists():
        say(f"the model is exported to {folder}, once")
        export(sam, folder, say=say, again=False)
    if name == "tensorrt":
        return TensorRtEngine.load(sam, folder, build=make_missing, say=say)
    return OnnxRuntimeEngine.load(sam, folder)

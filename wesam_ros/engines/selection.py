"""The choice of the engine that serves: the one asked for, or the best one present that agrees with torch."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from wesam_ros.engines.openvino_engine import OpenVinoEngine, need_device
from wesam_ros.engines.parity import check_parity, scene
from wesam_ros.engines.store import folder_of
from wesam_ros.engines.tensorrt_engine import TensorRtEngine
from wesam_ros.engines.tensorrt_plans import Platform
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.files import write_atomically
from wesam_ros.machine import OPENVINO, processor

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


def create_engine(
    sam: Sam,
    choice: str = "auto",
    say: Callable[[str], object] = _log.info,
    *,
    adapter: Adapter | None = None,
    device: str = "",
) -> Selection:
    """Makes the engine for a model from load_sam.

    Every engine but torch passes the parity gate first: with the frozen model, with a random adapter, and with `adapter`.

    "auto" takes the fastest of OpenVINO and ONNX Runtime on a CPU, and TensorRT on an NVIDIA GPU; torch where none of them qualifies. An
    engine qualifies if it is installed, its files are there (`wesam export`, for TensorRT also `wesam doctor`), its masks agree with
    torch, and, on a CPU, it is faster by at least TIE. The speed is measured once and remembered beside the export: a node that was
    killed serves again within seconds. "auto" neither exports nor builds files that never were, since that takes minutes; plans that no
    longer load are built again.

    Any other name takes that engine or raises, and exports, builds and compiles what is missing.

    Args:
        sam: the model, on the device to compute on.
        choice: one of CHOICES.
        say: called with a sentence on the engine that was taken, and the reasons against the others.
        adapter: of this model, the first one that the engine will use; None for the frozen model.
        device: as the setting `device` names it. With openvino:GPU and the like only OpenVINO computes on it, else torch on the CPU.

    Raises:
        EngineError: the engine asked for by name cannot serve.
        OSError: its files cannot be written, as on a full disk.
    """
    if choice not in CHOICES:
        raise EngineError(f"engine must be one of {', '.join(CHOICES)}, but got {choice!r}")
    place = device.removeprefix(OPENVINO) if device.startswith(OPENVINO) else ""
    if place and choice not in ("auto", "openvino"):
        raise EngineError(f"engine must be auto or openvino where device is {device}, but got {choice!r}")
    if choice == "torch":
        return _taken(Selection(TorchEngine(sam)), say)
    make = _Maker(sam, adapter, say, place or "CPU")
    if choice != "auto":
        return _taken(Selection(make.checked(choice, make_missing=True)), say)
    if sam.device.type == "cpu":
        return _taken(_fastest(make, ("openvino",) if place else ("openvino", "onnxruntime")), say)
    return _taken(_first(make, ("tensorrt", "compiled", "onnxruntime") if sam.device.type == "cuda" else ("onnxruntime",)), say)


def _first(make: _Maker, names: Sequence[str]) -> Selection:
    """The first engine that serves elsewhere than on a CPU."""
    refused: dict[str, str] = {}
    for name in names:
        with _refusal(name, refused):
            if name != "tensorrt":
                raise EngineError(f"nobody has measured it on {make.sam.device} yet; set engine to {name} to have it there")
            return Selection(make.checked(name), tuple(refused.values()))
    return Selection(TorchEngine(make.sam), tuple(refused.values()))


def _fastest(make: _Maker, names: Sequence[str]) -> Selection:
    """The fastest engine on a CPU: those that have not raced against torch do so first, then the fastest that serves is taken."""
    races, made, refused = {name: make.race(name) for name in names}, dict[str, Engine](), dict[str, str]()
    try:
        for name, race in races.items():
            if race.result is None:
                with _refusal(name, refused):
                    made[name] = make.checked(name)
                    with as_engine_error("it failed on cpu"):
                        race.hold(made[name], TorchEngine(make.sam), make.say)
        for name in sorted(set(races) - set(refused), key=lambda name: races[name].ratio):
            with _refusal(name, refused):
                races[name].check()
                engine = made[name] if name in made else make.checked(name)
                made.pop(name, None)
                return Selection(engine, tuple(refused.values()))
    finally:
        for each in made.values():
            give_up(each)
    return Selection(TorchEngine(make.sam), tuple(refused.values()))


@contextmanager
def _refusal(name: str, refused: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except (EngineError, OSError) as error:
        refused[name] = f"{name}: {error}"


def _taken(selection: Selection, say: Callable[[str], object]) -> Selection:
    say(f"engine: {selection.engine.capabilities}" + "".join(f"; not {sentence}" for sentence in selection.refused))
    return selection


class _Maker:
    """Makes engines of one model, held against torch.

    Attributes:
        sam: the model.
        say: called with a sentence on each stage.
    """

    def __init__(self, sam: Sam, adapter: Adapter | None, say: Callable[[str], object], place: str) -> None:
        self.sam, self.say = sam, say
        self._adapter, self._place = adapter, place  # of OpenVINO

    def race(self, name: str) -> Race:
        """The speed of an engine on the CPU, or on OpenVINO's device, as far as it is known."""
        return Race(folder_of(self.sam), name, self._place)

    def checked(self, name: str, *, make_missing: bool = False) -> Engine:
        """An engine other than torch that agrees with it. OpenVINO computes in full precision where it does not agree in half.

        Raises:
            EngineError: it does not agree, or cannot be made.
        """
        with as_engine_error(f"it failed on {self.sam.device}"):
            engine = self._made(name, make_missing, None)
            try:
                return self._agreeing(engine)
            except EngineError as error:
                if name != "openvino" or engine.capabilities.precision == "float32":
                    raise
                self.say(f"openvino computes in float32, since {error}")
            return self._agreeing(self._made(name, make_missing, "float32"))

    def _agreeing(self, engine: Engine) -> Engine:
        try:
            _hold_against_torch(engine, self._adapter, self.say)
        except BaseException:
            give_up(engine)
            raise
        return engine

    def _made(self, name: str, make_missing: bool, precision: str | None) -> Engine:
        if name == "compiled":
            return _compiled(self.sam, self.say)
        return _exported(name, self.sam, self.say, make_missing=make_missing, place=self._place, precision=precision)


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
        place: OpenVINO's device.
    """

    def __init__(self, folder: Path, name: str, place: str = "CPU") -> None:
        installed = {}
        for package in (name, f"{name}-gpu"):  # ONNX Runtime comes as either
            with suppress(PackageNotFoundError):
                installed[package] = version(package)
        key = {**installed, "torch": torch.__version__, "threads": torch.get_num_threads(), "processor": processor()}
        if name == "openvino":
            key["place"] = place
        self._file = folder / f"race-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.json"
        self._key = key
        try:
            found = json.loads(self._file.read_text())
            self.result: tuple[float, float, str] | None = float(found["engine_ms"]), float(found["torch_ms"]), str(found["measured"])
            """Milliseconds of the engine and of torch for the parity gate's frame, and the day; None where it has not been measured."""
        except (OSError, ValueError, LookupError, TypeError):
            self.result = None

    @property
    def ratio(self) -> float:
        """The engine's time as a share of torch's; infinite where it has not been measured."""
        return float("inf") if self.result is None else self.result[0] / self.result[1]

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
        raise EngineError(
            f"compiled serves models on cuda, but this one is on {sam.device}; openvino and onnxruntime are the fast ones there"
        )
    say("torch compiles the model, which takes minutes where it has not done so before")
    return CompiledEngine(sam)


def _exported(name: str, sam: Sam, say: Callable[[str], object], *, make_missing: bool, place: str, precision: str | None) -> Engine:
    if name == "tensorrt":
        Platform.of(sam.device)  # names what is missing before minutes are spent on the export
    if name == "openvino":
        need_device(place)
    folder = folder_of(sam)
    if make_missing and not folder.exists():
        say(f"the model is exported to {folder}, once")
        export(sam, folder, say=say, again=False)
    if name == "tensorrt":
        return TensorRtEngine.load(sam, folder, build=make_missing, say=say)
    if name == "openvino":
        return OpenVinoEngine.load(sam, folder, place, precision=precision)
    return OnnxRuntimeEngine.load(sam, folder)

"""Which engine serves: what is asked for, or the best that is there and agrees with torch; and why not the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wesam_ros.engines import CHOICES
from wesam_ros.engines.compiled_engine import CompiledEngine
from wesam_ros.engines.engine import Engine, EngineError
from wesam_ros.engines.export import export
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.parity import check_parity, scene
from wesam_ros.engines.store import folder_of
from wesam_ros.engines.tensorrt_engine import TensorRtEngine
from wesam_ros.engines.tensorrt_plans import Platform
from wesam_ros.engines.torch_engine import TorchEngine

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Selection:
    """The engine that serves, and a sentence for each that would have been taken before it: why it was not."""

    engine: Engine
    refused: tuple[str, ...] = ()


def create_engine(sam: Sam, choice: str = "auto", say: Callable[[str], object] = _log.info) -> Selection:
    """Makes the engine for a model from load_sam.

    auto takes ONNX Runtime on a CPU and TensorRT on an NVIDIA GPU, if it is installed, the model has been exported (`wesam export`), for
    TensorRT its plans have been built (`wesam doctor`), the masks agree with torch, and on a CPU, if it is the faster one there; otherwise
    torch serves. It neither exports nor builds what never was, since that takes minutes; plans that no longer load are built again. A name
    takes that engine or nothing, and exports, builds and compiles what is missing.

    Args:
        sam: the model, on the device to compute on.
        choice: one of CHOICES.
        say: told which engine was taken, and why not the others.

    Raises:
        EngineError: the engine asked for by name cannot serve.
        OSError: what it needs cannot be written, as on a full disk.
    """
    if choice not in CHOICES:
        raise EngineError(f"engine must be one of {', '.join(CHOICES)}, but got {choice!r}")
    if choice == "torch":
        return _taken(Selection(TorchEngine(sam)), say)
    if choice != "auto":
        return _taken(Selection(_checked(choice, sam, say, make_missing=True)), say)
    refused: list[str] = []
    for name in ("tensorrt", "compiled", "onnxruntime") if sam.device.type == "cuda" else ("onnxruntime",):
        try:
            if name != "tensorrt" and sam.device.type != "cpu":
                raise EngineError(f"nobody has measured it on {sam.device} yet; set engine to {name} to have it there")
            engine = _checked(name, sam, say, make_missing=False)
            if sam.device.type == "cpu":  # which one is faster depends on processor and model
                _hold_against(TorchEngine(sam), engine)
            return _taken(Selection(engine, tuple(refused)), say)
        except (EngineError, OSError) as error:
            refused.append(f"{name}: {error}")
    return _taken(Selection(TorchEngine(sam), tuple(refused)), say)


def _taken(selection: Selection, say: Callable[[str], object]) -> Selection:
    say(f"engine: {selection.engine.capabilities}" + "".join(f"; not {sentence}" for sentence in selection.refused))
    return selection


def _checked(name: str, sam: Sam, say: Callable[[str], object], *, make_missing: bool) -> Engine:
    """An engine other than torch, if its masks agree with torch's."""
    engine: Engine | None = None
    try:
        engine = _compiled(sam, say) if name == "compiled" else _exported(name, sam, say, make_missing=make_missing)
        parity = check_parity(engine, TorchEngine(sam))
    except (EngineError, RuntimeError) as error:
        if engine is not None:
            engine.close()
        # RuntimeError is what CUDA's errors are for torch, such as too little memory.
        raise error if isinstance(error, EngineError) else EngineError(f"it failed on {sam.device}: {error}") from error
    say(f"{name} agrees with torch: IoU at least {parity.iou.min():.4f}, logits within {parity.logits:.1g}")
    return engine


def _hold_against(reference: Engine, engine: Engine) -> None:
    """Raises EngineError, and closes the engine, where the reference is faster. Both have computed before."""
    taken, other = _seconds(engine), _seconds(reference)
    if taken > other:
        engine.close()
        raise EngineError(
            f"slower on this machine than {reference.capabilities.name}, with {taken * 1e3:.0f} and {other * 1e3:.0f} ms for a frame of 12 "
            "objects; if you want it all the same, set engine to its name"
        )


def _seconds(engine: Engine) -> float:
    """What the frame of the gate takes."""
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
        Platform.of(sam.device)  # what is missing is said before minutes are spent on the export
    folder = folder_of(sam)
    if make_missing and not folder.exists():
        say(f"the model is exported to {folder}, once")
        export(sam, folder, say=say)
    if name == "tensorrt":
        return TensorRtEngine.load(sam, folder, build=make_missing, say=say)
    return OnnxRuntimeEngine.load(sam, folder)

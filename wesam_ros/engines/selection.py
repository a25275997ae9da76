"""Which engine serves: what is asked for, or the best that is there and agrees with torch; and why not the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wesam_ros.engines import CHOICES
from wesam_ros.engines.engine import Engine, EngineError
from wesam_ros.engines.export import export
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.parity import check_parity
from wesam_ros.engines.store import folder_of
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

    auto takes ONNX Runtime on a CPU, if it is installed, `wesam export` has exported the model, and the masks agree with torch; otherwise
    torch serves. It does not export by itself, since that takes minutes for the large models. A name takes that engine or nothing;
    onnxruntime then exports what is not exported yet.

    Args:
        sam: the model, on the device to compute on.
        choice: one of CHOICES.
        say: told which engine was taken, and why not the others.

    Raises:
        EngineError: the engine asked for by name cannot serve.
    """
    if choice not in CHOICES:
        raise EngineError(f"engine must be one of {', '.join(CHOICES)}, but got {choice!r}")
    if choice == "torch":
        return _taken(Selection(TorchEngine(sam)), say)
    if choice == "onnxruntime":
        return _taken(Selection(_onnxruntime(sam, say, export_missing=True)), say)
    try:
        if sam.device.type != "cpu":
            raise EngineError(f"nobody has measured it on {sam.device} yet; set engine to onnxruntime to have it there")
        return _taken(Selection(_onnxruntime(sam, say, export_missing=False)), say)
    except (EngineError, OSError) as error:
        return _taken(Selection(TorchEngine(sam), (f"onnxruntime: {error}",)), say)


def _taken(selection: Selection, say: Callable[[str], object]) -> Selection:
    say(f"engine: {selection.engine.capabilities}" + "".join(f"; not {sentence}" for sentence in selection.refused))
    return selection


def _onnxruntime(sam: Sam, say: Callable[[str], object], *, export_missing: bool) -> Engine:
    folder = folder_of(sam)
    if export_missing and not folder.exists():
        say(f"the model is exported to {folder}, once")
        export(sam, folder, say=say)
    engine = OnnxRuntimeEngine.load(sam, folder)
    try:
        parity = check_parity(engine, TorchEngine(sam))
    except EngineError:
        engine.close()
        raise
    say(f"onnxruntime agrees with torch: IoU at least {parity.iou.min():.4f}, logits within {parity.logits:.1g}")
    return engine

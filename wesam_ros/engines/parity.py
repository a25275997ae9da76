"""The parity gate: before an engine serves, its masks have to agree with torch's on a frame of a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from wesam_ros.engines.engine import Engine, EngineError
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompt, Prompts

MIN_IOU = {"float32": 0.99, "float16": 0.97, "bfloat16": 0.97}
"""Least IoU with torch's mask that each object must have, by the engine's precision."""

_SCENE = Path(__file__).parent / "scene.jpg"
"""Frame 80 of demo/tabletop.mcap, which the simulator made."""
_BOXES = (
    (309, 233, 364, 302), (219, 246, 315, 330), (343, 164, 411, 230), (181, 245, 227, 291), (27, 275, 124, 433), (321, 229, 462, 282),
    (365, 196, 404, 244), (291, 132, 358, 208), (247, 189, 321, 268), (190, 318, 304, 428), (190, 182, 253, 245), (188, 225, 250, 307),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Parity:
    """Agreement of an engine with torch.

    Attributes:
        iou: (n,) IoU of the two masks of each object; 1 where both are empty.
        logits: the largest difference of low-resolution logits.
    """

    iou: npt.NDArray[np.float64]
    logits: float


def scene() -> tuple[npt.NDArray[np.uint8], Prompts]:
    """The parity gate's frame, (480, 640, 3) uint8 RGB, with 10 boxes, an object of two points, and one of a box and a coarse mask."""
    with Image.open(_SCENE) as file:
        image = np.asarray(file.convert("RGB"))
    size = (image.shape[0], image.shape[1])
    boxes = np.array(_BOXES, np.float32)
    x0, y0, x1, y1 = boxes[-2]
    middle = np.array([[(x0 + x1) / 2, (y0 + y1) / 2], [x0, y0]], np.float32)
    coarse = np.zeros(size, bool)
    x0, y0, x1, y1 = boxes[-1].astype(int)
    coarse[y0 + 10 : y1 - 10, x0 + 10 : x1 - 10] = True
    last = Prompt(points=middle, point_labels=np.array([1, 0])), Prompt(box=boxes[-1], mask=coarse)
    return image, Prompts(size, (*(Prompt(box=box) for box in boxes[:-2]), *last))


def agreement(reference: Masks, other: Masks) -> Parity:
    """Agreement of `other` with `reference`, for the same n >= 1 objects."""
    common = np.count_nonzero(reference.masks & other.masks, axis=(1, 2))
    either = np.count_nonzero(reference.masks | other.masks, axis=(1, 2))
    iou = np.where(either, common / np.maximum(either, 1), 1.0)
    return Parity(iou, float(np.abs(reference.low_res - other.low_res).max()))


def check_parity(
    engine: Engine, reference: Engine, adapter: Adapter | None, run: Callable[[Callable[[], Masks]], Masks] | None = None
) -> Parity:
    """Holds an engine against the reference, with an adapter or, where it is None, with the frozen model.

    Args:
        engine: the one to check.
        reference: the engine whose masks are right.
        adapter: of the engine's model.
        run: calls a function that computes with the engine, in another thread, and returns its result; None for this thread.

    Raises:
        EngineError: the engine fails, an object's masks agree less than its precision allows, or a value is not finite. Errors of
            the reference and of `run` are no fault of the engine and come through unchanged.
    """
    image, prompts = scene()
    expected = reference.segment(image, prompts, adapter)

    def compute() -> Masks:
        try:
            return engine.segment(image, prompts, adapter)
        except EngineError:
            raise
        except Exception as error:  # libraries' exceptions have no base of their own
            raise EngineError(f"{engine.capabilities} fails: {type(error).__name__}: {error}") from error

    found = run(compute) if run else compute()
    if not (np.isfinite(found.low_res).all() and np.isfinite(found.scores).all()):
        raise EngineError(f"{engine.capabilities} gives values that are not finite")
    parity = agreement(expected, found)
    least = MIN_IOU[engine.capabilities.precision]
    worst = int(parity.iou.argmin())
    if not parity.iou[worst] >= least:
        raise EngineError(
            f"the masks of {engine.capabilities} do not agree with torch: IoU {parity.iou[worst]:.3f} for object {worst} of the frame, "
            f"but at least {least} is needed (logits differ by up to {parity.logits:.2g}); export the model again, or report this"
        )
    return parity

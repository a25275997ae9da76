"""One engine, or SamPredictor, in a process of its own, which segments a frame whenever it is told to: so that its memory is its own.

It reads lines from its input and answers each with a line of JSON. The first answer comes unasked: what it is, or why it cannot be.

    8           segment 8 boxes: {"ms": ..., "peak_mb": ...}
    again       count the peak of memory from here: {}
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from wesam_ros.engines.export import random_adapter
from wesam_ros.engines.parity import scene
from wesam_ros.engines.selection import create_engine
from wesam_ros.machine import keep_freed_memory, resolve_device
from wesam_ros.sam import Prompts, load_sam
from wesam_ros.sam.attention import compute_in_pieces

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

REFERENCE = "SamPredictor"
REFERENCE_KEPT = "SamPredictor, memory kept"
"""The same in a process that keeps freed memory, as ours do: what is left of a ratio is not glibc's."""
REFERENCE_HALF = "SamPredictor, half precision"
"""The same under torch's autocast to float16, on a GPU."""
Segment = Callable[[npt.NDArray[np.float32]], Any]
"""From boxes (n, 4) in the frame to their masks in the frame, on the CPU."""


def boxes(count: int) -> npt.NDArray[np.float32]:
    """(count, 4) boxes: those of the parity gate's frame, again and again, each time a pixel further to the right and below."""
    image, prompts = scene()
    height, width = image.shape[:2]
    known = [each.box for each in prompts.objects if each.box is not None]
    moved = np.stack([known[i % len(known)] + i // len(known) for i in range(count)])
    return moved.clip(0, (width, height, width, height)).astype(np.float32)


def import_sam_predictor() -> type[Any]:
    """segment_anything's SamPredictor, also where torchvision's compiled operators cannot load.

    It imports torchvision for two Python functions. A torchvision wheel built for CUDA, beside a torch built for the CPU, raises at import
    because its operators `nms` and `qnms` are not there. SamPredictor calls neither, so declaring their signatures is all that the
    import needs; calling one still fails with torch's own error.
    """
    try:
        from segment_anything import SamPredictor
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            _DECLARED.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        from segment_anything import SamPredictor
    return SamPredictor  # type: ignore[no-any-return]


_DECLARED = torch.library.Library("torchvision", "FRAGMENT")  # declarations live as long as this object


def sam_predictor(sam: Sam, *, half: bool = False) -> Segment:
    """SamPredictor as its documentation uses it for the boxes of a detector: all in one call, on the model as it was released.

    With `half` torch's autocast computes products in float16.
    """
    compute_in_pieces(sam, False)
    predictor, (image, _) = import_sam_predictor()(sam), scene()

    def segment(wanted: npt.NDArray[np.float32]) -> Any:
        with torch.inference_mode(), torch.autocast(sam.device.type, torch.float16, enabled=half):
            predictor.set_image(image)
            corners = predictor.transform.apply_boxes_torch(torch.from_numpy(wanted).to(sam.device), image.shape[:2])
            masks, scores, _ = predictor.predict_torch(None, None, corners, multimask_output=False)
            return masks[:, 0].cpu().numpy(), scores[:, 0].cpu().numpy()

    return segment


def engine(sam: Sam, name: str, device: str = "") -> tuple[Segment, dict[str, str]]:
    """An engine by name, with an adapter of rank 4 as it has one on a robot; and what it is."""
    made = create_engine(sam, name, lambda sentence: print(sentence, file=sys.stderr), device=device).engine
    adapter, (image, _) = random_adapter(sam, 4, 0), scene()

    def segment(wanted: npt.NDArray[np.float32]) -> Any:
        return made.segment(image, Prompts.from_boxes(wanted, (image.shape[0], image.shape[1])), adapter)

    return segment, {"engine": made.capabilities.name, "version": made.capabilities.version, "precision": made.capabilities.precision}


class Memory:
    """The most memory taken since the last `again`, in MB: of this process, or of the GPU where the model is on one.

    A GPU is asked for what is taken on all of it, since torch knows nothing of what TensorRT takes, and process ids that the driver
    gives are not those within a container. What was taken when this process began is subtracted, but what processes take that began
    later is not: the figure of a contender contains those of the contenders after it, and that of the last one is its own.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = self._used()
        self._peak = 0.0

    def again(self) -> None:
        """Counts from here."""
        self._peak = 0.0
        if self._device.type == "cpu":
            Path("/proc/self/clear_refs").write_text("5")  # the resident set's peak (proc(5))

    def taken(self) -> float:
        """To be called after each frame: on a GPU, whose libraries keep what they took, it is only then that anyone looks."""
        self._peak = max(self._peak, self._used() if self._device.type == "cpu" else self._used() - self._before)
        return self._peak

    def _used(self) -> float:
        if self._device.type != "cpu":
            free, total = torch.cuda.mem_get_info(self._device)
            return (total - free) / 1e6
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6


def main(words: Sequence[str] | None = None) -> int:
    """Runs until the input ends; returns the exit status."""
    parser = argparse.ArgumentParser()
    for option in ("--name", "--model", "--device"):
        parser.add_argument(option, required=True)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args(words)
    if args.name != REFERENCE:
        keep_freed_memory()  # as the segmenter node does
    torch.set_num_threads(args.threads)
    device = torch.device(resolve_device(args.device))
    memory = Memory(device)
    try:
        sam = load_sam(args.model, args.checkpoint, args.device)
        if args.name in (REFERENCE, REFERENCE_KEPT, REFERENCE_HALF):
            half = args.name == REFERENCE_HALF
            precision = "float16" if half else "float32"
            segment, about = sam_predictor(sam, half=half), {"engine": args.name, "version": torch.__version__, "precision": precision}
        else:
            segment, about = engine(sam, args.name, args.device)
    except (ValueError, OSError) as error:  # engines and checkpoints that cannot be used
        _answer({"missing": str(error)})
        return 0
    _answer(about)
    for line in sys.stdin:
        if line.strip() == "again":
            memory.again()
            _answer({})
            continue
        wanted = boxes(int(line))
        began = time.perf_counter()
        segment(wanted)
        _answer({"ms": (time.perf_counter() - began) * 1e3, "peak_mb": memory.taken()})
    return 0


def _answer(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

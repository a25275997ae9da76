"""SAM 2.1 and MobileSAM held against the code that they were published with, with the same random weights, and timed in turns with it.

    source scripts/env.sh
    pip install --no-deps --no-build-isolation --target FOLDER sam2==1.1.0 hydra-core==1.3.8 omegaconf==2.4.0 \\
        antlr4-python3-runtime==4.9.3 iopath==0.1.10 portalocker tqdm mobilesam-mirror==1.0.0 timm==0.9.16
    export PYTHONPATH=$PYTHONPATH:FOLDER
    python benchmarks/engines/reference.py --json out/reference.json
    python benchmarks/engines/reference.py --golden test/reference.npz

Masks and predicted IoU of boxes, points, masks and mixtures are compared, in a square picture, for which all predictors' preprocessing is
the same. SAM 2's has the single-mask output without its fallback to others. A frame is 640 x 480 pixels with 10 boxes. The golden file
holds the published code's values, for a test that does without it: of SAM 2.1 at 256 px, of MobileSAM at 1024 px, which its code is for.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wesam_ros.engines.contender import boxes, import_sam_predictor
from wesam_ros.engines.parity import scene
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.files import write_atomically
from wesam_ros.machine import processor
from wesam_ros.sam import Prompt, Prompts, load_sam
from wesam_ros.sam.predictor import COARSE_MASK_LOGIT
from wesam_ros.sam.preprocessing import mask_to_low_res

CONFIGS = {
    "sam2.1_hiera_tiny": "sam2.1_hiera_t",
    "sam2.1_hiera_small": "sam2.1_hiera_s",
    "sam2.1_hiera_base_plus": "sam2.1_hiera_b+",
    "sam2.1_hiera_large": "sam2.1_hiera_l",
}
MOBILE_SAM = "vit_t"
TRUE_SIDE, GOLDEN_SIDE, KEPT = 1024, 256, 16
"""Sides of the input in pixels, and side of the grid of logits that the golden file keeps of a mask."""
IMAGE_PART = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed", "prompt_encoder.", "mask_decoder.")
Values = tuple[npt.NDArray[np.float32], float]
"""Low-resolution logits (h, w) and predicted IoU of an object."""


def draw(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Weights by name, each drawn by its name alone, at scales that keep activations near 1; nothing is zero, which would hide mistakes."""
    state = {}
    for name, shape in shapes.items():
        drawn = torch.from_numpy(np.asarray(np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)))
        if name.endswith("num_batches_tracked"):
            state[name] = torch.zeros((), dtype=torch.int64)
        elif len(shape) == 1:
            state[name] = 0.1 * drawn.abs() + (0 if name.endswith(("bias", "running_mean")) else 1)
        else:
            state[name] = drawn * drawn[0].numel() ** -0.5
    return state


def picture(side: int) -> npt.NDArray[np.uint8]:
    """(side, side, 3): 32 x 32 squares of random colours."""
    small = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return small.repeat(side // 32, 0).repeat(side // 32, 1)


def prompts(side: int) -> dict[str, Prompt]:
    """A prompt of each form, for a picture of `side` pixels."""
    box = np.array([0.2, 0.3, 0.7, 0.9], np.float32) * side
    points, labels = np.array([[0.5, 0.5], [0.1, 0.2]], np.float32) * side, np.array([1, 0])
    blob = np.zeros((side, side), bool)
    blob[side // 4 : side // 2, side // 4 : side // 2] = True
    return {
        "box": Prompt(box=box),
        "points": Prompt(points=points, point_labels=labels),
        "box and points": Prompt(box=box, points=points, point_labels=labels),
        "box and mask": Prompt(box=box, mask=blob),
        "mask": Prompt(mask=blob),
    }


class Published:
    """A model of the published code with drawn weights, and its own predictor."""

    def __init__(self, name: str, side: int) -> None:
        import_sam_predictor()  # torchvision, also where its operators cannot load
        self.side = side
        if name == MOBILE_SAM:
            from mobile_sam import SamPredictor, sam_model_registry

            self.model = sam_model_registry[MOBILE_SAM](checkpoint=None)
            self.predictor = SamPredictor(self.model)
        else:
            from sam2.build_sam import build_sam2
            from sam2.sam2_image_predictor import SAM2ImagePredictor

            sized = [f"++model.image_size={side}"]
            config = f"configs/sam2.1/{CONFIGS[name]}.yaml"
            self.model = build_sam2(config, None, "cpu", hydra_overrides_extra=sized, apply_postprocessing=False)
            self.predictor = SAM2ImagePredictor(self.model)
            self.predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]
        self.shapes = {key: tuple(value.shape) for key, value in self.model.state_dict().items()}
        self.state = draw(self.shapes)
        self.model.load_state_dict(self.state)
        self.model.eval()  # MobileSAM's attention keeps a copy of its biases, which is made here

    def values(self, image: npt.NDArray[np.uint8], wanted: list[Prompt]) -> list[Values]:
        """Logits and predicted IoU of each object, by a call for each."""
        self.predictor.set_image(image)
        return [self._one(each) for each in wanted]

    def _one(self, prompt: Prompt) -> Values:
        low, many = self.side // 4, len(prompt.points) > 0
        _, scores, low_res = self.predictor.predict(
            point_coords=prompt.points if many else None,
            point_labels=prompt.point_labels if many else None,
            box=prompt.box,
            mask_input=None if prompt.mask is None else mask_to_low_res(prompt.mask, self.side, low, COARSE_MASK_LOGIT).numpy(),
            multimask_output=False,
        )
        return low_res[0], float(scores[0])

    def frame(self, image: npt.NDArray[np.uint8], corners: npt.NDArray[np.float32]) -> None:
        """Masks of boxes in a picture, as the project's documentation has it for a detector's."""
        self.predictor.set_image(image)
        if isinstance(self.predictor, _sam2_predictor()):
            self.predictor.predict(box=corners, multimask_output=False)
            return
        placed = self.predictor.transform.apply_boxes_torch(torch.from_numpy(corners), image.shape[:2])
        self.predictor.predict_torch(point_coords=None, point_labels=None, boxes=placed, multimask_output=False)


def _sam2_predictor() -> type[Any]:
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    return SAM2ImagePredictor  # type: ignore[no-any-return]


def loaded(name: str, state: dict[str, Tensor]) -> Any:
    """Our model, from a file of the official form."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "official.pt")
        torch.save(state if name == MOBILE_SAM else {"model": state}, file)
        return load_sam(name, file)


def golden(names: list[str], path: Path) -> None:
    """Writes the published code's values, and the names and shapes of its tensors."""
    kept: dict[str, Any] = {}
    for name in names:
        side = TRUE_SIDE if name == MOBILE_SAM else GOLDEN_SIDE
        published = Published(name, side)
        values = published.values(picture(side), list(prompts(side).values()))
        step = side // 4 // KEPT
        kept[f"{name}/shapes"] = json.dumps(published.shapes)
        kept[f"{name}/side"] = side
        kept[f"{name}/logits"] = np.stack([logits[::step, ::step] for logits, _ in values])
        kept[f"{name}/iou"] = np.array([iou for _, iou in values], np.float32)
        print(name, {form: round(iou, 4) for form, (_, iou) in zip(prompts(side), values, strict=True)})
    np.savez_compressed(path, **kept)


def compared(name: str, repeats: int) -> dict[str, Any]:
    """Largest differences at true size, numbers of parameters, and seconds of a frame."""
    published = Published(name, TRUE_SIDE)
    engine = TorchEngine(loaded(name, published.state))
    image, forms = picture(TRUE_SIDE), prompts(TRUE_SIDE)
    values = published.values(image, list(forms.values()))
    masks = engine.segment(image, Prompts((TRUE_SIDE, TRUE_SIDE), tuple(forms.values())))
    pairs = list(zip(values, masks.low_res, masks.scores, strict=True))
    row: dict[str, Any] = {
        "model": name,
        "parameters_published": sum(each.numel() for each in published.model.parameters()),
        "parameters_of_its_image_part": sum(v.numel() for key, v in published.model.named_parameters() if key.startswith(IMAGE_PART)),
        "parameters": sum(each.numel() for each in engine.sam.parameters()),
        "logits_differ_by": max(float(np.abs(logits - ours).max()) for (logits, _), ours, _ in pairs),
        "iou_differs_by": max(abs(iou - float(ours)) for (_, iou), _, ours in pairs),
        "largest_logit": max(float(np.abs(logits).max()) for (logits, _), _, _ in pairs),
    }
    frame, corners = scene()[0], boxes(10)
    wanted = Prompts.from_boxes(corners, (frame.shape[0], frame.shape[1]))
    seconds: dict[str, list[float]] = {"published": [], "ours": []}
    with torch.inference_mode():
        for _ in range(repeats):
            seconds["published"].append(taken(lambda: published.frame(frame, corners)))
            seconds["ours"].append(taken(lambda: engine.segment(frame, wanted)))
    row |= {f"seconds_{who}": round(median(each), 3) for who, each in seconds.items()}
    row |= {f"least_seconds_{who}": round(min(each), 3) for who, each in seconds.items()}
    return row


def taken(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=[MOBILE_SAM, *CONFIGS], choices=[MOBILE_SAM, *CONFIGS], help="default: all")
    parser.add_argument("--repeats", type=int, default=5, help="frames of each (default: %(default)s)")
    parser.add_argument("--golden", type=Path, help="file for the published code's values; nothing else is done then")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # deprecations inside of the published code's packages
    if args.golden:
        golden([name for name in args.models if name != "sam2.1_hiera_large"], args.golden)
        return 0
    machine = {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__, "seed": "each tensor's name"}
    rows: list[dict[str, Any]] = []
    for name in args.models:
        rows.append(compared(name, args.repeats))
        print(json.dumps(rows[-1]), flush=True)
        if args.json:  # after each, since the largest takes long
            args.json.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(args.json, (json.dumps({"machine": machine, "repeats": args.repeats, "rows": rows}, indent=2) + "\n").encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

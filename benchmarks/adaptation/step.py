"""Time of a training step, ours against WeSAM as published, of the same model on the same stream in the same run.

    source scripts/env.sh
    python benchmarks/adaptation/step.py --json out/step.json
    python benchmarks/adaptation/step.py --model vit_b --random --frames 4 --json out/step_vit_b.json
    python benchmarks/adaptation/step.py --model sam2.1_hiera_tiny --random --frames 1 --steps 1 --methods ours published \\
        --json out/step_sam2.json

Frames, depth and detections of a recording are shown to both one by one, and after each both take three steps in turns, so that whatever
else the machine does meets both alike. Ours asks the frozen model once per frame and the teacher now and then; a step's time has its
share of that. What the guard takes, which the published recipe has not got, is given by itself. The published recipe is timed as it was
released: in float32, with segment_anything's own attention and decoder, and with losses on masks enlarged to the model's input. Where ours
by itself computes in bfloat16, both are timed in either precision. The last ratio is against losses on the decoder's grid, as the tables
have them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.predictions import Decode, Prediction, autocast, predict_views
from wesam_ros.adaptation.replay_buffer import BufferedFrame
from wesam_ros.adaptation.views import Pixels
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.bags import read_bag
from wesam_ros.machine import processor
from wesam_ros.methods.base import LowRank
from wesam_ros.methods.ours import Ours
from wesam_ros.methods.published import Published
from wesam_ros.sam import Prompts, load_sam
from wesam_ros.sam.architectures import ARCHITECTURES
from wesam_ros.sam.attention import compute_in_pieces
from wesam_ros.sam.decoder import decode_together

STEPS_PER_FRAME = 3
"""Of the committed results."""


class AsReleased(Published):
    """The published recipe with its losses on logits as large as the model's input and its padding, as in the official code (model.py)."""

    def predict(
        self,
        frame: BufferedFrame,
        chosen: Tensor,
        pixels: Sequence[Pixels],
        is_mirrored: bool,
        low_rank: LowRank | None,
        decode: Decode = decode_together,
    ) -> list[Prediction]:
        predictions = predict_views(
            self.sam, low_rank, pixels, is_mirrored, frame.prompts.select(chosen.numpy()), self.config.precision, decode
        )
        larger = [
            functional.interpolate(each.logits[:, None], scale_factor=4, mode="bilinear", align_corners=False) for each in predictions
        ]
        return [replace(each, logits=logits[:, 0]) for each, logits in zip(predictions, larger, strict=True)]


class Timed:
    """A method, and the seconds that it took for steps and for the guard."""

    def __init__(self, method: Ours | Published) -> None:
        self.method, self.steps, self.guard = method, 0.0, 0.0

    def observe(self, frame: Frame, prompts: Prompts) -> None:
        taken = seconds(lambda: self.method.observe(frame, prompts, None))
        if isinstance(self.method, Ours):  # the published recipe asks the frozen model again in every step
            self.steps += taken

    def step(self) -> None:
        if isinstance(self.method, Ours):
            self.steps += seconds(self.method.learner.step)
            self.guard += seconds(self.method.learner.propose)
        else:
            self.steps += seconds(self.method.step)


def load(name: str, checkpoint: Path | None, random: bool, device: str) -> Any:
    """A model from load_sam, or one of random weights: for times they will do."""
    if not random:
        return load_sam(name, checkpoint, device)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "random.pth")
        torch.save(ARCHITECTURES[name].build().state_dict(), file)
        return load_sam(name, file, device)


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="default: %(default)s")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--device", default="cpu", help="torch device (default: %(default)s)")
    parser.add_argument("--random", action="store_true", help="random weights in place of a checkpoint")
    parser.add_argument("--recording", type=Path, default=Path("demo/tabletop.mcap"), help="default: %(default)s")
    parser.add_argument("--frames", type=int, default=24, help="every fourth frame of the recording, so many (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS_PER_FRAME, help="after each frame (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", help="those to time, by the names of their rows (default: all)")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()

    sam, released = (load(args.model, args.checkpoint, args.random, args.device) for _ in range(2))
    compute_in_pieces(released, False)
    config = AdaptationConfig()
    exact = replace(config, precision="float32")
    methods = {"ours": Timed(Ours(sam, 0)), "published": Timed(AsReleased(released, 0, config=exact))}
    methods["published, small losses"] = Timed(Published(released, 0, config=exact))
    compared = {"as each runs by default": ("ours", "published")}
    with autocast(sam, config.precision):
        bfloat16 = torch.is_autocast_enabled(sam.device.type)
        if bfloat16:
            methods |= {
                "ours, float32": Timed(Ours(sam, 0, config=exact)),
                "published, bfloat16": Timed(AsReleased(released, 0, config=config)),
            }
            compared["both in bfloat16"] = ("ours", "published, bfloat16")
            compared["both in float32"] = ("ours, float32", "published")
    compared["with the published recipe's losses on the decoder's grid"] = ("ours", "published, small losses")
    if args.methods:
        methods = {name: methods[name] for name in args.methods}
        compared = {text: pair for text, pair in compared.items() if methods.keys() >= set(pair)}
    frames = list(islice(read_bag(args.recording), 0, 4 * (args.frames + 1), 4))
    for index, frame in enumerate(frames):
        assert frame.detections is not None
        prompts = Prompts.usable_boxes(frame.detections.boxes, frame.size)
        for method in methods.values():
            if index == 1:  # the first one warms up
                method.steps = method.guard = 0.0
            method.observe(frame, prompts)
        for _ in range(args.steps):
            for method in methods.values():
                method.step()
        print(f"frame {index} of {args.frames}", end="\r", flush=True)

    count = args.frames * args.steps
    rows = [{"method": name, "seconds_per_step": each.steps / count, "guard": each.guard / count} for name, each in methods.items()]
    ratios = {text: methods[theirs].steps / methods[ours].steps for text, (ours, theirs) in compared.items()}
    for row in rows:
        print(f"{row['method']:30} {row['seconds_per_step']:8.3f} s a step, and {row['guard']:.3f} for the guard")
    for name, ratio in ratios.items():
        print(f"published / ours, {name}: {ratio:.2f}")
    if args.json:
        machine = {
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "bfloat16": bfloat16,
        }
        facts = {"model": args.model, "image_side": sam.image_encoder.img_size, "steps": count}
        result = {"machine": machine, **facts, "rows": rows, "ratios": ratios}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The parity gate at true size for a model of random weights: least IoU of each CPU engine with torch's masks, frozen and with an adapter.

    source scripts/env.sh
    python benchmarks/engines/gate.py --model sam2.1_hiera_tiny --json out/gate_sam2.json

The model is as torch draws it, so that masks cover a part of the picture; empty ones would agree whatever the engine computes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from wesam_ros.engines.engine import Engine
from wesam_ros.engines.export import export, random_adapter
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.openvino_engine import OpenVinoEngine
from wesam_ros.engines.parity import MIN_IOU, agreement, scene
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.files import write_atomically
from wesam_ros.machine import processor
from wesam_ros.sam import load_sam
from wesam_ros.sam.architectures import ARCHITECTURES


def rows_of(name: str) -> list[dict[str, Any]]:
    """A row for each engine, frozen and with an adapter."""
    torch.manual_seed(0)
    model = ARCHITECTURES[name].build()
    for key, parameter in model.named_parameters():
        if "pos_embed" in key or key.endswith("no_mem_embed"):
            torch.nn.init.normal_(parameter, std=0.02)  # zero in a new model
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        torch.save(model.state_dict(), Path(folder, "random.pt"))
        sam = load_sam(name, Path(folder, "random.pt"))
        export(sam, Path(folder, "onnx"))
        image, wanted = scene()
        engines: list[Engine] = [OnnxRuntimeEngine(sam, Path(folder, "onnx"))]
        engines += [OpenVinoEngine(sam, Path(folder, "onnx"), precision=precision) for precision in ("float32", None)]
        for adapter in (None, random_adapter(sam, 4, 0)):
            expected = TorchEngine(sam).segment(image, wanted, adapter)
            covered = expected.masks.mean((1, 2))
            for engine in engines:
                found = agreement(expected, engine.segment(image, wanted, adapter))
                rows.append(
                    {
                        "model": name,
                        "engine": str(engine.capabilities),
                        "adapter": adapter is not None,
                        "least_iou": round(float(found.iou.min()), 5),
                        "passes": bool(found.iou.min() >= MIN_IOU[engine.capabilities.precision]),
                        "logits_differ_by": found.logits,
                        "share_of_image_in_masks": [round(float(covered.min()), 3), round(float(covered.max()), 3)],
                    }
                )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sam2.1_hiera_tiny", choices=ARCHITECTURES, help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    rows = rows_of(args.model)
    print(*map(json.dumps, rows), sep="\n")
    if args.json:
        machine = {"processor": processor(), "threads": torch.get_num_threads(), "torch": torch.__version__, "seed": 0}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(args.json, (json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n").encode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

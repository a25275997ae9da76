"""An encoder in INT8 held against the gate that every engine has to pass, and its gain on a CPU.

    source scripts/env.sh
    python benchmarks/engines/int8.py --json out/int8.json

The exported encoder is quantised by ONNX Runtime in several ways: weights and, as they come, activations of all products of matrices, or of
those of the MLPs alone; and statically, with scales from frames of simulated tables. Each is held against torch on the frame of the gate,
with the frozen model and a random adapter, and timed in turns with torch's and ONNX Runtime's encoders in float32. The gate's threshold is
that of half precision (engines/parity.py).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

from wesam_ros.data.simulator import simulate
from wesam_ros.engines.engine import Engine
from wesam_ros.engines.export import export, random_adapter
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.parity import MIN_IOU, agreement, scene
from wesam_ros.engines.store import ENCODER, folder_of
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.files import write_atomically
from wesam_ros.machine import processor
from wesam_ros.sam import load_sam
from wesam_ros.sam.preprocessing import preprocess

LEAST = MIN_IOU["float16"]
CALIBRATION_FRAMES = 8
PRODUCTS = ["MatMul", "Gemm"]


class Frames(CalibrationDataReader):  # type: ignore[misc]
    """Inputs of the encoder from simulated tables, every other one with an adapter."""

    def __init__(self, sam: Any) -> None:
        self._inputs = self._all(sam)

    @staticmethod
    def _all(sam: Any) -> Iterator[dict[str, np.ndarray]]:
        adapter = random_adapter(sam, 4, 1)
        a, b = (each.numpy() for each in adapter.low_rank)
        for index, frame in enumerate(islice(simulate("camera", 5, objects=8, views=1), CALIBRATION_FRAMES)):
            pixels = preprocess(frame.image, sam.image_encoder.img_size)[None].numpy()
            yield {"pixels": pixels, "a": a, "b": b * np.float32(index % 2)}

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._inputs, None)


def of_mlps(path: Path) -> list[str]:
    """The names of the products whose weights are four times as wide as they are high, or the other way round: those of the MLPs."""
    model = onnx.load(str(path))
    shapes = {each.name: tuple(each.dims) for each in model.graph.initializer}
    found = []
    for node in model.graph.node:
        shape = next((shapes[name] for name in node.input if name in shapes and len(shapes[name]) == 2), (1, 1))
        if node.op_type in PRODUCTS and max(shape) == 4 * min(shape):
            found.append(node.name)
    return found


def ways(sam: Any, source: Path) -> dict[str, Callable[[Path], None]]:
    """Ways to quantise, by name: each writes the encoder to a path."""
    encoder, mlps = str(source / ENCODER), of_mlps(source / ENCODER)

    def dynamic(**options: Any) -> Callable[[Path], None]:
        return lambda path: quantize_dynamic(encoder, str(path), op_types_to_quantize=PRODUCTS, **options)

    def static(**options: Any) -> Callable[[Path], None]:
        given = {"quant_format": QuantFormat.QDQ, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True}
        return lambda path: quantize_static(encoder, str(path), Frames(sam), op_types_to_quantize=PRODUCTS, **given, **options)

    return {
        "dynamic, a scale per tensor": dynamic(),
        "dynamic, a scale per channel": dynamic(per_channel=True),
        "dynamic, a scale per channel, MLPs only": dynamic(per_channel=True, nodes_to_quantize=mlps),
        "static, a scale per channel": static(),
        "static, a scale per channel, MLPs only": static(nodes_to_quantize=mlps),
    }


def milliseconds(engines: list[Engine], image: np.ndarray, adapter: Any, repeats: int) -> list[float]:
    """Median time to encode, of engines that take turns."""
    times: list[list[float]] = [[] for _ in engines]
    for turn in range(repeats + 1):
        for engine, each in zip(engines, times, strict=True):
            began = time.perf_counter()
            engine.encode(image, adapter)
            if turn:
                each.append((time.perf_counter() - began) * 1e3)
    return [float(np.median(each)) for each in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--repeats", type=int, default=30, help="frames that are timed (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument("--json", type=Path, default=Path("out/int8.json"), help="file with the rows (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sam = load_sam(args.model, args.checkpoint)
    source = folder_of(sam)
    export(sam, source, again=False)
    reference, single = TorchEngine(sam), OnnxRuntimeEngine.load(sam, source)
    image, prompts = scene()
    adapters = {"frozen": None, "random adapter": random_adapter(sam, 4, 0)}
    rows = []
    for name, quantise in ways(sam, source).items():
        with tempfile.TemporaryDirectory() as folder:
            whole = Path(folder) / "model"
            shutil.copytree(source, whole)
            (whole / ENCODER).unlink()
            quantise(whole / ENCODER)
            engine = OnnxRuntimeEngine(sam, whole)
            iou = {state: agreement(reference.segment(image, prompts, each), engine.segment(image, prompts, each)).iou
                   for state, each in adapters.items()}  # fmt: skip
            times = milliseconds([engine, single, reference], image, adapters["random adapter"], args.repeats)
        least = min(float(each.min()) for each in iou.values())
        rows.append(
            {
                "device": f"cpu ({processor()})",
                "model": args.model,
                "way": name,
                "least_iou": {state: round(float(each.min()), 4) for state, each in iou.items()},
                "passes": least >= LEAST,
                "encode_ms": round(times[0], 1),
                "as_fast_as_onnxruntime": round(times[1] / times[0], 2),
                "as_fast_as_torch": round(times[2] / times[0], 2),
            }
        )
        print(", ".join(f"{key} {value}" for key, value in rows[-1].items() if key not in ("device", "model")), flush=True)
    write_atomically(args.json, ("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n").encode())


if __name__ == "__main__":
    main()

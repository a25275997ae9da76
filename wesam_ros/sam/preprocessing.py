"""SAM's own preprocessing, once: training, inference, export and evaluation all go through these functions.

Held against `segment_anything.SamPredictor` by test/test_sam_golden.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

CPU = torch.device("cpu")
PIXEL_MEAN = (123.675, 116.28, 103.53)
"""ImageNet's mean per RGB channel, for pixels from 0 to 255 (segment_anything/build_sam.py)."""
PIXEL_STD = (58.395, 57.12, 57.375)
"""ImageNet's standard deviation, likewise."""


def resized_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(H, W) after the longest side is resized to `side` pixels (ResizeLongestSide.get_preprocess_shape)."""
    scale = side / max(size)
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def resize_image(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """An (H, W, 3) uint8 image with its longest side at `side` pixels; bilinear with antialiasing, as SamPredictor does it."""
    height, width = resized_size((image.shape[0], image.shape[1]), side)
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def normalize(image: Tensor, side: int) -> Tensor:
    """Normalises (..., 3, h, w) pixels from 0 to 255 and pads right and below with zeros to (..., 3, side, side) float32."""
    mean = torch.tensor(PIXEL_MEAN, device=image.device).view(3, 1, 1)
    std = torch.tensor(PIXEL_STD, device=image.device).view(3, 1, 1)
    return functional.pad((image.float() - mean).div_(std), (0, side - image.shape[-1], 0, side - image.shape[-2]))


def preprocess(image: npt.NDArray[np.uint8], side: int, device: torch.device = CPU) -> Tensor:
    """Makes the encoder's input from an image. Only the image's bytes are copied to the device.

    Args:
        image: (H, W, 3) uint8, RGB, of any size.
        side: the model's input size in pixels, `sam.image_encoder.img_size`.
        device: to compute on. Elsewhere than on the CPU, pixels differ from the CPU's by one level at most.

    Returns:
        (3, side, side) float32.
    """
    if device.type == "cpu":
        resized = np.array(resize_image(image, side))  # a copy: torch refuses read-only memory, which messages have
        return normalize(torch.from_numpy(resized).permute(2, 0, 1), side)
    pixels = torch.from_numpy(np.array(image))
    if device.type == "cuda":
        pixels = pixels.pin_memory()  # torch keeps it until the copy is done
    return normalize(resize_tensor(pixels.to(device, non_blocking=True).permute(2, 0, 1), side), side)


def resize_tensor(image: Tensor, side: int) -> Tensor:
    """`resize_image` of (3, H, W) uint8 pixels on their device, to float32 whole numbers, each within 1 of Pillow's, which rounds twice."""
    size = resized_size((image.shape[1], image.shape[2]), side)
    if size == image.shape[1:]:
        return image.float()
    resized = functional.interpolate(image[None].float(), size, mode="bilinear", antialias=True, align_corners=False)[0]
    return resized.round_().clamp_(0, 255)


def to_model_coordinates(xy: npt.NDArray[np.float32], size: tuple[int, int], side: int) -> npt.NDArray[np.float32]:
    """Pixels (..., 2) of an (H, W) image, x before y, in pixels of the model's input."""
    height, width = resized_size(size, side)
    return np.asarray(xy * np.array([width / size[1], height / size[0]]), np.float32)


def mask_to_low_res(mask: npt.NDArray[np.bool_], side: int, low_res_side: int, logit: float) -> Tensor:
    """A coarse mask as the model's mask input.

    Args:
        mask: (H, W) bool in the original image.
        side: the model's input size in pixels.
        low_res_side: the mask input's size, a quarter of `side` in all SAM models.
        logit: the value inside; outside is its negative, padding as well.

    Returns:
        (1, low_res_side, low_res_side) float32 logits.
    """
    height, width = resized_size((mask.shape[0], mask.shape[1]), low_res_side)
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize((width, height), Image.Resampling.BILINEAR)
    inside = torch.from_numpy(np.array(small)).float() / 255
    return functional.pad(2 * inside - 1, (0, low_res_side - width, 0, low_res_side - height), value=-1.0)[None] * logit


def upscale(low_res: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Low-resolution logits in the original image's pixels (Sam.postprocess_masks).

    Args:
        low_res: (n, h, w) float, as the decoder gives them.
        size: (H, W) of the original image.
        side: the model's input size in pixels.

    Returns:
        (n, H, W) logits; a pixel belongs to the object where its logit is above 0.
    """
    height, width = resized_size(size, side)
    padded = functional.interpolate(low_res[:, None], (side, side), mode="bilinear", align_corners=False)
    return functional.interpolate(padded[..., :height, :width], size, mode="bilinear", align_corners=False)[:, 0]

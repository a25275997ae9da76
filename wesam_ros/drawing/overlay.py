"""Masks drawn over their image, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import box_of_mask

UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]

# Hues that stay apart for colour-blind readers too, after Okabe and Ito (2008), plus lighter and darker ones for more objects
PALETTE = np.array(
    [
        (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167), (148, 103, 189),
        (166, 216, 84), (255, 127, 127), (64, 224, 208), (188, 143, 80),
    ],
    np.uint8,
)  # fmt: skip


def draw_overlay(image: UInt8, masks: npt.NDArray[np.bool_], names: Sequence[str] | None = None, opacity: float = 0.45) -> UInt8:
    """(H, W, 3) uint8 RGB copy of the image with the masks (n, H, W) bool in colours of their own, outlined and named.

    Object i has colour i of the palette; `names` are its n captions (detection ids), numbers from 1 on if None. Where masks overlap the
    smaller one is on top.
    """
    if masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
        raise ValueError(f"masks must be (n, {image.shape[0]}, {image.shape[1]}), but got shape {masks.shape}")
    labels = np.zeros(image.shape[:2], np.uint16)
    for index in np.argsort(-np.count_nonzero(masks, axis=(1, 2)), kind="stable"):
        labels[masks[index]] = index + 1
    return draw_labels(image, labels, names if names is not None else [str(i + 1) for i in range(len(masks))], opacity)


def draw_labels(image: UInt8, labels: UInt16, names: Sequence[str] = (), opacity: float = 0.45) -> UInt8:
    """(H, W, 3) overlay of a label image (H, W) uint16: 0 = no object, i = object i - 1; objects beyond `names` get no caption."""
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels must have the image's size {image.shape[:2]}, but got shape {labels.shape}")
    # One table look-up colours all objects at once: row 0 is no object.
    table = np.concatenate([np.zeros((1, 3), np.uint8), PALETTE[np.arange(int(labels.max(initial=0))) % len(PALETTE)]])
    colours = np.take(table, labels, axis=0)
    inside = (labels > 0).astype(np.uint8)
    drawn = image.copy()
    cv2.copyTo(cv2.addWeighted(image, 1 - opacity, colours, opacity, 0), inside, drawn)
    cv2.copyTo(colours, inside & outlines(labels).astype(np.uint8), drawn)
    for index, name in enumerate(names):
        _caption(drawn, labels == index + 1, name)
    return drawn


def outlines(labels: UInt16) -> npt.NDArray[np.bool_]:
    """(H, W) bool: pixels within one of another label's pixel, so that every border is two or more pixels wide."""
    kernel = np.ones((3, 3), np.uint8)
    return np.not_equal(cv2.dilate(labels, kernel), cv2.erode(labels, kernel))


def draw_outlines(image: UInt8, labels: UInt16, colour: tuple[int, int, int] = (255, 255, 255)) -> UInt8:
    """(H, W, 3) copy of the image with the borders of a label image (H, W), as of the truth, in one colour on a dark seam."""
    drawn = image.copy()
    edge = outlines(labels)
    seam = cv2.dilate(edge.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    drawn[seam] //= 3
    drawn[edge] = colour
    return drawn


def _caption(image: UInt8, mask: npt.NDArray[np.bool_], name: str) -> None:
    """Write the name where the object is thickest, dark on light so that it reads on any colour."""
    if not name or not mask.any():
        return
    x0, y0, x1, y1 = box_of_mask(mask).tolist()
    crop = np.pad(mask[y0:y1, x0:x1], 1).astype(np.uint8)
    _, _, _, (column, row) = cv2.minMaxLoc(cv2.distanceTransform(crop, cv2.DIST_L2, 3))
    (text_width, text_height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    left = int(np.clip(x0 + column - 1 - text_width // 2, 0, max(image.shape[1] - text_width, 0)))
    base = int(np.clip(y0 + row - 1 + text_height // 2, text_height, image.shape[0] - 1))
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(image, name, (left, base), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, thickness, cv2.LINE_AA)

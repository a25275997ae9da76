"""Masks as outlines that a browser draws sharply at any size."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.drawing.overlay import PALETTE
from wesam_ros.web.values import SeenFrame, SeenObject

TOLERANCE = 0.8
"""Pixels by which a simplified outline may be off the mask's."""
WIDEST = 1280
"""Columns of a picture that is sent: wider images are scaled down, their outlines are not."""
QUALITY = 80
"""Quality of the JPEG."""


def path_of(mask: npt.NDArray[np.bool_], corner: tuple[int, int]) -> str:
    """The outlines of a mask, holes too, as the `d` of an SVG path in pixels of the image. "" for an empty mask.

    Args:
        mask: (h, w), cut out of the image.
        corner: column and row of its upper left pixel.
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    pieces = []
    for contour in found:
        points = cv2.approxPolyDP(contour, TOLERANCE, True)[:, 0] + corner
        if len(points) > 2:
            pieces.append("M" + "L".join(f"{x + 0.5:g} {y + 0.5:g}" for x, y in points.tolist()) + "Z")
    return "".join(pieces)


def anchor_of(mask: npt.NDArray[np.bool_], corner: tuple[int, int]) -> tuple[int, int]:
    """Column and row of the image where a mask is thickest, for its caption."""
    distances = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)
    _, _, _, (column, row) = cv2.minMaxLoc(distances)
    return corner[0] + column - 1, corner[1] + row - 1


def colour_of(number: int) -> str:
    """The CSS colour of an object's number: a track keeps its colour."""
    return "#" + bytes(PALETTE[number % len(PALETTE)].tolist()).hex()


def caption_of(each: SeenObject) -> str:
    """The few characters that stand on an object: its track, or else the detector's id."""
    return str(each.track_id) if each.track_id else each.id


def drawn(each: SeenObject, row: int) -> dict[str, Any]:
    """An object as the browser draws it; `row` is its place in the frame."""
    number = each.track_id - 1 if each.track_id else row
    x, y = anchor_of(each.mask, each.corner) if each.mask.any() else each.corner
    return {
        "path": path_of(each.mask, each.corner),
        "colour": colour_of(number),
        "caption": caption_of(each),
        "title": title_of(each),
        "x": x,
        "y": y,
    }


def title_of(each: SeenObject) -> str:
    """An object in words, for screen readers and tooltips."""
    parts = [f"{each.class_id or 'object'} {caption_of(each)}", f"score {each.score:.2f}", f"from {each.source.replace('+', ' and ')}"]
    if each.size is not None:
        parts.append(f"{size_text(each.size)} cm")
    return ", ".join(parts)


def size_text(size: tuple[float, float, float]) -> str:
    """Three sizes in metres as centimetres."""
    return " x ".join(f"{100 * value:.1f}" for value in size)


def jpeg_of(image: npt.NDArray[np.uint8]) -> bytes:
    """An (H, W, 3) RGB image as JPEG, at most WIDEST columns wide."""
    height, width = image.shape[:2]
    if width > WIDEST:
        image = np.asarray(cv2.resize(image, (WIDEST, round(height * WIDEST / width)), interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ValueError(f"an image of shape {image.shape} could not be made a JPEG")
    return data.tobytes()


def picture_of(frame: SeenFrame) -> dict[str, Any]:
    """A frame as the browser shows it, without its pixels."""
    height, width = frame.size
    objects = [drawn(each, row) for row, each in enumerate(frame.objects)]
    return {"stamp": str(frame.stamp), "width": width, "height": height, "objects": objects}  # a stamp is too long for JavaScript's numbers

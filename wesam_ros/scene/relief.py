"""Relief: what depth tells of each pixel around the prompted objects, at the image's resolution, and whose each raised pixel is.

Depth has holes at the objects' edges, and cannot tell what lies flat. There colour decides: pixels go to the kind that reaches them first
over the image's flat places (watershed, Meyer, 1992). All that rises is flooded from the objects' own sure pixels over colour and height,
so that things which touch part at their steps. Both floods are at half resolution: known pixels keep the full one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.sam.upscaling import Rectangle
from wesam_ros.scene.plane import NEAR, RAISED_BY, Plane
from wesam_ros.scene.projection import Projection, slopes

HOLE, BETWEEN, SURFACE, RAISED, DEEP = range(5)
"""Kinds of pixels: without depth, too near to the surface to tell, of it or below it, risen from it, and deep in a hole."""
KINDS = 5
FAR_IN_HOLE = 4
"""Pixels, at half resolution, from the nearest depth on which a pixel is deep in a hole: colour does not reach that far."""
BORDER, UNKNOWN, ON_SURFACE, OTHERS, FIRST = range(-1, 4)
"""Marks of the flood: between two kinds, none, the surface, things without a prompt, and the first of the objects."""
STEP_METRES = 0.004
"""A step in height of this size counts as much as one level of brightness would at the share COLOUR."""
COLOUR = 0.3

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Relief:
    """Depth around a frame's objects.

    Attributes:
        around: rows and columns of the image that it is of.
        kinds: (h, w) uint8, HOLE to DEEP.
        height: (h, w) float32 metres above the surface below; without meaning in holes.
    """

    around: Rectangle
    kinds: npt.NDArray[np.uint8]
    height: Float


def relief(depth: Float, camera: Projection, planes: Sequence[Plane], around: Rectangle) -> Relief:
    """Heights above the support surfaces, and what they tell.

    Args:
        depth: (H, W) metres along the optical axis, 0 = none.
        camera: (3, 3) intrinsic matrix, or (H, W, 2) rays.
        planes: surfaces, one at least. What is below the first is no object; above it rise the others, such as shelf and wall.
        around: rows and columns to look at.
    """
    x, y = (_part(each, around) for each in slopes(camera, (depth.shape[0], depth.shape[1])))
    distance = depth[around]
    scale = np.maximum(distance, np.float32(0.3))
    scale *= scale  # noise of triangulated depth grows with the square of the distance
    height = _height(distance, x, y, planes[0])
    near = scale * np.float32(NEAR * planes[0].noise)
    kinds = (height < near).view(np.uint8) + np.uint8(BETWEEN)
    near *= np.float32(RAISED_BY)
    kinds += (height > near).view(np.uint8) * np.uint8(RAISED - BETWEEN)
    for each in planes[1:]:
        above, near = _height(distance, x, y, each), scale * np.float32(NEAR * each.noise)
        on = (above < near) & (above > -near)
        kinds[on & (kinds == RAISED)] = SURFACE
        kinds[(above >= near) & (above < near * np.float32(RAISED_BY)) & (kinds == RAISED)] = BETWEEN
        height = np.where(above > -near, np.minimum(above, height), height)
    kinds *= (distance > 0).view(np.uint8)
    return Relief(around, _with_deep_holes(kinds), height)


def _height(distance: Float, x: Float, y: Float, plane: Plane) -> Float:
    """(h, w) metres above a plane of pixels at a distance (h, w) with slopes x and y that broadcast to it."""
    normal = plane.normal.astype(np.float32)
    height = distance * (normal[0] * x + (normal[1] * y + normal[2]))
    height -= np.float32(plane.offset)
    return np.asarray(height, np.float32)


def _with_deep_holes(kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The kinds (h, w), with holes that are DEEP."""
    holes = (kinds[::2, ::2] == HOLE).view(np.uint8)
    side = 2 * FAR_IN_HOLE + 1
    deep = cv2.erode(holes, np.ones((side, side), np.uint8))  # the image's border is no depth
    if deep.any():
        whole = np.repeat(np.repeat(deep, 2, 0), 2, 1)[: kinds.shape[0], : kinds.shape[1]]
        kinds += (whole & (kinds == HOLE)) * np.uint8(DEEP)
    return kinds


def _part(values: Projection, around: Rectangle) -> Float:
    """The rows and columns of slopes that broadcast to the image."""
    rows, columns = around
    part = values[rows if values.shape[0] > 1 else slice(None), columns if values.shape[1] > 1 else slice(None)]
    return part.astype(np.float32, copy=False)


def flood(found: Relief, image: npt.NDArray[np.uint8], seeds: npt.NDArray[np.int32], inside: Bool) -> npt.NDArray[np.int32]:
    """Marks of the objects and kinds that pixels are of, at half resolution: (h / 2, w / 2) int32 rounded up, BORDER to FIRST + n - 1.

    Args:
        found: of the part of the image that is flooded.
        image: (H, W, 3) uint8.
        seeds: (h / 2, w / 2) UNKNOWN, or FIRST + i where a pixel is surely of object i, if it rises at all.
        inside: (h / 2, w / 2) in the box of any object: what rises beyond is of things without a prompt.
    """
    kinds = found.kinds[::2, ::2]
    colours = cv2.resize(image[found.around], (kinds.shape[1], kinds.shape[0]), interpolation=cv2.INTER_LINEAR)
    spread = np.where((kinds == SURFACE) | (kinds == RAISED), kinds, 0).astype(np.int32)
    if spread.any():
        cv2.watershed(colours, spread)
    marks = np.where(spread == SURFACE, ON_SURFACE, UNKNOWN).astype(np.int32)
    raised = kinds == RAISED
    np.copyto(marks, seeds, where=raised & (seeds >= FIRST))
    marks[raised & ~inside] = OTHERS
    if not marks.any():
        return marks
    grey = cv2.convertScaleAbs(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY), alpha=COLOUR)
    height = cv2.convertScaleAbs(np.maximum(found.height[::2, ::2], 0), alpha=1 / STEP_METRES)
    cv2.watershed(cv2.merge([height, grey, grey]), marks)
    return marks

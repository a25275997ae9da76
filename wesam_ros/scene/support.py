"""The support surface in a depth image: pixels that things stand on, and pixels that rise from it.

A pixel of the surface belongs to no object, whatever its colour. One that rises from it, inside one box only, belongs to that box's object.
Neither comes from the model, so both correct it where it is always wrong in the same way. Depth has holes at the objects' edges: there
the two kinds are spread to the next edge of the colour image.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.sam.preprocessing import resized_size
from wesam_ros.scene.plane import NEAR, STEP, fit_plane
from wesam_ros.scene.projection import Projection, measured, slopes

RAISED = 0.012
"""Metres above the plane at one metre from which on a point is surely not on it."""
SPREAD = 20
"""Pixels from the nearest one that depth knows within which colour may decide."""


@dataclass(frozen=True, eq=False)
class Support:
    """The support surface on the decoder's grid.

    Attributes:
        surface: (h, w) bool, pixels of the surface that things stand on.
        raised: (h, w) bool, pixels that rise from it; False in both where depth does not tell.
        height: (h, w) float32 metres above the surface; where there is no depth, that of the nearest pixel with some.
    """

    surface: npt.NDArray[np.bool_]
    raised: npt.NDArray[np.bool_]
    height: npt.NDArray[np.float32]


def find_support(
    image: npt.NDArray[np.uint8],
    depth: npt.NDArray[np.float32],
    camera: Projection,
    boxes: npt.NDArray[np.float32],
    low_res_side: int,
    rng: np.random.Generator,
) -> Support | None:
    """Finds the plane that the boxed objects stand on (RANSAC, Fischler and Bolles, 1981), and what rises from it towards the camera.

    Pixels without depth, or too near to the plane to tell, go to the kind that reaches them first over the image's flat places
    (watershed, Meyer, 1992).

    Args:
        image: (H, W, 3) uint8, registered to the depth.
        depth: (H, W) metres along the optical axis, 0 = none.
        camera: (3, 3) intrinsic matrix, or (H, W, 2) rays.
        boxes: (n, 4) x0 y0 x1 y1 in pixels; the plane is looked for in and around them, where walls and floor are few.
        low_res_side: side of the decoder's grid.
        rng: draws the plane's candidates.

    Returns:
        None where no plane holds a third of the points near the boxes.
    """
    depth = measured(depth, camera)
    known = depth > 0
    rows, columns = np.nonzero((_around(boxes, (depth.shape[0], depth.shape[1])) & known)[::STEP, ::STEP])
    x, y = slopes(camera, (depth.shape[0], depth.shape[1]))  # a pixel's ray is (x, y, 1)
    near = (np.broadcast_to(each, depth.shape)[::STEP, ::STEP][rows, columns] for each in (x, y))
    rays = np.stack([*near, np.ones(len(rows))], 1)
    plane = fit_plane(rays * depth[::STEP, ::STEP][rows, columns, None], rng)
    if plane is None:
        return None
    normal, offset = plane
    height = depth * (normal[0] * x + (normal[1] * y + normal[2])) - offset
    scale = np.maximum(depth, 0.3) ** 2  # noise of triangulated depth grows with the square of the distance
    kinds = np.zeros(depth.shape, np.int32)
    kinds[known & (height < NEAR * scale)] = 1  # what lies below, seen past the table's edge, is no object either
    kinds[known & (height > RAISED * scale)] = 2
    seeds = kinds.copy()
    cv2.watershed(cv2.medianBlur(image, 5), kinds)
    near_known = cv2.distanceTransform((seeds == 0).astype(np.uint8), cv2.DIST_L2, 5) <= SPREAD
    surface, raised = (kinds == 1) & near_known, (kinds == 2) & near_known
    grid = resized_size((depth.shape[0], depth.shape[1]), low_res_side)
    surface, raised = (_on_grid(mask, grid, low_res_side) for mask in (surface, raised))
    return Support(surface, raised, _height_on_grid(height.astype(np.float32), known, grid, low_res_side))


def _around(boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(H, W) bool: in a box, or nearer to it than half of its size."""
    near = np.zeros(size, bool)
    for x0, y0, x1, y1 in boxes:
        dx, dy = (x1 - x0) / 2, (y1 - y0) / 2
        near[max(0, int(y0 - dy)) : int(y1 + dy) + 1, max(0, int(x0 - dx)) : int(x1 + dx) + 1] = True
    return near


def _on_grid(mask: npt.NDArray[np.bool_], grid: tuple[int, int], side: int) -> npt.NDArray[np.bool_]:
    """(side, side) bool: the pixels of the grid that a mask (H, W) covers by more than half; False in the padding."""
    result = np.zeros((side, side), bool)
    share = cv2.resize(mask.astype(np.float32), (grid[1], grid[0]), interpolation=cv2.INTER_AREA)
    result[: grid[0], : grid[1]] = share > 0.5
    return result


def _height_on_grid(
    height: npt.NDArray[np.float32], known: npt.NDArray[np.bool_], grid: tuple[int, int], side: int
) -> npt.NDArray[np.float32]:
    """(side, side): the mean of the known heights (H, W) in each pixel of the grid, else that of the nearest; 0 in the padding."""
    total, share = (cv2.resize(each.astype(np.float32), grid[::-1], interpolation=cv2.INTER_AREA) for each in (height * known, known))
    empty = (share <= 0).astype(np.uint8)
    mean = total / np.where(share > 0, share, 1)
    _, nearest = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label = np.zeros(int(nearest.max()) + 1, np.float32)
    of_label[nearest[empty == 0]] = mean[empty == 0]
    result = np.zeros((side, side), np.float32)
    result[: grid[0], : grid[1]] = of_label[nearest]
    return result

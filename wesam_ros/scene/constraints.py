"""Constraints on the masks of a frame's objects that come without the model: from prompts and depth, on the decoder's grid.

A box limits its object. A point tells of one place that it is on the object, or not. A coarse mask was drawn by a hasty hand: the
object ends within it or a little beyond, and its middle is on the object. Depth tells table from what rises from it (support.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.sam.preprocessing import resized_size, to_model_coordinates
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.neighbours import pieces_at_points, unprompted_pixels
from wesam_ros.scene.regions import box_pixels
from wesam_ros.scene.support import Support

CENTER = 0.2
"""The share of a box's sides around its center that is taken to be on the object, where neighbours are told apart."""
COARSENESS = 0.25
"""By how much of its size (the root of its area) the outline of a coarse mask may be wrong."""

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Constraints:
    """Measurements of n objects on the decoder's (h, w) grid.

    Attributes:
        boxes: (n, 4) float32 x0 y0 x1 y1 in pixels of the grid; zeros where the prompt has no box.
        boxed: (n,) bool, True where the prompt has one.
        allowed: (n, h, w) bool, where the object can be: in its box, in its coarse mask enlarged. With points alone: anywhere, but not
            on what rises from the surface apart from its points.
        certain: (n, h, w) bool, the middle of the coarse mask, which is on the object; empty without one.
        points: (n, k, 2) float32 x y in pixels of the grid, the prompts' own and the positive ones of the other objects.
        point_labels: (n, k) int64, 1 on the object, 0 not on it, -1 no point.
        surface: (h, w) bool, pixels of the support surface; all False without depth.
        candidate: (n, h, w) bool, pixels that rise from the surface: the object's where they are allowed and of no other's candidates.
            Not those of things without a prompt.
    """

    boxes: Tensor
    boxed: Tensor
    allowed: Tensor
    certain: Tensor
    points: Tensor
    point_labels: Tensor
    surface: Tensor
    candidate: Tensor

    def __getitem__(self, chosen: Tensor) -> Constraints:
        """The constraints of some of the objects."""
        own = {name: getattr(self, name)[chosen] for name in self.__dataclass_fields__ if name != "surface"}
        return Constraints(**own, surface=self.surface)

    def to(self, device: torch.device) -> Constraints:
        """The same on another device."""
        return Constraints(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


@dataclass(frozen=True, eq=False)
class _Regions:
    """One object's pixels of the grid, each (h, w) bool: as in Constraints, and the center that it is flooded from."""

    allowed: Bool
    certain: Bool
    candidate: Bool
    center: Bool


def gather_constraints(prompts: Prompts, support: Support | None, side: int, grid_side: int) -> Constraints:
    """The constraints of a frame's prompts, and of its depth where there is some.

    Args:
        prompts: of n >= 1 objects, in pixels of the original image.
        support: the support surface on the grid; None without depth.
        side: the model's input size in pixels.
        grid_side: side of the decoder's grid.
    """
    size = resized_size(prompts.size, grid_side)
    nowhere = np.zeros((grid_side, grid_side), bool)
    image = nowhere.copy()
    image[: size[0], : size[1]] = True
    surface, raised = (nowhere, nowhere) if support is None else (support.surface, support.raised)

    def on_grid(xy: Float) -> Float:
        return to_model_coordinates(xy, prompts.size, side) * np.float32(grid_side / side)

    boxed = torch.tensor([each.box is not None for each in prompts.objects])
    corners = np.stack([each.box if each.box is not None else np.zeros(4, np.float32) for each in prompts.objects])
    boxes = torch.from_numpy(on_grid(corners.reshape(-1, 2, 2)).reshape(-1, 4))
    points, labels = [on_grid(each.points) for each in prompts.objects], [each.point_labels for each in prompts.objects]

    regions = [_Regions(allowed=image, certain=nowhere, candidate=raised, center=nowhere)] * len(prompts)
    regions = _limit_by_coarse_masks(regions, prompts, size)
    regions = _limit_by_boxes(regions, prompts, boxes)
    regions = _limit_by_points(regions, prompts, points, labels, raised)
    allowed, candidate = (np.stack([getattr(each, name) for each in regions]) for name in ("allowed", "candidate"))
    if support is not None:
        centers = np.any([each.allowed & each.center for each in regions], 0)
        candidate = candidate & ~unprompted_pixels(support, allowed.any(0), centers, size)
    all_points, all_labels = _with_points_of_others(points, labels)
    return Constraints(
        boxes=boxes,
        boxed=boxed,
        allowed=torch.from_numpy(allowed),
        certain=torch.from_numpy(np.stack([each.certain & each.allowed for each in regions])),
        points=torch.from_numpy(all_points),
        point_labels=torch.from_numpy(all_labels),
        surface=torch.from_numpy(surface),
        candidate=torch.from_numpy(candidate),
    )


def _limit_by_coarse_masks(regions: Sequence[_Regions], prompts: Prompts, size: tuple[int, int]) -> list[_Regions]:
    """An object with a coarse mask is allowed within it, enlarged; its middle is certain, and its center.

    Args:
        regions: of n objects.
        prompts: of these objects.
        size: h and w of the image on the grid, without the padding.
    """
    limited = []
    for region, prompt in zip(regions, prompts.objects, strict=True):
        if prompt.mask is not None:
            middle, enlarged = _middle_and_enlarged(prompt.mask, size, len(region.allowed))
            region = replace(region, allowed=enlarged, certain=middle, center=middle)
        limited.append(region)
    return limited


def _limit_by_boxes(regions: Sequence[_Regions], prompts: Prompts, boxes: Tensor) -> list[_Regions]:
    """An object with a box (n, 4), in pixels of the grid, is allowed within it; where it has no coarse mask the box has its center."""
    grid = (len(regions[0].allowed), len(regions[0].allowed))
    inside, centers = box_pixels(boxes, grid).numpy(), box_pixels(_centers(boxes), grid).numpy()
    limited = []
    for region, prompt, box, center in zip(regions, prompts.objects, inside, centers, strict=True):
        if prompt.box is not None:
            region = replace(region, allowed=region.allowed & box, center=region.center if prompt.mask is not None else center)
        limited.append(region)
    return limited


def _limit_by_points(
    regions: Sequence[_Regions], prompts: Prompts, points: Sequence[Float], labels: Sequence[npt.NDArray[np.int64]], raised: Bool
) -> list[_Regions]:
    """An object with nothing but points is not allowed on pieces that rise from the surface elsewhere.

    Args:
        regions: of n objects.
        prompts: of these objects.
        points: of each object (k, 2) x y in pixels of the grid.
        labels: of each object (k,) 1 on the object, 0 not on it.
        raised: (h, w) bool, pixels that rise from the surface.
    """
    points_alone = [each.mask is None and each.box is None for each in prompts.objects]
    if not any(points_alone):
        return list(regions)
    elsewhere, own = pieces_at_points(raised, points, labels)
    return [
        replace(region, allowed=region.allowed & ~elsewhere[index], candidate=own[index]) if points_alone[index] else region
        for index, region in enumerate(regions)
    ]


def _with_points_of_others(places: list[Float], labels: list[npt.NDArray[np.int64]]) -> tuple[Float, npt.NDArray[np.int64]]:
    """Padded (n, k, 2) places and (n, k) labels: each object's own points, then the positive ones of all others, which are not on it."""
    all_places, all_labels = [], []
    for index, (own, own_labels) in enumerate(zip(places, labels, strict=True)):
        others = [place[label == 1] for i, (place, label) in enumerate(zip(places, labels, strict=True)) if i != index and len(own)]
        all_places.append(np.concatenate([own, *others]))
        all_labels.append(np.r_[own_labels, np.zeros(sum(map(len, others)), np.int64)])
    most = max(map(len, all_labels))
    padded, known = np.zeros((len(places), most, 2), np.float32), np.full((len(places), most), -1, np.int64)
    for row, (place, label) in enumerate(zip(all_places, all_labels, strict=True)):
        padded[row, : len(place)], known[row, : len(label)] = place, label
    return padded, known


def _middle_and_enlarged(mask: Bool, size: tuple[int, int], grid_side: int) -> tuple[Bool, Bool]:
    """Of a coarse mask (H, W), on the grid: the pixels that are inside however wrong its outline is, and all that the object may cover."""
    small = cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA)
    blob = np.zeros((grid_side, grid_side), np.uint8)
    blob[: size[0], : size[1]] = small > min(0.5, float(small.max()) / 2)
    error = max(1.0, COARSENESS * float(np.sqrt(blob.sum())))
    inwards = cv2.distanceTransform(np.pad(blob, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    outwards = cv2.distanceTransform(1 - blob, cv2.DIST_L2, 5)
    enlarged = outwards <= error
    enlarged[size[0] :], enlarged[:, size[1] :] = False, False
    return inwards > error, enlarged


def _centers(boxes: Tensor) -> Tensor:
    """(n, 4): small boxes around the centers of boxes (n, 4), both x0 y0 x1 y1 in pixels; at least a pixel wide."""
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, ((boxes[:, 2:] - boxes[:, :2]) * (CENTER / 2)).clamp_min(0.5)
    return torch.cat([center - half, center + half], 1)


def rough_boxes(prompts: Prompts) -> Float:
    """(n, 4) x0 y0 x1 y1 in pixels of the original image: each prompt's box, or that of its coarse mask, or of its points."""
    rows = []
    for each in prompts.objects:
        if each.box is not None:
            rows.append(each.box)
        elif each.mask is not None:
            rows.append(box_of_mask(each.mask).astype(np.float32))
        else:
            rows.append(np.r_[each.points.min(0), each.points.max(0)])
    return np.stack(rows).astype(np.float32)

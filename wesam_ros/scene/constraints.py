"""What is known of a frame's objects without asking the model: prompts and depth as measurements, on the decoder's grid.

A box says how far its object reaches. A point says of one place whether it is on the object. A coarse mask was drawn by a hasty hand: the
object ends within it or a little beyond, and its middle is on the object. Depth says what is table and what rises from it (support.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.sam.preprocessing import resized_size, to_model_coordinates
from wesam_ros.sam.prompts import Prompts
from wesam_ros.scene.regions import box_pixels
from wesam_ros.scene.support import Support

CENTER = 0.2
"""The share of a box's sides around its center that is taken to be on the object, where the question is how far a neighbour reaches."""
LEEWAY = 2
"""Pixels of the grid by which a thing may leave its reach: what rises beyond that is of another one."""
COARSENESS = 0.25
"""By how much of its size (the root of its area) the outline of a coarse mask may be wrong."""

Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Constraints:
    """Measurements of n objects on the decoder's (h, w) grid.

    Attributes:
        boxes: (n, 4) float32 x0 y0 x1 y1 in pixels of the grid; zeros where the prompt has no box.
        boxed: (n,) bool, whether the prompt has one.
        allowed: (n, h, w) bool, where the object can be: in its box, in its coarse mask enlarged. With points alone: anywhere, but not
            on what rises from the surface apart from its points.
        certain: (n, h, w) bool, the middle of the coarse mask, which is on the object; empty without one.
        points: (n, k, 2) float32 x y in pixels of the grid, the prompts' own and the positive ones of the other objects.
        point_labels: (n, k) int64, 1 on the object, 0 not on it, -1 no point.
        surface: (h, w) bool, pixels of the support surface; all False without depth.
        candidate: (n, h, w) bool, pixels that rise from the surface: the object's where they are in its reach and no other claims them.
            Not those of things that there is no prompt for.
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
        """The evidence of some of the objects."""
        own = {name: getattr(self, name)[chosen] for name in self.__dataclass_fields__ if name != "surface"}
        return Constraints(**own, surface=self.surface)

    def to(self, device: torch.device) -> Constraints:
        """The same on another device."""
        return Constraints(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def gather(prompts: Prompts, support: Support | None, side: int, grid_side: int) -> Constraints:
    """The evidence of a frame's prompts, and of its depth where there is some.

    Args:
        prompts: of n >= 1 objects, in pixels of the original image.
        support: what depth says of the frame, on the grid; None without depth.
        side: the model's input size in pixels.
        grid_side: side of the decoder's grid.
    """
    objects = prompts.objects
    size = resized_size(prompts.size, grid_side)
    whole = np.zeros((grid_side, grid_side), bool)
    whole[: size[0], : size[1]] = True
    surface, raised = (np.zeros_like(whole), np.zeros_like(whole)) if support is None else (support.surface, support.raised)

    def on_grid(xy: Float) -> Float:
        return to_model_coordinates(xy, prompts.size, side) * np.float32(grid_side / side)

    boxed = torch.tensor([each.box is not None for each in objects])
    corners = np.stack([each.box if each.box is not None else np.zeros(4, np.float32) for each in objects])
    boxes = torch.from_numpy(on_grid(corners.reshape(-1, 2, 2)).reshape(-1, 4))
    own_points, own_labels = [on_grid(each.points) for each in objects], [each.point_labels for each in objects]
    points, labels = _points(own_points, own_labels)
    pointed = [each.mask is None and each.box is None for each in objects]  # only points tell of these
    strange, held = _things(raised, own_points, own_labels) if any(pointed) else ([], [])
    in_box = box_pixels(boxes, (grid_side, grid_side)).numpy()
    centers = (box_pixels(_centers(boxes), (grid_side, grid_side)) & boxed[:, None, None]).numpy()
    reach, core, claims, marked = [], [], [], np.zeros_like(whole)
    for index, each in enumerate(objects):
        here, middle, mine = whole, np.zeros_like(whole), raised
        if each.mask is not None:
            middle, here = _middle_and_reach(each.mask, size, grid_side)
        if each.box is not None:
            here = here & in_box[index]
        if pointed[index]:
            here, mine = here & ~strange[index], held[index]
        reach.append(here)
        core.append(middle & here)
        claims.append(mine)
        marked |= here & (middle if each.mask is not None else centers[index])
    if support is not None:
        nobodys = _nobodys(support, np.any(reach, 0), marked, size)
        claims = [mine & ~nobodys for mine in claims]
    return Constraints(
        boxes=boxes,
        boxed=boxed,
        allowed=torch.from_numpy(np.stack(reach)),
        certain=torch.from_numpy(np.stack(core)),
        points=torch.from_numpy(points),
        point_labels=torch.from_numpy(labels),
        surface=torch.from_numpy(surface),
        candidate=torch.from_numpy(np.stack(claims)),
    )


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


def moved(prompts: Prompts, offset: tuple[float, float], least_side: float) -> tuple[Prompts, Prompts]:
    """Misplaced boxes as they came, and where they belong: those of prompts with nothing but a box that is in the image there.

    Args:
        prompts: in pixels of the image.
        offset: the way there, x y in pixels of the image.
        least_side: of a box there, as far as it is in the image.
    """
    alone = [index for index, each in enumerate(prompts.objects) if each.box is not None and each.mask is None and not len(each.points)]
    boxes = rough_boxes(prompts.select(np.array(alone))) if alone else np.zeros((0, 4), np.float32)
    boxes = boxes + np.tile(np.array(offset, np.float32), 2)
    height, width = prompts.size
    boxes = np.clip(boxes, 0, (width, height, width, height)).astype(np.float32)
    left = (boxes[:, 2:] - boxes[:, :2]).min(1, initial=np.inf) >= max(1.0, least_side)
    return prompts.select(np.array(alone, np.int64)[left]), Prompts.from_boxes(boxes[left], prompts.size)


def misplacement(constraints: Constraints, support: Support | None) -> tuple[float, tuple[int, int]]:
    """Whether a frame's boxes belong to its depth: how much better they would lie elsewhere, and where.

    All boxes are moved together, by at most half of their usual side, to where they hold the most of what rises from the surface and the
    least of the surface itself: the peak of a cross-correlation. A detector's own errors have no common direction; boxes of another camera
    or another moment, and depth that is not registered to the image, have one. Boxes that would give up half as much of what rises as they
    would gain are where they belong: they only leave their things for others, which the detector does not box.

    Returns:
        how many pixels more that is, as a share of all that rise, 0 without boxes or depth; and the way there, x y in pixels of the grid.
    """
    boxes = constraints.boxes[constraints.boxed]
    if support is None or not len(boxes) or not support.raised.any():
        return 0.0, (0, 0)
    raised = torch.from_numpy(support.raised)
    height, width = raised.shape
    reach = max(1, int((boxes[:, 2:] - boxes[:, :2]).amin(1).median()) // 2)
    padded = (height + reach, width + reach)  # what leaves on one side must not come in on the other
    known, covered = raised.float() - constraints.surface.float(), box_pixels(boxes, (height, width)).any(0)
    spectrum = torch.fft.rfft2(known, padded) * torch.fft.rfft2(covered.float(), padded).conj()
    held = torch.fft.irfft2(spectrum, padded).roll((reach, reach), (0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    best = int(held.argmax())
    y, x = best // held.shape[1] - reach, best % held.shape[1] - reach
    gained = held.max() - held[reach, reach]
    moved = functional.pad(covered, (0, reach, 0, reach)).roll((y, x), (0, 1))[:height, :width]
    if (raised & covered & ~moved).sum() > gained / 2:
        return 0.0, (0, 0)
    return float(gained / raised.sum()), (x, y)


def _points(places: list[Float], labels: list[npt.NDArray[np.int64]]) -> tuple[Float, npt.NDArray[np.int64]]:
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


def _middle_and_reach(mask: Bool, size: tuple[int, int], grid_side: int) -> tuple[Bool, Bool]:
    """Of a coarse mask (H, W), on the grid: what is inside however wrong its outline is, and how far the object may reach."""
    small = cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA)
    blob = np.zeros((grid_side, grid_side), np.uint8)
    blob[: size[0], : size[1]] = small > min(0.5, float(small.max()) / 2)
    error = max(1.0, COARSENESS * float(np.sqrt(blob.sum())))
    inwards = cv2.distanceTransform(np.pad(blob, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    outwards = cv2.distanceTransform(1 - blob, cv2.DIST_L2, 5)
    within = outwards <= error
    within[size[0] :], within[:, size[1] :] = False, False
    return inwards > error, within


def _centers(boxes: Tensor) -> Tensor:
    """(n, 4): what is around the centers of boxes (n, 4), both x0 y0 x1 y1 in pixels; at least a pixel."""
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, ((boxes[:, 2:] - boxes[:, :2]) * (CENTER / 2)).clamp_min(0.5)
    return torch.cat([center - half, center + half], 1)


def _nobodys(support: Support, reached: Bool, marked: Bool, size: tuple[int, int]) -> Bool:
    """Of what rises from the surface, what belongs to things that there is no prompt for, also where they come within an object's reach.

    Such a thing is known by its part that no object reaches. From there, and from the objects' middles, all that rises is flooded, and
    where things meet there is a step in height (watershed, Meyer, 1992).

    Args:
        support: what depth says.
        reached: (h, w) bool, the reach of any object.
        marked: (h, w) bool, the middle of any object.
        size: h and w of the image on the grid, without the padding.
    """
    rows, columns = slice(size[0]), slice(size[1])
    kinds = np.zeros(reached.shape, np.int32)
    kinds[~support.raised], kinds[support.raised & ~_grown(reached, LEEWAY)], kinds[support.raised & marked] = 1, 2, 3
    millimetres = np.clip(support.height * 1000, 0, 255).astype(np.uint8)
    framed = np.pad(kinds[rows, columns], 1, "edge")  # the outermost pixels are left out
    cv2.watershed(cv2.merge([np.pad(millimetres[rows, columns], 1, "edge")] * 3), framed)
    kinds[rows, columns] = framed[1:-1, 1:-1]
    others = kinds == 2
    return np.asarray(support.raised & (others | ((kinds == -1) & _grown(others, 1))))  # whose the border between two is, nobody knows


def _grown(mask: Bool, pixels: int) -> Bool:
    """The mask (h, w), and what is so near to it along each axis."""
    side = 2 * pixels + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def _things(raised: Bool, points: list[Float], labels: list[npt.NDArray[np.int64]]) -> tuple[list[Bool], list[Bool]]:
    """For each object, of what rises from the surface: the pieces that hold no point on it, and those that it can claim.

    A piece that holds points of several objects is of all of them: they touch. One that holds a point off the object, but no other
    object's, is partly of something that there is no prompt for; nobody claims it.
    """
    _, pieces = cv2.connectedComponents(raised.astype(np.uint8), connectivity=8)

    def under(index: int, label: int) -> set[int]:
        columns, rows = np.minimum(points[index][labels[index] == label].astype(int), raised.shape[0] - 1).T
        return set(pieces[rows, columns].tolist()) - {0}

    on, off = ([under(index, label) for index in range(len(points))] for label in (1, 0))
    counts = Counter(piece for held in on for piece in held)
    claimed = [held - {piece for piece in denied if counts[piece] < 2} for held, denied in zip(on, off, strict=True)]
    return [raised & ~np.isin(pieces, [*held]) for held in on], [np.isin(pieces, [*held]) for held in claimed]

"""Constraints from prompts and depth, on a grid of 8 x 8 for an image of 8 x 8."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from wesam_ros.adaptation.predictions import mirrored
from wesam_ros.sam.prompts import Prompt, Prompts
from wesam_ros.scene.constraints import Constraints, gather_constraints, rough_boxes
from wesam_ros.scene.placement import misplacement, moved_boxes
from wesam_ros.scene.refine import prompt_fit
from wesam_ros.scene.support import Support

SIZE = (8, 8)


def _points(on: list[tuple[float, float]], off: list[tuple[float, float]] | None = None) -> Prompt:
    places = [*on, *(off or [])]
    return Prompt(points=np.array(places, np.float32), point_labels=np.array([1] * len(on) + [0] * (len(places) - len(on))))


def _blob(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def _support(raised: np.ndarray, height: np.ndarray | None = None) -> Support:
    return Support(~raised, raised, np.where(raised, np.float32(0.05), 0) if height is None else height)


def _gather(*objects: Prompt, raised: np.ndarray | None = None, height: np.ndarray | None = None) -> Constraints:
    return gather_constraints(Prompts(SIZE, objects), None if raised is None else _support(raised, height), 32, 8)


def test_a_coarse_mask_has_a_certain_middle_and_is_allowed_a_little_more() -> None:
    """A blob of 4 x 4: its outline may be a pixel off, which the corners of its surroundings are further."""
    constraints = _gather(Prompt(mask=_blob(2, 2, 6, 6)))
    assert torch.equal(constraints.certain[0], torch.from_numpy(_blob(3, 3, 5, 5)))
    assert torch.equal(constraints.allowed[0], torch.from_numpy(_blob(1, 2, 7, 6) | _blob(2, 1, 6, 7)))
    assert not constraints.boxed.any()


def test_points_of_the_others_are_not_on_the_object() -> None:
    constraints = _gather(_points([(1, 1)], [(3, 3)]), _points([(5, 5), (6, 6)]), Prompt(box=np.array([0, 0, 4, 4], np.float32)))
    assert constraints.points[0].tolist() == [[1, 1], [3, 3], [5, 5], [6, 6]]
    assert constraints.point_labels.tolist() == [[1, 0, 0, 0], [1, 1, 0, -1], [-1, -1, -1, -1]]


def test_with_points_and_depth_an_object_is_of_the_pieces_that_rise_around_them() -> None:
    """Four columns rise: one has points of the first object, one of both, one of the second and one off it, one of neither."""
    columns = [_blob(start, 0, start + 1, 8) for start in (0, 2, 4, 6)]
    constraints = _gather(_points([(0, 1), (2, 1)], [(2, 6)]), _points([(2, 6), (4, 1)], [(4, 6)]), raised=np.any(columns, 0))
    assert torch.equal(constraints.candidate, torch.from_numpy(np.stack([columns[0] | columns[1], columns[1]])))
    elsewhere = [columns[2] | columns[3], columns[0] | columns[3]]
    assert torch.equal(constraints.allowed, torch.from_numpy(~np.stack(elsewhere)))


def _boxes(*corners: tuple[int, int, int, int]) -> list[Prompt]:
    return [Prompt(box=np.array(each, np.float32)) for each in corners]


def test_what_rises_in_a_box_from_a_neighbour_without_a_prompt_is_no_candidate() -> None:
    """Three columns of a thing, and to its right a higher one that its box, or its coarse mask, has a strip of, and that goes on beyond."""
    thing, neighbour = _blob(0, 1, 3, 7), _blob(3, 1, 8, 7)
    height = np.float32(0.05) * thing + np.float32(0.1) * neighbour
    box, beside = _boxes((0, 1, 5, 7), (3, 1, 8, 7))

    def candidates(*prompts: Prompt, height: np.ndarray = height) -> list[list[bool]]:
        constraints = _gather(*prompts, raised=thing | neighbour, height=height)
        return [row[3].tolist() for row in constraints.candidate & constraints.allowed]  # all rows of the two are alike

    own = [True] * 3 + [False] * 5
    assert candidates(box) == [own]
    assert candidates(Prompt(mask=_blob(0, 1, 4, 7))) == [own]
    assert candidates(box, beside) == [[True] * 5 + [False] * 3, [False] * 3 + [True] * 5]  # it has a prompt: whose it is, the masks tell
    assert candidates(box, height=0 * height) == [[True] * 4 + [False] * 4]  # no step: they meet halfway


def test_a_thing_that_its_box_is_too_tight_for_is_a_candidate_in_all_of_it() -> None:
    constraints = _gather(*_boxes((2, 2, 6, 6)), raised=_blob(0, 0, 8, 8))
    assert torch.equal(constraints.candidate & constraints.allowed, torch.from_numpy(_blob(2, 2, 6, 6))[None])


def _misplacement(*boxes: Prompt, raised: np.ndarray | None = None) -> tuple[float, tuple[int, int]]:
    return misplacement(_gather(*boxes, raised=raised), None if raised is None else _support(raised))


def test_boxes_that_would_all_lie_better_elsewhere() -> None:
    """Two things of 2 x 4 and 2 x 2 pixels: with boxes around them; with both boxes a column too far right; and with one box only."""
    raised = _blob(1, 1, 3, 5) | _blob(5, 2, 7, 4)
    placed = _boxes((1, 1, 3, 5), (5, 2, 7, 4))
    assert _misplacement(*placed, raised=raised)[0] == pytest.approx(0, abs=1e-6)
    shifted = _boxes((2, 1, 4, 5), (6, 2, 8, 4))
    share, offset = _misplacement(*shifted, raised=raised)
    assert offset == (-1, 0)
    assert share == pytest.approx((4 + 2) * 2 / 12)  # so many pixels of the table are given for as many of the things
    assert _misplacement(placed[0], raised=raised)[0] == pytest.approx(0, abs=1e-6)


def test_boxes_that_would_only_leave_their_things_for_others_are_where_they_belong() -> None:
    """A thing that has three rows of its box's four, or one, and beside it one without a box that would fill it."""
    box, other = _boxes((0, 2, 4, 6)), _blob(4, 2, 8, 6)
    assert _misplacement(*box, raised=other | _blob(0, 2, 4, 5)) == (0, (0, 0))
    share, offset = _misplacement(*box, raised=other | _blob(0, 2, 4, 3))
    assert offset == (2, 0)
    assert share == pytest.approx(12 / 20)


def test_boxes_at_the_edge_are_not_moved_round_it() -> None:
    """Boxes that leave the image on one side do not come in on the other."""
    raised = _blob(0, 0, 5, 8)
    share, offset = _misplacement(*_boxes((4, 0, 8, 8)), raised=raised)
    assert offset == (-2, 0)
    assert share == pytest.approx(32 / 40)
    raised = _blob(0, 0, 2, 8) | _blob(6, 0, 8, 8)
    assert _misplacement(*_boxes((0, 0, 2, 8)), raised=raised)[0] == pytest.approx(0, abs=1e-6)


def test_without_depth_or_boxes_nothing_is_misplaced() -> None:
    assert _misplacement(*_boxes((2, 1, 4, 5))) == (0, (0, 0))
    assert _misplacement(Prompt(mask=_blob(2, 2, 6, 6)), raised=_blob(0, 0, 2, 2)) == (0, (0, 0))


def test_misplaced_boxes_are_moved_to_where_they_belong() -> None:
    """A box; one that leaves the image of 8 x 8 pixels but for a strip; one that is cut at its edge; prompts of another kind."""
    boxes = _boxes((1, 1, 4, 4), (5, 1, 8, 4), (3, 0, 6, 5))
    more = Prompt(box=np.array([0, 1, 3, 4], np.float32), points=np.array([[1, 2]], np.float32), point_labels=np.array([1]))
    as_they_came, belonging = moved_boxes(Prompts(SIZE, (*boxes, more, _points([(1, 1)], [(2, 2)]))), (2, -1), 2.0)
    assert rough_boxes(as_they_came).tolist() == [[1, 1, 4, 4], [3, 0, 6, 5]]
    assert rough_boxes(belonging).tolist() == [[3, 0, 6, 3], [5, 0, 8, 4]]
    nothing = moved_boxes(Prompts(SIZE, (more,)), (2, -1), 2.0)
    assert [len(each) for each in nothing] == [0, 0]


def test_fit_to_each_kind_of_prompt() -> None:
    constraints = _gather(
        Prompt(box=np.array([0, 0, 4, 8], np.float32)), Prompt(mask=_blob(2, 2, 6, 6)), _points([(1, 1), (7, 7)], [(1, 7)])
    )
    left = torch.from_numpy(_blob(0, 0, 4, 8))
    assert prompt_fit(left.repeat(3, 1, 1), constraints).tolist() == pytest.approx([1, 2 / 4 * 16 / 32, 1 / 3])


def test_rough_boxes_and_mirrored_prompts() -> None:
    prompts = Prompts(SIZE, (Prompt(box=np.array([0, 1, 3, 4], np.float32)), Prompt(mask=_blob(1, 2, 3, 5)), _points([(1, 1), (2, 7)])))
    assert rough_boxes(prompts).tolist() == [[0, 1, 3, 4], [1, 2, 3, 5], [1, 1, 2, 7]]
    assert rough_boxes(mirrored(prompts)).tolist() == [[5, 1, 8, 4], [5, 2, 7, 5], [6, 1, 7, 7]]

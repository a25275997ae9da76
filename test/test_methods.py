"""The methods to compare: each loss against values worked out by hand, and rules that every method keeps."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.predictions import Prediction
from wesam_ros.data.frames import Frame
from wesam_ros.methods import dept, published, shot, soft_teacher, supervised, tribe, wdass
from wesam_ros.methods.base import TrainedMethod, entropy, masked_mean, surroundings
from wesam_ros.methods.ours import Ours
from wesam_ros.methods.registry import METHODS, Method
from wesam_ros.methods.registry import method as method_named
from wesam_ros.methods.tent import Tent
from wesam_ros.sam import Prompt, Prompts
from wesam_ros.sam.checkpoints import _hash

SIZE = (60, 80)
SURE = 30.0
"""A logit whose sigmoid is 1 in float32."""
LOG2 = math.log(2)


def _map(*rows: list[float]) -> Tensor:
    """One object's (1, h, w) map."""
    return torch.tensor([rows])


# The losses.


def test_entropy_of_two_classes() -> None:
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    values = entropy(torch.tensor([0.0, math.log(3), -math.log(3), SURE, -SURE]))
    assert values.tolist() == pytest.approx([LOG2, quarter, quarter, 0, 0], abs=1e-6)


def test_masked_mean_is_zero_under_an_empty_mask() -> None:
    values = torch.tensor([[[1.0, 3]], [[1, 3]], [[1, 3]]])
    mask = torch.tensor([[[1.0, 1]], [[0.25, 0.75]], [[0, 0]]])
    assert masked_mean(values, mask).tolist() == pytest.approx([2, 2.5, 0])


def test_shot_rewards_sure_predictions_in_two_halves() -> None:
    """Sure and half and half: 0 - log 2. Undecided: log 2 - log 2. Sure of one class only: 0 - 0. What is out of the region is not seen."""
    logits = torch.tensor([[[SURE, -SURE, SURE]], [[0, 0, SURE]], [[SURE, SURE, -SURE]]])
    region = torch.tensor([True, True, False]).expand(3, 1, 3)
    assert shot.information_maximisation(logits, region).tolist() == pytest.approx([-LOG2, 0, 0], abs=1e-4)


def test_shot_labels_a_cell_like_those_that_look_like_it() -> None:
    """Cells 0 to 2 look alike, 3 and 4 too; cell 2 is predicted wrong, cell 4 is out of the region but labelled all the same."""
    embedding = torch.tensor([[[1.0, 1, 1, 0, 0]], [[0, 0, 0, 1, 1]]])
    labels = shot.pseudo_labels(embedding, _map([0.9, 0.9, 0.3, 0.1, 0.9]), torch.tensor([[[True, True, True, True, False]]]))
    assert labels.tolist() == [[[True, True, True, False, False]]]


def test_soft_teacher_weighs_background_by_belief_and_leaves_out_doubtful_objects() -> None:
    """Foreground: log 2. Background of weights 1 and 1/2: (log 2 + 0) / 1.5. The pixel believed by 0.7 has a huge loss and no say."""
    loss = soft_teacher.soft_cross_entropy(_map([0.0, 0, -SURE, -SURE]), _map([0.95, 0, 0.5, 0.7]))
    assert loss.tolist() == pytest.approx([LOG2 + LOG2 / 1.5])


def test_tribe_balances_classes_and_keeps_to_the_anchor() -> None:
    """One object pixel that the student knows, two of the background that it does not: (0 + log 2) / 2. An undecided anchor: 1/4 each."""
    teacher, anchor = _map([SURE, -SURE, -SURE, 0.5]), _map([0.0, 0, 0, SURE])
    loss = tribe.tri_net_loss(_map([SURE, 0, 0, SURE]), teacher, anchor)
    assert loss.tolist() == pytest.approx([LOG2 / 2 + 0.5 / 4])


def test_tribe_learns_only_where_the_teacher_is_sure() -> None:
    """Of two classes, entropy is 0.4 log 2 at a probability of about 0.92."""
    student = torch.zeros(1, 1, 2, requires_grad=True)
    tribe.tri_net_loss(student, torch.tensor([[[0.90, 0.94]]]).logit(), torch.zeros(1, 1, 2)).sum().backward()
    assert student.grad[0, 0, 0] == 0 and student.grad[0, 0, 1] != 0


def test_tribe_teaches_the_teacher_by_the_anchor_only() -> None:
    teacher = torch.full((1, 1, 1), 3.0, requires_grad=True)
    tribe.tri_net_loss(torch.zeros(1, 1, 1), teacher, torch.full((1, 1, 1), 3.0)).sum().backward()
    assert teacher.grad.item() == pytest.approx(0)


def test_dept_asks_the_ten_nearest() -> None:
    """Ten of the bank look alike, of probabilities 0 to 0.9; two others are opposite, and of 1."""
    bank = torch.tensor([[1.0, 0]] * 10 + [[-1, 0]] * 2)
    probabilities = torch.cat([torch.arange(10) / 10, torch.ones(2)])
    assert dept.refined(torch.tensor([[0.8, 0.6]]), bank, probabilities).tolist() == pytest.approx([0.45])
    assert dept.refined(torch.tensor([[1.0, 0]]), bank[-2:], probabilities[-2:]).tolist() == [1]


def test_wdass_pseudo_labels_count_by_their_share() -> None:
    """Three of four pixels are sure, one of these is known already: 2/4 times log 2."""
    loss = wdass.pseudo_loss(torch.zeros(1, 1, 4), _map([1.0, 0, 0.6, 1]), torch.tensor([[[True, True, True, False]]]))
    assert loss.tolist() == pytest.approx([LOG2 / 2])


def test_wdass_prototypes_follow_the_weak_label() -> None:
    """The weak label is on the first cell; the third one, opposite to it, has no weight. Without a weak label all labelled cells count."""
    features = torch.tensor([[[1.0, 0.6, -1]], [[0, 0.8, 0]]])
    labelled = torch.ones(2, 1, 3, dtype=torch.bool)
    weak = torch.tensor([[[True, False, False]], [[False, False, False]]])
    expected = torch.nn.functional.normalize(torch.tensor([1 + 0.6 * 0.6, 0.6 * 0.8]), dim=0)
    found = wdass.prototypes(features, weak, labelled)
    assert found[0].tolist() == pytest.approx(expected.tolist())
    expected = torch.nn.functional.normalize(torch.tensor([0.6 * 1 + 1 * 0.6, 1 * 0.8]), dim=0)  # the mean points along (0.6, 0.8)
    assert found[1].tolist() == pytest.approx(expected.tolist())
    assert wdass.prototypes(features, weak[:1] & False, labelled[:1] & False).tolist() == [[0, 0]]


def test_wdass_contrast_of_two_classes_at_right_angles() -> None:
    """Each cell has its own class at cosine 1 and the other at 0, over 0.1; a third class has no cell and takes no part."""
    features = torch.eye(2)[:, None]  # cell 0 is (1, 0), cell 1 is (0, 1)
    labelled = torch.tensor([[[True, False]], [[False, True]], [[False, False]]])
    known = torch.tensor([[1.0, 0], [0, 1], [0, 0]])
    assert wdass.contrast_loss(features, known, labelled).item() == pytest.approx(math.log(1 + math.exp(-10)), abs=1e-6)
    assert wdass.contrast_loss(features, known[:1], labelled[:1]).item() == 0


def test_published_focal_is_of_the_mean_cross_entropy() -> None:
    """One pixel is right and three cost log 2: the mean is 3/4 log 2, whose focal loss is not the mean of the pixels' own."""
    mean = 0.75 * LOG2
    loss = published.flat_focal(_map([SURE, 0, 0, 0]), torch.ones(1, 1, 4), alpha=0.8)
    assert loss.item() == pytest.approx(0.8 * (1 - 2**-0.75) ** 2 * mean)


def test_published_dice_is_over_all_objects_together() -> None:
    """A large object is right, a small one is missed altogether: 1 - (2 * 4 + 1) / (4 + 5 + 1), though the mean of both is near 1/2."""
    logits = torch.tensor([[[SURE] * 4], [[-SURE] * 4]])
    target = torch.tensor([[[1.0, 1, 1, 1]], [[0, 0, 0, 1]]])
    assert published.flat_dice(logits, target, smooth=1).item() == pytest.approx(0.1)


def test_published_contrast_is_nothing_for_one_object() -> None:
    assert published.flat_contrast(torch.eye(2)[:1], torch.eye(2)[1:]).item() == pytest.approx(0)
    assert published.flat_contrast(torch.eye(2), torch.eye(2)).item() == pytest.approx(math.log(1 + math.exp(-1 / 0.3)), rel=1e-5)


def test_published_loss_as_a_whole() -> None:
    """One object, of which teacher and anchor are sure and the student knows nothing; it predicts an IoU of 1/2, but has 0."""
    sure, undecided, embedding = torch.full((1, 2, 2), SURE), torch.zeros(1, 2, 2), torch.ones(3, 1, 1)
    teacher, student = Prediction(sure, torch.ones(1), embedding), Prediction(undecided, torch.tensor([0.5]), embedding)
    dice = 1 - (2 * 2 + 1) / (2 + 4 + 1)
    expected = 20 * 0.25 * LOG2 + dice + 0.25 + 0.5 * dice
    assert published.published_loss(teacher, student, teacher).item() == pytest.approx(expected)


def test_supervised_loss_is_focal_and_dice_of_each_object() -> None:
    logits, truth = torch.zeros(1, 2, 2), torch.tensor([[[1.0, 0], [0, 0]]])
    focal = 0.5 * 0.25 * LOG2
    assert supervised.supervised_loss(logits, truth).tolist() == pytest.approx([20 * focal + 0.5])


# The methods.


@pytest.fixture(scope="module")
def small(sam: Any) -> Any:
    """The random tiny model with one of its eight blocks, to be quick, and with logits from about -8 to 10. No test may change it."""
    sam = copy.deepcopy(sam)
    sam.image_encoder.blocks = sam.image_encoder.blocks[2:3]
    for parameter in sam.mask_decoder.output_upscaling.parameters():
        parameter.mul_(10 if parameter.ndim > 1 else 1)
    for parameter in sam.mask_decoder.output_hypernetworks_mlps[0].layers[-1].parameters():
        parameter.mul_(400)
    before = _hash(sam.state_dict())
    yield sam
    assert _hash(sam.state_dict()) == before
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in sam.parameters())


def _rectangle(x0: int, y0: int, x1: int, y1: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


TRUTH = np.stack([_rectangle(10, 15, 40, 45), _rectangle(45, 5, 75, 30), _rectangle(44, 34, 74, 54)])


def _prompt(mask: npt.NDArray[np.bool_], kind: str) -> Prompt:
    ys, xs = np.nonzero(mask)
    box = np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)
    if kind == "box":
        return Prompt(box=box)
    if kind == "mask":
        return Prompt(mask=np.roll(mask, 3, 1))
    return Prompt(points=np.array([(box[:2] + box[2:]) / 2, box[:2] - 3], np.float32), point_labels=np.array([1, 0]))


def _prompts(*kinds: str) -> Prompts:
    return Prompts(SIZE, tuple(_prompt(mask, kind) for mask, kind in zip(TRUTH, kinds, strict=False)))


MIXED = _prompts("box", "point", "mask")


def _frame(stamp: int = 0) -> Frame:
    image = np.random.default_rng(stamp).integers(0, 60, (*SIZE, 3), dtype=np.uint8)
    for index, mask in enumerate(TRUTH):
        image[mask] += np.array([40, 80, 120], np.uint8) + np.uint8(20 * index)
    return Frame(image, stamp_ns=stamp)


def _observe(name: str, method: Method, prompts: Prompts, stamp: int = 0) -> None:
    method.observe(_frame(stamp), prompts, TRUTH[: len(prompts)] if METHODS[name].supervised else None)


def _tensors(method: Method) -> list[Tensor]:
    if isinstance(method, Ours):  # what it trains, of which the guard serves nothing after so few steps
        return [tensor.detach() for tensor in method.learner.trainer.low_rank]
    return [] if method.adapter is None else [method.adapter.a, method.adapter.b]


def _made(name: str, sam: Any, seed: int) -> Method:
    """A method that learns from all objects: the masks of a random model would not agree enough for ours."""
    return method_named("ours:agreement=0,prompt_fit=0" if name == "ours" else name)(sam, seed, lr=0.01)


def _learnt(sam: Any, name: str, seed: int = 0) -> Method:
    method = _made(name, sam, seed)
    _observe(name, method, _prompts("point", "mask"))
    for _ in range(2):  # in the first step one of the two tensors has no gradient yet
        method.step()
    return method


LEARNERS = [name for name in METHODS if name != "frozen"]


@pytest.mark.parametrize("kind", ["box", "point", "mask"])
@pytest.mark.parametrize("name", LEARNERS)
def test_learns_from_every_kind_of_prompt(small: Any, name: str, kind: str) -> None:
    """One step changes the adapter. Mixtures are in the next test."""
    method = _made(name, small, 0)
    assert method.step() is None, "there is nothing to learn from"
    _observe(name, method, _prompts(kind, kind))
    loss = method.step()
    assert loss is not None and math.isfinite(loss)
    assert float(_tensors(method)[1].abs().max()) > 0


@pytest.mark.parametrize("name", LEARNERS)
def test_same_seed_same_adapter_bit_for_bit(small: Any, name: str) -> None:
    first, again = (_tensors(_learnt(small, name)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert float(first[1].abs().max()) > 0


def test_other_seed_other_adapter(small: Any) -> None:
    first, other = (_tensors(_learnt(small, "tent", seed)) for seed in (0, 1))
    assert not torch.equal(first[1], other[1])


def test_frozen_serves_the_frozen_model(small: Any) -> None:
    method = METHODS["frozen"].make(small, 0)
    _observe("frozen", method, MIXED)
    assert method.step() is None and method.adapter is None


@pytest.mark.parametrize("name", list(METHODS))
def test_only_supervised_may_see_true_masks(small: Any, name: str) -> None:
    assert METHODS[name].supervised == (name == "supervised")
    method = METHODS[name].make(small, 0)
    with pytest.raises(ValueError, match="needs the true masks" if name == "supervised" else "without labels"):
        method.observe(_frame(), MIXED, None if name == "supervised" else TRUTH)


def test_supervised_learns_from_objects_that_exist(small: Any) -> None:
    """A false prompt has an empty true mask, a small object is left out by all methods; what is left keeps its own mask."""
    method = supervised.Supervised(small, 0)
    objects = (_prompt(TRUTH[0], "box"), Prompt(box=np.array([1, 1, 5, 40], np.float32)), _prompt(TRUTH[2], "box"))
    masks = np.stack([np.zeros(SIZE, bool), _rectangle(1, 1, 5, 40), TRUTH[2]])
    method.observe(_frame(), Prompts(SIZE, objects[:2]), masks[:2])
    assert method.step() is None
    method.observe(_frame(), Prompts(SIZE, objects), masks)
    (kept,) = method.replay_buffer.frames
    assert isinstance(kept, supervised.LabelledFrame) and len(kept.prompts) == 1
    ys, xs = np.nonzero(kept.truth[0].numpy())  # 80 pixels are 128 of the grid
    assert [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1] == pytest.approx([44 * 1.6, 34 * 1.6, 74 * 1.6, 54 * 1.6], abs=1)
    with pytest.raises(ValueError, match=r"\(3, 60, 80\) bool, but got \(2, 60, 80\)"):
        method.observe(_frame(), Prompts(SIZE, objects), masks[:2])


def test_frames_without_use_are_not_kept(small: Any) -> None:
    method = Tent(small, 0)
    method.observe(_frame(), Prompts(SIZE, ()), None)
    method.observe(_frame(), Prompts.from_boxes(np.array([[1, 1, 5, 40]], np.float32), SIZE), None)
    assert method.step() is None and method.adapter is None


def test_warm_up_rate_and_version(small: Any) -> None:
    method = Tent(small, 0)
    method.observe(_frame(), MIXED, None)
    for count in (1, 2):
        method.step()
        assert method.optimizer.param_groups[0]["lr"] == pytest.approx(Tent.lr * count / Tent.warm_up)
        assert method.adapter.version == count
    assert published.Published(small, 0).warm_up == 250
    assert supervised.Supervised(small, 0).rate == AdaptationConfig().lr


def test_the_teacher_is_the_average_of_the_student(small: Any) -> None:
    """After the first step it is half way from the first tensors to the student's."""
    method = soft_teacher.SoftTeacher(small, 0, lr=0.01)
    first = [tensor.detach().clone() for tensor in method.low_rank]
    method.observe(_frame(), MIXED, None)
    method.step()
    for average, start, tensor in zip(method.teacher, first, method.low_rank, strict=True):
        assert torch.allclose(average, (start + tensor.detach()) / 2, atol=1e-7)


def test_a_loss_that_is_not_finite_changes_nothing(small: Any) -> None:
    class Broken(TrainedMethod):
        def loss(self, frame: Any, chosen: Tensor) -> Tensor:
            return sum((tensor.sum() for tensor in self.low_rank), start=torch.zeros(())) * float("nan")

    method = Broken(small, 0)
    method.observe(_frame(), MIXED, None)
    before = [tensor.detach().clone() for tensor in method.low_rank]
    assert math.isnan(method.step())
    assert all(torch.equal(x, y.detach()) for x, y in zip(before, method.low_rank, strict=True))


def test_as_published_coarse_masks_become_boxes(small: Any) -> None:
    method = published.Published(small, 0)
    method.observe(_frame(), MIXED, None)
    (kept,) = method.replay_buffer.frames
    box, point, blob = kept.prompts.objects
    assert blob.mask is None and blob.box.tolist() == [47, 34, 77, 54]
    assert box.box.tolist() == [10, 15, 40, 45]
    assert point.box is None and len(point.points) == 2


def test_dept_remembers_the_last_frames(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each object some cells, of the last frames only."""
    monkeypatch.setattr(dept, "BANK_FRAMES", 1)
    monkeypatch.setattr(dept, "CELLS", 5)
    method = dept.DePT(small, 0)
    for stamp in range(2):
        _observe("dept", method, MIXED, stamp)
        frame = method.replay_buffer.newest
        method.loss(frame, torch.arange(3))
        ((kept, (features, probabilities)),) = method.bank.items()
        assert kept is frame and features.shape == (15, 128) and probabilities.shape == (15,)


def test_surroundings_are_the_boxes_enlarged(small: Any) -> None:
    """A box of 30 x 30 becomes 37.5 x 37.5; a coarse mask counts as its box, cut at the image; 80 pixels are 128 of the grid."""
    method = Tent(small, 0)
    method.observe(_frame(), MIXED, None)
    (kept,) = method.replay_buffer.frames
    anchor = torch.full((3, 128, 128), -SURE)
    anchor[1, 16:32, 80:112] = SURE  # the frozen model's mask of the object that has points only
    kept = replace(kept, anchor_logits=anchor)
    found = surroundings(kept, torch.tensor([0, 1, 2]))
    assert found.shape == (3, 96, 128)
    for region, expected in zip(found, [(10, 18, 70, 78), (76, 14, 116, 34), (69, 50, 128, 91)], strict=True):
        ys, xs = np.nonzero(region.numpy())
        assert [xs[0], ys[0], xs[-1] + 1, ys[-1] + 1] == pytest.approx(expected, abs=0.5)

"""The parts of the page, without a browser: marks, outlines, history, words, curves, and the way of a kept mask."""

from __future__ import annotations

import asyncio
import math
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from web_server import PlayedRobot, disc, safetensors

from wesam_ros.ros.image_pairing import ImagePairing
from wesam_ros.web import curves, keeping
from wesam_ros.web.history import History, Learnt
from wesam_ros.web.outlines import jpeg_of, path_of, picture_of
from wesam_ros.web.remedies import ERROR, NOTE, OK, WARNING, findings
from wesam_ros.web.sketch import MOST_MARKS, Sketch, SketchError
from wesam_ros.web.values import PERSON, Marks, NodeHealth, RobotError, SeenFrame, SeenObject

SIZE = (240, 320)
POINT = {"kind": "point", "x": 10, "y": 20, "on": True}


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ({}, "must be a point, a box or a stroke"),
        ({"kind": ["point"]}, "must be a point"),
        ({**POINT, "x": math.nan}, "finite"),
        ({**POINT, "x": "10"}, "finite"),
        ({**POINT, "y": None}, "finite"),
        ({**POINT, "y": True}, "finite"),
        ({**POINT, "x": 320.5}, "outside"),
        ({**POINT, "y": -1}, "outside"),
        ({"kind": "box", "x0": 5, "y0": 5, "x1": 6, "y1": 50}, "too small"),
        ({"kind": "box", "x0": 5, "y0": 5}, "finite"),
        ({"kind": "stroke", "points": [], "radius": 5}, "1 to"),
        ({"kind": "stroke", "points": [[1, 1]] * 2001, "radius": 5}, "1 to"),
        ({"kind": "stroke", "points": [[1]], "radius": 5}, "x and y"),
        ({"kind": "stroke", "points": [[1, 1]], "radius": 1e9}, "radius"),
        ({"kind": "stroke", "points": "abc", "radius": 5}, "1 to"),
    ],
)
def test_bad_marks_are_refused_and_leave_the_sketch_as_it_was(mark: dict[str, Any], words: str) -> None:
    sketch = Sketch(SIZE)
    with pytest.raises(SketchError, match=words):
        sketch.add(mark)
    assert not len(sketch)
    assert not sketch.is_whole


def test_a_sketch_becomes_marks_and_can_be_undone() -> None:
    sketch = Sketch(SIZE)
    sketch.add({**POINT, "on": False})
    with pytest.raises(SketchError, match="on the object first"):
        sketch.marks()
    sketch.add(POINT)
    sketch.add({"kind": "box", "x0": 60, "y0": 50, "x1": 5, "y1": 6})
    sketch.add({"kind": "stroke", "points": [[20, 20], [40, 20]], "radius": 5})
    marks = sketch.marks()
    assert marks.points == ((10.0, 20.0, False), (10.0, 20.0, True))
    assert marks.box == (5, 6, 60, 50)
    rows, columns = np.nonzero(marks.mask)
    assert (rows.min(), rows.max()) == (15, 25)
    assert (columns.min(), columns.max()) == (15, 45)
    for left in (3, 2, 1, 0, 0):
        sketch.undo()
        assert len(sketch) == left
    assert (sketch.points, sketch.box, sketch.strokes) == ([], None, [])


def test_a_sketch_has_an_end() -> None:
    sketch = Sketch(SIZE)
    for _ in range(MOST_MARKS):
        sketch.add(POINT)
    with pytest.raises(SketchError, match="at most"):
        sketch.add(POINT)


def test_outlines_enclose_the_mask_they_are_of() -> None:
    mask = np.zeros((60, 80), bool)
    mask[5:50, 10:70] = True
    mask[20:30, 30:40] = False
    path = path_of(mask, (100, 50))
    drawn = np.zeros((200, 300), np.uint8)
    rings = [np.array([list(map(float, xy.split())) for xy in ring.split("L")]) for ring in re.findall(r"M([^MZ]*)Z", path)]
    cv2.fillPoly(drawn, [np.floor(ring).astype(np.int32) for ring in rings], 1)
    whole = np.zeros((200, 300), bool)
    whole[50:110, 100:180] = mask
    assert len(rings) == 2
    assert np.count_nonzero(whole != (drawn > 0)) < 80  # of 2600: the hole's border belongs to both
    assert path_of(np.zeros((0, 0), bool), (0, 0)) == ""


def test_a_picture_is_small_and_keeps_its_pixels_places() -> None:
    image = np.zeros((1200, 2560, 3), np.uint8)
    image[..., 0] = 200
    frame = SeenFrame(5, image, [disc(100, 100), replace(disc(50, 50), mask=np.zeros((0, 0), bool))], 0, "tiny", 1.0)
    picture = picture_of(frame)
    assert (picture["width"], picture["height"]) == (2560, 1200)
    assert [bool(each["path"]) for each in picture["objects"]] == [True, False]
    decoded = cv2.imdecode(np.frombuffer(jpeg_of(image), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (600, 1280, 3)
    assert decoded[300, 640, 2] > 180  # red is red


def learnt(seen: int = 1, reason: str = "", **changes: Any) -> Learnt:
    return Learnt(seen, time.monotonic(), "learning", not reason, reason, 1, seen, seen, 0, 0, **changes)


def test_weights_that_come_again_are_a_step_back() -> None:
    history = History()
    for number, weights in ((1, b"a"), (2, b"b"), (2, b"b"), (3, b"c"), (4, b"d")):
        history.publish(number, safetensors(number, weights))
    assert [each.number for each in history.versions] == [1, 2, 3, 4]
    assert [history.steps_back(number) for number in (3, 1)] == [1, 3]
    for number in (4, 9):
        with pytest.raises(KeyError):
            history.steps_back(number)
    history.publish(5, safetensors(5, b"b"))
    assert [each.number for each in history.versions] == [1, 5]
    history.publish(7, safetensors(7, b"e"))  # 6 was not seen
    assert [each.number for each in history.versions] == [7]
    for number in range(8, 30):
        history.publish(number, safetensors(number, bytes([number])))
    assert len(history.versions) == 10


def test_reasons_are_counted_anew_when_the_node_was_restarted() -> None:
    history = History()
    for each in (learnt(1, "misplaced_boxes"), learnt(2, "misplaced_boxes"), learnt(1, "small_objects")):
        history.add(each)
    assert history.reasons == {"small_objects": 1}


def test_reasons_of_failures_do_not_pile_up() -> None:
    history = History()
    for n in range(1, 100):
        history.add(learnt(n, f"ValueError: {n} is a number " + "x" * 200))
    assert len(history.reasons) == 21
    assert history.reasons["others"] == 79
    assert curves.outcomes_chart(history, time.monotonic()).count('class="event"') == 7


def message(stamp: int, *ids: str) -> Any:
    """An image, or objects with these ids."""
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=stamp))
    return SimpleNamespace(header=header, data=bytes(2**20), objects=[SimpleNamespace(id=each) for each in ids])


def test_objects_meet_the_image_of_their_stamp() -> None:
    pairing = ImagePairing()
    images = [message(stamp) for stamp in range(200)]
    for each in images:
        pairing.add_image(each)
    for stamp in (5, 190, 191):  # the first image has left the ring
        pairing.add_objects(message(stamp, "a"))
        assert pairing.newest() is None or stamp > 5
    pairing.add_objects(message(192, f"{PERSON}1"))  # the detector's objects stay in view
    newest = pairing.newest()
    assert newest is not None
    image, found = newest
    assert image is images[191]
    assert [each.id for each in found.objects] == ["a"]
    assert [pairing.is_recent(stamp) for stamp in (150, 199)] == [False, True]
    pairing.clear()
    assert pairing.newest() is None


@pytest.mark.parametrize("draw", [curves.scores_chart, curves.losses_chart, curves.outcomes_chart, curves.latency_chart])
def test_curves_are_drawn_of_what_there_is(draw: Any) -> None:
    history = History()
    assert draw(history, time.monotonic()) == ""
    history.add(learnt(1, losses={"<b>": 0.5}, candidate=0.8, published=0.7, frozen=0.6))
    history.add(learnt(2, "misplaced_boxes"))
    history.latencies.append((time.monotonic(), 20.0))
    history.publish(1, safetensors(1, b"a"))
    svg = draw(history, time.monotonic() + 30)
    assert svg.count("<svg") == 1
    assert 'role="img"' in svg
    assert "<b>" not in svg


@pytest.mark.parametrize(
    ("reports", "level", "words"),
    [
        ([], ERROR, "/segmenter does not report"),
        ([NodeHealth("/segmenter", 0, "ok"), NodeHealth("/adapter", 0, "ok", {}, age=9.0)], ERROR, "/adapter does not report"),
        ([NodeHealth(name, 0, "ok") for name in ("/segmenter", "/adapter")], OK, "All is well"),
        (
            [NodeHealth("/segmenter", 1, "late.detections: /detections: it has left"), NodeHealth("/adapter", 0, "ok")],
            WARNING,
            "Raise ring_length",
        ),
        ([NodeHealth("/segmenter", 2, "out of memory"), NodeHealth("/adapter", 0, "ok")], ERROR, "out of memory"),
    ],
)
def test_diagnostics_in_words(reports: list[NodeHealth], level: str, words: str) -> None:
    first = findings(reports, ["/segmenter", "/adapter"])[0]
    assert first.level == level
    assert words in f"{first.sentence} {first.remedy}"


def test_counters_are_notes_with_remedies() -> None:
    values = {"missing.depth": "7", "rejected.depth.wrong_unit": "0", "rate_hz": "5", "quiet.detections": "it may see nothing"}
    found = findings([NodeHealth("/segmenter", 0, "ok", values)], ["/segmenter"])
    assert [each.level for each in found] == [OK, NOTE, NOTE]
    assert found[1].sentence == "/segmenter: 7 pictures came without depth."
    assert found[1].remedy


class StillRobot(PlayedRobot):  # type: ignore[misc] # no types across test files
    """A robot whose nodes have forgotten the picture, and see a disc wherever they are asked."""

    def __init__(self, log: Path, moved: float = 0.0, accepted: bool = True, statuses: int = 1) -> None:
        super().__init__("/", log)
        self.moved, self.accepted, self.statuses = moved, accepted, statuses
        self.taught: list[tuple[int, Marks]] = []

    def is_recent(self, stamp: int) -> bool:
        return stamp != 1

    def frame(self) -> SeenFrame:
        return SeenFrame(2, np.zeros((*SIZE, 3), np.uint8), [], 0, "tiny", 1.0)

    async def segment(self, frame: SeenFrame, asked: Any, *, frozen: bool = False) -> list[SeenObject]:
        return [disc(100 + self.moved, 100)]

    async def teach(self, frame: SeenFrame, marks: Marks, name: str) -> None:
        if self.statuses < 0:
            raise RobotError("nobody listens")
        self.taught.append((frame.stamp, marks))
        for _ in range(self.statuses):
            self.history.add(replace(learnt(5, "" if self.accepted else "misplaced_boxes"), stamp=frame.stamp))


@pytest.mark.parametrize(
    ("robot", "stamp", "done", "words", "taught"),
    [
        ({"statuses": 2}, 3, True, "learnt from", [3]),
        ({"statuses": 2}, 1, True, "learnt from", [2]),  # the picture is gone: the same thing is found in the newest one
        ({"statuses": 2, "moved": 30.0}, 1, False, "scene has changed", []),
        ({"statuses": 2, "accepted": False}, 3, False, "rejected it: misplaced_boxes", [3]),
        ({"statuses": 1}, 3, True, "learnt from", [3]),  # the detector's request for it was dropped
        ({"statuses": 0}, 3, False, "did not answer", [3]),
        ({"statuses": -1}, 3, False, "nobody listens", []),
    ],
)
def test_a_kept_mask_reaches_the_learner(
    robot: dict[str, Any], stamp: int, done: bool, words: str, taught: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "STATUS_SECONDS", 1.0)
    monkeypatch.setattr(keeping, "OTHER_SECONDS", 0.3)
    still = StillRobot(tmp_path / "log", **robot)
    frame = SeenFrame(stamp, np.zeros((*SIZE, 3), np.uint8), [], 0, "tiny", 1.0)
    outcome = asyncio.run(keeping.keep(still, frame, disc(100, 100)))
    assert outcome.done == done
    assert words in outcome.message
    assert [stamp for stamp, _ in still.taught] == taught
    for _, marks in still.taught:
        assert marks.box == (70, 70, 131, 131)
        assert keeping.iou(marks.mask, keeping.whole_mask(disc(100, 100), SIZE)) == 1


def test_an_empty_mask_is_not_kept(tmp_path: Path) -> None:
    frame = SeenFrame(3, np.zeros((*SIZE, 3), np.uint8), [], 0, "tiny", 1.0)
    empty = replace(disc(100, 100), mask=np.zeros((0, 0), bool))
    assert not asyncio.run(keeping.keep(StillRobot(tmp_path / "log"), frame, empty)).done

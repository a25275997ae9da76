"""The report: figures worked out by hand, charts that stay inside their frame, a page that needs nothing from the net."""

import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from wesam_ros.drawing import charts, overlay
from wesam_ros.evaluation import report
from wesam_ros.evaluation.report import FrameRecord, Picture, RunRecord


def frame(frozen: float, adapted: float, **more: Any) -> FrameRecord:
    return FrameRecord(stamp_ns=0, iou_frozen=(frozen,), iou_adapted=(adapted,), **more)


def record(frames: list[FrameRecord], **more: Any) -> RunRecord:
    return RunRecord("A <run>", 3, frames, **more)


def test_summary() -> None:
    frames = [
        FrameRecord(1, (0.2, 0.4), (0.2, 0.4), missed=1, latency_ms=10.0, accepted=True),
        frame(0.5, 0.7, latency_ms=20.0, adapter_version=1, reason="agreement", false=2),
        frame(0.6, 1.0, latency_ms=30.0, adapter_version=1, accepted=True, iou_refined=(0.7,)),
        FrameRecord(4, adapter_version=2, reason="no boxes", missed=1),
    ]
    assert report.summary(record(frames)) == {
        "frames": 4,
        "miou_frozen": pytest.approx((0.3 + 0.5 + 0.6) / 3, abs=1e-6),
        "miou_frozen_refined": pytest.approx(0.7, abs=1e-6),
        "miou_adapted": pytest.approx((0.3 + 0.7 + 1.0) / 3, abs=1e-6),
        "miou_frozen_last_third": 0.6,
        "miou_frozen_refined_last_third": 0.7,
        "miou_adapted_last_third": 1.0,
        "adapter_versions": 2,
        "latency_ms_p50": 20.0,
        "latency_ms_p99": pytest.approx(29.8),
        "seed": 3,
        "frames_scored": 3,
        "instances_scored": 4,
        "detector_recall": pytest.approx(4 / 6, abs=1e-6),
        "false_boxes": 2,
        "frames_accepted": 2,
        "frames_rejected": {"agreement": 1, "no boxes": 1},
    }


@pytest.mark.parametrize("frames", [[], [FrameRecord(1, accepted=True)]], ids=["no frame", "no labels"])
def test_without_scores_the_summary_is_valid_json_and_the_page_is_written(frames: list[FrameRecord], tmp_path: Path) -> None:
    figures = report.write_report(record(frames), tmp_path)
    assert figures["miou_adapted"] is figures["latency_ms_p50"] is None
    assert json.loads((tmp_path / "summary.json").read_text()) == figures
    assert "no true labels" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(("count", "expected"), [(0, []), (1, [0]), (3, [2]), (4, [2, 3]), (120, list(range(80, 120)))])
def test_last_third(count: int, expected: list[int]) -> None:
    frames = [FrameRecord(i) for i in range(count)]
    assert [f.stamp_ns for f in report.last_third(frames)] == expected


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([], []),
        ([math.nan], []),
        ([0.1, -0.3, 0.4, math.nan, 0.2], [(2, "Best gain"), (1, "Worst loss"), (0, "First frame"), (4, "Last frame")]),
        ([0.3, 0.1], [(0, "Best gain"), (1, "Smallest gain")]),
    ],
)
def test_chosen_frames(gains: list[float], expected: list[tuple[int, str]]) -> None:
    frames = [FrameRecord(0) if math.isnan(gain) else frame(0.5, 0.5 + gain) for gain in gains]
    assert report.chosen_frames(frames, each=1) == expected


def full_page(tmp_path: Path) -> str:
    frames = [
        frame(
            0.5,
            0.5 + i / 100,
            latency_ms=5.0 + i,
            adapter_version=i // 4,
            accepted=i % 2 == 0,
            reason="" if i % 2 == 0 else "drift & <co>",
            losses={"dice": 1 / (i + 1), "box": 0.1} if i else {},
        )
        for i in range(12)
    ]
    labels = np.zeros((20, 30), np.uint16)
    labels[4:9, 5:12] = 1
    picture = Picture(2, "Best gain", np.full((20, 30, 3), 90, np.uint8), labels, labels, labels)
    report.write_report(record(frames, pictures=[picture], facts={"recording": "a<b>.mcap"}), tmp_path)
    return (tmp_path / "report.html").read_text()


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page = full_page(tmp_path)
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert page.count("data:image/jpeg;base64,") == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "summary.json"]


def test_the_page_has_what_was_run_and_escapes_it(tmp_path: Path) -> None:
    page = full_page(tmp_path)
    for words in (
        "A &lt;run&gt;",
        "a&lt;b&gt;.mcap",
        "rejected, drift &amp; &lt;co&gt;: 6",
        "accepted: 6",
        "<h3>dice</h3>",
        "median 10.5 ms",
        "+9.5 points",
    ):
        assert words in page
    assert "<run>" not in page


def test_every_chart_is_well_formed_and_stays_in_its_frame(tmp_path: Path) -> None:
    drawings = re.findall(r"<svg.*?</svg>", full_page(tmp_path))
    assert len(drawings) == 6  # quality, versions, kinds of frames, two losses, latency
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for element in root.iter():
            for key, value in element.attrib.items():
                if key in ("x", "x1", "x2", "cx"):
                    assert 0 <= float(value) <= width, (key, value)
                if key in ("y", "y1", "y2", "cy"):
                    assert 0 <= float(value) <= height, (key, value)


@pytest.mark.parametrize(
    ("low", "high", "count", "expected"),
    [
        (0, 1, 5, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (37, 92, 5, [40, 50, 60, 70, 80, 90]),
        (0, 0.003, 3, [0, 0.001, 0.002, 0.003]),
        (-1, 1, 4, [-1, -0.5, 0, 0.5, 1]),
        (5, 5, 5, [5]),
    ],
)
def test_nice_ticks(low: float, high: float, count: int, expected: list[float]) -> None:
    assert charts.nice_ticks(low, high, count) == pytest.approx(expected)


def test_a_curve_breaks_where_there_is_no_value() -> None:
    svg = charts.line_chart([charts.Line("a", [0, 1, 2, 3, 4], [1, 2, math.nan, 3, 4], "frozen")], "x", "y")
    path = re.search(r'class="curve".*?d="([^"]+)"', svg)
    assert path is not None
    assert re.sub(r"[\d. ]", "", path[1]) == "MLML"


def test_overlay_colours_masks_and_leaves_the_rest() -> None:
    image = np.full((40, 60, 3), 100, np.uint8)
    masks = np.zeros((2, 40, 60), bool)
    masks[0, 5:35, 5:50] = True
    masks[1, 15:25, 20:35] = True  # inside the first: on top
    drawn = overlay.draw_overlay(image, masks, names=["", ""], opacity=0.5)
    assert (image == 100).all()
    assert drawn[0, 0].tolist() == [100, 100, 100]
    assert drawn[8, 10].tolist() == pytest.approx((100.0 + overlay.PALETTE[0]) / 2, abs=1)
    assert drawn[20, 28].tolist() == pytest.approx((100.0 + overlay.PALETTE[1]) / 2, abs=1)
    assert drawn[5, 20].tolist() == overlay.PALETTE[0].tolist()  # outline in the full colour
    named = overlay.draw_overlay(image, masks, names=["7", ""], opacity=0.5)
    assert (named != drawn).any(-1)[masks[0]].any()
    assert (named[~masks.any(0)] == drawn[~masks.any(0)]).all()


def test_overlay_without_masks_is_the_image() -> None:
    image = np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3)
    np.testing.assert_array_equal(overlay.draw_overlay(image, np.zeros((0, 12, 9), bool)), image)
    with pytest.raises(ValueError, match=r"masks must be \(n, 12, 9\)"):
        overlay.draw_overlay(image, np.zeros((1, 9, 12), bool))

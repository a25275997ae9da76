"""The comparison: what prompts are drawn, what methods are shown, how figures become tables."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from wesam_ros import cli
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.data import simulator
from wesam_ros.data.codecs import decode_compressed_image
from wesam_ros.data.datasets.files import DatasetError
from wesam_ros.data.frames import Frame
from wesam_ros.evaluation.cells import Cell, run_cell
from wesam_ros.evaluation.comparison import Setting, _forgettable, expanded, source_of
from wesam_ros.evaluation.prompts import KINDS, draw
from wesam_ros.evaluation.splits import Fold, halves, simulated
from wesam_ros.evaluation.tables import as_csv, as_html, as_markdown, gap_closed, mean_and_spread, rows_as_csv
from wesam_ros.methods.registry import METHODS, method
from wesam_ros.sam.checkpoints import load_sam

SIZE = (60, 80)
SETTING = Setting("tiny", None, steps=180, forgetting=False, limit=128)


def _frame() -> Frame:
    labels = np.zeros(SIZE, np.uint16)
    labels[10:30, 10:40], labels[35:55, 45:75] = 1, 5
    return Frame(np.zeros((*SIZE, 3), np.uint8), labels=labels)


@pytest.mark.parametrize("kind", KINDS)
def test_clean_prompts_are_of_every_object_and_the_frame_keeps_no_label(kind: str) -> None:
    seen = draw(_frame(), kind, "clean", np.random.default_rng(0))
    assert seen.frame.labels is None and seen.frame.detections is None
    assert [int(mask.sum()) for mask in seen.masks] == [600, 600]
    box, points, mask = ((p.box, p.points, p.mask) for p in seen.prompts.objects).__next__()
    assert [box is not None, len(points) > 0, mask is not None] == [kind == each for each in KINDS]
    if box is not None:
        assert box.tolist() == [10, 10, 40, 30]
    for (x, y), label in zip(points, seen.prompts.objects[0].point_labels, strict=True):
        assert seen.masks[0][int(y), int(x)] == bool(label)


@pytest.mark.parametrize("kind", KINDS)
def test_a_detector_misses_invents_and_is_off(kind: str) -> None:
    frame, rng = _frame(), np.random.default_rng(1)
    draws = [draw(frame, kind, "detector", rng) for _ in range(300)]
    masks = [each for seen in draws if seen.masks is not None for each in seen.masks]
    true = sum(bool(each.any()) for each in masks)
    false = len(masks) - true
    assert 0.86 < true / 600 < 0.94
    assert 0.06 < false / 600 < 0.14
    if kind == "box":
        boxes = [p.box for seen in draws for p, m in zip(seen.prompts.objects, seen.masks, strict=True) if m[20, 20] and p.box is not None]
        off = np.abs(np.stack(boxes) - [10, 10, 40, 30])
        assert off[:, 0].max() == pytest.approx(3, abs=0.2) and off[:, 1].max() == pytest.approx(2, abs=0.2)


def test_a_simulated_stream_is_scored_on_tables_that_are_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifteen tables to adapt to and twelve others; of each table a few frames only. Here a stamp says which table and frame it is."""

    def simulate(domain: str, seed: int, *, objects: int) -> Iterator[Frame]:
        yield from (replace(_frame(), stamp_ns=100 * seed + thing) for thing in range(1, objects + 1))

    monkeypatch.setattr(simulator, "simulate", simulate)
    (fold,) = simulated("dim", 40).load()
    stream, others = ([divmod(frame.stamp_ns, 100) for frame in part] for part in (fold.adapt, fold.test))
    assert stream == [(table, thing) for table in range(40, 55) for thing in (3, 5, 8, 10)]
    assert others == [(table, thing) for table in range(55, 67) for thing in (4, 7, 10)]


def test_a_method_with_other_settings() -> None:
    sam = load_sam("tiny")
    ours = method("ours:depth=0,refine=off,lr=0.001")(sam, 0)
    assert ours.learner.config == AdaptationConfig(depth=0, refine="off", lr=0.001)  # type: ignore[attr-defined]
    tent = method("tent:lr=0.5")(sam, 0)
    assert tent.rate == 0.5  # type: ignore[attr-defined]
    assert method("supervised:lr=0.5").supervised and method("wesam") is METHODS["wesam"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sam", "one of frozen, .* but got 'sam'"),
        ("tent:depth=0", "tent takes only lr as a setting, but got 'tent:depth=0'"),
        ("frozen:lr=1", "frozen takes no settings"),
        ("ours:", "a setting is NAME=VALUE .* but got ''"),
        ("ours:lr=-1", "'ours:lr=-1': lr must be between 0 and 1, but got -1.0"),
        ("ours:both_ways=maybe", "both_ways must be of type bool, but got 'maybe'"),
    ],
)
def test_a_method_that_does_not_exist(text: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        method(text)


def test_a_cell_is_scored_on_what_it_did_not_see() -> None:
    """Frozen and ours with one learning step on two frames; the true masks are the two rectangles of each."""
    fold = Fold([_frame(), _frame()], [_frame()])
    rows = {}
    for name in ("frozen", "ours"):
        cell = Cell("drawn", "rectangles", 0, "box", "clean", name, 0)
        rows[name] = run_cell(load_sam("tiny"), cell, fold, [_frame()], 1, lambda text: None)
    assert [rows[name].steps for name in rows] == [0, 1]
    for row in rows.values():
        assert 0.5 < row.miou <= 1 and row.miou == row.cross["box"] and set(row.cross) == set(KINDS)
        assert row.source_miou == row.miou  # the same frame
        assert len(row.curve) == 2
        assert decode_compressed_image(base64.b64decode(row.picture)).shape == (300, 400, 3)


def _row(method: str, seed: int, miou: float, domain: str = "dim", fold: int = 0) -> dict[str, Any]:
    shared = {"dataset": "simulator", "domain": domain, "fold": fold, "prompt": "box", "prompt_noise": "clean", "boundary_f": 0.5}
    shared |= {"source_miou": 0.8, "prequential": 0.6, "prequential_last_third": 0.6, "seconds_per_step": 0.1, "steps": 9}
    return {**shared, "method": method, "seed": seed, "miou": miou, "cross": {"box": miou, "point": 0.4}, "curve": [0.5, None, 0.6]}


ROWS = [
    _row("frozen", 0, 0.6),
    _row("ours", 0, 0.66),
    _row("ours", 1, 0.70),
    _row("supervised", 0, 0.7),
    _row("frozen", 0, 0.5, "camera"),
]


def test_spread_and_gap_closed_by_hand() -> None:
    dim = ROWS[:4]
    assert mean_and_spread([ROWS[1], ROWS[2]]) == pytest.approx((0.68, 0.04 / 2**0.5))
    assert mean_and_spread([_row("ours", 0, 0.4), _row("ours", 0, 0.6, fold=1)]) == pytest.approx((0.5, 0.0))
    assert gap_closed(dim, "ours") == pytest.approx(0.8)
    assert np.isnan(gap_closed(ROWS[4:], "ours"))


def test_where_labels_gain_nothing_there_is_no_gap() -> None:
    """`dim` has a gap of 10 points, of which ours closes 8; on `camera` supervised loses 5."""
    rows = [*ROWS, _row("ours", 0, 0.52, "camera"), _row("supervised", 0, 0.45, "camera")]
    assert np.isnan(gap_closed(rows[4:], "ours"))
    assert "| ours | 80 | - |" in as_markdown(rows)
    assert "| ours | 60.0 | +5.0 | 80 |" in as_markdown(rows)  # 8 and 2 points gained; the gap is that of dim alone


def test_tables() -> None:
    markdown = as_markdown(ROWS)
    summary = as_markdown(ROWS[::-1]).split("###")[1]
    assert summary.index("| frozen |") < summary.index("| ours |") < summary.index("| supervised |")  # in whatever order the rows came
    assert "| ours | 68.0 ± 2.8 | - |" in markdown
    assert "| ours | 80 | - |" in markdown
    for rows in (ROWS, [*ROWS, _row("frozen", 1, 0.6)]):  # a further seed gives a domain no more weight
        assert "| frozen | box | 55.0 | 40.0 |" in as_markdown(rows)
    assert "| ours | 68.0 | +8.0 | 80 |" in markdown
    assert rows_as_csv(ROWS).splitlines()[1].startswith("simulator,dim,0,box,clean,frozen,0,0.6,0.5,,,,,0.8")
    table = as_csv(ROWS).split("\n\n")[1].splitlines()
    assert table == ['"clean prompts: mIoU in percent, on frames never adapted to"', "method,dim box,camera box", *table[2:]]
    assert table[3] == "ours,68.0 ± 2.8,-"
    assert "| osd dim box | camera box | simulator dim box |" in as_markdown([{**ROWS[0], "dataset": "osd"}, ROWS[4], ROWS[0]])
    noted = [{**row, "notes": ["3 images left out"]} for row in ROWS]
    note = f"{ROWS[0]['dataset']} {ROWS[0]['domain']}: 3 images left out"
    assert as_markdown(noted).count(note) == as_html(noted, "a").count(note) == 1
    assert "Notes" not in as_markdown(ROWS)
    page = as_html([{**ROWS[0], "picture": "aGVsbG8="}, *ROWS[1:]], "a < b")
    assert page.count("data:image/jpeg;base64,aGVsbG8=") == page.count("<img") == 1
    assert as_html(ROWS, "a < b").count("<svg") == 2 and "a &lt; b" in as_html(ROWS, "a < b")


def test_a_killed_comparison_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two cells one is done, and the line of the other was cut: only that one is done again. A later call adds to the files."""
    asked = []

    def result(setting: Any, wanted: dict[str, Any], device: str) -> dict[str, Any]:
        asked.append(wanted["method"])
        return {**_row(wanted["method"], 0, 0.6), **wanted}

    monkeypatch.setattr("wesam_ros.evaluation.comparison._result", result)
    words = ["evaluate", "sim:dim", "--methods", "frozen", "ours", "--prompts", "box", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    book = tmp_path / "rows.jsonl"
    book.write_text(book.read_text()[:-10])
    (tmp_path / "method.json").unlink()  # written at the end, which a kill comes before
    assert cli.main(words) == 0
    assert asked == ["frozen", "ours", "ours"]
    assert [row["method"] for row in json.loads((tmp_path / "method.json").read_text())] == ["frozen", "ours"]
    assert len(book.read_text().splitlines()) == 2

    assert cli.main([*words[:3], "tent", *words[5:]]) == 0
    assert [row["method"] for row in json.loads((tmp_path / "method.json").read_text())] == ["tent", "frozen", "ours"]

    book.unlink()  # as in a clone, where the table alone was kept
    assert cli.main(words) == 0 and asked[3:] == ["tent"]
    assert len(json.loads((tmp_path / "method.json").read_text())) == 3

    assert cli.main([*words, "--steps", "7"]) == 2
    assert "steps was 180 and is now 7" in capsys.readouterr().err
    (tmp_path / "setting.json").unlink()
    for rows in ("method.json", "rows.jsonl"):
        assert cli.main(words) == 2
        error = capsys.readouterr().err
        assert rows in error and "but setting.json is not" in error
        (tmp_path / rows).unlink(missing_ok=True)


def test_shards_do_all_cells_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = []

    def result(setting: Any, wanted: dict[str, Any], device: str) -> dict[str, Any]:
        asked.append(wanted["method"])
        return {**_row(wanted["method"], 0, 0.6), **wanted}

    monkeypatch.setattr("wesam_ros.evaluation.comparison._result", result)
    names = ["frozen", "ours", "tent"]
    words = ["evaluate", "sim:dim", "--methods", *names, "--prompts", "box", "--out", str(tmp_path), "--shard"]
    assert [cli.main([*words, each]) for each in ("2/2", "1/2", "1/2", "2/2")] == [0] * 4
    assert asked == ["ours", "frozen", "tent"]
    assert [row["method"] for row in json.loads((tmp_path / "method.json").read_text())] == names
    assert cli.main(words[:-1]) == 0 and len(asked) == 3
    for bad in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(SystemExit):
            cli.main([*words, bad])
        assert "must be I/N" in capsys.readouterr().err


def test_where_a_cell_fails_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def result(setting: Any, wanted: dict[str, Any], device: str) -> dict[str, Any]:
        if wanted["method"] == "ours":
            raise ValueError("the disk is on fire")
        return {**_row(wanted["method"], 0, 0.6), **wanted, "source_miou": float("nan")}  # as with --no-source

    monkeypatch.setattr("wesam_ros.evaluation.comparison._result", result)
    words = ["evaluate", "sim:dim", "--methods", "frozen", "ours", "--prompts", "box", "--out", str(tmp_path)]
    assert cli.main(words) == 2 and "the disk is on fire" in capsys.readouterr().err
    assert "NaN" not in (tmp_path / "method.json").read_text()
    assert cli.main([*words[:4], *words[5:]]) == 0  # frozen is read back, and has no figure for the source domain
    (row,) = json.loads((tmp_path / "method.json").read_text())
    assert row["method"] == "frozen" and row["source_miou"] is None
    assert "| frozen | - |" in (tmp_path / "method.md").read_text()


def _folder(path: Path, names: Sequence[str]) -> Path:
    labels = np.zeros(SIZE, np.uint8)
    labels[10:30, 10:40] = 1
    for name in names:
        for part, pixels in (("images", np.zeros((*SIZE, 3), np.uint8)), ("masks", labels)):
            file = path / part / f"{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(file), pixels)
    return path


def test_a_data_set_is_halved_by_sequence(tmp_path: Path) -> None:
    first, second = source_of(f"folder:{_folder(tmp_path / 'mine', ('lab/1', 'lab/2', 'hall/1', 'yard/1'))}", SETTING).load()
    for fold, learnt in ((first, {"hall", "yard"}), (second, {"lab"})):
        assert {frame.sequence for frame in fold.adapt} == learnt
        assert {frame.sequence for frame in fold.test} == {"hall", "lab", "yard"} - learnt
    with pytest.raises(DatasetError, match="at least 2 frames, but there are 1"):
        source_of(f"folder:{_folder(tmp_path / 'single', ('1',))}", SETTING).load()
    assert halves(["table"] * 5) == ([0, 1, 2], [3, 4])


def test_forgetting_is_measured_on_the_halves_of_another_data_set_that_no_cell_adapts_to(tmp_path: Path) -> None:
    home = f"folder:{_folder(tmp_path / 'home', ('a/1', 'b/1', 'c/1'))}"
    setting = replace(SETTING, forgetting=True, home=home)
    seen = [{frame.sequence for frame in _forgettable("folder:elsewhere", fold, setting)} for fold in (0, 1)]
    assert seen == [{"b"}, {"a", "c"}]
    assert _forgettable(home, 0, setting) == ()


def test_rows_of_other_data_are_not_taken_for_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [_folder(tmp_path / day / "table", ("a/1", "b/1")) for day in ("monday", "tuesday")]
    monkeypatch.setattr("wesam_ros.evaluation.comparison._result", lambda setting, wanted, device: {**_row("frozen", 0, 0.6), **wanted})
    out = ["--methods", "frozen", "--out", str(tmp_path / "out")]
    assert cli.main(["evaluate", *(f"folder:{each}" for each in folders), *out]) == 2
    assert cli.main(["evaluate", f"folder:{folders[0]}", *out]) == 0
    capsys.readouterr()
    assert cli.main(["evaluate", f"folder:{folders[1]}", *out]) == 2
    assert f"folder table was '{folders[0]}' and is now '{folders[1]}'" in capsys.readouterr().err


def test_each_corruption_of_coco_is_a_data_set() -> None:
    assert [source_of(each, SETTING).domain for each in expanded("coco-c:x")][:2] == ["gaussian_noise", "shot_noise"]
    assert expanded("coco-c/snow@3:x") == ["coco-c/snow@3:x"] and source_of("coco-c/snow@3:x", SETTING).domain == "snow@3"


def test_data_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", "nowhere.mcap", "--out", str(tmp_path)]) == 2
    assert "but got 'nowhere.mcap'" in capsys.readouterr().err

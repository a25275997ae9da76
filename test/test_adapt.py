"""`wesam adapt`: the same adapter whether or not the run was stopped or killed on its way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wesam_ros import cli
from wesam_ros.adaptation.learner import Learner
from wesam_ros.adaptation.together import Together
from wesam_ros.data import codecs
from wesam_ros.data.boxes import boxes_of_labels
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.bags import read_frame_messages, write_bag
from wesam_ros.data.recordings.topics import BagError, BagTopics
from wesam_ros.data.requests import Request
from wesam_ros.evaluation import offline
from wesam_ros.evaluation.plan import Plan
from wesam_ros.sam.prompts import Prompt, Prompts

FRAMES = 5


def recording() -> list[Frame]:
    """Two rectangles on noise."""
    rng = np.random.default_rng(0)
    frames = []
    for i in range(FRAMES):
        labels = np.zeros((60, 80), np.uint16)
        labels[5:30, 5 + 4 * i : 30 + 4 * i], labels[35:58, 20:60] = 1, 2
        image = (np.array([60, 150, 220])[labels] + rng.integers(0, 30, labels.shape)).astype(np.uint8)
        frames.append(
            Frame(np.repeat(image[..., None], 3, 2), detections=Detections(boxes_of_labels(labels)[1]), labels=labels, stamp_ns=i + 1)
        )
    return frames


@pytest.fixture(scope="module")
def files(untrained_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The recording, and a checkpoint of `tiny` with random weights."""
    bag = tmp_path_factory.mktemp("offline") / "bag.mcap"
    write_bag(bag, recording())
    return bag, untrained_tiny


def _options(checkpoint: Path, out: Path) -> list[str]:
    options = ["--checkpoint", str(checkpoint), "--out", str(out), "--steps-per-frame", "1", "--save-every", "2"]
    for setting in ("publish_every=1", "validation_every=2", "validation_frames=1", "tolerance=1.0", "agreement=0", "prompt_fit=0"):
        options += ["--set", setting]
    return options


def _adapt(files: tuple[Path, Path], out: Path, *more: str) -> int:
    return cli.main(["adapt", str(files[0]), *_options(files[1], out), *more])


@pytest.fixture(scope="module")
def whole(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole")
    assert _adapt(files, out) == 0
    return out


def test_adapter_and_report(whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["frames"] == summary["frames_accepted"] == FRAMES
    assert summary["adapter_versions"] >= 1 and 0 <= summary["miou_adapted"] <= 1
    assert (whole / "report.html").read_text().count("<figure>") >= 2


def test_a_recording_without_detections_is_learnt_from(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table with two boxes on it, as a depth camera records it."""
    rng = np.random.default_rng(0)
    bag, frames = tmp_path / "bag.mcap", []
    for i in range(3):
        labels = np.zeros((120, 160), np.uint16)
        labels[30:70, 20 + 4 * i : 60 + 4 * i], labels[60:100, 100:140] = 1, 2
        depth = (np.where(labels > 0, 0.9, 1.0) + rng.normal(0, 0.001, labels.shape)).astype(np.float32)
        image = (np.array([60, 150, 220])[labels] + rng.integers(0, 30, labels.shape)).astype(np.uint8)
        camera = np.array([[130.0, 0, 79.5], [0, 130.0, 59.5], [0, 0, 1]])
        frames.append(Frame(np.repeat(image[..., None], 3, 2), depth, camera, labels=labels, stamp_ns=i + 1))
    write_bag(bag, frames)
    assert _adapt((bag, files[1]), tmp_path / "asked") == 2
    assert "detections" in capsys.readouterr().err
    assert _adapt((bag, files[1]), tmp_path / "out", "--propose", "all") == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 3
    assert summary["adapter_versions"] >= 1


@pytest.mark.parametrize("end", ["killed", "stopped"])
def test_an_interrupted_run_goes_on_to_the_same_adapter(
    end: str, files: tuple[Path, Path], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the third frame, it has the state of the second; stopped by Ctrl-C there, of the third."""
    take = offline.OfflineRun._take

    def interrupt(self: Any, frame: Frame) -> None:
        take(self, frame)
        if self._seen == 3:
            if end == "killed":
                raise RuntimeError("killed")
            handler = signal.getsignal(signal.SIGINT)
            assert callable(handler)
            handler(signal.SIGINT, None)  # not the signal itself, which the process that runs the tests would see, too

    with monkeypatch.context() as patch:
        patch.setattr(offline.OfflineRun, "_take", interrupt)
        if end == "killed":
            with pytest.raises(RuntimeError, match="killed"):
                _adapt(files, tmp_path)
        else:
            assert _adapt(files, tmp_path) == 130
    assert torch.load(tmp_path / "state.pt", weights_only=True)["seen"] == (2 if end == "killed" else 3)
    assert _adapt(files, tmp_path) == 0
    assert (tmp_path / "adapter.safetensors").read_bytes() == (whole / "adapter.safetensors").read_bytes()
    assert json.loads((tmp_path / "summary.json").read_text()) == json.loads((whole / "summary.json").read_text())


def test_a_state_of_another_run_is_refused(
    files: tuple[Path, Path], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _adapt(files, whole, "--set", "lr=0.1") == 2
    assert "of a run with other method" in capsys.readouterr().err
    (tmp_path / "state.pt").write_bytes(b"garbage")
    assert _adapt(files, tmp_path) == 2
    assert "remove it to start anew" in capsys.readouterr().err


@pytest.mark.parametrize("content", [{"format": 4, "seed": 0}, [1, 2], None, {"setting": 3}])
def test_a_state_of_another_kind_is_refused(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any
) -> None:
    torch.save(content, tmp_path / "state.pt")
    assert _adapt(files, tmp_path) == 2
    assert "holds something else than `wesam adapt` saves there" in capsys.readouterr().err


def test_what_took_long_is_saved_before_the_next_save_is_due(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = offline.OfflineRun._take

    def killed(self: Any, frame: Frame) -> None:
        if self._seen == 3:
            raise RuntimeError("killed")
        take(self, frame)

    monkeypatch.setattr(offline.OfflineRun, "_take", killed)
    monkeypatch.setattr(offline, "SAVE_SECONDS", 0.0)
    with pytest.raises(RuntimeError, match="killed"):
        _adapt(files, tmp_path, "--save-every", "50")
    assert torch.load(tmp_path / "state.pt", weights_only=True)["seen"] == 3


def test_a_recording_that_is_damaged_further_on_costs_nothing_that_was_learnt(
    files: tuple[Path, Path], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks_off(*args: Any, **named: Any) -> Iterator[Any]:
        yield from islice(read_frame_messages(*args, **named), 3)
        raise BagError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr(offline, "read_frame_messages", breaks_off)
        assert _adapt(files, tmp_path, "--save-every", "50") == 2
    assert "what was learnt from the 3 frames before is saved" in capsys.readouterr().err
    assert torch.load(tmp_path / "state.pt", weights_only=True)["seen"] == 3
    assert json.loads((tmp_path / "summary.json").read_text())["frames"] == 3
    assert _adapt(files, tmp_path) == 0
    assert (tmp_path / "adapter.safetensors").read_bytes() == (whole / "adapter.safetensors").read_bytes()


def test_an_image_that_was_cut_short_costs_itself_only(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, count = codecs.encode_jpeg, 0

    def cut(*args: Any) -> bytes:
        nonlocal count
        count += 1
        return encode(*args)[: -40 if count == 4 else None]

    bag = tmp_path / "bag.mcap"
    with monkeypatch.context() as patch:
        patch.setattr(codecs, "encode_jpeg", cut)
        write_bag(bag, recording())
    for _ in range(2):  # the second call goes on after the end, and reports the same
        assert _adapt((bag, files[1]), tmp_path) == 0
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        assert (state["seen"], len(state["records"])) == (FRAMES, FRAMES - 1)
        assert "<td>1 image.truncated</td>" in (tmp_path / "report.html").read_text()


def test_topics_by_other_names(files: tuple[Path, Path], whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = tmp_path / "bag.mcap"
    write_bag(bag, recording(), topics=BagTopics(image="/view/compressed", detections="/boxes", labels="/truth"))
    assert _adapt((bag, files[1]), tmp_path / "a", "--labels-topic", "/truth") == 0
    for name in ("adapter.safetensors", "summary.json"):
        assert (tmp_path / "a" / name).read_bytes() == (whole / name).read_bytes()
    assert _adapt((bag, files[1]), tmp_path / "a") == 2
    assert "several topics for image: /truth, /view/compressed; name one with --image-topic" in capsys.readouterr().err
    assert _adapt((bag, files[1]), tmp_path / "a", "--labels-topic", "/truth", "--depth-topic", "none") == 2
    assert "of a run with other topics" in capsys.readouterr().err
    assert _adapt((bag, files[1]), tmp_path / "b", "--image-topic", "/view/compressed", "--detections-topic", "none") == 2
    assert "no topic for detections or prompts" in capsys.readouterr().err


def prompted(frame: Frame, *bad: Prompt) -> Request:
    """Points of the first object, a coarse mask of the second, and objects that cannot be used."""
    assert frame.labels is not None
    points = np.argwhere(frame.labels == 1)[[30, 300, 500], ::-1].astype(np.float32)
    objects = (Prompt(points=points, point_labels=np.ones(3, np.int64)), Prompt(mask=frame.labels == 2))
    request = Request(Prompts(frame.size, objects), Detections(np.tile(np.array([0, 0, 80, 60], np.float32), (2, 1))))
    for each in bad:  # behind the checks, as another's node would send them
        object.__setattr__(request.prompts, "objects", (*request.prompts.objects, each))
        object.__setattr__(request, "detections", Detections(np.zeros((len(request.prompts.objects), 4), np.float32)))
    return request


def test_recorded_prompts_are_learnt_from_and_bad_ones_counted(files: tuple[Path, Path], tmp_path: Path) -> None:
    outside = Prompt(np.array([200, 200, 210, 210], np.float32))
    frames = [replace(each, detections=None, prompted=prompted(each, outside)) for each in recording()]
    frames[1] = replace(frames[1], prompted=None)
    write_bag(tmp_path / "bag.mcap", frames, topics=BagTopics(prompts="/marks"))
    assert _adapt((tmp_path / "bag.mcap", files[1]), tmp_path) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["frames"] == summary["frames_accepted"] == FRAMES - 1
    assert (summary["instances_scored"], summary["false_boxes"]) == (2 * (FRAMES - 1), 0)
    assert summary["adapter_versions"] >= 1
    assert f"{FRAMES - 1} prompts.outside" in (tmp_path / "report.html").read_text()


def test_detections_and_prompts_of_one_frame_are_learnt_from_one_after_the_other(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    observe, step = Learner.observe, Learner.step

    def observed(self: Learner, frame: Frame, prompts: Prompts, source: str) -> Any:
        seen.append(source + ":" + "".join(" box" if each.box is not None else " other" for each in prompts.objects))
        return observe(self, frame, prompts, source)

    def stepped(self: Learner) -> Any:
        seen.append("step")
        return step(self)

    monkeypatch.setattr(Learner, "observe", observed)
    monkeypatch.setattr(Learner, "step", stepped)
    write_bag(tmp_path / "bag.mcap", [replace(each, prompted=prompted(each)) for each in recording()])
    assert _adapt((tmp_path / "bag.mcap", files[1]), tmp_path) == 0
    assert seen == ["detections: box box", "step", "prompts: other other", "step"] * FRAMES
    assert json.loads((tmp_path / "summary.json").read_text())["frames_accepted"] == 2 * FRAMES


def test_only_frames_that_something_is_asked_for_in_count(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = recording()[:2]
    bag, nothing = tmp_path / "bag.mcap", Detections(np.zeros((0, 4), np.float32))
    write_bag(bag, [replace(first, detections=None), replace(second, detections=nothing)])
    assert _adapt((bag, files[1]), tmp_path / "a") == 0
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["frames_rejected"] == {"no_prompts": 1}
    monkeypatch.setattr(offline, "requests_of", lambda frame, detections_size: ())
    assert _adapt((bag, files[1]), tmp_path / "b") == 2
    assert "has detections or prompts of its stamp" in capsys.readouterr().err


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _by_two_processes(bags: list[Path], checkpoint: Path, out: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "wesam_ros.cli"]
    words += ["adapt", *map(str, bags), *_options(checkpoint, out), "--threads", "1"]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=600, env={**os.environ, "PYTHONSAFEPATH": "1"})


def test_two_processes_train_one_adapter(files: tuple[Path, Path], tmp_path: Path, one_thread: None) -> None:
    """One of them has nothing to learn from: it follows, and the adapter is that of a single process, bit for bit."""
    empty = tmp_path / "empty.mcap"
    write_bag(empty, [replace(each, detections=Detections(np.zeros((0, 4), np.float32))) for each in recording()[:2]])
    assert _adapt(files, tmp_path / "one", "--threads", "1") == 0
    done = _by_two_processes([files[0], empty], files[1], tmp_path / "two")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "two" / "adapter.safetensors").read_bytes() == (tmp_path / "one" / "adapter.safetensors").read_bytes()
    assert json.loads((tmp_path / "two" / "summary.json").read_text())["frames"] == FRAMES + 2


def test_two_processes_average_what_they_learn(files: tuple[Path, Path], whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mcap"
    write_bag(other, recording()[:3])  # ends sooner, and is learnt from on
    done = _by_two_processes([files[0], other], files[1], tmp_path / "out")
    assert done.returncode == 0, done.stderr[-2000:]
    states = [torch.load(tmp_path / "out" / f"state_{rank}_of_2.pt", weights_only=True) for rank in range(2)]
    of_first, of_second = (state["learner"]["trainer"]["low_rank"] for state in states)
    assert all(torch.equal(*pair) for pair in zip(of_first, of_second, strict=True))
    assert [state["seen"] for state in states] == [FRAMES, 3]
    assert (tmp_path / "out" / "adapter.safetensors").read_bytes() != (whole / "adapter.safetensors").read_bytes()
    with pytest.raises(ValueError, match="another number of processes"):
        offline.OfflineRun(Plan((files[0],), tmp_path / "out", checkpoint=files[1]))


def test_more_processes_than_recordings_are_refused() -> None:
    with pytest.raises(ValueError, match="start fewer"):
        Plan((Path("a"),), Path("out")).share_of(Together(0, 2))
    assert Plan((Path("a"), Path("b"), Path("c")), Path("out")).share_of(Together(0, 2)).bags == (Path("a"), Path("c"))

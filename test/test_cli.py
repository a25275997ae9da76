"""The command line: quick help, one sentence for known errors, and `wesam bag` from end to end."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from recorded import SIZE, START, STEP, picture, raw, rows, write

from wesam_ros import cli
from wesam_ros.data import simulator
from wesam_ros.data.boxes import boxes_of_labels
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings.bags import read_bag


def test_help_names_every_command_and_loads_none() -> None:
    code = (
        "import sys; from wesam_ros import cli\ntry: cli.main(['--help'])\nfinally: assert 'numpy' not in sys.modules, 'numpy was loaded'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert set(cli.COMMANDS) <= {line.split()[0] for line in done.stdout.splitlines() if line.startswith("    ")}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nothing"],
        ["bag"],
        ["bag", "simulate", "source", "a.mcap", "--frames", "0"],
        ["bag", "info", "a.mcap", "--sync-slop", "20"],  # milliseconds
        ["bag", "info", "a.mcap", "--sync-slop", "nan"],
        ["adapt", "a.mcap", "--out", "out", "--sync-slop", "-1"],
        ["adapt", "a.mcap", "--out", "out", "--steps-per-frame", "-1"],
    ],
)
def test_bad_arguments_exit_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(words)
    assert stopped.value.code == 2
    assert "usage: wesam" in capsys.readouterr().err


def test_the_command_of_an_old_name_is_told_its_new_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "a.mcap"]) == 2
    assert "replay" in capsys.readouterr().err


def failing(error: BaseException) -> Any:
    def run(args: object) -> int:
        raise error

    return SimpleNamespace(add_arguments=lambda parser: None, run=run)


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ValueError("rank must be between 1 and 64, but got 0"), 2, "wesam: rank must be between 1 and 64, but got 0\n"),
        (FileNotFoundError(2, "No such file or directory", "a.mcap"), 2, "wesam: a.mcap: No such file or directory\n"),
        (simulator.SimulatorError("no OpenGL"), 2, "wesam: no OpenGL\n"),
        (ModuleNotFoundError("No module named 'rclpy'", name="rclpy"), 2, "wesam: rclpy is missing: source a ROS 2 environment"),
        (ModuleNotFoundError("No module named", name="wesam_ros.msg"), 2, "wesam: wesam_ros.msg is missing: `make setup`"),
        (KeyboardInterrupt(), 130, "wesam: interrupted\n"),
    ],
)
def test_known_errors_are_one_sentence(
    error: BaseException, status: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "import_module", lambda name: failing(error))
    assert cli.main(["replay"]) == status
    assert capsys.readouterr().err.startswith(sentence)


@pytest.mark.parametrize("error", [KeyError("a fault of ours"), ModuleNotFoundError("No module named", name="wesam_ros.nodes.tpyo")])
def test_faults_of_ours_keep_their_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "import_module", lambda name: failing(error))
    with pytest.raises(type(error)):
        cli.main(["replay"])


def test_verbose_shows_where_a_known_error_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "import_module", lambda name: failing(ValueError("bad")))
    with pytest.raises(ValueError, match="bad"):
        cli.main(["--verbose", "replay"])


def scene(index: int = 1) -> dict[str, np.ndarray]:
    labels = np.zeros((24, 32), np.uint8)
    labels[4:12, 6:20], labels[14:20, 3:9] = 1, 2
    return {"image_color": np.full((24, 32, 3), 30 * index, np.uint8), "disparity": labels.astype(np.uint16) * 700, "annotation": labels}


def test_bag_osd_then_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("learn0", "learn1"):
        for folder, pixels in scene().items():
            (tmp_path / "osd" / folder).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "osd" / folder / f"{name}.png"), pixels)
    out = tmp_path / "made" / "osd.mcap"
    assert cli.main(["bag", "osd", str(tmp_path / "osd"), str(out)]) == 0
    shown = capsys.readouterr()
    assert "osd.mcap: 2 frames" in shown.out
    assert "frame 2 of 2" in shown.err
    for frame in read_bag(out, labels=True):
        np.testing.assert_array_equal(frame.detections.boxes, boxes_of_labels(frame.labels)[1])  # no noise asked for: tight boxes
    assert cli.main(["bag", "info", str(out)]) == 0
    assert any(line.split() == ["/detections", "2", "vision_msgs/msg/Detection2DArray"] for line in capsys.readouterr().out.splitlines())


def test_bag_info_tells_what_each_topic_is_taken_for_and_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sent = list(rows())
    sent[-1] = ("/rgb", raw(START + 5 * STEP, picture(5)[:, :-1]), sent[-1][2])
    sent[-1][1].step += 3 * SIZE[1]  # more bytes than there are
    bag = write(tmp_path / "bag", sent=sent)
    (bag / "metadata.yaml").unlink()
    assert cli.main(["bag", "info", str(bag), "--frames"]) == 0
    told = capsys.readouterr().out
    for text in ("taken as image: /rgb", "taken as depth: /depth", "frames: 5, 5 with depth, 5 with camera, 5 with detections"):
        assert text in told
    assert [line.split(";")[0][:22] for line in told.splitlines() if line.startswith("note:")] == [
        "note: its metadata.yam",
        "note: 1 of image left ",
    ]


def test_bag_info_lists_a_recording_without_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bag = write(tmp_path / "bag", sent=[row for row in rows() if row[0] == "/info"])
    assert cli.main(["bag", "info", str(bag), "--frames"]) == 0
    assert "no topic for image" in capsys.readouterr().out


def test_bag_osd_of_another_folder_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bag", "osd", str(tmp_path), str(tmp_path / "a.mcap")]) == 2
    assert capsys.readouterr().err.startswith(f"wesam: folder {tmp_path}/image_color")


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Replaces the simulator by one that gives three frames a sequence; lists the sequences asked for."""
    asked: list[tuple[str, int]] = []

    def simulate(domain: str, seed: int, *, objects: int, views: int) -> Iterator[Frame]:
        asked.append((domain, seed))
        for index in range(3):
            made = scene(index)
            yield Frame(made["image_color"], labels=made["annotation"].astype(np.uint16), stamp_ns=(index + 1) * 200_000_000)

    monkeypatch.setattr(simulator, "simulate", simulate)
    return asked


def test_bag_simulate_goes_on_with_new_tables_and_growing_stamps(tmp_path: Path, tables: list[tuple[str, int]]) -> None:
    out = tmp_path / "a.mcap"
    assert cli.main(["bag", "simulate", "dim", str(out), "--frames", "7", "--seed", "4", "--jitter", "0.2"]) == 0
    frames = list(read_bag(out))
    assert len(frames) == 7
    assert tables == [("dim", 4000), ("dim", 4001), ("dim", 4002)]
    assert [f.stamp_ns // 10**6 for f in frames] == [200, 400, 600, 2800, 3000, 3200, 5400]
    again = tmp_path / "b" / "a.mcap"
    cli.main(["bag", "simulate", "dim", str(again), "--frames", "7", "--seed", "4", "--jitter", "0.2"])
    assert again.read_bytes() == out.read_bytes()


def test_bag_without_labels_has_no_label_topic(tmp_path: Path, tables: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.mcap"
    cli.main(["bag", "simulate", "dim", str(out), "--frames", "2", "--no-labels"])
    cli.main(["bag", "info", str(out)])
    assert "/ground_truth/labels" not in capsys.readouterr().out

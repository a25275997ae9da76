"""The files of an adapter node where they cannot be used: one is put aside, training goes on from the other, and both are told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from wesam_ros.adaptation import state
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.data.frames import Frame
from wesam_ros.ros.saving import LearnerFiles
from wesam_ros.sam import Adapter, Prompts
from wesam_ros.sam.adapter import AdapterError

CONFIG = AdaptationConfig()


class Told:
    """In place of diagnostics and logger: keeps what is said."""

    def __init__(self) -> None:
        self.problems: Counter[str] = Counter()
        self.sentences: list[str] = []
        self.errors: list[str] = []

    def problem(self, name: str, sentence: str, n: int = 1, of: str = "") -> None:
        self.problems[name] += n
        self.sentences.append(sentence)

    def info(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def error(self, sentence: str) -> None:
        self.errors.append(sentence)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def files(tmp_path: Path, told: Any) -> LearnerFiles:
    return LearnerFiles(tmp_path / "adapter.safetensors", told, told)


def published(sam: Any, version: int) -> Learner:
    """A learner with a frame that has published so many adapters."""
    learner = Learner(sam, CONFIG, 0)
    image = np.zeros((60, 80, 3), np.uint8)
    learner.observe(Frame(image), Prompts.from_boxes(np.array([[10, 15, 40, 45]], np.float32), (60, 80)))
    for _ in range(version):
        learner.consider(learner.adapter)
    return learner


def test_a_damaged_file_is_put_aside_and_the_saved_states_adapter_taken(files: LearnerFiles, told: Told, sam: Any) -> None:
    assert files.adapter is not None and files.state is not None
    learner = published(sam, 3)
    state.save(learner, files.state)
    for number, name in enumerate(("adapter.safetensors.refused", "adapter.safetensors.refused1")):
        files.adapter.write_bytes(b"damaged" + bytes([number]))
        again = files.learner(sam, CONFIG, 0, resume=True)
        assert (again.adapter.version, len(again.replay_buffer)) == (3, 1)
        assert files.refused == files.adapter.with_name(name)
        assert files.refused.read_bytes() == b"damaged" + bytes([number])  # an earlier one is not replaced
        assert not files.adapter.exists()
        assert told.problems == {"refused.adapter_file": number + 1}
        assert told.sentences[-1] == f"the adapter file is now {files.refused}; training goes on from version 3 of the saved state"
        assert f"kept as {files.refused}" in told.errors[-1]


def test_a_file_of_another_model_is_put_aside_and_training_starts_anew(files: LearnerFiles, told: Told, sam: Any) -> None:
    assert files.adapter is not None and files.state is not None
    whole = Adapter.untrained(sam, "0" * 64, 4, seed=0)
    whole.save(files.adapter)
    files.state.write_bytes(b"damaged")
    learner = files.learner(sam, CONFIG, 0, resume=True)
    assert (learner.adapter.version, len(learner.replay_buffer)) == (0, 0)
    assert told.problems == {"refused.adapter_file": 1, "failed.resume": 1}
    assert told.sentences[-1].endswith("training goes on anew")
    assert files.refused is not None and files.refused.read_bytes() == whole.to_bytes()
    learner = files.learner(sam, CONFIG, 0, resume=False)  # the next start finds nothing to refuse
    assert files.refused is None and told.problems["refused.adapter_file"] == 1


def test_a_folder_is_not_renamed(files: LearnerFiles, sam: Any) -> None:
    assert files.adapter is not None
    files.adapter.mkdir()
    with pytest.raises(AdapterError, match="not a file"):
        files.learner(sam, CONFIG, 0, resume=True)
    assert files.adapter.is_dir()


def test_a_second_node_does_not_write_to_the_files_of_the_first(files: LearnerFiles, told: Any, sam: Any) -> None:
    files.learner(sam, CONFIG, 0, resume=True)
    second = LearnerFiles(files.adapter, told, told)
    with pytest.raises(BlockingIOError, match="in use by another adapter node"):
        second.learner(sam, CONFIG, 0, resume=True)
    files.release()
    second.learner(sam, CONFIG, 0, resume=True)
    second.release()

"""Loading checkpoints: the right ones, and a sentence that helps for every wrong one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from wesam_ros.sam import CheckpointError, base_hash, load_sam
from wesam_ros.sam.architectures import ARCHITECTURES
from wesam_ros.sam.checkpoints import TINY_WEIGHTS


def test_pth_and_safetensors_give_the_same_model(random_tiny: Path, sam: Any, tmp_path: Path) -> None:
    torch.save(load_file(random_tiny), tmp_path / "tiny.pth")
    other = load_sam("tiny", tmp_path / "tiny.pth")
    assert base_hash(other) == base_hash(sam)
    assert not any(parameter.requires_grad for parameter in other.parameters())
    assert not other.training


def test_loading_does_not_import_the_compiler() -> None:
    """torch's takes a second, in which a segmenter that was killed does not serve."""
    script = "import sys; from wesam_ros.sam import load_sam; load_sam('tiny'); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_weights_decide_the_hash(random_tiny: Path, sam: Any, tmp_path: Path) -> None:
    state = load_file(random_tiny)
    state["image_encoder.pos_embed"][0, 0, 0, 0] += 1e-3
    save_file(state, tmp_path / "other.safetensors")
    assert base_hash(load_sam("tiny", tmp_path / "other.safetensors")) != base_hash(sam)


def test_parameter_counts_are_the_published_ones() -> None:
    """MobileSAM 10.1 M, ViT-B 93.7 M, -L 312.3 M, -H 641.1 M; SAM 2.1's less the 7 521 777 of its memory (their checkpoints)."""
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in each.build().parameters()) for name, each in ARCHITECTURES.items()}
    assert counts == {
        "tiny": 7_490_552,
        "vit_t": 10_130_092,
        "vit_b": 93_735_472,
        "vit_l": 312_342_832,
        "vit_h": 641_090_608,
        "sam2.1_hiera_tiny": 38_962_498 - 7_521_777,
        "sam2.1_hiera_small": 46_060_354 - 7_521_777,
        "sam2.1_hiera_base_plus": 80_850_178 - 7_521_777,
        "sam2.1_hiera_large": 224_446_642 - 7_521_777,
    }


def save_in_parts(path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, path)
    path.write_bytes(path.read_bytes()[:-40])


WRONG: list[tuple[str, str, str, str, Callable[[Path], object]]] = [
    ("tiny", "a.pth", "missing", "there is no checkpoint", lambda _: None),
    ("vit_b", "a.pth", "missing", "sam_vit_b_01ec64.pth", lambda _: None),
    ("vit_b", "a.pth", "cut_short", "sam_vit_b_01ec64.pth of Segment Anything has 375042383", save_in_parts),
    ("vit_b", "a.pth", "cut_short", "has only 0 bytes", lambda path: path.write_bytes(b"")),
    ("tiny", "a.safetensors", "other_kind", "no known format", lambda path: path.write_bytes(b"1234567890")),
    ("tiny", "a.safetensors", "damaged", "safetensors says", lambda path: path.write_bytes(b"\x02\0\0\0\0\0\0\0{]")),
    ("tiny", "a.pth", "no_tensors", "expected a dictionary of tensors", lambda path: torch.save([1, 2], path)),
    ("tiny", "a.pth", "misfit", "does not fit tiny", lambda path: torch.save({"weight": torch.zeros(2)}, path)),
]


@pytest.mark.parametrize(("model", "name", "reason", "words", "make"), WRONG)
def test_wrong_files_are_explained(model: str, name: str, reason: str, words: str, make: Callable[[Path], object], tmp_path: Path) -> None:
    make(tmp_path / name)
    with pytest.raises(CheckpointError, match=words) as caught:
        load_sam(model, tmp_path / name)
    assert caught.value.reason == reason


def test_checkpoint_of_another_model_is_named(random_tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="it is a tiny checkpoint: set model to tiny"):
        load_sam("vit_b", random_tiny)


def test_unknown_model_and_missing_checkpoint() -> None:
    with pytest.raises(CheckpointError, match=r"one of tiny, vit_t, .*, sam2\.1_hiera_large, but got"):
        load_sam("vit_x")
    with pytest.raises(CheckpointError, match="download sam_vit_h_4b8939"):
        load_sam("vit_h")


def test_integer_weights_are_refused(random_tiny: Path, tmp_path: Path) -> None:
    save_file({key: value.to(torch.int8) for key, value in load_file(random_tiny).items()}, tmp_path / "int.safetensors")
    with pytest.raises(CheckpointError, match="floating-point"):
        load_sam("tiny", tmp_path / "int.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, random_tiny: Path, tmp_path: Path) -> None:
    state = load_file(random_tiny)
    name = next(key for key, each in state.items() if each.ndim == 4)
    state[name][0, 0, 0, 0] = value
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=f"{name} has 1 of .* not finite") as error:
        load_sam("tiny", tmp_path / "a.safetensors")
    assert error.value.reason == "not_finite"


def test_shipped_weights_load_and_are_small() -> None:
    assert TINY_WEIGHTS.stat().st_size <= 16e6
    assert json.loads(TINY_WEIGHTS.with_suffix(".json").read_text())["hash"] == base_hash(load_sam("tiny"))

"""The adapter: the same numbers as loralib's layer, nothing changed without one, and nothing foreign taken in."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import loralib
import pytest
import torch
from safetensors.torch import save

import wesam_ros
from wesam_ros.files import remove_leftovers
from wesam_ros.sam import Adapter, AdapterError, base_hash
from wesam_ros.sam.adapter import FORMAT, MAX_BYTES, flattened
from wesam_ros.sam.lora import AdaptedConv2d, LoraQkv, adapted, adapted_layers, term_by_term
from wesam_ros.sam.predictor import embed_images

PACKAGE = Path(wesam_ros.__file__).parent


@pytest.fixture(scope="module")
def adapter(sam: Any) -> Adapter:
    fresh = Adapter.untrained(sam, base_hash(sam), rank=4, seed=1)
    return replace(fresh, b=torch.randn(fresh.b.shape, generator=torch.Generator().manual_seed(2)) * 0.1, version=3)


@pytest.mark.parametrize("merged", [True, False])
def test_layer_equals_loralib(merged: bool) -> None:
    torch.manual_seed(0)
    reference = loralib.MergedLinear(24, 72, r=4, lora_alpha=4, enable_lora=[True, False, True], merge_weights=False)
    torch.nn.init.normal_(reference.lora_B)
    base = torch.nn.Linear(24, 72)
    base.weight, base.bias = reference.weight, reference.bias
    layer = LoraQkv(base)
    layer.low_rank = layer.fused(reference.lora_A.chunk(2), reference.lora_B.chunk(2))
    layer.merged = layer.with_terms(*layer.low_rank) if merged else None
    x = torch.randn(2, 5, 7, 24)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), reference(x.view(2, 35, 24)).view(2, 5, 7, 72), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_has_its_term_in_series(bias: bool) -> None:
    torch.manual_seed(0)
    base = torch.nn.Conv2d(6, 8, 3, 2, 1, bias=bias)
    layer, down, up = AdaptedConv2d(base), torch.nn.Conv2d(8, 2, 1, bias=False), torch.nn.Conv2d(2, 8, 1, bias=False)
    layer.low_rank = up.weight.flatten(1), down.weight.flatten(1)
    x = torch.randn(2, 6, 9, 7)
    with torch.no_grad():
        expected = base(x) + up(down(base(x)))
        torch.testing.assert_close(layer(x), expected)
        layer.merged = layer.with_terms(*layer.low_rank)
        torch.testing.assert_close(layer(x), expected)


def test_untrained_adapter_changes_nothing_and_a_trained_one_leaves_the_base_as_it_was(sam: Any, adapter: Adapter) -> None:
    pixels = torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    base = embed_images(sam, pixels)
    fresh = Adapter.untrained(sam, base_hash(sam), rank=4, seed=0)
    torch.testing.assert_close(embed_images(sam, pixels, fresh.low_rank), base)
    assert (embed_images(sam, pixels, adapter.low_rank) - base).abs().max() > 1e-3
    torch.testing.assert_close(embed_images(sam, pixels), base, atol=0, rtol=0)


def test_adapter_is_taken_back_when_the_encoder_fails(sam: Any, adapter: Adapter) -> None:
    with pytest.raises(RuntimeError), adapted(sam, adapter.low_rank):
        raise RuntimeError
    assert all(layer.low_rank is None and layer.merged is None for layer in adapted_layers(sam))


def test_only_the_adapter_gets_gradients(sam: Any, adapter: Adapter) -> None:
    a, b = (tensor.clone().requires_grad_() for tensor in adapter.low_rank)
    embed_images(sam, torch.randn(1, 3, 512, 512), (a, b)).square().mean().backward()
    assert a.grad is not None and b.grad is not None
    assert all(float(grad.abs().max()) > 0 for each in term_by_term(sam, (a.grad, b.grad)) for grad in each)
    assert all(parameter.grad is None for parameter in sam.parameters())


def test_save_and_load(sam: Any, adapter: Adapter, tmp_path: Path) -> None:
    path = tmp_path / "new" / "adapter.safetensors"
    adapter.save(path)
    adapter.save(path)
    back = Adapter.load(path, for_sam=sam)
    assert back.version == 3
    assert torch.equal(back.a, adapter.a) and torch.equal(back.b, adapter.b)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_failed_save_keeps_the_old_file(sam: Any, adapter: Adapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "adapter.safetensors"
    adapter.save(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace(adapter, version=4).save(path)
    monkeypatch.undo()
    assert Adapter.load(path, for_sam=sam).version == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_a_kill_between_write_and_rename_keeps_the_old_file(sam: Any, adapter: Adapter, tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    adapter.save(path)
    killed = """
import os, pathlib, signal, sys
from wesam_ros.files import write_atomically
pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(pathlib.Path(sys.argv[1]), b"new" * 100_000)
"""
    done = subprocess.run([sys.executable, "-c", killed, str(path)], cwd=PACKAGE.parent, capture_output=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert Adapter.load(path, for_sam=sam).version == adapter.version
    other = tmp_path / "other.safetensors"
    other.touch()
    assert len(list(tmp_path.iterdir())) == 3  # with what the killed process has left
    remove_leftovers(path)
    assert {*tmp_path.iterdir()} == {path, other}


def test_tensors_of_format_1_are_put_as_they_are_now() -> None:
    """Its tensors were (L, 2, r, d) and (L, 2, d, r), for q and v of L blocks."""
    a, b = torch.randn(3, 2, 4, 8), torch.randn(3, 2, 8, 4)
    flat_a, flat_b = flattened(a, b)
    for number, (block, part) in enumerate((block, part) for block in range(3) for part in range(2)):
        assert torch.equal(flat_a[:, 8 * number : 8 * number + 8], a[block, part])
        assert torch.equal(flat_b[8 * number : 8 * number + 8], b[block, part])


def _with(tensors: dict[str, torch.Tensor], **metadata: str) -> bytes:
    return bytes(save(tensors, {"format": FORMAT, "version": "1", **metadata}))


BAD: list[tuple[str, str, Callable[[Adapter], bytes]]] = [
    ("size", "at most", lambda _: b"\0" * (MAX_BYTES + 1)),
    ("garbage", "not a whole", lambda _: b""),
    ("garbage", "not a whole", lambda _: bytes(range(256)) * 10),
    ("garbage", "not a whole", lambda whole: whole.to_bytes()[:-100]),
    ("format", "expected an adapter", lambda _: save({"a": torch.zeros(1)})),
    ("format", "expected an adapter", lambda whole: _with({"a": whole.a}, base=whole.base)),
    ("base", "belongs to a model", lambda whole: replace(whole, base="0" * 64).to_bytes()),
    ("version", "0 or more", lambda whole: _with({"a": whole.a, "b": whole.b}, base=whole.base, version="-1")),
    ("version", "0 or more", lambda whole: _with({"a": whole.a, "b": whole.b}, base=whole.base, version="1.5")),
    ("shape", "must be", lambda whole: _with({"a": whole.a, "b": whole.a.clone()}, base=whole.base)),
    ("shape", "but the model", lambda whole: replace(whole, a=whole.a[:, :300]).to_bytes()),
    ("dtype", "float32", lambda whole: _with({"a": whole.a.half(), "b": whole.b.half()}, base=whole.base)),
    ("not_finite", "diverged", lambda whole: _with({"a": whole.a * float("nan"), "b": whole.b}, base=whole.base)),
]


@pytest.mark.parametrize(("reason", "message", "make"), BAD)
def test_bad_adapters_are_refused(sam: Any, adapter: Adapter, reason: str, message: str, make: Callable[[Adapter], bytes]) -> None:
    with pytest.raises(AdapterError, match=message) as caught:
        Adapter.from_bytes(make(adapter), for_sam=sam)
    assert caught.value.reason == reason

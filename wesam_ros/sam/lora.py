"""LoRA on q and v of every encoder block, with the adapter as data beside the model (Hu et al., ICLR 2022; WeSAM's setting: rank 4).

The frozen model stays as it was loaded. An adapter is two stacked tensors; `adapted` lends them to the encoder for the time of a call, so
one model in memory serves as anchor (no adapter), teacher and student (the one that trains) and as what is published.
"""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save
from torch import Tensor, nn
from torch.nn import functional

from wesam_ros.sam.tiny_vit import TinyVit

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

FORMAT = "wesam_ros.adapter/1"
MAX_BYTES = 64 * 2**20
"""No adapter is larger: rank 64 of ViT-H has 52 MB. Checked before anything is parsed."""
MAX_RANK = 64
LowRank = tuple[Iterable[Tensor], Iterable[Tensor]]
"""An adapter's a and b, as stacked tensors or one per block."""
MAX_VERSION = 2**63 - 1
"""What a message can hold, with room to count on."""


class AdapterError(ValueError):
    """An adapter that this model cannot take: the message says what, which value and what to do. `reason` is a short key for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class LoraQkv(nn.Linear):
    """An encoder block's qkv projection that adds a low-rank term to q and v while an adapter is lent to it.

    It shares the weight and bias of the layer that it replaces, under the same names. The scale is 1 (loralib: lora_alpha = r).

    Args:
        base: the layer to replace.
        groups: 1 where the outputs are q, k, v of all heads (SAM); the number of heads where they are q, k, v of each head (TinyViT).
    """

    def __init__(self, base: nn.Linear, groups: int = 1) -> None:
        with torch.device("meta"):
            super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.weight, self.bias = base.weight, base.bias
        self.groups = groups
        self.low_rank: tuple[Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.low_rank is None:
            return super().forward(x)
        a, b = self.low_rank  # (2, r, d) and (2, d, r), q before v
        zeros = torch.zeros_like(b[0])
        up = torch.cat([torch.cat([b[0], zeros], 1), torch.cat([zeros, zeros], 1), torch.cat([zeros, b[1]], 1)])  # (3d, 2r)
        if self.groups > 1:
            up = up.unflatten(0, (3, self.groups, -1)).transpose(0, 1).flatten(0, 2)
        down = a.flatten(0, 1)
        if (torch.is_grad_enabled() and (x.requires_grad or a.requires_grad or b.requires_grad)) or torch.compiler.is_compiling():
            return super().forward(x) + functional.linear(functional.linear(x, down), up)
        # The same with the products bracketed the other way: there are more tokens than channels. With gradients it would cost more,
        # as they would go through a whole matrix of weights.
        return functional.linear(x, self.weight + up @ down, self.bias)


def prepare(sam: Sam) -> None:
    """Replaces the qkv projection of every encoder block, in place; without an adapter the model computes what it did before."""
    for block in sam.image_encoder.blocks:
        if not isinstance(block.attn.qkv, LoraQkv):
            per_head = isinstance(sam.image_encoder, TinyVit)
            block.attn.qkv = LoraQkv(block.attn.qkv, block.attn.num_heads if per_head else 1)


@contextmanager
def adapted(sam: Sam, low_rank: LowRank | None) -> Iterator[None]:
    """Within the block, the encoder of `sam` computes with the tensors a (L, 2, r, d) and b (L, 2, d, r), or as the base for None.

    Where the blocks differ in width (TinyViT), d is the widest one's, and a narrower block takes the first of its channels: so an adapter
    stays two tensors, whatever the model, and all blocks are adapted. What is left over is zero and gets no gradient.

    One thread at a time: the tensors are lent to the model's own layers.
    """
    layers = [block.attn.qkv for block in sam.image_encoder.blocks]
    try:
        if low_rank is not None:
            for layer, a, b in zip(layers, *low_rank, strict=True):
                layer.low_rank = (a, b) if layer.in_features == a.shape[-1] else (a[..., : layer.in_features], b[:, : layer.in_features])
        yield
    finally:
        for layer in layers:
            layer.low_rank = None


def adapter_shape(sam: Sam) -> tuple[int, int]:
    """(number of encoder blocks, channels of the widest) that an adapter of this model has."""
    widths = _widths(sam)
    return len(widths), max(widths)


def _widths(sam: Sam) -> list[int]:
    return [block.attn.qkv.in_features for block in sam.image_encoder.blocks]


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter as data.

    Attributes:
        a: (L, 2, r, d) float32, the down projections of L blocks, q before v.
        b: (L, 2, d, r) float32, the up projections.
        base: the hash of the frozen weights that it belongs to (`base_hash`).
        version: counts the adapters that one trainer has published; 0 is the untrained one, which changes nothing.
    """

    a: Tensor
    b: Tensor
    base: str
    version: int = 0

    def __post_init__(self) -> None:
        layers, two, rank, channels = self.a.shape if self.a.ndim == 4 else (0, 0, 0, 0)
        if two != 2 or not 1 <= rank <= MAX_RANK or self.b.shape != (layers, 2, channels, rank):
            raise AdapterError(
                "shape",
                f"adapter tensors must be (L, 2, r, d) and (L, 2, d, r) with r at most {MAX_RANK}, "
                f"but got {tuple(self.a.shape)} and {tuple(self.b.shape)}",
            )
        for tensor in (self.a, self.b):
            if tensor.dtype != torch.float32:
                raise AdapterError("dtype", f"adapter tensors must be float32, but got {tensor.dtype}; save them with Adapter.save")
            if not torch.isfinite(tensor).all():
                raise AdapterError("not_finite", "adapter tensors must be finite, but have NaN or infinity: its training diverged")
        if not 0 <= self.version <= MAX_VERSION:
            raise AdapterError("version", f"adapter version must be 0 or more, and at most {MAX_VERSION}, but got {self.version}")

    @property
    def low_rank(self) -> tuple[Tensor, Tensor]:
        """The two stacked tensors, as `adapted` takes them."""
        return self.a, self.b

    @classmethod
    def untrained(cls, sam: Sam, base: str, rank: int, seed: int) -> Adapter:
        """Version 0: a as loralib draws it (Kaiming-uniform), b zero, so that the adapted model equals the base."""
        layers, channels = adapter_shape(sam)
        bound = channels**-0.5  # nn.init.kaiming_uniform_(a=sqrt(5)) for fan-in d
        a = torch.empty(layers, 2, rank, channels).uniform_(-bound, bound, generator=torch.Generator().manual_seed(seed))
        for each, width in zip(a, _widths(sam), strict=True):
            if width < channels:
                each *= (channels / width) ** 0.5
                each[..., width:] = 0
        return cls(a, torch.zeros(layers, 2, channels, rank), base)

    def to_bytes(self) -> bytes:
        """Safetensors with the base's hash and the version in its header; the same adapter gives the same bytes."""
        metadata = {"format": FORMAT, "base": self.base, "version": str(self.version)}
        data = safetensors_save({"a": self.a.detach().cpu().contiguous(), "b": self.b.detach().cpu().contiguous()}, metadata)
        # The library writes the metadata in another order each time; the tensors' order and offsets do not change.
        length = int.from_bytes(data[:8], "little")
        header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)  # the format aligns the tensors to 8 bytes
        return len(header).to_bytes(8, "little") + header + data[8 + length :]

    @classmethod
    def from_bytes(cls, data: bytes, *, for_sam: Sam) -> Adapter:
        """Reads an adapter for `for_sam`, a model from load_sam.

        Raises:
            AdapterError: with reason "size", "garbage", "format", "base", "version", "shape", "dtype" or "not_finite".
        """
        from wesam_ros.sam.checkpoints import base_hash

        if len(data) > MAX_BYTES:
            raise AdapterError("size", f"an adapter has at most {MAX_BYTES} bytes, but got {len(data)}")
        try:
            length = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + length]).get("__metadata__")
            tensors = safetensors_load(data)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise AdapterError("garbage", f"{len(data)} bytes are not a whole safetensors file ({error}); save it again") from error
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT or set(tensors) != {"a", "b"}:
            raise AdapterError(
                "format",
                f"expected an adapter of format {FORMAT} with tensors a and b, but got {str(metadata)[:60]} with {sorted(tensors)}",
            )
        if metadata.get("base") != base_hash(for_sam):
            raise AdapterError(
                "base",
                f"the adapter belongs to a model with hash {str(metadata.get('base'))[:12]}, but this one has {base_hash(for_sam)[:12]}; "
                "use the model and checkpoint that it was trained with",
            )
        if not re.fullmatch("[0-9]{1,19}", str(metadata.get("version", ""))):
            found = str(metadata.get("version"))[:30]
            raise AdapterError("version", f"adapter version must be 0 or more, and at most {MAX_VERSION}, but got {found!r}")
        adapter = cls(tensors["a"], tensors["b"], metadata["base"], int(metadata["version"]))
        if (adapter.a.shape[0], adapter.a.shape[3]) != adapter_shape(for_sam):
            raise AdapterError(
                "shape",
                f"adapter has (blocks, channels) {(adapter.a.shape[0], adapter.a.shape[3])}, but the model {adapter_shape(for_sam)}",
            )
        return adapter

    def save(self, path: Path) -> None:
        """Writes the adapter so that `path` always holds a whole one, the old or the new, even if the power fails in between."""
        write_atomically(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path, *, for_sam: Sam) -> Adapter:
        """Reads a file that `save` wrote. Raises AdapterError as `from_bytes` does, and OSError where the file cannot be read."""
        if path.exists() and not path.is_file():  # a device or a pipe may never end
            raise AdapterError("garbage", f"{path} is not a file; give the path of one that was saved")
        if path.stat().st_size > MAX_BYTES:
            raise AdapterError("size", f"{path} has {path.stat().st_size} bytes, but an adapter at most {MAX_BYTES}")
        return cls.from_bytes(path.read_bytes(), for_sam=for_sam)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes beside `path`, flushes to the disk and renames: readers see the old file or the new one, never a part of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself
    finally:
        os.close(directory)


def remove_leftovers(path: Path) -> None:
    """Removes what a process that was killed within `write_atomically` has left beside `path`. Call it before the first write."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        leftover.unlink(missing_ok=True)

"""The adapter as data: two low-rank tensors with the hash of the model they belong to, as safetensors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load as safetensors_load
from safetensors.torch import save as safetensors_save
from torch import Tensor

from wesam_ros.files import write_atomically
from wesam_ros.sam.lora import adapter_shape, adapter_terms

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

FORMAT, EARLIER = "wesam_ros.adapter/2", "wesam_ros.adapter/1"
"""Of files that are written, and of those that are read as well (`flattened`)."""
MAX_BYTES = 64 * 2**20
"""The largest size of an adapter; rank 64 of ViT-H has 52 MB. It is checked before anything is parsed."""
MAX_RANK = 64
MAX_VERSION = 2**63 - 1
"""The largest version. A message's uint64 holds it, with room for further ones."""


class AdapterError(ValueError):
    """An adapter that this model cannot take. The message names the fault, the value and the remedy; `reason` is a key for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def base_hash(sam: Sam) -> str:
    """SHA-256 (hex) of the weights of a model from `load_sam`. An adapter names its base by it."""
    return str(sam.weights_hash)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A LoRA adapter as data.

    Attributes:
        a: (r, I) float32, the down projections of the model's low-rank terms (lora.py), side by side.
        b: (O, r) float32, their up projections, one above the other.
        base: the hash of the frozen weights that it belongs to (`base_hash`).
        version: counts the adapters that one trainer has published; 0 is the untrained one, which changes nothing.
    """

    a: Tensor
    b: Tensor
    base: str
    version: int = 0

    def __post_init__(self) -> None:
        rank = self.a.shape[0] if self.a.ndim == 2 else 0
        if not 1 <= rank <= MAX_RANK or self.b.ndim != 2 or self.b.shape[1] != rank:
            raise AdapterError(
                "shape",
                f"adapter tensors must be (r, inputs) and (outputs, r) with r at most {MAX_RANK}, "
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
        """The two tensors, as `adapted` takes them."""
        return self.a, self.b

    @cached_property
    def trained(self) -> bool:
        """True if it changes anything."""
        return bool(self.b.any())

    @classmethod
    def untrained(cls, sam: Sam, base: str, rank: int, seed: int) -> Adapter:
        """Version 0: a as loralib draws it (Kaiming-uniform), b zero, so that the adapted model equals the base."""
        generator = torch.Generator().manual_seed(seed)
        terms = adapter_terms(sam)
        # nn.init.kaiming_uniform_(a=sqrt(5)) for as many inputs as each term has
        a = torch.cat([torch.empty(rank, inputs).uniform_(-(inputs**-0.5), inputs**-0.5, generator=generator) for inputs, _ in terms], 1)
        return cls(a, torch.zeros(sum(outputs for _, outputs in terms), rank), base)

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
        if len(data) > MAX_BYTES:
            raise AdapterError("size", f"an adapter has at most {MAX_BYTES} bytes, but got {len(data)}")
        try:
            length = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + length]).get("__metadata__")
            tensors = safetensors_load(data)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise AdapterError("garbage", f"{len(data)} bytes are not a whole safetensors file ({error}); save it again") from error
        if not isinstance(metadata, dict) or metadata.get("format") not in (FORMAT, EARLIER) or set(tensors) != {"a", "b"}:
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
        a, b = flattened(tensors["a"], tensors["b"]) if metadata["format"] == EARLIER else (tensors["a"], tensors["b"])
        adapter = cls(a, b, metadata["base"], int(metadata["version"]))
        if (adapter.a.shape[1], adapter.b.shape[0]) != adapter_shape(for_sam):
            raise AdapterError(
                "shape",
                f"adapter has (inputs, outputs) {(adapter.a.shape[1], adapter.b.shape[0])}, but the model {adapter_shape(for_sam)}",
            )
        return adapter

    def save(self, path: Path) -> None:
        """Writes the adapter. `path` always holds a whole one, the old or the new, even if the power fails in between."""
        write_atomically(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path, *, for_sam: Sam) -> Adapter:
        """Reads a file that `save` wrote. Raises AdapterError as `from_bytes` does, and OSError where the file cannot be read."""
        if path.exists() and not path.is_file():  # a device or a pipe may never end
            raise AdapterError("garbage", f"{path} is not a file; give the path of one that was saved")
        if path.stat().st_size > MAX_BYTES:
            raise AdapterError("size", f"{path} has {path.stat().st_size} bytes, but an adapter at most {MAX_BYTES}")
        return cls.from_bytes(path.read_bytes(), for_sam=for_sam)


def flattened(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """An adapter's tensors of format 1, (L, 2, r, d) and (L, 2, d, r) for q and v of L blocks of one width, as they are now."""
    return (a.permute(2, 0, 1, 3).flatten(1).contiguous(), b.flatten(0, 2).contiguous()) if a.ndim == b.ndim == 4 else (a, b)

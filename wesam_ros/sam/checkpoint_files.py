"""The tensors of a checkpoint file, out of whatever they are wrapped in. Nothing but tensors and plain values is ever unpickled."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from wesam_ros.sam.checkpoint_kinds import CUT_SHORT, SAFETENSORS, TORCH_ZIP, Kind, kind_of_class, kind_of_file
from wesam_ros.sam.sam2_names import SAM2_LANDMARK

log = logging.getLogger(__name__)

LANDMARKS = ("prompt_encoder.pe_layer.positional_encoding_gaussian_matrix", SAM2_LANDMARK)
"""SAM's models have the first of these tensors, SAM 2's the other; what stands before the name in a file is the model's prefix there."""
WRAPPERS = ("module", "_orig_mod")
"""Parts of tensors' names that DataParallel and torch.compile put in."""
PREFERRED = ("model", "state_dict", "model_state_dict", "model_state", "sam")
NESTING = 3
MOST_STAND_INS = 200
CODE = ("os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy", "pty", "builtins.eval", "builtins.exec")
"""Modules and functions that no checkpoint has a use for; a file that names one is refused."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded. The message names the fault, the file and the remedy.

    Attributes:
        reason: a short key: "unknown_model", "missing", "cut_short", "damaged", "other_kind", "code", "no_tensors", "several", "misfit",
            "not_finite".
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def read_tensors(path: Path, official: str, size: int = 0) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, of a .pth, .pt, .ckpt, .bin or .safetensors file; the format is told by its bytes.

    Training checkpoints are unwrapped, and prefixes of DataParallel, torch.compile and Lightning taken off.

    Args:
        path: the file.
        official: words for SAM's own file of the model asked for.
        size: bytes of that file, 0 where unknown.

    Raises:
        CheckpointError: cut short, damaged, or something else than a checkpoint.
    """
    kind = kind_of_file(path)
    if isinstance(kind, Kind):
        raise other_kind(path, kind, official)
    if kind == CUT_SHORT:
        raise _cut_short(path, official, size)
    try:
        content = load_file(path) if kind == SAFETENSORS else _unpickled(path, mapped=kind == TORCH_ZIP)
    except (MemoryError, CheckpointError):
        raise
    except EOFError as error:
        raise _cut_short(path, official, size) from error
    except Exception as error:  # torch raises many kinds for a damaged file
        why = (str(error).splitlines() or [type(error).__name__])[0]
        if "unexpected EOF" in why or ("corrupted" in why and kind != SAFETENSORS):
            raise _cut_short(path, official, size) from error
        what = "safetensors" if isinstance(error, SafetensorError) else "torch"
        raise CheckpointError(
            "damaged",
            f"{path} ({path.stat().st_size} bytes) is not a readable checkpoint: {what} says {why}; "
            "compare its SHA-256 with the publisher's",
        ) from error
    return _state(content, path, official)


def other_kind(path: Path, kind: Kind, official: str) -> CheckpointError:
    """The error for a file of another kind."""
    return CheckpointError("other_kind", f"{path} is {kind.name}, not a SAM checkpoint; {kind.remedy.format(official=official)}")


def _cut_short(path: Path, official: str, size: int) -> CheckpointError:
    whole = f"; {official} has {size}" if size else ""
    sentence = f"{path} is not a readable checkpoint: it was cut short, and has only {path.stat().st_size} bytes{whole}"
    return CheckpointError("cut_short", f"{sentence}; copy or download it again")


class StandIn:
    """Takes the place of an object that is no tensor, such as a configuration: it takes anything, keeps nothing and does nothing."""

    path = ""

    def __new__(cls, *_args: Any, **_named: Any) -> StandIn:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_named: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class _Bounded(io.BufferedReader):
    """A file that gives no more bytes than it has: for a damaged length the usual one would reserve gigabytes first."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads up to `size` bytes."""
        if size is not None and size > io.DEFAULT_BUFFER_SIZE:
            size = min(size, max(0, self._size - self.tell()))
        return super().read(size)


def _unpickled(path: Path, mapped: bool) -> Any:
    """The content of a file of torch.save, with a `StandIn` for each object that torch does not take by itself.

    torch's own restricted unpickler is used throughout; it stops at the first unknown name, which is then added.
    """
    stand_ins: dict[str, type[StandIn]] = {}
    while True:
        known: list[Any] = [(kind, name) for name, kind in stand_ins.items()]
        try:
            with torch.serialization.safe_globals(known):
                if mapped and path.suffix != ".safetensors":  # torch goes by that name, not by the bytes
                    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                with _Bounded(path) as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            text = str(error)
            found = re.search(r"GLOBAL ([\w.<>]+) (?:was not|whose module)", text)
            if found is None or len(stand_ins) > MOST_STAND_INS:
                raise
            name = found[1]
            _check_harmless(path, name)
            fresh = [each for each in (name, f"builtins.{name}") if each not in stand_ins]
            if not fresh:
                raise
            stand_ins |= {each: type("StandIn", (StandIn,), {"path": name}) for each in fresh}


def _check_harmless(path: Path, name: str) -> None:
    full = name if "." in name else f"builtins.{name}"
    if any(full == each or full.startswith(f"{each}.") for each in CODE):
        sentence = f"{path} would run {full} when unpickled; no checkpoint has a use for that: do not trust it. Nothing was run"
        raise CheckpointError("code", sentence)


def _state(content: Any, path: Path, official: str) -> dict[str, Tensor]:
    """The tensors of the SAM in a file; where there is none, the most tensors that are together."""
    if isinstance(content, StandIn):
        raise other_kind(path, kind_of_class(content.path), official)
    found = {name: state for name, state in _states(content, "", NESTING) if state}
    if not found:
        objects = [each.path for each in content.values() if isinstance(each, StandIn)] if isinstance(content, Mapping) else []
        if objects:
            raise other_kind(path, kind_of_class(objects[0]), official)
        sentence = f"{path} is not a SAM checkpoint: expected a dictionary of tensors by name, but got {type(content).__name__}"
        raise CheckpointError("no_tensors", sentence)
    plain = {name: _plain_names(state, path) for name, state in found.items()}
    models = [name for name, state in plain.items() if not state.keys().isdisjoint(LANDMARKS)]
    if not models:
        return max(plain.values(), key=len)
    models.sort(key=lambda name: PREFERRED.index(name) if name in PREFERRED else len(PREFERRED))
    if len(models) > 1:
        log.warning("%s holds several models (%s): %s is taken", path, ", ".join(models), models[0])
    return plain[models[0]]


def _states(content: Any, name: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The tensors that stand together in a dictionary, and in those within it, each by its path of keys."""
    if not isinstance(content, Mapping) or not depth:
        return
    yield name, {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    for key, value in content.items():
        if isinstance(key, str):
            yield from _states(value, f"{name}.{key}".lstrip("."), depth - 1)


def _plain_names(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors under SAM's own names: wrappers' parts taken out, and the prefix of the model in the file."""
    renamed = {".".join(part for part in key.split(".") if part not in WRAPPERS): value for key, value in state.items()}
    if len(renamed) < len(state):
        return state
    prefixes = [key.removesuffix(each) for key in renamed for each in LANDMARKS if key == each or key.endswith(f".{each}")]
    if not prefixes:
        return renamed
    if len(prefixes) > 1:
        named = ", ".join(each or "without a prefix" for each in prefixes)
        raise CheckpointError("several", f"{path} holds several SAM models, named {named}; save one of them alone")
    return {key.removeprefix(prefixes[0]): value for key, value in renamed.items() if key.startswith(prefixes[0])}

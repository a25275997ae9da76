"""Loading SAM models from their checkpoint files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from wesam_ros.sam.architectures import ARCHITECTURES
from wesam_ros.sam.attention import compute_in_pieces
from wesam_ros.sam.lora import prepare

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

TINY_WEIGHTS = Path(__file__).parent.parent / "weights" / "tiny.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that cannot be loaded. The message names the fault, the file and the remedy."""


def load_sam(name: str, checkpoint: Path | None = None, device: str = "cpu") -> Sam:
    """Loads a model, frozen, in float32 and evaluation mode, ready to take adapters.

    Args:
        name: "tiny", "vit_t", "vit_b", "vit_l" or "vit_h".
        checkpoint: an official .pth or .pt file or a .safetensors one; None for `tiny` takes the weights of the package.
        device: a torch device, such as "cpu" or "cuda".

    Raises:
        CheckpointError: unknown name, no file, not a checkpoint, or one of another model.
    """
    if name not in ARCHITECTURES:
        raise CheckpointError(f"model must be one of {', '.join(ARCHITECTURES)}, but got {name!r}")
    architecture = ARCHITECTURES[name]
    path = Path(checkpoint) if checkpoint else (TINY_WEIGHTS if name == "tiny" else None)
    if path is None:
        raise CheckpointError(
            f"{name} needs a checkpoint: download {architecture.official_file} ({architecture.project}'s README) and give its path"
        )
    if not path.is_file():
        named = f"; the official file for {name} is {architecture.official_file}" if architecture.official_file else ""
        raise CheckpointError(f"there is no checkpoint file {path}{named}")
    sam = _empty(name)
    sam.load_state_dict(_fitting(_read(path, name), sam, path, name), assign=True)
    sam.pixel_mean, sam.pixel_std = (torch.tensor(v).view(3, 1, 1) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))
    sam.requires_grad_(False).eval()
    prepare(sam)
    compute_in_pieces(sam)
    sam.weights_hash = _hash(sam.state_dict())
    sam.weights_name = name
    return sam.to(device)


def _read(path: Path, name: str) -> dict[str, Tensor]:
    official = ARCHITECTURES[name]
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged file
        size = path.stat().st_size
        expected = f"{official.official_file} has {official.bytes} bytes; " if official.bytes else ""
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} ({size} bytes) is not a readable checkpoint: {expected}download it again ({why})") from error
    if not isinstance(state, dict) or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        raise CheckpointError(f"{path} is not a SAM checkpoint: expected a dictionary of tensors by name, but got {type(state).__name__}")
    return state


def _fitting(state: dict[str, Tensor], sam: Sam, path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of `state` in float32, if they are just those of the model; else an error that names the model they do fit."""
    model = sam.state_dict()
    expected = {key: tuple(value.shape) for key, value in model.items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if expected != found:
        wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        fits = next((other for other in ARCHITECTURES if found == _shapes(other)), None)
        hint = (
            f"it is a {fits} checkpoint: set model to {fits}"
            if fits
            else f"the official file is {ARCHITECTURES[name].official_file or TINY_WEIGHTS.name}"
        )
        first = wrong[0]
        raise CheckpointError(
            f"{path} does not fit {name}: {len(wrong)} tensors differ, first {first} "
            f"(expected {expected.get(first, 'none')}, got {found.get(first, 'none')}); {hint}"
        )
    for key, value in state.items():
        same_kind = value.dtype.is_floating_point == model[key].dtype.is_floating_point  # batch normalisation counts its steps in integers
        if not same_kind or value.layout is not torch.strided:
            raise CheckpointError(f"{path}: {key} must be {_kind(model[key])}, but got {value.dtype}, {value.layout}")
    return {key: value.to(model[key].dtype).contiguous() for key, value in state.items()}


def _kind(value: Tensor) -> str:
    return "a dense floating-point tensor" if value.dtype.is_floating_point else "a dense tensor of integers"


class _NotRandom(TorchFunctionMode):
    """Leaves random numbers out while a model is made on `meta`: torch would import its compiler to draw or scale them, for a second.

    The prompt encoder scales a few.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.nn.init.normal_:
            return kwargs["tensor"]
        return function(*args, **({"device": "cpu"} if function is torch.randn else {}), **kwargs)


def _empty(name: str) -> Sam:
    """A model without memory for its weights."""
    with torch.device("meta"), _NotRandom():
        return ARCHITECTURES[name].build()


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in _empty(name).state_dict().items()}


def _hash(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(f"{key} {tuple(state[key].shape)} ".encode())
        digest.update(state[key].contiguous().numpy().data)
    return digest.hexdigest()

"""Loading SAM models from their checkpoint files."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from wesam_ros.machine import resolve_device
from wesam_ros.sam.architectures import ARCHITECTURES, PATCH
from wesam_ros.sam.attention import compute_in_pieces
from wesam_ros.sam.checkpoint_files import CheckpointError as CheckpointError
from wesam_ros.sam.checkpoint_files import other_kind, read_tensors
from wesam_ros.sam.checkpoint_kinds import kind_of_tensors
from wesam_ros.sam.lora import prepare
from wesam_ros.sam.sam2_names import image_part

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

WEIGHTS = Path(__file__).parent.parent / "weights"
"""The weights that the package ships, as NAME.safetensors."""
TINY_WEIGHTS = WEIGHTS / "tiny.safetensors"
PIXELS = {"pixel_mean": (123.675, 116.28, 103.53), "pixel_std": (58.395, 57.12, 57.375)}
POSITIONS = "image_encoder.pos_embed"
Shapes = Mapping[str, tuple[int, ...]]


def load_sam(name: str, checkpoint: Path | None = None, device: str = "cpu") -> Sam:
    """Loads a model, frozen, in float32 and evaluation mode, ready to take adapters.

    Args:
        name: of ARCHITECTURES, such as "tiny", "vit_b" or "sam2.1_hiera_tiny".
        checkpoint: the official file, or one trained from it (see `read_tensors`); None takes those that the package
            ships, which are `tiny`'s.
        device: "auto" or a torch device, such as "cpu" or "cuda"; see `resolve_device`.

    Raises:
        CheckpointError: unknown name, no file, not a checkpoint, or one of another model.
        DeviceError: no such device here; said before anything is read.
    """
    if name not in ARCHITECTURES:
        raise CheckpointError("unknown_model", f"model must be one of {', '.join(ARCHITECTURES)}, but got {name!r}")
    place = resolve_device(device)
    architecture = ARCHITECTURES[name]
    path = Path(checkpoint) if checkpoint else (None if architecture.official_file else WEIGHTS / f"{name}.safetensors")
    if path is None:
        raise CheckpointError(
            "missing",
            f"{name} needs a checkpoint: download {architecture.official_file} ({architecture.project}'s README) and give its path",
        )
    if not path.is_file():
        named = f"; the official file for {name} is {architecture.official_file}" if architecture.official_file else ""
        raise CheckpointError("missing", f"there is no checkpoint file {path}{named}")
    sam = _empty(name)
    state = read_tensors(path, _official(name), architecture.bytes)
    sam.load_state_dict(_fitting(state, sam, path, name), assign=True)
    sam.pixel_mean, sam.pixel_std = (torch.tensor(values).view(3, 1, 1) for values in PIXELS.values())
    sam.requires_grad_(False).eval()
    prepare(sam)
    compute_in_pieces(sam)
    sam.weights_hash = _hash(sam.state_dict())
    sam.weights_name = name
    return sam.to(place)


def _official(name: str) -> str:
    """Words for the file that is to be given for a model."""
    architecture = ARCHITECTURES[name]
    if not architecture.official_file:
        return f"no checkpoint, since {name}'s weights come with the package"
    return f"{architecture.official_file} of {architecture.project}"


def _fitting(state: dict[str, Tensor], sam: Sam, path: Path, name: str) -> dict[str, Tensor]:
    """The tensors of `state` in float32, if they are just those of the model; else an error that names the model they do fit."""
    model, given = sam.state_dict(), state
    state = image_part(state)
    expected = {key: tuple(value.shape) for key, value in model.items()}
    state = {key: value for key, value in state.items() if key in expected or not _is_norm(key, value)}
    found = {key: tuple(value.shape) for key, value in state.items()}
    if expected != found:
        raise _misfit(expected, found, given, path, name)
    for key, value in state.items():
        same_kind = value.dtype.is_floating_point == model[key].dtype.is_floating_point  # batch normalisation counts its steps in integers
        if not same_kind or value.layout is not torch.strided:
            raise CheckpointError("misfit", f"{path}: {key} must be {_kind(model[key])}, but got {value.dtype}, {value.layout}")
        if not torch.isfinite(value).all():
            wrong = int((~torch.isfinite(value)).sum())
            told = f"{key} has {wrong} of {value.numel()} numbers that are not finite, so that its masks would be empty"
            raise CheckpointError("not_finite", f"{path}: {told}: training went wrong, or the file is damaged; take an earlier checkpoint")
    return {key: value.to(model[key].dtype).contiguous() for key, value in state.items()}


def _is_norm(key: str, value: Tensor) -> bool:
    """True for the mean or deviation of pixels, if it is the constant of this package; some forks save them."""
    constant = PIXELS.get(key)
    return constant is not None and value.numel() == 3 and torch.allclose(value.float().flatten(), torch.tensor(constant), atol=0.01)


def _misfit(expected: Shapes, found: Shapes, given: Collection[str], path: Path, name: str) -> CheckpointError:
    """The error for a file with tensors `found`, which it has under the names `given`."""
    fits = next((other for other in ARCHITECTURES if found == _shapes(other)), None)
    if fits is None and (kind := kind_of_tensors(given)) is not None:
        return other_kind(path, kind, _official(name))
    wrong = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
    first = next((key for key in wrong if key in found), wrong[0])
    hint = f"it is a {fits} checkpoint: set model to {fits}" if fits else f"give {_official(name)}"
    if fits is None and POSITIONS in wrong and expected.keys() == found.keys():
        side = found[POSITIONS][1] * PATCH if len(found[POSITIONS]) == 4 else 0
        hint = f"it takes images of another size ({side} pixels); {hint}"
    return CheckpointError(
        "misfit",
        f"{path} does not fit {name}: {len(wrong)} tensors differ, first {first} "
        f"(expected {expected.get(first, 'none')}, got {found.get(first, 'none')}); {hint}",
    )


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

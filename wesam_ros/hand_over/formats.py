"""The formats that an adapter can leave in, and the models that have them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from segment_anything.modeling import ImageEncoderViT

from wesam_ros.hand_over import FORMATS
from wesam_ros.hand_over.graphs import write_onnx, write_triton
from wesam_ros.hand_over.low_rank import write_loralib, write_peft
from wesam_ros.hand_over.transformers_folder import write_transformers
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.attention import compute_in_pieces
from wesam_ros.sam.fine_features import FineMaskDecoder
from wesam_ros.sam.lora import merge
from wesam_ros.sam.sam2 import Sam2Encoder
from wesam_ros.sam.tiny_vit import TinyVit

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


class HandOverError(ValueError):
    """An adapter that cannot leave, or a file that cannot be taken. The message names the fault and the remedy."""


def formats_of(sam: Sam) -> tuple[str, ...]:
    """The formats that an adapter of this model can leave in.

    SAM's own encoder has them all. MobileSAM's is in no release of transformers, and orders q, k and v by heads, as loralib's and PEFT's
    users do not expect. Encoder and decoder of `tiny` are in this package alone: it leaves as a graph. SAM 2.1's graphs have other inputs
    in every tool, and its file has a memory as well, which is not loaded here: its adapters stay.
    """
    if isinstance(sam.image_encoder, Sam2Encoder):
        return ()
    if isinstance(sam.image_encoder, ImageEncoderViT) and not isinstance(sam.mask_decoder, FineMaskDecoder):
        return FORMATS
    if isinstance(sam.image_encoder, TinyVit):
        return "checkpoint", "onnx", "triton"
    return "onnx", "triton"


def hand_over(sam: Sam, adapter: Adapter, to: str, out: Path) -> list[Path]:
    """Writes an adapter in another tool's format.

    - checkpoint: a file of all weights, the adapter merged, for `segment_anything.sam_model_registry[...](checkpoint=...)`.
    - onnx: a folder with encoder.onnx, decoder.onnx under segment_anything's names, and the YAML file of X-AnyLabeling.
    - triton: a model repository, as Isaac ROS Segment Anything takes it.
    - transformers: a folder for `SamModel.from_pretrained`, the adapter merged.
    - loralib: a file of lora_A and lora_B, for `load_state_dict(..., strict=False)`.
    - peft: a folder for `PeftModel.from_pretrained` on a `SamModel`.

    Args:
        sam: the model of the adapter, from load_sam.
        adapter: it is left as it is, like the model.
        to: one of FORMATS.
        out: the file or folder; it must not be there yet.

    Returns:
        The files written.

    Raises:
        HandOverError: this model has no such format, or `out` exists.
    """
    if to not in formats_of(sam):
        raise HandOverError(
            f"{sam.weights_name} has parts that no tool takes in this form, so its adapters cannot leave as {to}, only as "
            f"{' or '.join(formats_of(sam)) or 'they are'}; train with vit_b, vit_l or vit_h for the others"
        )
    if out.exists():
        raise HandOverError(f"{out} is there already; name a new path with --out")
    if to == "loralib":
        return write_loralib(sam, adapter, out)
    if to == "peft":
        return write_peft(sam, adapter, out)
    merged = merged_model(sam, adapter)
    if to == "checkpoint":
        out.parent.mkdir(parents=True, exist_ok=True)
        torch.save({name: value.contiguous() for name, value in merged.state_dict().items()}, out)
        return [out]
    return {"onnx": write_onnx, "triton": write_triton, "transformers": write_transformers}[to](merged, out)


def merged_model(sam: Sam, adapter: Adapter) -> Sam:
    """A copy of the model on the CPU that computes without an adapter what `sam` computes with it."""
    merged = copy.deepcopy(sam).cpu()
    compute_in_pieces(merged, False)  # tracing would keep the pieces of one size
    merge(merged, adapter.low_rank)
    return merged

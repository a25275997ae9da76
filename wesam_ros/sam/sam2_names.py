"""Tensors of an official SAM 2.1 checkpoint under this package's names, without those of its memory of a video."""

from __future__ import annotations

import re

from torch import Tensor

SAM2_LANDMARK = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
"""Every SAM 2 checkpoint has this tensor."""
NAMES = (
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (r"^sam_mask_decoder\.conv_s0\.", "image_encoder.quarter."),
    (r"^sam_mask_decoder\.conv_s1\.", "image_encoder.eighth."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^no_mem_embed$", "image_encoder.no_mem_embed"),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.0\.", r"\1.lin1."),
    (r"^(mask_decoder\.transformer\.layers\.\d+\.mlp)\.layers\.1\.", r"\1.lin2."),
)
"""Patterns of official names, and what takes their place; one after another."""
MEMORY = (
    "memory_attention.", "memory_encoder.", "mask_downsample.", "maskmem_tpos_enc", "no_mem_pos_enc", "no_obj_ptr", "no_obj_embed_spatial",
    "obj_ptr_proj.", "obj_ptr_tpos_proj.",
)  # fmt: skip
"""Beginnings of the names of tensors that a single image has no use for."""


def image_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The image part of a SAM 2.1 checkpoint; any other one as it is, SAM 2.0's among them.

    SAM 2.0 has the same image part, trained otherwise. Its memory lacks `obj_ptr_tpos_proj`. A file without any memory is taken for 2.1.
    """
    has_memory = any(name.startswith("memory_attention.") for name in state)
    if SAM2_LANDMARK not in state or (has_memory and not any(name.startswith("obj_ptr_tpos_proj.") for name in state)):
        return state
    return {own_name(name): value for name, value in state.items() if not name.startswith(MEMORY)}


def own_name(name: str) -> str:
    """This package's name of a tensor of the image part."""
    for pattern, ours in NAMES:
        name = re.sub(pattern, ours, name)
    return name

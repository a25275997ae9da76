"""Adapters of loralib and PEFT, which have one low-rank term for q, k and v as a whole: ours of rank r is theirs of rank 2 r.

    lora_B (3d, 2r)  =  [q | 0 ; 0 | 0 ; 0 | v]  of our b,   lora_A (2r, d)  =  our a, q's rows before v's

loralib's MergedLinear with enable_lora=[True, False, True] keeps the two blocks of lora_B one above the other, (2d, r).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from wesam_ros.sam.adapter import MAX_RANK, Adapter, AdapterError, base_hash
from wesam_ros.sam.hybrid_encoder import HybridEncoder
from wesam_ros.sam.lora import adapter_terms, term_by_term
from wesam_ros.sam.sam2 import Sam2Encoder

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

BASES = {"vit_b": "facebook/sam-vit-base", "vit_l": "facebook/sam-vit-large", "vit_h": "facebook/sam-vit-huge"}
"""Names of the official models on Hugging Face."""
_KEY = re.compile(r"(?:.*\.)?(?:blocks|layers)\.(\d+)\.attn\.qkv\.lora_([AB])(?:\.default)?(?:\.weight)?")


def write_loralib(sam: Sam, adapter: Adapter, out: Path) -> list[Path]:
    """A torch file with the tensors of MergedLinear(d, 3d, r, lora_alpha=r, enable_lora=[True, False, True]) for each block of SAM."""
    state: dict[str, Tensor] = {}
    for index, (a, b) in enumerate(_of_blocks(sam, adapter)):
        name = f"image_encoder.blocks.{index}.attn.qkv"
        state |= {f"{name}.lora_A": torch.cat(a), f"{name}.lora_B": torch.cat(b)}
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, out)
    return [out]


def write_peft(sam: Sam, adapter: Adapter, out: Path) -> list[Path]:
    """The folder of a LoRA adapter of PEFT, for a SamModel of transformers."""
    rank = 2 * adapter.a.shape[0]
    state: dict[str, Tensor] = {}
    for index, (block, (a, b)) in enumerate(zip(sam.image_encoder.blocks, _of_blocks(sam, adapter), strict=True)):
        name = f"base_model.model.vision_encoder.layers.{index}.attn.qkv"
        up, down = block.attn.qkv.fused(a, b)
        state |= {f"{name}.lora_A.weight": down.contiguous(), f"{name}.lora_B.weight": up.contiguous()}
    out.mkdir(parents=True)
    save_file(state, out / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": BASES.get(str(sam.weights_name)),
        "target_modules": ["qkv"],
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    return [out / "adapter_config.json", out / "adapter_model.safetensors"]


def read_low_rank(sam: Sam, kind: str, path: Path) -> Adapter:
    """An adapter of loralib or PEFT on SAM's qkv projections as one of ours, version 1.

    Args:
        sam: the model that it was trained on.
        kind: "loralib", a file of torch or safetensors with lora_alpha = r; or "peft", a folder.
        path: of the file or folder.

    Raises:
        AdapterError: it is none, of other layers, of a rank that is too large, or changes k.
    """
    if isinstance(sam.image_encoder, HybridEncoder | Sam2Encoder):
        raise AdapterError("format", f"no other tool's adapters change the layers that {sam.weights_name}'s do; use vit_b, vit_l or vit_h")
    state, scale = _read_peft(path) if kind == "peft" else (_tensors(path), 1.0)
    blocks, channels = len(sam.image_encoder.blocks), adapter_terms(sam)[0][0]
    found: dict[tuple[int, str], Tensor] = {}
    for name, value in state.items():
        match = _KEY.fullmatch(name)
        if match is None and "lora_" in name:
            raise AdapterError("format", f"{path} adapts {name}, but only the qkv projections of SAM's encoder can be taken")
        if match is not None:
            found[int(match[1]), match[2]] = value.float()
    if set(found) != {(index, part) for index in range(blocks) for part in "AB"}:
        raise AdapterError("format", f"{path} adapts {len(found) // 2} qkv projections, but {sam.weights_name} has {blocks}")
    pairs = [_split(found[index, "A"], scale * found[index, "B"], channels, path) for index in range(blocks)]
    rank = max(a.shape[0] for pair in pairs for a, _ in pair)
    if rank > MAX_RANK:
        raise AdapterError("shape", f"{path} has rank {rank} for q or v, but at most {MAX_RANK} can be taken")
    terms = [term for pair in pairs for term in pair]  # q before v, as in lora.LoraQkv
    a = torch.cat([functional.pad(down, (0, 0, 0, rank - len(down))) for down, _ in terms], 1)
    b = torch.cat([functional.pad(up, (0, rank - up.shape[1])) for _, up in terms])
    return Adapter(a, b, base_hash(sam), version=1)


def _of_blocks(sam: Sam, adapter: Adapter) -> list[tuple[list[Tensor], list[Tensor]]]:
    """The terms of q and v of each block: a (r, d) twice, and b (d, r) twice."""
    a, b = term_by_term(sam, adapter.low_rank)
    return [(list(a[index : index + 2]), list(b[index : index + 2])) for index in range(0, len(a), 2)]


def _split(a: Tensor, b: Tensor, channels: int, path: Path) -> list[tuple[Tensor, Tensor]]:
    """The low-rank terms (r, d) and (d, r) of q and of v, less the ranks that one of them does not use."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != channels:
        raise AdapterError("shape", f"{path} has lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)}, but the model {channels} channels")
    if b.shape == (2 * channels, len(a) // 2) and len(a) % 2 == 0:  # loralib's MergedLinear of q and v
        return list(zip(a.chunk(2), b.chunk(2), strict=True))
    if b.shape != (3 * channels, len(a)):
        raise AdapterError("shape", f"{path} has lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)}, which do not belong together")
    q, k, v = b.chunk(3)
    if k.any():
        raise AdapterError("format", f"{path} changes k as well, but adapters here change q and v only; merge it into the checkpoint")
    terms = []
    for up in (q, v):
        used = up.any(0)
        terms.append((a[used], up[:, used]) if used.any() else (a[:1], up[:, :1]))
    return terms


def _read_peft(folder: Path) -> tuple[dict[str, Tensor], float]:
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        if config["peft_type"] != "LORA" or rank < 1 or config.get("use_dora") or config.get("rank_pattern") or config.get("alpha_pattern"):
            raise ValueError("not a plain LoRA of one rank")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise AdapterError("garbage", f"{folder / 'adapter_config.json'} is not that of a LoRA adapter of PEFT ({error})") from error
    return _tensors(folder / "adapter_model.safetensors"), alpha / (rank**0.5 if config.get("use_rslora") else rank)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        state: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (ValueError, RuntimeError, EOFError, KeyError, SafetensorError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AdapterError("garbage", f"{path} cannot be read as tensors ({reason}); save it again") from error
    except Exception as error:  # pickle's errors have no base of their own
        raise AdapterError("garbage", f"{path} cannot be read as tensors ({type(error).__name__}); save it again") from error
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise AdapterError("garbage", f"{path} is not a file of tensors by name")
    return state

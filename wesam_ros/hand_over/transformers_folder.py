"""The folder of transformers' SamModel: its configuration, and SAM's weights under its names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from torch import Tensor

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_RENAMED = (
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"neck\.0\.", "neck.conv1."),
    (r"neck\.1\.", "neck.layer_norm1."),
    (r"neck\.2\.", "neck.conv2."),
    (r"neck\.3\.", "neck.layer_norm2."),
    (r"\.norm(\d|_final_attn)\.", r".layer_norm\1."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"point_embeddings\.", "point_embed."),
)
_POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


def write_transformers(sam: Sam, out: Path) -> list[Path]:
    """Writes config.json, model.safetensors, and preprocessor_config.json of a model whose parts are all segment_anything's."""
    out.mkdir(parents=True)
    save_file(transformers_state(sam), out / "model.safetensors", {"format": "pt"})
    side = sam.image_encoder.img_size
    low = sam.prompt_encoder.mask_input_size[0]
    preprocessing = {
        "image_processor_type": "SamImageProcessor",
        "processor_class": "SamProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_pad": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "rescale_factor": 1 / 255,
        "resample": 2,
        "size": {"longest_edge": side},
        "pad_size": {"height": side, "width": side},
        "mask_size": {"longest_edge": low},
        "mask_pad_size": {"height": low, "width": low},
    }
    for name, value in (("config.json", configuration(sam)), ("preprocessor_config.json", preprocessing)):
        (out / name).write_text(json.dumps(value, indent=2) + "\n")
    return sorted(out.iterdir())


def transformers_state(sam: Sam) -> dict[str, Tensor]:
    """SAM's weights under the names of SamModel."""
    state = {}
    last = len(sam.mask_decoder.iou_prediction_head.layers) - 1
    for name, value in sam.state_dict().items():
        if name in ("pixel_mean", "pixel_std"):
            continue
        if name == _POSITIONS:
            for place in ("shared_image_embedding", "prompt_encoder.shared_embedding"):
                state[f"{place}.positional_embedding"] = value.detach().clone()
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        head = re.match(r"mask_decoder\.(iou_prediction_head|output_hypernetworks_mlps\.\d+)\.layers\.(\d+)\.(.*)", name)
        if head is not None:
            place = {0: "proj_in", last: "proj_out"}.get(int(head[2]), f"layers.{int(head[2]) - 1}")
            name = f"mask_decoder.{head[1]}.{place}.{head[3]}"
        state[name] = value.detach().contiguous().clone()
    return state


def configuration(sam: Sam) -> dict[str, object]:
    """The configuration of SamModel, read off the model."""
    encoder, decoder, blocks = sam.image_encoder, sam.mask_decoder, sam.image_encoder.blocks
    block, layer = blocks[0], decoder.transformer.layers[0]
    width, side = block.attn.qkv.in_features, encoder.img_size
    windows = [each.window_size for each in blocks]
    patch = side // sam.prompt_encoder.image_embedding_size[0]
    vision = {
        "hidden_size": width,
        "output_channels": sam.prompt_encoder.embed_dim,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": block.attn.num_heads,
        "image_size": side,
        "patch_size": patch,
        "layer_norm_eps": block.norm1.eps,
        "use_rel_pos": block.attn.use_rel_pos,
        "window_size": max(windows),
        "global_attn_indexes": [index for index, window in enumerate(windows) if window == 0],
        "num_pos_feats": sam.prompt_encoder.embed_dim // 2,
        "mlp_dim": block.mlp.lin1.out_features,
        "mlp_ratio": block.mlp.lin1.out_features / width,
    }
    prompt = {
        "hidden_size": sam.prompt_encoder.embed_dim,
        "image_size": side,
        "patch_size": patch,
        "mask_input_channels": sam.prompt_encoder.mask_downscaling[3].out_channels,
    }
    mask = {
        "hidden_size": decoder.transformer_dim,
        "mlp_dim": layer.mlp.lin1.out_features,
        "num_hidden_layers": decoder.transformer.depth,
        "num_attention_heads": decoder.transformer.num_heads,
        "attention_downsample_rate": layer.cross_attn_token_to_image.embedding_dim // layer.cross_attn_token_to_image.internal_dim,
        "iou_head_depth": decoder.iou_prediction_head.num_layers,
        "iou_head_hidden_dim": decoder.iou_prediction_head.layers[0].out_features,
        "layer_norm_eps": layer.norm1.eps,
    }
    return {
        "architectures": ["SamModel"],
        "model_type": "sam",
        "vision_config": vision,
        "prompt_encoder_config": prompt,
        "mask_decoder_config": mask,
    }

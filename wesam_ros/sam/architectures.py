"""The Segment Anything architectures that can be built, from `segment_anything`'s modules: SAM's, SAM 2.1's, MobileSAM, and `tiny`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from wesam_ros.sam.fine_features import FineMaskDecoder
from wesam_ros.sam.original import MaskDecoder, PromptEncoder
from wesam_ros.sam.sam2 import BASE_PLUS, LARGE, SMALL, TINY, Sam2Encoder, Sam2MaskDecoder, Sam2PromptEncoder

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

    from wesam_ros.sam.hiera import HieraSize


PATCH = 16
"""Pixels of the model's input per position of the embedding, along either axis."""


@dataclass(frozen=True)
class Architecture:
    """The builder of one model, and the official checkpoint file that fits it.

    Attributes:
        build: makes the model with random weights.
        official_file: the checkpoint's published file name, "" where the package ships the weights.
        bytes: the published file's size, 0 where the package ships the weights.
        project: the project whose README links the file.
    """

    build: Callable[[], Sam]
    official_file: str
    bytes: int
    project: str = "Segment Anything"


def _official(name: str) -> Callable[[], Sam]:
    def build() -> Sam:
        from segment_anything.build_sam import sam_model_registry

        return sam_model_registry[name](checkpoint=None)

    return build


def build_tiny() -> Sam:
    """SAM at 512 px with a convolutional trunk below four ViT blocks of 192 channels: 7.5 M parameters.

    The decoder is 128 wide and takes finer features (fine_features.py). Low-resolution masks are 128 x 128.
    """
    from wesam_ros.sam.hybrid_encoder import HybridEncoder

    encoder = HybridEncoder(img_size=512, width=192, depth=4, heads=3, window=8, global_blocks=(1, 3), out_chans=128)
    return _with_decoder(encoder, 512, 128, mlp_width=512, decoder=FineMaskDecoder)


def build_vit_t(side: int = 1024) -> Sam:
    """MobileSAM: TinyViT-5M as the encoder, and SAM's own decoder."""
    from wesam_ros.sam.tiny_vit import TinyVit

    return _with_decoder(TinyVit(side), side, 256, mlp_width=2048)


def build_sam2(size: HieraSize, side: int = 1024) -> Sam:
    """SAM 2.1 for single images, with the trunk of a size."""
    return _with_decoder(Sam2Encoder(size, side), side, 256, mlp_width=2048, decoder=Sam2MaskDecoder, prompts=Sam2PromptEncoder)


def _with_decoder(
    encoder: torch.nn.Module,
    side: int,
    width: int,
    mlp_width: int,
    *,
    decoder: type[MaskDecoder] = MaskDecoder,
    prompts: type[PromptEncoder] = PromptEncoder,
) -> Sam:
    """SAM with a prompt encoder and a mask decoder of `width` channels, heads of 32, and MLPs of `mlp_width` between attentions.

    A `decoder` that takes features of a finer grid, too, needs an encoder that has them.
    """
    from segment_anything.modeling import Sam, TwoWayTransformer

    sam = Sam(
        image_encoder=encoder,
        prompt_encoder=prompts(
            embed_dim=width,
            image_embedding_size=(side // PATCH, side // PATCH),
            input_image_size=(side, side),
            mask_in_chans=16,
        ),
        mask_decoder=decoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=mlp_width, num_heads=width // 32),
            transformer_dim=width,
            iou_head_depth=3,
            iou_head_hidden_dim=width,
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    return sam.eval()


ARCHITECTURES: dict[str, Architecture] = {
    "tiny": Architecture(build_tiny, "", 0),
    "vit_t": Architecture(build_vit_t, "mobile_sam.pt", 40_728_226, "MobileSAM"),
    "vit_b": Architecture(_official("vit_b"), "sam_vit_b_01ec64.pth", 375_042_383),
    "vit_l": Architecture(_official("vit_l"), "sam_vit_l_0b3195.pth", 1_249_524_607),
    "vit_h": Architecture(_official("vit_h"), "sam_vit_h_4b8939.pth", 2_564_550_879),
    "sam2.1_hiera_tiny": Architecture(partial(build_sam2, TINY), "sam2.1_hiera_tiny.pt", 156_008_466, "SAM 2"),
    "sam2.1_hiera_small": Architecture(partial(build_sam2, SMALL), "sam2.1_hiera_small.pt", 184_416_285, "SAM 2"),
    "sam2.1_hiera_base_plus": Architecture(partial(build_sam2, BASE_PLUS), "sam2.1_hiera_base_plus.pt", 323_606_802, "SAM 2"),
    "sam2.1_hiera_large": Architecture(partial(build_sam2, LARGE), "sam2.1_hiera_large.pt", 898_083_611, "SAM 2"),
}

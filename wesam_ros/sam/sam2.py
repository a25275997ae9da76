"""SAM 2.1 for single images (Ravi et al., 2024, arXiv:2408.00714): what of it differs from SAM, without its memory of a video.

- The encoder is Hiera with a feature pyramid (Lin et al., CVPR 2017). Its finer levels are projected to those that the decoder adds, and
  packed into the embedding (fine_features.py). What stands for an empty memory is added to the embedding.
- Each prompt with a point or a box has a token of no point; in SAM, one with a box has none.
- Among the decoder's tokens is one that the object's presence is read from; in a single image it is attended to, and not read.
- The predicted IoU is bounded to 0 to 1 by a sigmoid.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wesam_ros.sam.fine_features import FineMaskDecoder, pack_eighth, pack_quarter
from wesam_ros.sam.hiera import Hiera, HieraSize
from wesam_ros.sam.original import MLP, PromptEncoder

TINY = HieraSize(96, 1, (1, 2, 7, 2), (5, 7, 9), 7)
SMALL = HieraSize(96, 1, (1, 2, 11, 2), (7, 10, 13), 7)
BASE_PLUS = HieraSize(112, 2, (2, 3, 16, 3), (12, 16, 20), 14)
LARGE = HieraSize(144, 2, (2, 6, 36, 4), (23, 33, 43), 7, (8, 4, 16, 8))


class Sam2Encoder(nn.Module):
    """Embeds preprocessed images (n, 3, side, side) as (n, 4 out_chans, side / 16, side / 16), finer features packed in.

    Attributes:
        img_size: the input's side in pixels, a multiple of 32.
    """

    def __init__(self, size: HieraSize, img_size: int = 1024, out_chans: int = 256) -> None:
        super().__init__()
        self.img_size = img_size
        self.trunk = Hiera(size)
        laterals = [nn.Sequential(OrderedDict(conv=nn.Conv2d(width, out_chans, 1))) for width in reversed(size.widths)]
        self.neck = nn.ModuleDict({"convs": nn.ModuleList(laterals)})  # coarsest first
        self.quarter, self.eighth = nn.Conv2d(out_chans, out_chans // 8, 1), nn.Conv2d(out_chans, out_chans // 4, 1)
        self.no_mem_embed = nn.Parameter(torch.zeros(1, 1, out_chans))

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks that attend, which an adapter changes. They are not of one width."""
        return list(self.trunk.blocks)

    def forward(self, x: Tensor) -> Tensor:
        quarter, eighth, sixteenth, coarse = self.trunk(x)
        to_coarse, to_sixteenth, to_eighth, to_quarter = (each.get_submodule("conv") for each in self.neck["convs"].children())
        above = functional.interpolate(_projected(coarse, to_coarse), scale_factor=2.0, mode="nearest")
        embedding = _projected(sixteenth, to_sixteenth) + above + self.no_mem_embed.reshape(1, -1, 1, 1)
        finer = pack_eighth(_projected(eighth, to_eighth, self.eighth)), pack_quarter(_projected(quarter, to_quarter, self.quarter))
        return torch.cat([embedding, *finer], 1)


class Sam2PromptEncoder(PromptEncoder):  # type: ignore[misc]
    """SAM's prompt encoder with a token of no point for boxes, too."""

    def forward(self, points: tuple[Tensor, Tensor] | None, boxes: Tensor | None, masks: Tensor | None) -> tuple[Tensor, Tensor]:
        """Sparse (n, tokens, c) and dense (n, c, h, w) embeddings; see PromptEncoder."""
        sparse, dense = super().forward(points, boxes, masks)
        if boxes is not None:
            sparse = torch.cat([sparse, self.not_a_point_embed.weight.expand(len(sparse), 1, -1)], 1)
        return sparse, dense


class Sam2MaskDecoder(FineMaskDecoder):
    """SAM's mask decoder with finer features, a token of the object's presence, and bounded IoU."""

    def __init__(self, *, transformer_dim: int, **options: Any) -> None:
        super().__init__(transformer_dim=transformer_dim, **options)
        self.iou_prediction_head.sigmoid_output = True
        self.obj_score_token = nn.Embedding(1, transformer_dim)
        # The published file has the head that reads it, and so the model has it; no mask depends on it.
        self.pred_obj_score_head = MLP(transformer_dim, transformer_dim, 1, 3)

    def output_tokens(self) -> Tensor:
        """(6, c): tokens of the IoU, the masks, and the object's presence, which is last here: attention knows no order."""
        return torch.cat([super().output_tokens(), self.obj_score_token.weight])


def _projected(x: Tensor, first: Any, second: nn.Conv2d | None = None) -> Tensor:
    """(n, out, rows, columns) of (n, rows, columns, width) by a convolution of one pixel, or by two, which are one product."""
    weight, bias = first.weight.flatten(1), first.bias
    if second is not None:
        weight, bias = second.weight.flatten(1) @ weight, functional.linear(bias, second.weight.flatten(1), second.bias)
    return functional.linear(x, weight, bias).permute(0, 3, 1, 2)

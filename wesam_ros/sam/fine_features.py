"""Features finer than the embedding for the mask decoder, as SAM 2 has them: at an eighth and a quarter of the image's side.

SAM's decoder upscales its 16 px tokens to 4 px with nothing of the image, so that things of a few tokens lose their outline. SAM 2 adds the
encoder's features of 8 and 4 px on the way (Ravi et al., 2024, section 4). They are packed into further channels of the embedding, on the
grid of the tokens, so that an image stays one tensor for every engine:

    embedding (n, 4 c, h, w)  =  c channels as in SAM, c of the eighth (2 x 2 pixels of c / 4), 2 c of the quarter (4 x 4 pixels of c / 8)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wesam_ros.sam.original import MaskDecoder

EIGHTH, QUARTER = 1, 2
"""Channels of the packed features, as multiples of the embedding's."""
WHOLE = 1 + EIGHTH + QUARTER


class FineFeatures(nn.Module):
    """Convolutions from a trunk's features to those that the decoder adds, zero at first.

    Args:
        quarter: channels of the trunk at a quarter of the image's side.
        eighth: at an eighth.
        width: c, the embedding's channels.
    """

    def __init__(self, quarter: int, eighth: int, width: int) -> None:
        super().__init__()
        self.quarter = nn.Conv2d(quarter, width // 8, 3, padding=1)
        self.eighth = nn.Conv2d(eighth, width // 4, 3, padding=1)
        for each in (self.quarter, self.eighth):
            nn.init.zeros_(each.weight)
            if each.bias is not None:
                nn.init.zeros_(each.bias)

    def forward(self, quarter: Tensor, eighth: Tensor) -> Tensor:
        """Packed features (n, 3 c, h, w) of those at a quarter (n, ., 4 h, 4 w) and an eighth (n, ., 2 h, 2 w)."""
        return torch.cat([pack_eighth(self.eighth(eighth)), pack_quarter(self.quarter(quarter))], 1)


def pack_eighth(x: Tensor) -> Tensor:
    """(n, k, 2 h, 2 w) as (n, 4 k, h, w): row, column, channel, the order in which `decoder.Decoder` upscales."""
    n, k, rows, columns = x.shape
    return x.reshape(n, k, rows // 2, 2, columns // 2, 2).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


def pack_quarter(x: Tensor) -> Tensor:
    """(n, k, 4 h, 4 w) as (n, 16 k, h, w): row and column of the eighth, row and column within, channel."""
    n, k, rows, columns = x.shape
    return x.reshape(n, k, rows // 4, 2, 2, columns // 4, 2, 2).permute(0, 3, 6, 4, 7, 1, 2, 5).flatten(1, 5)


def unpack(embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SAM's embedding (n, c, h, w), features of the eighth (n, c / 4, 2 h, 2 w) and of the quarter (n, c / 8, 4 h, 4 w)."""
    c = embedding.shape[1] // WHOLE
    coarse, eighth, quarter = embedding.split([c, EIGHTH * c, QUARTER * c], 1)
    eighth = eighth.unflatten(1, (2, 2, c // 4)).permute(0, 3, 4, 1, 5, 2).flatten(4).flatten(2, 3)
    quarter = quarter.unflatten(1, (2, 2, 2, 2, c // 8)).permute(0, 5, 6, 1, 3, 7, 2, 4).flatten(5).flatten(2, 4)
    return coarse, eighth, quarter


def upscale(upscaling: nn.Sequential, image: Tensor, eighth: Tensor, quarter: Tensor) -> Tensor:
    """SAM's upscaling of decoded tokens (n, c, h, w) to (n, c / 8, 4 h, 4 w) with the finer features added on the way."""
    first, norm, activation, second, last = upscaling
    x: Tensor = activation(norm(first(image) + eighth))
    upscaled: Tensor = last(second(x) + quarter)
    return upscaled


class FineMaskDecoder(MaskDecoder):  # type: ignore[misc]
    """SAM's mask decoder with finer features, which it finds in the embedding's further channels."""

    def output_tokens(self) -> Tensor:
        """(5, c): the tokens that IoU and masks are read from; in a subclass others may follow."""
        return torch.cat([self.iou_token.weight, self.mask_tokens.weight])

    def predict_masks(
        self, image_embeddings: Tensor, image_pe: Tensor, sparse_prompt_embeddings: Tensor, dense_prompt_embeddings: Tensor
    ) -> tuple[Tensor, Tensor]:
        """All masks' logits (n, 4, 4 h, 4 w) and predicted IoU (n, 4) of n objects in one image; see MaskDecoder."""
        coarse, eighth, quarter = unpack(image_embeddings)
        outputs = self.output_tokens()
        count = sparse_prompt_embeddings.shape[0]  # len, and unflatten below, would be constants of a traced graph
        tokens = torch.cat([outputs.expand(count, -1, -1), sparse_prompt_embeddings], 1)
        decoded, image = self.transformer(coarse + dense_prompt_embeddings, image_pe.expand(count, -1, -1, -1), tokens)
        x = upscale(self.output_upscaling, image.transpose(1, 2).reshape(count, -1, *coarse.shape[-2:]), eighth, quarter)
        weights = torch.stack([mlp(decoded[:, 1 + index]) for index, mlp in enumerate(self.output_hypernetworks_mlps)], 1)
        return (weights @ x.flatten(2)).reshape(count, -1, *x.shape[-2:]), self.iou_prediction_head(decoded[:, 0])

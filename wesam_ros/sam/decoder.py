"""SAM's prompt encoder and mask decoder as one function of tensors, for all objects of a frame at once: to train with, and for export.

It computes what `segment_anything`'s modules compute, with their weights, in an order that costs less where there are many objects:

- The image's keys and values are never projected. A query is carried over to the image's channels instead, which is the same product
  bracketed the other way: q · (W k) = (Wᵀ q) · k. There are tens of queries, but thousands of image positions.
- What does not depend on the object is computed once: without mask prompts the first layer's image tokens are the same for all.
- Of the four mask tokens' outputs only the single-mask one is computed, and of the last attention only the two rows that are read.
- Transposed convolutions of kernel 2 and stride 2 are products, channels last; their pixels are put in place once, at the end.

Tokens carry their kind as a label, so that objects with different prompts share a call: ABSENT ones are seen by no attention.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from wesam_ros.sam.fine_features import EIGHTH, WHOLE, FineMaskDecoder
from wesam_ros.sam.predictor import COARSE_MASK_LOGIT
from wesam_ros.sam.preprocessing import mask_to_low_res, to_model_coordinates
from wesam_ros.sam.prompts import Prompts
from wesam_ros.sam.sam2 import Sam2PromptEncoder

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

ABSENT, NO_POINT, OFF, ON, FIRST_CORNER, SECOND_CORNER = range(-2, 4)
"""Labels of prompt tokens. SAM has the last five (-1 to 3): an object with points and no box gets one NO_POINT more."""
HIDDEN = -3e4
"""Added to the attention score of an absent token; the softmax makes exactly 0 of it, and half precision can hold it."""
TOGETHER = {"cpu": 10, "cuda": 32}
"""The most objects that `decode_together` takes at once. On a CPU more are not faster, and a call's memory grows with them."""


def prompt_tokens(prompts: Prompts, side: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The points and boxes of n objects as tokens.

    Args:
        prompts: n >= 1 objects of any mixture of forms.
        side: the model's input size in pixels.

    Returns:
        points (n, t, 2) float32, x y in pixels of the model's input, and labels (n, t) int64; t >= 1 is the largest number of tokens
        that an object has, and the others are filled up with ABSENT.
    """
    counts = [len(each.points) + (2 if each.box is not None else bool(len(each.points))) for each in prompts.objects]
    points = np.zeros((len(prompts), max(1, *counts), 2), np.float32)
    labels = np.full(points.shape[:2], ABSENT, np.int64)
    for row, each in enumerate(prompts.objects):
        end = len(each.points)
        points[row, :end], labels[row, :end] = each.points, each.point_labels
        if each.box is not None:
            points[row, end : end + 2], labels[row, end : end + 2] = each.box.reshape(2, 2), (FIRST_CORNER, SECOND_CORNER)
        elif end:
            labels[row, end] = NO_POINT
    return to_model_coordinates(points, prompts.size, side), labels


def batches(prompts: Prompts, side: int, limit: int) -> Iterator[tuple[npt.NDArray[np.int64], dict[str, Tensor]]]:
    """Calls of the decoders for n objects: up to `limit` at a time, those without mask prompts first, then those with.

    Yields:
        The objects' indices, and the inputs of their call by name, less the embedding: points, labels, and masks for those that have them.
    """
    masked = np.array([each.mask is not None for each in prompts.objects], bool)
    for rows in (np.flatnonzero(~masked), np.flatnonzero(masked)):
        for chosen in (rows[start : start + limit] for start in range(0, len(rows), limit)):
            objects = prompts.select(chosen)
            points, labels = prompt_tokens(objects, side)
            inputs = {"points": torch.from_numpy(points), "labels": torch.from_numpy(labels)}
            coarse = [each.mask for each in objects.objects if each.mask is not None]
            if coarse:
                inputs["masks"] = torch.stack([mask_to_low_res(each, side, side // 4, COARSE_MASK_LOGIT) for each in coarse])
            yield chosen, inputs


class Decoder(nn.Module):
    """The decoder of a model from `load_sam`, frozen; where weights keep their shape, it shares the modules of the model.

    Args:
        sam: the model; it is left as it is.
    """

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        encoder, decoder = sam.prompt_encoder, sam.mask_decoder
        self.side: int = sam.image_encoder.img_size
        self.grid: tuple[int, int] = encoder.image_embedding_size
        self.frequencies = _copy(encoder.pe_layer.positional_encoding_gaussian_matrix)  # (2, c / 2)
        kinds = [encoder.not_a_point_embed.weight, *(each.weight for each in encoder.point_embeddings)]
        self.kinds = _copy(torch.cat([torch.zeros_like(kinds[0]), *kinds]))  # (6, c), from ABSENT on
        self.position = _copy(encoder.get_dense_pe().flatten(2).transpose(1, 2))  # (1, h w, c)
        self.no_mask = _copy(encoder.no_mask_embed.weight)  # (1, c)
        fine = isinstance(decoder, FineMaskDecoder)
        tokens = decoder.output_tokens() if fine else torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        self.outputs = _copy(tokens)  # (5, c), or more
        self.mask_downscaling = encoder.mask_downscaling
        self.layers = nn.ModuleList(_Layer(each) for each in decoder.transformer.layers)
        self.last_attention = _TokensToImage(decoder.transformer.final_attn_token_to_image)
        self.last_norm = decoder.transformer.norm_final_attn
        first, self.norm, _, second, _ = decoder.output_upscaling
        self.first, self.first_bias = _as_product(first)
        self.second, self.second_bias = _as_product(second)
        self.hypernetwork = decoder.output_hypernetworks_mlps[0]
        self.iou_head = decoder.iou_prediction_head
        self.width: int = encoder.embed_dim
        self.channels = self.width * (WHOLE if fine else 1)
        self.fills_boxes = isinstance(encoder, Sam2PromptEncoder)

    def forward(self, embedding: Tensor, points: Tensor, labels: Tensor, masks: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (n, 4 h, 4 w) and predicted IoU (n,).

        Args:
            embedding: (1, c, h, w) of the image, or (1, 4 c, h, w) where it has finer features.
            points: (n, t, 2) float32 in pixels of the model's input, n and t >= 1.
            labels: (n, t) int64, from ABSENT to SECOND_CORNER.
            masks: (n, 1, 4 h, 4 w) float32 logits, or None where no object has a mask prompt.
        """
        if self.fills_boxes:  # a box has a token of no point, too
            boxed = labels.amax(1, keepdim=True) == SECOND_CORNER
            labels = torch.cat([labels, boxed * (NO_POINT - ABSENT) + ABSENT], 1)
            points = functional.pad(points, (0, 0, 0, 1))
        prompts = self._embed(points, labels)
        count = prompts.shape[0]
        token_pe = torch.cat([self.outputs.expand(count, -1, -1), prompts], 1)
        hidden = functional.pad((labels == ABSENT) * HIDDEN, (self.outputs.shape[0], 0))  # (n, T)
        whole = embedding.flatten(2).transpose(1, 2)
        image, finer = whole[..., : self.width], whole[..., self.width :]
        image = image + (self.no_mask if masks is None else self.mask_downscaling(masks).flatten(2).transpose(1, 2))
        tokens = token_pe
        for layer in self.layers:
            tokens, image = layer(tokens, image, token_pe, self.position, hidden)
        read = tokens[:, :2]  # the IoU's token and the single mask's
        read = self.last_norm(read + self.last_attention(read + token_pe[:, :2], image + self.position, image))
        return self._masks(image, finer, self.hypernetwork(read[:, 1])), self.iou_head(read[:, 0])[:, 0]

    def _embed(self, points: Tensor, labels: Tensor) -> Tensor:
        """Tokens (n, t, c); the position counts for labels of points and corners only."""
        places = (points + 0.5) * (4 * math.pi / self.side) - 2 * math.pi
        # Not as a product of matrices, which autocast would round: a position is many turns, of which only the fraction counts.
        turns = places[..., :1] * self.frequencies[0] + places[..., 1:] * self.frequencies[1]
        position = torch.cat([turns.sin(), turns.cos()], -1)
        return position * (labels >= OFF).unsqueeze(-1) + functional.embedding(labels - ABSENT, self.kinds)

    def _masks(self, image: Tensor, finer: Tensor, weights: Tensor) -> Tensor:
        """Logits (n, 4 h, 4 w) from image tokens (n, h w, c) and each object's weights (n, c / 8) of the upscaled channels.

        The image's finer features (1, h w, 3 c) are packed in the order of the upscaled pixels; there may be none, (1, h w, 0).
        """
        h, w = self.grid
        count = weights.shape[0]
        x = image @ self.first + self.first_bias
        if self.channels > self.width:
            x = x + finer[..., : EIGHTH * self.width]
        x = x.reshape(count, h * w * 4, -1)
        x = functional.layer_norm(x, x.shape[-1:], self.norm.weight, self.norm.bias, self.norm.eps)
        x = functional.gelu(x) @ self.second + self.second_bias
        if self.channels > self.width:
            x = x + finer[..., EIGHTH * self.width :].reshape(1, h * w * 4, -1)
        x = functional.gelu(x).reshape(count, h * w * 16, -1)
        logits = (x @ weights.unsqueeze(-1)).reshape(count, h, w, 2, 2, 2, 2)  # row, column, then twice row and column within
        return logits.permute(0, 1, 3, 5, 2, 4, 6).reshape(count, 4 * h, 4 * w)


_DECODERS: WeakKeyDictionary[Sam, Decoder] = WeakKeyDictionary()


def decode_together(sam: Sam, embedding: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
    """`predictor.decode` with a Decoder of the model: the same values, differentiable too, several times as fast for many objects.

    Arguments and results are those of `predictor.decode`. The model's weights and device must not change between two calls.
    """
    if sam not in _DECODERS:
        with torch.inference_mode(False):  # the first call may be in it, and a later one have gradients
            _DECODERS[sam] = Decoder(sam)
    low_res_side = sam.prompt_encoder.mask_input_size[0]
    logits = torch.zeros(len(prompts), low_res_side, low_res_side, device=embedding.device)
    iou = torch.zeros(len(prompts), device=embedding.device)
    for chosen, inputs in batches(prompts, sam.image_encoder.img_size, TOGETHER.get(embedding.device.type, TOGETHER["cuda"])):
        masks, scores = _DECODERS[sam](embedding, **{name: value.to(embedding.device) for name, value in inputs.items()})
        where = torch.from_numpy(chosen).to(embedding.device)
        logits, iou = logits.index_copy(0, where, masks.float()), iou.index_copy(0, where, scores.float())
    return logits, iou


class _Layer(nn.Module):
    """segment_anything's TwoWayAttentionBlock."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.first: bool = block.skip_first_layer_pe
        self.among_tokens = _AmongTokens(block.self_attn)
        self.to_image = _TokensToImage(block.cross_attn_token_to_image)
        self.to_tokens = _ImageToTokens(block.cross_attn_image_to_token)
        self.mlp = block.mlp
        self.norm1, self.norm2, self.norm3, self.norm4 = block.norm1, block.norm2, block.norm3, block.norm4

    def forward(self, tokens: Tensor, image: Tensor, token_pe: Tensor, image_pe: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        found = self.among_tokens(tokens if self.first else tokens + token_pe, tokens, hidden)
        tokens = self.norm1(found if self.first else tokens + found)
        placed = image + image_pe
        tokens = self.norm2(tokens + self.to_image(tokens + token_pe, placed, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.to_tokens(placed, tokens + token_pe, tokens, hidden))
        return tokens, image


class _Heads(nn.Module):
    """The parts of a segment_anything Attention that the subclasses share. Each head has d channels of the image's c."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.attention = attention
        self.heads: int = attention.num_heads
        self.channels: int = attention.internal_dim // self.heads
        self.scale = self.channels**-0.5

    def split(self, x: Tensor) -> Tensor:
        """(n, T, heads d) as (n, heads, T, d)."""
        heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return heads

    def merge(self, x: Tensor) -> Tensor:
        """(n, heads, T, d) of all heads as (n, T, c), projected."""
        found: Tensor = self.attention.out_proj(x.transpose(1, 2).flatten(2))
        return found


class _AmongTokens(_Heads):
    def forward(self, x: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
        """Self-attention of tokens (n, T, c); `hidden` (n, T) is added to the scores of keys."""
        q, k, v = self.attention.q_proj(x), self.attention.k_proj(x), self.attention.v_proj(values)
        scores = self.split(q * self.scale) @ self.split(k).transpose(2, 3) + hidden[:, None, None]
        found = scores.softmax(-1) @ self.split(v)
        return self.merge(found)


class _TokensToImage(_Heads):
    def __init__(self, attention: Any) -> None:
        super().__init__(attention)
        self.k = _copy(attention.k_proj.weight.reshape(self.heads, self.channels, -1))  # (heads, d, c)
        self.v = _copy(attention.v_proj.weight.reshape(self.heads, self.channels, -1).transpose(1, 2).contiguous())  # (heads, c, d)
        self.v_bias = _copy(attention.v_proj.bias.reshape(self.heads, 1, self.channels))

    def forward(self, tokens: Tensor, placed: Tensor, image: Tensor) -> Tensor:
        """Tokens (n, T, c) attend to the image: keys `placed` and values `image`, (n or 1, h w, c), as they are, not projected."""
        count = tokens.shape[1]
        # The bias of the keys adds the same to all scores of a query, which the softmax takes no notice of.
        queries = self.split(self.attention.q_proj(tokens) * self.scale) @ self.k  # (n, heads, T, c)
        attended = (queries.flatten(1, 2) @ placed.transpose(1, 2)).softmax(-1) @ image  # (n, heads T, c)
        found = attended.unflatten(1, (self.heads, count)) @ self.v + self.v_bias  # the weights of a query sum to 1
        return self.merge(found)


class _ImageToTokens(_Heads):
    def __init__(self, attention: Any) -> None:
        super().__init__(attention)
        self.q = _copy(attention.q_proj.weight.reshape(self.heads, self.channels, -1))  # (heads, d, c)
        self.q_bias = _copy(attention.q_proj.bias.reshape(self.heads, self.channels, 1))
        self.o = _copy(attention.out_proj.weight.reshape(-1, self.heads, self.channels).permute(1, 2, 0).contiguous())  # (heads, d, c)

    def forward(self, placed: Tensor, keys: Tensor, values: Tensor, hidden: Tensor) -> Tensor:
        """The image (n or 1, h w, c) attends to tokens: `keys` and `values` (n, T, c); `hidden` (n, T) is added to their scores."""
        k = self.split(self.attention.k_proj(keys) * self.scale)  # (n, heads, T, d)
        own = (k @ self.q_bias).squeeze(-1) + hidden[:, None]  # (n, heads, T): what a score has apart from the image
        scores = (k @ self.q).flatten(1, 2) @ placed.transpose(1, 2) + own.flatten(1).unsqueeze(2)  # (n, heads T, h w)
        # Over the tokens of each head. There are few of them, and torch's softmax over an axis of few is slow where that is the last one.
        share = scores.unflatten(1, (self.heads, keys.shape[1])).softmax(2).flatten(1, 2)
        carried = self.split(self.attention.v_proj(values)) @ self.o  # (n, heads, T, c)
        found: Tensor = share.transpose(1, 2) @ carried.flatten(1, 2) + self.attention.out_proj.bias
        return found


def _copy(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=False)


def _as_product(convolution: nn.ConvTranspose2d) -> tuple[nn.Parameter, nn.Parameter]:
    """Weights (c_in, 4 c_out) and bias (4 c_out) of a transposed convolution of kernel and stride 2; columns are row, column, channel."""
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    assert convolution.bias is not None
    return _copy(weight), _copy(convolution.bias.repeat(4))

"""A convolutional trunk with attention on top: EfficientNet-Lite2 (Tan and Le, ICML 2019; Google's Lite variant) below SAM's ViT blocks.

The trunk is a stem and seven stages of inverted bottlenecks, with batch normalisation folded into the convolutions, so that only Conv2d
and ReLU6 are left. Its features at a quarter, an eighth, a sixteenth and a thirty-second of the image's side are added up on the grid of
a sixteenth, where `segment_anything`'s blocks attend in windows and globally, and SAM's neck follows.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from wesam_ros.sam.fine_features import FineFeatures

STEM = 32
"""Channels after the stem."""
STAGES = (
    (1, 3, 1, 1, 16),
    (3, 3, 2, 6, 24),
    (3, 5, 2, 6, 48),
    (4, 3, 2, 6, 88),
    (4, 5, 1, 6, 120),
    (5, 5, 2, 6, 208),
    (1, 3, 1, 6, 352),
)
"""Blocks, kernel, stride, expansion and output channels of each stage of EfficientNet-Lite2."""
TAPS = {1: 4, 2: 8, 4: 16, 6: 32}
"""Stages whose output reaches the attention, and the stride that it has there."""
STRIDE = 16
"""Pixels of the input per token."""


class HybridEncoder(nn.Module):
    """Embeds preprocessed images (n, 3, side, side) as (n, 4 out_chans, side / 16, side / 16), with finer features (fine_features.py).

    Args:
        img_size: the input's side in pixels, a multiple of 32 times the window.
        width: channels of the attention's tokens.
        depth: blocks that attend.
        heads: of each block.
        window: side of an attention window in tokens.
        global_blocks: which blocks attend to the whole image.
        out_chans: channels of the embedding without the finer features.
    """

    def __init__(
        self,
        img_size: int = 512,
        width: int = 192,
        depth: int = 4,
        heads: int = 3,
        window: int = 8,
        global_blocks: tuple[int, ...] = (1, 3),
        out_chans: int = 128,
    ) -> None:
        from segment_anything.modeling.common import LayerNorm2d
        from segment_anything.modeling.image_encoder import Block

        super().__init__()
        self.img_size = img_size
        grid = img_size // STRIDE
        self.trunk = Trunk()
        self.lateral = nn.ModuleDict({str(stride): _lateral(STAGES[stage][4], width, stride) for stage, stride in TAPS.items()})
        self.pos_embed = nn.Parameter(torch.zeros(1, grid, grid, width))
        self.blocks = nn.ModuleList(
            Block(
                dim=width,
                num_heads=heads,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=0 if index in global_blocks else window,
                input_size=(grid, grid),
            )
            for index in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(width, out_chans, 1, bias=False),
            LayerNorm2d(out_chans),
            nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False),
            LayerNorm2d(out_chans),
        )
        self.fine = FineFeatures(STAGES[1][4], STAGES[2][4], out_chans)

    def forward(self, x: Tensor) -> Tensor:
        features = self.trunk(x)
        x = self.tokens(features) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        embedding: Tensor = self.neck(x.permute(0, 3, 1, 2))
        return torch.cat([embedding, self.fine(*features[:2])], 1)

    def adaptable(self) -> list[tuple[nn.Module, str]]:
        """The convolutions that an adapter changes, as modules and names of their attributes.

        The last one of each bottleneck, but for the first stage at half of the image's side, which costs most; and all after the trunk.
        """
        last = [(block, "project") for stage in self.trunk.stages[1:] for block in stage.children()]
        lateral = [(self.lateral, name) for name in self.lateral]
        return [*last, *lateral, (self.neck, "0"), (self.neck, "2"), (self.fine, "quarter"), (self.fine, "eighth")]

    def tokens(self, features: list[Tensor]) -> Tensor:
        """The trunk's features, finest first, as tokens (n, rows, columns, width) without positions."""
        fine, eighth, sixteenth, coarse = (each(x) for each, x in zip(self.lateral.values(), features, strict=True))
        coarse = functional.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        total: Tensor = fine + eighth + sixteenth + coarse
        return total.permute(0, 2, 3, 1)


class Trunk(nn.Module):
    """EfficientNet-Lite2 without its classifier, as convolutions and ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, STEM, 3, 2)
        stages, width = [], STEM
        for blocks, kernel, stride, expansion, out in STAGES:
            stages.append(
                nn.Sequential(
                    *(
                        InvertedBottleneck(out if index else width, out, kernel, 1 if index else stride, expansion)
                        for index in range(blocks)
                    )
                )
            )
            width = out
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features of the stages in TAPS of images (n, 3, h, w), finest first."""
        x = x.contiguous(memory_format=torch.channels_last)  # on a CPU a third faster
        x = functional.relu6(self.stem(x), inplace=True)
        features = []
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in TAPS:
                features.append(x)
        return features


class InvertedBottleneck(nn.Module):
    """MBConv without squeeze and excitation: 1 x 1 wider, k x k per channel, 1 x 1 narrower; added to its input where shapes agree."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = width * expansion
        self.expand = nn.Conv2d(width, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, kernel, stride, hidden)
        self.project = nn.Conv2d(hidden, out, 1)
        self.residual = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        hidden = x if self.expand is None else functional.relu6(self.expand(x), inplace=True)
        hidden = functional.relu6(self.depthwise(hidden), inplace=True)
        out: Tensor = self.project(hidden)
        return x + out if self.residual else out


class SameConv2d(nn.Conv2d):
    """A convolution with the padding of TensorFlow's "SAME" on even sides.

    With stride 2 that is one pixel more after than before. The kernel has a row and a column of zeros before it instead, so that padding
    is even, and no padded copy is made.
    """

    def __init__(self, width: int, out: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(width, out, kernel + stride - 1, stride, kernel // 2, groups=groups)


def _lateral(width: int, out: int, stride: int) -> nn.Conv2d:
    """Carries features of a stride over to the tokens' channels, and finer ones over to their grid without losing a pixel."""
    patch = max(1, STRIDE // stride)
    return nn.Conv2d(width, out, patch, patch)

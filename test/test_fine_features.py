"""Finer features: packed as the decoders read them, and the same masks by both decoders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from wesam_ros.engines.export import random_prompts
from wesam_ros.sam.architectures import build_tiny
from wesam_ros.sam.decoder import decode_together
from wesam_ros.sam.fine_features import pack_eighth, pack_quarter, unpack
from wesam_ros.sam.predictor import decode, embed_images


@pytest.fixture(scope="module")
def sam() -> Any:
    """The small model with random finer features, which are zero in a new one."""
    torch.manual_seed(0)
    sam = build_tiny()
    for each in (sam.image_encoder.fine.quarter, sam.image_encoder.fine.eighth):
        torch.nn.init.normal_(each.weight, std=0.05)
    return sam


def test_unpacking_gives_what_was_packed() -> None:
    coarse, eighth, quarter = torch.randn(2, 16, 3, 5), torch.randn(2, 4, 6, 10), torch.randn(2, 2, 12, 20)
    packed = torch.cat([coarse, pack_eighth(eighth), pack_quarter(quarter)], 1)
    for found, expected in zip(unpack(packed), (coarse, eighth, quarter), strict=True):
        assert torch.equal(found, expected)


def test_a_pixel_stays_in_its_token() -> None:
    """A pattern in one token of 4 x 4 pixels of the quarter is in the channels of that token."""
    quarter = torch.zeros(1, 2, 12, 20)
    quarter[..., 4:8, 8:12] = 1
    assert torch.equal(pack_quarter(quarter).amax(1), functional.max_pool2d(quarter, 4)[:, 0])


def test_both_decoders_give_the_same_masks(sam: Any) -> None:
    rng = np.random.default_rng(0)
    with torch.no_grad():
        embedding = embed_images(sam, torch.randn(1, 3, 512, 512, generator=torch.Generator().manual_seed(0)))
        assert embedding.shape == (1, 512, 32, 32)
        prompts = random_prompts((48, 64), 9, rng)
        for found, expected in zip(decode_together(sam, embedding, prompts), decode(sam, embedding, prompts), strict=True):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
        without = decode(sam, torch.cat([embedding[:, :128], torch.zeros(1, 384, 32, 32)], 1), prompts)[0]
        assert (without - decode(sam, embedding, prompts)[0]).abs().max() > 1e-2  # the features are used

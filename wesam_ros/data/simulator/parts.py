"""Parts of simulated things, with a texture and a gloss, and features that many of them share. Lengths in metres."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wesam_ros.data.simulator import textures
from wesam_ros.data.simulator.meshes import Mesh
from wesam_ros.data.simulator.textures import Colour, Image, Rng


@dataclass(frozen=True)
class Part:
    """A mesh with its (h, w, 3) texture; gloss in [0, 1] from matt to mirror-like; solid: its convex hull takes part in collisions."""

    mesh: Mesh
    texture: Image
    gloss: float
    solid: bool = True


@dataclass(frozen=True)
class Item:
    """One object: visible parts, and for hollow ones boxes (centre xyz, half edges xyz, yaw) that stand for it in collisions."""

    kind: str
    parts: tuple[Part, ...]
    colliders: tuple[tuple[float, ...], ...] = field(default=())

    @property
    def gloss(self) -> float:
        """The gloss of the shiniest part."""
        return max(p.gloss for p in self.parts)

    @property
    def radius(self) -> float:
        """Of the smallest sphere about the origin that holds the object."""
        return max(float(np.linalg.norm(p.mesh.vert, axis=1).max()) for p in self.parts)


SKINS = {
    "plain": 3.0,
    "speckle": 1.0,
    "patches": 1.2,
    "stripes": 1.5,
    "stamped": 1.5,
    "plaid": 0.8,
    "marble": 0.8,
    "wood": 0.8,
    "weave": 0.8,
    "scene": 0.6,
}


def any_skin(rng: Rng, size: int = 256) -> Image:
    """A pattern of SKINS, by their weights, (size, size, 3)."""
    return textures.surface(rng, SKINS, size)


def one_tone(rng: Rng, tone: Colour, grain: float = 0.06) -> Image:
    """A small texture of one colour with some grain."""
    return textures.shaded(np.full((64, 64, 3), textures.rgb255(tone), np.uint8), textures.noise(rng, 64, 8, 3), grain)


def any_gloss(rng: Rng, low: float = 0.02, high: float = 0.5) -> float:
    """A gloss between two bounds."""
    return float(rng.uniform(low, high))

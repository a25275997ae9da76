"""Tools and cutlery: each maker draws one from a Generator. Lengths in metres, z up, base near z = 0."""

from __future__ import annotations

import numpy as np

from wesam_ros.data.simulator import meshes, textures
from wesam_ros.data.simulator.parts import Item, Part, any_gloss, one_tone
from wesam_ros.data.simulator.textures import Colour, Rng


def _rod(rng: Rng, start: float, end: float, r0: float, r1: float, tone: Colour, gloss: float, ribs: int = 0, flat: float = 1.0) -> Part:
    s = np.linspace(0, 1, 16)
    path = np.stack([start + (end - start) * s, np.zeros(16), np.zeros(16)], 1)
    radius = (r0 + (r1 - r0) * s) * (1 + 0.12 * np.sin(s * ribs * 2 * np.pi))
    radius[[0, -1]] = 0
    path[1], path[-2] = path[0] + (path[1] - path[0]) * 0.02, path[-1] - (path[1] - path[0]) * 0.02
    return Part(meshes.sweep(path, radius, 12, flat), one_tone(rng, tone, 0.1), gloss)


STEEL: Colour = (0.62, 0.63, 0.65)


def hammer(rng: Rng) -> Item:
    """A hammer."""
    length, r = float(rng.uniform(0.16, 0.26)), float(rng.uniform(0.008, 0.013))
    handle = _rod(rng, 0, length, r, r * 0.8, textures.colour(rng), 0.2, int(rng.integers(0, 4)), 1.3)
    head = float(rng.uniform(0.03, 0.05))
    tone = STEEL if rng.random() < 0.6 else textures.colour(rng)
    block = _rod(rng, -head, head, head * rng.uniform(0.25, 0.4), head * rng.uniform(0.15, 0.4), tone, 0.6)
    across = Part(block.mesh.moved((length, 0, 0), meshes.rotation(2, np.pi / 2)), block.texture, block.gloss)
    return Item("hammer", (handle, across))


def screwdriver(rng: Rng) -> Item:
    """A screwdriver."""
    grip, blade = float(rng.uniform(0.06, 0.1)), float(rng.uniform(0.05, 0.13))
    r = float(rng.uniform(0.01, 0.017))
    return Item(
        "screwdriver",
        (
            _rod(rng, 0, grip, r, r * 0.75, textures.colour(rng), any_gloss(rng), int(rng.integers(2, 6))),
            _rod(rng, grip - 0.004, grip + blade, 0.0035, 0.003, STEEL, 0.7),
        ),
    )


def scissors(rng: Rng) -> Item:
    """A pair of scissors, more or less open."""
    length, spread = float(rng.uniform(0.07, 0.11)), float(rng.uniform(0.08, 0.45))
    tone, gloss = textures.colour(rng), any_gloss(rng)
    parts: list[Part] = []
    for side in (-1, 1):
        turn = meshes.rotation(2, side * spread / 2)
        blade = np.array([[-0.01, -0.006], [length * 0.6, -0.006], [length, 0.0], [length * 0.6, 0.004], [-0.01, 0.006]])
        parts.append(Part(meshes.prism(blade, 0.0025).moved((0, 0, 0.002 + 0.0025 * (side > 0)), turn), one_tone(rng, STEEL), 0.7))
        a = np.linspace(0, 2 * np.pi, 20)
        ring = np.stack([-0.035 - 0.02 * np.cos(a) * 1.3, side * -0.006 + 0.014 * np.sin(a), np.full(20, 0.006)], 1)
        parts.append(Part(meshes.sweep(ring, np.full(20, 0.0042), 10).moved((0, 0, 0), turn), one_tone(rng, tone), gloss))
    return Item("scissors", tuple(parts))


def spoon(rng: Rng) -> Item:
    """A spoon."""
    length, r = float(rng.uniform(0.1, 0.18)), float(rng.uniform(0.016, 0.028))
    tone = STEEL if rng.random() < 0.4 else textures.colour(rng)
    gloss = any_gloss(rng, 0.1, 0.8)
    head = meshes.superquadric((r * 1.4, r, 0.006), 1, float(rng.uniform(0.4, 1.2)), 12, 24).moved((length + r, 0, 0.002))
    return Item("spoon", (_rod(rng, 0, length, 0.006, 0.004, tone, gloss, 0, 0.6), Part(head, one_tone(rng, tone), gloss)))

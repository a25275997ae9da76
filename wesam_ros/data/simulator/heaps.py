"""Heaps of things in a bin, with true instance ids."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from wesam_ros.data.frames import Frame
from wesam_ros.data.simulator import backend, scene, textures
from wesam_ros.data.simulator.domains import DOMAINS
from wesam_ros.data.simulator.photographs import photograph

HALF, WALL = (0.20, 0.15), 0.006
"""Half edges of a bin's inside, and half the thickness of its walls, in metres."""
DEPTHS = (0.07, 0.13)
"""Height of its walls in metres."""


def simulate_heap(domain: str, seed: int, *, objects: int = 30, views: int = 2, size: tuple[int, int] = (480, 640)) -> Iterator[Frame]:
    """A bin on a table, seen from above after `objects` things were dropped into it one by one.

    Args:
        domain: a key of DOMAINS.
        seed: decides everything, together with the domain's name.
        objects: how many are dropped; some fall beside it and are taken away.
        views: frames from different places.
        size: (H, W) of the images in pixels.

    Yields:
        frames as those of `simulate`; the bin is background.

    Raises:
        SimulatorError: mujoco or an offscreen OpenGL is missing.
    """
    look = DOMAINS[domain]
    rng = np.random.default_rng([zlib.crc32(f"{domain} heap".encode()), seed])
    world = scene.build(look, objects, size, rng, _bin)
    for item in range(objects):
        world.add(item, rng)
    height, width = size
    camera = scene.drawn_camera(look, size, rng)
    focal = float(camera[0, 0])
    style, azimuth = int(rng.integers(2**63)), rng.normal(-90, 20)
    with backend.Renderer(world.model, height, width) as renderer:
        for view in range(views):
            world.look(
                [0, 0, 0.05], rng.uniform(0.55, 0.7), rng.uniform(60, 85), azimuth + rng.normal(0, 10), rng.normal(0, 2), focal, height
            )
            yield photograph(world, renderer, look, camera, rng, style, 200_000_000 * (view + 1), f"{domain}-heap-{seed}")


def _bin(room: scene.Furnisher) -> None:
    """Four walls on the table, of one material."""
    rng, geom = room.rng, room.module.mjtGeom.mjGEOM_BOX
    top = float(rng.uniform(*DEPTHS)) / 2
    material = room.material("bin", textures.muted(textures.plain(rng, 64), rng), 0.2)
    long, short = HALF[0] + 2 * WALL, HALF[1]
    walls = (
        ((0, short + WALL), (long, WALL)),
        ((0, -short - WALL), (long, WALL)),
        ((long - WALL, 0), (WALL, short)),
        ((WALL - long, 0), (WALL, short)),
    )
    for (x, y), (dx, dy) in walls:
        room.spec.worldbody.add_geom(type=geom, size=[dx, dy, top], pos=[x, y, top], material=material, friction=[0.6, 0.02, 0.002])

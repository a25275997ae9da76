"""An endless tabletop: OCID-like RGB-D sequences in which one more object is put on the table at a time, with true instance ids.

Rendering and physics are MuJoCo's (the extra `sim`), imported when a sequence is begun. A seed gives the same sequence again, on one
machine and OpenGL; another OpenGL may differ in a pixel here and there.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from wesam_ros.data.frames import Frame
from wesam_ros.data.simulator import backend, scene
from wesam_ros.data.simulator.backend import SimulatorError
from wesam_ros.data.simulator.domains import DOMAINS, Domain
from wesam_ros.data.simulator.photographs import MIN_VISIBLE, photograph

__all__ = ["DOMAINS", "MIN_VISIBLE", "Domain", "SimulatorError", "simulate", "simulate_scenes"]

_INTERVAL_NS = 200_000_000


def simulate(domain: str, seed: int, *, objects: int = 12, views: int = 1, size: tuple[int, int] = (480, 640)) -> Iterator[Frame]:
    """One sequence: an object is dropped at a time, and after each the camera takes views frames from slightly different places.

    Args:
        domain: a key of DOMAINS.
        seed: decides everything, together with the domain's name.
        objects: how many are put on the table; those that will not stay on it are left out, those pushed off later are gone.
        views: frames after each object.
        size: (H, W) of the images in pixels.

    Yields:
        frames with image, depth, camera, labels (the k-th object dropped, from 1, is k; table, floor, walls and
        slivers of fewer than MIN_VISIBLE pixels are 0), a stamp every 0.2 s, the sequence name "<domain>-<seed>", and no detections
        (see wesam_ros.data.detector).

    Raises:
        ValueError: unknown domain, or numbers under 1.
        SimulatorError: mujoco or an offscreen OpenGL is missing.
    """
    return (frame for frame, _ in simulate_scenes(domain, seed, objects=objects, views=views, size=size))


def simulate_scenes(
    domain: str, seed: int, *, objects: int = 12, views: int = 1, size: tuple[int, int] = (480, 640)
) -> Iterator[tuple[Frame, scene.Scene]]:
    """The frames of `simulate`, each with the world as it is in it: true places of its things and of the camera."""
    if domain not in DOMAINS:
        raise ValueError(f"domain must be one of {', '.join(DOMAINS)}, but got {domain!r}")
    for name, value in (("objects", objects), ("views", views), ("size", min(size))):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but got {value}")
    return _sequence(domain, seed, objects, views, size)


def _sequence(name: str, seed: int, count: int, views: int, size: tuple[int, int]) -> Iterator[tuple[Frame, scene.Scene]]:
    domain = DOMAINS[name]
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    world = scene.build(domain, count, size, rng)
    height, width = size
    camera = scene.drawn_camera(domain, size, rng)
    focal = float(camera[0, 0])
    low, high = domain.elevation[int(rng.integers(len(domain.elevation)))]
    elevation, azimuth = rng.uniform(low, high), rng.normal(-90, 35)
    distance, roll = rng.uniform(*domain.distance), rng.normal(0, 1.5)
    style = int(rng.integers(2**63))
    stamp = 0
    with backend.Renderer(world.model, height, width) as renderer:
        for item in range(count):
            if not world.add(item, rng):
                continue
            for _ in range(views):
                target, near = rng.normal([0, 0, 0.03], 0.015), distance * np.exp(rng.normal(0, 0.02))
                world.look(target, near, elevation + rng.normal(0, 1.5), azimuth + rng.normal(0, 2.5), roll, focal, height)
                stamp += _INTERVAL_NS
                yield photograph(world, renderer, domain, camera, rng, style, stamp, f"{name}-{seed}"), world

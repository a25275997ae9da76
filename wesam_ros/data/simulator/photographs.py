"""Photographs of a simulated world: the renderer's picture as a camera and its depth sensor deliver it, with true instance ids."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.data.simulator import backend, scene, sensor
from wesam_ros.data.simulator.domains import Domain

MIN_VISIBLE = 80
"""An object of which fewer pixels are seen, in an image of 480 x 640, is background in the labels of that frame."""


def photograph(
    world: scene.Scene,
    renderer: backend.Renderer,
    domain: Domain,
    camera: npt.NDArray[np.float64],
    rng: np.random.Generator,
    style: int,
    stamp: int,
    sequence: str,
) -> Frame:
    """One frame from where the camera is.

    Args:
        world: with the camera and the things in their places.
        renderer: of its model.
        domain: develops the picture.
        camera: (3, 3) intrinsics in pixels.
        rng: of what differs from frame to frame, such as noise.
        style: seeds what holds through a sequence: exposure, colour, focus.
        stamp: in nanoseconds.
        sequence: its name.
    """
    colour, true_depth, geom = renderer.render(world.data)
    focal = float(camera[0, 0])
    labels = world.instance_of_geom[geom]
    areas = np.bincount(labels.ravel(), minlength=len(world.items) + 1)
    labels[(areas < MIN_VISIBLE * labels.size / (480 * 640))[labels]] = 0
    shade = sensor.contact_shading(true_depth, focal)
    linear = colour.astype(np.float32) / np.float32(255) * shade[..., None]
    picture = domain.develop(linear, np.random.default_rng(style), rng)
    image = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    shine = np.array([0.0] + [max(0.0, item.gloss - 0.45) for item in world.items], np.float32)
    depth = sensor.measure(true_depth, focal, shine[labels], rng)
    return Frame(image=image, depth=depth, camera=camera.copy(), labels=labels, stamp_ns=stamp, sequence=sequence)

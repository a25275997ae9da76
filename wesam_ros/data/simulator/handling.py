"""Streams of a table at which somebody works: a hand takes things away, moves them and puts them back, before a camera that may move."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wesam_ros.data.frames import Frame
from wesam_ros.data.simulator import backend, scene, textures
from wesam_ros.data.simulator.domains import DOMAINS
from wesam_ros.data.simulator.photographs import photograph
from wesam_ros.data.simulator.textures import Rng

INTERVAL_NS = 100_000_000
APPROACH, LIFT, CARRY, PAUSE = 5, 3, 7, 4
"""Frames in which the hand comes or goes, lifts or lowers, moves a thing, and stays away."""
HEIGHT, AWAY = np.array([0, 0, 0.14]), 0.75
"""Metres over the table at which a thing is carried, and from the table's middle to where the hand comes from."""
UNSEEN = np.array([0, 0, -20.0])
"""Place of the hand while nobody sees it."""
SWING, PERIODS = (0.08, 5.0, 14.0), np.array([55, 45, 70])
"""Share of the distance, and degrees of elevation and azimuth, by which a moving camera swings to either side, and in how many frames."""

Place = npt.NDArray[np.float64]


def simulate_handling(
    domain: str,
    seed: int,
    *,
    objects: int = 8,
    frames: int = 80,
    moving_camera: bool = True,
    hand: bool = True,
    size: tuple[int, int] = (480, 640),
) -> Iterator[Frame]:
    """A stream of 10 frames a second of one table.

    Args:
        domain: a key of DOMAINS.
        seed: decides everything, together with the domain's name.
        objects: how many are on the table; those that do not stay on it are left out.
        frames: of the stream.
        moving_camera: it swings about the table; else it stands still.
        hand: one by one, a thing is moved, one is taken away, and that one is put back elsewhere.
        size: (H, W) of the images in pixels.

    Yields:
        frames as those of `simulate`; the hand is background.

    Raises:
        SimulatorError: mujoco or an offscreen OpenGL is missing.
    """
    look = DOMAINS[domain]
    rng = np.random.default_rng([zlib.crc32(f"{domain} handling".encode()), seed])
    world = scene.build(look, objects, size, rng, _hand)
    for item in range(objects):
        world.add(item, rng)
    height, width = size
    camera = scene.drawn_camera(look, size, rng)
    focal = float(camera[0, 0])
    low, high = look.elevation[int(rng.integers(len(look.elevation)))]
    elevation, azimuth, distance = rng.uniform(low, high), rng.normal(-90, 35), rng.uniform(*look.distance)
    style, phase = int(rng.integers(2**63)), rng.uniform(0, 2 * np.pi, 3)
    work = _Work(world, azimuth, rng).steps() if hand else None
    with backend.Renderer(world.model, height, width) as renderer:
        for number in range(frames):
            if work is not None:
                next(work)
            turn = np.sin(phase + 2 * np.pi * number / PERIODS) if moving_camera else np.zeros(3)
            near, up, side = np.array([distance * 1.05, elevation, azimuth]) + turn * [SWING[0] * distance, *SWING[1:]]
            world.look([0, 0, 0.03], near, up, side, 0.0, focal, height)
            yield photograph(world, renderer, look, camera, rng, style, INTERVAL_NS * (number + 1), f"{domain}-handling-{seed}")


@dataclass
class _Work:
    """The hand's work, frame by frame."""

    world: scene.Scene
    azimuth: float
    rng: Rng

    def __post_init__(self) -> None:
        side = np.radians(self.azimuth + 180 + self.rng.uniform(-60, 60))  # opposite the camera, or from a side
        self._from = np.array([AWAY * np.cos(side), AWAY * np.sin(side), 0.3])
        self._body = self.world.model.body("hand").mocapid[0]
        self._yaw = float(side)

    def steps(self) -> Iterator[None]:
        """Moves the hand and what it holds; goes on for ever."""
        while True:
            items = list(self.world.on_table)
            moved, taken = self.rng.choice(items, 2, replace=False).tolist()
            yield from self._move(moved, self._free(moved))
            yield from self._move(taken, None)
            yield from self._move(taken, self._free(taken))

    def _move(self, item: int, goal: Place | None) -> Iterator[None]:
        """A thing is carried to a place, or out of the picture; one that is out is brought in."""
        out = item not in self.world.on_table
        start = self._from.copy() if out else self.world.data.xpos[self.world.body_of[item]].copy()
        if not out:
            yield from self._go(self._from, start, APPROACH)
            yield from self._go(start, start + HEIGHT, LIFT, item)
            start = start + HEIGHT
        end = self._from if goal is None else goal + HEIGHT
        yield from self._go(start, end, CARRY, item)
        if goal is None:
            self.world.on_table = [each for each in self.world.on_table if each != item]
            self.world.settle()
        else:
            yield from self._go(end, goal, LIFT, item)
            self.world.on_table = [*(each for each in self.world.on_table if each != item), item]
            self.world.settle()
            yield from self._go(goal, self._from, APPROACH)
        self._show(UNSEEN, None)
        for _ in range(PAUSE):
            yield

    def _go(self, start: Place, end: Place, frames: int, item: int | None = None) -> Iterator[None]:
        for step in range(1, frames + 1):
            self._show(start + (end - start) * step / frames, item)
            yield

    def _show(self, place: Place, item: int | None) -> None:
        """The hand at a place, and in it a thing."""
        data, top = self.world.data, 0.02
        if item is not None:
            a = self.world.address_of[item]
            data.qpos[a : a + 3] = place
            backend.mujoco().mj_forward(self.world.model, data)
            top = max(top, float(self.world.vertices(item)[:, 2].max()) - float(place[2]))
        data.mocap_pos[self._body] = place + np.array([0, 0, top + 0.02])
        data.mocap_quat[self._body] = [np.cos(self._yaw / 2), 0, 0, np.sin(self._yaw / 2)]
        backend.mujoco().mj_forward(self.world.model, data)

    def _free(self, item: int) -> Place:
        """A place on the table with room for a thing, as far as there is one."""
        others = [each for each in self.world.on_table if each != item]
        places = self.rng.uniform([-0.18, -0.14], [0.18, 0.14], (40, 2))
        radius = self.world.items[item].radius
        room = [
            min(
                (float(np.hypot(*(self.world.data.xpos[self.world.body_of[k]][:2] - place))) - self.world.items[k].radius for k in others),
                default=1.0,
            )
            for place in places
        ]
        best = next((k for k, free in enumerate(room) if free > radius), int(np.argmax(room)))
        return np.array([*places[best], max(0.01, self._base(item))])

    def _base(self, item: int) -> float:
        """Height of a thing's origin over its lowest point, as it is turned."""
        corners = self.world.vertices(item)
        return float(self.world.data.xpos[self.world.body_of[item]][2] - corners[:, 2].min()) + 0.003


def _hand(room: scene.Furnisher) -> None:
    """A forearm, a palm and fingers that point down, which touch nothing; far below until it is moved."""
    rng, geom = room.rng, room.module.mjtGeom
    skin = np.array([0.9, 0.7, 0.58]) * rng.uniform(0.45, 1.0)
    image = np.full((64, 64, 3), skin * 255, np.uint8)
    tones = {
        "skin": room.material("skin", textures.shaded(image, textures.noise(rng, 64, 6, 3), 0.08), 0.15),
        "sleeve": room.material("sleeve", textures.plain(rng, 64), 0.1),
    }
    body = room.spec.worldbody.add_body(name="hand", mocap=True, pos=[0, 0, -20])
    parts = [
        (geom.mjGEOM_ELLIPSOID, [0.048, 0.042, 0.02], [0.0, 0, 0.0], None, "skin"),
        (geom.mjGEOM_CAPSULE, [0.026, 0, 0], None, [0.03, 0, 0.01, 0.2, 0, 0.08], "skin"),
        (geom.mjGEOM_CAPSULE, [0.04, 0, 0], None, [0.2, 0, 0.08, 0.6, 0, 0.22], "sleeve"),
    ]
    for k, y in enumerate((-0.03, -0.01, 0.01, 0.03)):
        parts.append((geom.mjGEOM_CAPSULE, [0.009, 0, 0], None, [-0.04, y, 0, -0.055 + 0.004 * abs(k - 1.5), y, -0.05], "skin"))
    parts.append((geom.mjGEOM_CAPSULE, [0.01, 0, 0], None, [0.02, 0.03, 0, 0.03, 0.04, -0.045], "skin"))
    for kind, size, place, ends, tone in parts:
        where = {"pos": place} if ends is None else {"fromto": ends}
        body.add_geom(type=kind, size=size, material=tones[tone], contype=0, conaffinity=0, **where)

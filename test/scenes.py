"""Made-up tables seen by an RGB-D camera, with what is difficult for depth, and the logits of a model that is roughly right.

Things are patches of planes at a height above the table, so that depth, truth and boxes are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import box_of_mask
from wesam_ros.data.frames import Frame
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts

SIZE = (240, 320)
CAMERA = np.array([[280.0, 0, 160], [0, 280, 120], [0, 0, 1]])
GRID = 128
Bool = npt.NDArray[np.bool_]
Float = npt.NDArray[np.float32]

_Y, _X = np.indices(SIZE)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Bool:
    return (x0 <= _X) & (x1 > _X) & (y0 <= _Y) & (y1 > _Y)


def disc(x: int, y: int, radius: float) -> Bool:
    return (_X - x) ** 2 + (_Y - y) ** 2 < radius**2


@dataclass
class Scene:
    """A table in the making. `tilt` and `roll` of the camera in degrees; heights in metres above the table."""

    tilt: float = 30.0
    roll: float = 0.0
    noise: float = 0.0012
    height: Float = field(default_factory=lambda: np.zeros(SIZE, np.float32))
    lost: Bool = field(default_factory=lambda: np.zeros(SIZE, bool))
    image: npt.NDArray[np.uint8] = field(default_factory=lambda: np.full((*SIZE, 3), 120, np.uint8))
    things: list[Bool] = field(default_factory=list)

    def paint(self, where: Bool, height: float | Float, colour: tuple[int, int, int], thing: bool = True) -> Scene:
        """Puts something on the table; `thing`: it is asked for."""
        self.height[where] = height[where] if isinstance(height, np.ndarray) else height
        self.image[where] = colour
        for each in self.things:
            each &= ~where
        if thing:
            self.things.append(where.copy())
        return self

    def frame(self) -> Frame:
        rng = np.random.default_rng(0)
        tilt, roll = np.radians(self.tilt), np.radians(self.roll)
        normal = np.array([np.sin(roll) * np.sin(tilt), -np.cos(roll) * np.sin(tilt), -np.cos(tilt)])
        rays = np.stack([(_X - CAMERA[0, 2]) / CAMERA[0, 0], (_Y - CAMERA[1, 2]) / CAMERA[1, 1], np.ones(SIZE)], -1)
        depth = (self.height - 0.6 * np.cos(tilt)) / (rays @ normal)
        depth = np.where(self.lost, 0, depth + rng.normal(0, self.noise, SIZE))
        image = np.clip(self.image + rng.normal(0, 3, (*SIZE, 3)), 0, 255).astype(np.uint8)
        return Frame(image, depth.astype(np.float32), CAMERA)

    @property
    def masks(self) -> Bool:
        return np.stack(self.things)

    def prompts(self) -> Prompts:
        return Prompts.from_boxes([box_of_mask(each) for each in self.things], SIZE)

    def model(self, off: int = 0) -> Masks:
        """Masks of a model whose outlines are 2 pixels too wide and blurred, and `off` pixels to the right."""
        rng = np.random.default_rng(1)
        low, scale = np.full((len(self.things), GRID, GRID), -6, np.float32), GRID / SIZE[1]
        rows = round(SIZE[0] * scale)
        for row, each in enumerate(self.things):
            wider = cv2.dilate(np.roll(each, off, 1).astype(np.float32), np.ones((5, 5), np.uint8))
            soft = cv2.GaussianBlur(wider * 12 - 6, (0, 0), 3)
            wobble = cv2.GaussianBlur(rng.normal(0, 1, SIZE).astype(np.float32), (0, 0), 6) * 30
            low[row, :rows] = cv2.resize(soft + wobble, (GRID, rows), interpolation=cv2.INTER_AREA)
        return Masks(np.zeros((len(low), *SIZE), bool), np.full(len(low), 0.8, np.float32), low)


RED, BLUE, GREEN, BLACK = (200, 40, 40), (40, 60, 200), (40, 170, 60), (15, 15, 15)


def _box() -> Scene:
    return Scene().paint(rectangle(120, 90, 200, 160), 0.05, RED)


def _small_box() -> Scene:
    return Scene().paint(rectangle(150, 110, 168, 126), 0.03, RED)


def _phone() -> Scene:
    return Scene().paint(rectangle(120, 90, 170, 170), 0.002, BLACK)


def _sheet() -> Scene:
    return Scene().paint(rectangle(90, 80, 220, 170), 0.0, (235, 235, 230)).paint(rectangle(240, 120, 280, 170), 0.05, RED)


def _fork() -> Scene:
    return Scene().paint(rectangle(80, 110, 220, 122), 0.004, (190, 190, 195))


def _ring() -> Scene:
    return Scene().paint(disc(160, 120, 50) & ~disc(160, 120, 28), 0.02, RED)


def _bowl() -> Scene:
    scene = Scene().paint(disc(160, 120, 50), 0.06, BLUE)
    scene.height[disc(160, 120, 42)] = 0.008
    return scene


def _black() -> Scene:
    scene = _box()
    scene.image[scene.things[0]] = BLACK
    scene.lost |= scene.things[0]
    return scene


def _transparent() -> Scene:
    scene = Scene().paint(disc(160, 120, 40), 0.0, (140, 150, 150))
    scene.image[disc(160, 120, 40) & ~disc(160, 120, 36)] = (180, 190, 190)
    return scene


def _mirror() -> Scene:
    return Scene().paint(rectangle(120, 90, 200, 160), -0.3, (170, 180, 190))


def _over_the_edge() -> Scene:
    scene = Scene().paint(rectangle(200, 0, 320, 240), -0.4, (60, 50, 45), thing=False)
    return scene.paint(rectangle(150, 100, 250, 150), 0.05, RED)


def _leaning() -> Scene:
    ramp = ((_X - 110) / 90 * 0.08).astype(np.float32)
    return Scene().paint(rectangle(110, 90, 200, 150), ramp, GREEN)


def _held() -> Scene:
    return _box().paint(rectangle(190, 60, 320, 130), 0.09, (198, 150, 122), thing=False)


def _under_a_cloth() -> Scene:
    return _box().paint(rectangle(60, 60, 150, 200), 0.055, (90, 90, 160), thing=False)


def _touching() -> Scene:
    return Scene().paint(rectangle(100, 90, 160, 160), 0.05, RED).paint(rectangle(160, 90, 220, 160), 0.05, BLUE)


def _on_top() -> Scene:
    return Scene().paint(rectangle(100, 70, 220, 180), 0.06, RED).paint(rectangle(140, 100, 180, 140), 0.1, BLUE)


def _shelf() -> Scene:
    scene = Scene().paint(rectangle(0, 0, 320, 110), 0.2, (150, 110, 70), thing=False)
    return scene.paint(rectangle(120, 50, 180, 95), 0.25, RED).paint(rectangle(130, 160, 190, 210), 0.05, BLUE)


def _bin() -> Scene:
    scene = Scene(tilt=0)
    wall = ~rectangle(60, 40, 260, 200)
    scene.paint(wall, 0.15, (80, 80, 90), thing=False)
    return scene.paint(rectangle(60, 90, 130, 150), 0.05, RED).paint(rectangle(170, 100, 220, 160), 0.04, GREEN)


def _rolled() -> Scene:
    scene = _touching()
    scene.tilt, scene.roll = 40, 60
    return scene


def _heap() -> Scene:
    rng = np.random.default_rng(3)
    scene = Scene()
    scene.height = cv2.GaussianBlur(rng.normal(0, 1, SIZE).astype(np.float32), (0, 0), 12) * np.float32(1.5)
    return scene.paint(disc(120, 120, 40), 0.15, RED).paint(disc(190, 120, 35), 0.2, BLUE)


SCENES: dict[str, Callable[[], Scene]] = {
    "box": _box, "small box": _small_box, "phone": _phone, "sheet beside a box": _sheet, "fork": _fork, "ring": _ring, "bowl": _bowl,
    "black": _black, "transparent": _transparent, "mirror": _mirror, "over the edge": _over_the_edge, "leaning": _leaning, "held": _held,
    "under a cloth": _under_a_cloth, "touching": _touching, "on top": _on_top, "shelf": _shelf, "bin": _bin, "rolled camera": _rolled,
    "heap without a plane": _heap,
}  # fmt: skip

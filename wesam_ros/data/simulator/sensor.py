"""From what the renderer sees to what an RGB-D camera gives: contact shading, and the errors of structured-light depth."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
NEAREST, FARTHEST = 0.28, 3.5
BASELINE = 0.075


def contact_shading(depth: Plane, focal: float, radius: float = 0.02, strength: float = 0.35) -> Plane:
    """Screen-space ambient occlusion (H, W) in [0, 1]: darker where neighbours within radius metres stand closer to the camera.

    Args:
        depth: (H, W) metres; focal: pixels.
    """
    h, w = depth.shape
    small = cv2.resize(depth, (w // 2, h // 2), interpolation=cv2.INTER_NEAREST)
    width = float(np.clip(radius * focal / 2 / max(float(np.median(small)), 0.2), 3, 20))
    occluded = np.zeros_like(small)
    for k in range(6):
        angle, part = k * np.pi / 3, width * (0.5 if k % 2 else 1.0)
        dx, dy = round(part * np.cos(angle)), round(part * np.sin(angle))
        forth, back = (
            cv2.warpAffine(small, np.array([[1, 0, s * dx], [0, 1, s * dy]], np.float32), (w // 2, h // 2), borderMode=cv2.BORDER_REPLICATE)
            for s in (1, -1)
        )
        concave = small - (forth + back) / 2  # 0 on any plane, however it is tilted
        near = np.clip(2 - (small - np.minimum(forth, back)) / (2 * radius), 0, 1)  # a thing far in front shades nothing
        occluded += near * np.clip(concave / radius * 2.5, 0, 1)
    smooth = cv2.GaussianBlur(occluded / 6, (0, 0), 1.5)
    return np.asarray(1 - strength * np.clip(cv2.resize(smooth, (w, h)) * 2, 0, 1), np.float32)


def measure(depth: Plane, focal: float, shine: Plane, rng: np.random.Generator) -> Plane:
    """The depth that a structured-light camera measures, given the true one.

    Noise along the axis follows Nguyen, Izadi and Lovell (2012): sigma = 1.2 mm + 1.9 mm (z - 0.4 m)^2 with z in metres; steps of disparity
    (1/8 px) and whole millimetres; edges displaced by about a pixel; nothing in the projector's shadow beside near things, at depth edges,
    at grazing or shiny places, nearer than NEAREST or beyond FARTHEST.

    Args:
        depth: (H, W) true metres along the optical axis; focal: pixels; shine: (H, W) in [0, 1], the probability that the surface mirrors.

    Returns:
        (H, W) float32 metres, whole millimetres, 0 = no measurement.
    """
    h, w = depth.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    wobble = [cv2.GaussianBlur(rng.standard_normal((h, w), np.float32), (0, 0), 1.2) * 2.6 for _ in range(2)]
    z = cv2.remap(depth, x + wobble[0], y + wobble[1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)

    ray = np.fliplr(x - focal * BASELINE / np.maximum(z, 0.1))  # where the projector, left of the camera, sees the point
    shadow = np.fliplr(ray - np.minimum.accumulate(ray, axis=1) > 1.0)

    steep_x, steep_y = (cv2.Sobel(z, cv2.CV_32F, a, 1 - a, scale=1 / 8) for a in (1, 0))
    slope = np.hypot(steep_x, steep_y) * focal / np.maximum(z, 0.1)
    edge = cv2.dilate((slope > 9).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    lost = shadow | (edge & (rng.random((h, w), np.float32) < 0.7)) | ((slope > 4) & (rng.random((h, w), np.float32) < 0.3))

    patch = cv2.resize(rng.random((h // 12, w // 12), np.float32), (w, h), interpolation=cv2.INTER_CUBIC)
    lost |= patch < 0.55 * np.clip(shine, 0, 1)

    rough = rng.standard_normal((h, w), np.float32) * 0.6 + cv2.GaussianBlur(rng.standard_normal((h, w), np.float32), (0, 0), 2) * 5
    z = z + rough * (0.0012 + 0.0019 * (z - 0.4) ** 2)
    step = focal * BASELINE * 8
    z = step / np.maximum(np.round(step / np.maximum(z, 0.1)), 1)
    z = np.round(z * 1000) / 1000
    z[lost | (z < NEAREST) | (z > FARTHEST)] = 0
    return np.asarray(z, np.float32)

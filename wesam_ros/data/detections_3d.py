"""Boxes in space (vision_msgs/Detection3DArray) as boxes in an image: projected with the camera and the transform to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.data.detections import Detections
from wesam_ros.data.distortion import points_of_rays
from wesam_ros.data.intrinsics import Camera
from wesam_ros.data.messages import best_hypotheses
from wesam_ros.data.rotations import rotation_matrix

Float = npt.NDArray[np.float64]

NEAR = 0.01
"""Metres before the camera; what is nearer, or behind it, is cut off."""
LARGEST = 20.0
"""Metres; a box with a longer side is not given in metres, as where a driver gives its size in pixels or millimetres."""
UNSEEN = (-2.0, -2.0, -1.0, -1.0)
"""The box of what the camera does not see: it lies outside of any image."""
_SIGNS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64) / 2
_EDGES = [(i, j) for i in range(8) for j in range(i + 1, 8) if np.abs(_SIGNS[i] - _SIGNS[j]).sum() == 1]


def project_box(centre: Float, rotation: Float, size: Float, camera: Camera) -> tuple[float, float, float, float]:
    """x0 y0 x1 y1 in pixels of the upright box around a box in space, cut at the image's border; UNSEEN where the camera sees none of it.

    Args:
        centre: (3,) metres in the camera's optical frame.
        rotation: (3, 3) from the box's axes to the camera's.
        size: (3,) metres along the box's axes.
        camera: the image's intrinsics.
    """
    corners = centre + (_SIGNS * size) @ rotation.T
    points = [each for each in corners if each[2] >= NEAR]
    for i, j in _EDGES:
        near, far = sorted((corners[i], corners[j]), key=lambda each: float(each[2]))
        if near[2] < NEAR <= far[2]:
            points.append(near + (NEAR - near[2]) / (far[2] - near[2]) * (far - near))
    if not points:
        return UNSEEN
    rays = np.array([each[:2] / each[2] for each in points])
    pixels = points_of_rays(_within_view(rays, camera), camera.pinhole, camera.distortion, camera.model)
    height, width = camera.size
    (x0, y0), (x1, y1) = pixels.min(axis=0), pixels.max(axis=0)
    if not (x0 < width and y0 < height and x1 > 0 and y1 > 0):
        return UNSEEN
    return max(float(x0), 0.0), max(float(y0), 0.0), min(float(x1), float(width)), min(float(y1), float(height))


def _within_view(rays: Float, camera: Camera) -> Float:
    """The rays of a distorted camera, drawn in to a little beyond its image's corners: farther out its model may fold back."""
    if not camera.distortion:
        return rays
    height, width = camera.size
    corners = camera.rays_at(np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64))
    lengths = np.linalg.norm(corners, axis=1)
    if not np.isfinite(lengths).any():
        return rays
    farthest = 1.05 * float(np.nanmax(lengths))
    return np.asarray(rays * np.minimum(1.0, farthest / np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)))


def frame_of_boxes(message: Any) -> str:
    """The frame of a Detection3DArray, without a leading slash: its header's, else that of its first box; "" where there is none."""
    headers = [message.header, *(each.header for each in message.detections[:1])]
    return next((str(each.frame_id).lstrip("/") for each in headers if each.frame_id), "")


def detections_of_3d(message: Any, camera: Camera, transform: Float | None) -> tuple[Detections, tuple[tuple[str, str], ...]]:
    """The boxes of a Detection3DArray in pixels of a camera's image, and (reason, sentence) for each that is not one in metres.

    Args:
        message: the message.
        camera: the image's intrinsics.
        transform: (4, 4) from the message's frame to the camera's optical frame; None where they are the same.

    Ids, classes and scores are those of `detections_of`. Boxes that the camera does not see lie outside of the image, to be rejected there.
    """
    turn, move = (np.eye(3), np.zeros(3)) if transform is None else (transform[:3, :3], transform[:3, 3])
    classes, scores = best_hypotheses(message.detections)
    boxes, ids, rows, rejected = [], [], [], []
    for row, detection in enumerate(message.detections):
        pose, extent = detection.bbox.center, detection.bbox.size
        name = detection.id if detection.id and detection.id not in ids else f"{detection.id}#{row}"
        size = np.array([extent.x, extent.y, extent.z], np.float64)
        centre = np.array([pose.position.x, pose.position.y, pose.position.z], np.float64)
        rotation = _rotation(pose.orientation)
        if not (np.isfinite(size).all() and np.isfinite(centre).all() and np.isfinite(rotation).all()):
            rejected.append(("nan", f"box {name} in space has a value that is not finite; check the detector's output"))
        elif size.min() < 0 or not 0 < size.max() <= LARGEST:
            sides = " x ".join(f"{each:g}" for each in size)
            rejected.append(("wrong_unit", f"box {name} in space must have sides up to {LARGEST:g} m, but has {sides}; give metres"))
        else:
            boxes.append(project_box(turn @ centre + move, turn @ rotation, size, camera))
            ids.append(name)
            rows.append(row)
    found = Detections(np.array(boxes, np.float32).reshape(-1, 4), tuple(ids), tuple(classes[row] for row in rows), scores[rows])
    return found, tuple(rejected)


def _rotation(orientation: Any) -> Float:
    """(3, 3) of a quaternion; all zeros, as messages have it that leave it out, mean no rotation."""
    q = np.array([orientation.x, orientation.y, orientation.z, orientation.w], np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        length = float(np.linalg.norm(q))
    if length < 1e-6:
        return np.eye(3)
    if not np.isfinite(length):
        return np.full((3, 3), np.nan)
    return rotation_matrix(*(q / length).tolist())

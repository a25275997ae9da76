"""The requests that a frame of a recording holds."""

from __future__ import annotations

from collections.abc import Iterator

from wesam_ros.data.detection_grid import grid_of
from wesam_ros.data.frames import Frame
from wesam_ros.data.requests import Request, request_of_detections


def requests_of(frame: Frame, detections_size: str = "") -> Iterator[tuple[str, Request]]:
    """Yields the requests of a frame, each with the input that it came on. Detections and prompts are two requests, as in the nodes.

    `detections_size` is the nodes' parameter: the grid of the detections' boxes.
    """
    if frame.detections is not None:
        yield "detections", request_of_detections(frame.detections, frame.size, grid_of(detections_size))
    if frame.prompted is not None:
        yield "prompts", frame.prompted

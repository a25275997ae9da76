"""The requests that a frame of a recording holds."""

from __future__ import annotations

from collections.abc import Iterator

from wesam_ros.data.frames import Frame
from wesam_ros.data.requests import Request, request_of_detections


def requests_of(frame: Frame) -> Iterator[tuple[str, Request]]:
    """What is asked for in a frame, by the input that it came on. Where there are both, each is a request of its own, as in the nodes."""
    if frame.detections is not None:
        yield "detections", request_of_detections(frame.detections, frame.size)
    if frame.prompted is not None:
        yield "prompts", frame.prompted

"""Frames of recorded messages, each message costing no more than itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from wesam_ros.data.codecs import CodecError
from wesam_ros.data.detections import Detections
from wesam_ros.data.detections_3d import detections_of_3d, frame_of_boxes
from wesam_ros.data.frames import Frame
from wesam_ros.data.intrinsics import camera_of_info
from wesam_ros.data.messages import are_in_space, assumption_of, depth_of, detections_of, image_of, labels_of, misread_turns
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.topics import BagError
from wesam_ros.data.transforms import TransformError

if TYPE_CHECKING:
    from wesam_ros.data.requests import Request

log = logging.getLogger(__name__)


class BagMessage(NamedTuple):
    """One recorded message as it travelled.

    Attributes:
        topic: its topic.
        msgtype: "package/msg/Name".
        time_ns: when it was recorded, in nanoseconds.
        data: CDR bytes, ready for rclpy's `publish`.
    """

    topic: str
    msgtype: str
    time_ns: int
    data: bytes

    @property
    def stamp_ns(self) -> int:
        """Header stamp in nanoseconds; only for messages that begin with a header (BagError where the bytes end before)."""
        if len(self.data) < messages.STAMP_BYTES:
            raise BagError(f"message on {self.topic} at {self.time_ns} ns must begin with a header, but has {len(self.data)} bytes")
        return messages.stamp_of_bytes(self.data)


@dataclass(frozen=True)
class FrameMessages:
    """The messages of one stamp, by the name of their field in BagTopics ("image" is always there)."""

    stamp_ns: int
    by_role: Mapping[str, BagMessage]


class Transforms(Protocol):
    """The transforms of a recording."""

    def lookup(self, target: str, source: str, stamp: int) -> npt.NDArray[np.float64]:
        """(4, 4) that takes points from `source` to `target` at `stamp` (nanoseconds). Raises TransformError."""
        ...


@dataclass(frozen=True, eq=False)
class Conversion:
    """Things that recorded messages do not say themselves about their values.

    Attributes:
        rectified: the nodes' parameter, as of `camera_of_info`.
        transforms: of the recording, for boxes in space that are not in the image's frame; None where there are none.
    """

    rectified: str = "auto"
    transforms: Transforms | None = None


def usable_frame(parts: FrameMessages, sequence: str, report: ReadingReport, conversion: Conversion) -> Frame | None:
    """The frame of the joined messages of one stamp, None where its image cannot be used; what is left out is counted in `report`."""
    try:
        frame = decode_frame(parts, sequence, report, conversion)
    except UnusableMessageError as error:
        report.leave_out("image", error.reason, str(error))
        return None
    report.frames += 1
    return frame


class UnusableMessageError(BagError):
    """A message of a recording that cannot be used; `reason` is a short key to count by."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def decode_frame(
    parts: FrameMessages, sequence: str = "", report: ReadingReport | None = None, conversion: Conversion = Conversion()
) -> Frame:
    """Frame of the joined messages of one stamp. Depth, camera info, detections, prompts and labels that cannot be used are None in it,
    logged, and counted in `report`.

    Raises:
        UnusableMessageError: the image cannot be decoded; it names the topic and the stamp.
    """
    account = report or ReadingReport()
    image: npt.NDArray[np.uint8] = _decoded(parts, "image", lambda message: _image_of(message, account))
    size = (image.shape[0], image.shape[1])
    readers: dict[str, Callable[[Any], Any]] = {
        "depth": lambda message: depth_of(message, size),
        "camera_info": lambda message: _camera_of(message, size, parts.by_role["image"].topic, account, conversion),
        "detections": lambda message: _boxes_of(message, parts, size, account, conversion),
        "prompts": lambda message: _prompts_of(message, size),
        "labels": lambda message: _labels_for(message, size),
    }
    values: dict[str, Any] = {}
    for role in readers.keys() & parts.by_role.keys():
        try:
            values[role] = _decoded(parts, role, readers[role])
        except UnusableMessageError as error:
            account.leave_out(role, error.reason, str(error))
    return Frame(
        image=image,
        depth=values.get("depth"),
        camera=values.get("camera_info"),
        detections=values.get("detections"),
        prompted=values.get("prompts"),
        labels=values.get("labels"),
        stamp_ns=parts.stamp_ns,
        sequence=sequence,
    )


def _decoded(parts: FrameMessages, role: str, read: Callable[[Any], Any]) -> Any:
    message = parts.by_role[role]
    try:
        return read(messages.deserialize(message.data, message.msgtype))
    except Exception as error:  # rosbags raises many kinds for damaged bytes
        sentence = f"message on {message.topic} with stamp {parts.stamp_ns} ns cannot be decoded: {error}"
        raise UnusableMessageError(getattr(error, "reason", "undecodable"), sentence) from error


def _image_of(message: Any, account: ReadingReport) -> npt.NDArray[np.uint8]:
    if (sentence := assumption_of(message)) is not None:
        account.note(sentence)
    return image_of(message)


def _camera_of(message: Any, size: tuple[int, int], topic: str, account: ReadingReport, conversion: Conversion) -> Any:
    """A frame's camera, as for a live message."""
    camera = camera_of_info(message, size, conversion.rectified, topic)
    if not camera.usual:
        account.note(camera.why)
    return camera.projection


def _boxes_of(message: Any, parts: FrameMessages, size: tuple[int, int], account: ReadingReport, conversion: Conversion) -> Detections:
    """Boxes in the image, also of a Detection3DArray, in the camera's frame or one that TF leads from; those that are none are counted."""
    if not are_in_space(message):
        for reason, sentence in misread_turns(message):
            account.leave_out("detections", reason, sentence)
        return detections_of(message)
    if "camera_info" not in parts.by_role:
        raise CodecError("no_camera", "boxes in space need camera_info")
    image, info = (messages.deserialize(each.data, each.msgtype) for each in (parts.by_role["image"], parts.by_role["camera_info"]))
    camera = camera_of_info(info, size, conversion.rectified, parts.by_role["image"].topic)
    found, rejected = detections_of_3d(message, camera, _transform_of(message, image, parts.stamp_ns, conversion.transforms))
    for reason, sentence in rejected:
        account.leave_out("detections", reason, sentence)
    return found


def _transform_of(message: Any, image: Any, stamp: int, transforms: Transforms | None) -> npt.NDArray[np.float64] | None:
    """(4, 4) from the frame of boxes in space to the image's; None where they are the same."""
    source, target = frame_of_boxes(message), image.header.frame_id.lstrip("/")
    if not source or source == target:
        return None
    where = f"boxes in space are in frame {source}, the image in {target}"
    if transforms is None:
        raise CodecError("no_transform", f"{where}; record /tf and /tf_static, too")
    try:
        return transforms.lookup(target, source, stamp)
    except TransformError as error:
        raise CodecError("no_transform", f"{where}: {error}") from error


def _labels_for(message: Any, size: tuple[int, int]) -> npt.NDArray[np.uint16]:
    labels = labels_of(message)
    if labels.shape != size:
        raise CodecError("wrong_size", f"labels must have the image's size {size}, but got {labels.shape}")
    return labels


def _prompts_of(message: Any, size: tuple[int, int]) -> Request:
    from wesam_ros.data.requests import request_of_prompts  # it loads torch, which `wesam bag` does without

    return request_of_prompts(message, size)

"""Recordings of noetic and Foxy, whose messages are others under the same names."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from recorded import BOXES, CAMERA, SIZE, START, STEP, Row, file_of, picture
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from wesam_ros.data import codecs
from wesam_ros.data.recordings.definitions import FOXY


class OldMessages:
    """Messages of another distribution: BoundingBox2D's centre is geometry_msgs/Pose2D, results have an id and a score.

    Args:
        store: its types.
        noetic: ROS 1's header with seq, ids that are numbers, and CameraInfo's fields in capitals; else Foxy's.
    """

    def __init__(self, store: Typestore, noetic: bool) -> None:
        self.store, self.noetic = store, noetic

    def make(self, name: str, **fields: Any) -> Any:
        return self.store.types[name](**fields)

    def header(self, stamp: int) -> Any:
        time = self.make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        return self.make("std_msgs/msg/Header", **({"seq": 5} if self.noetic else {}), stamp=time, frame_id="camera")

    def image(self, stamp: int, array: np.ndarray) -> Any:
        fields = codecs.encode_image(array)._asdict()
        data = np.frombuffer(fields.pop("data"), np.uint8)
        return self.make("sensor_msgs/msg/Image", header=self.header(stamp), data=data, **fields)

    def camera_info(self, stamp: int) -> Any:
        matrices = {"d": np.zeros(5), "k": CAMERA.ravel(), "r": np.eye(3).ravel(), "p": np.zeros(12)}
        return self.make(
            "sensor_msgs/msg/CameraInfo",
            header=self.header(stamp),
            height=SIZE[0],
            width=SIZE[1],
            distortion_model="plumb_bob",
            binning_x=0,
            binning_y=0,
            roi=self.make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False),
            **{name.upper() if self.noetic else name: value for name, value in matrices.items()},
        )

    def detection(self, stamp: int, row: int) -> Any:
        x0, y0, x1, y1 = BOXES.boxes[row].astype(float)
        position = self.make("geometry_msgs/msg/Point", x=0.0, y=0.0, z=0.0)
        turn = self.make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
        pose = self.make("geometry_msgs/msg/Pose", position=position, orientation=turn)
        placed = self.make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36))
        name = 41 + row if self.noetic else BOXES.classes[row]
        centre = self.make("geometry_msgs/msg/Pose2D", x=(x0 + x1) / 2, y=(y0 + y1) / 2, theta=0.0)
        return self.make(
            "vision_msgs/msg/Detection2D",
            header=self.header(stamp),
            results=[self.make("vision_msgs/msg/ObjectHypothesisWithPose", id=name, score=0.5, pose=placed)],
            bbox=self.make("vision_msgs/msg/BoundingBox2D", center=centre, size_x=x1 - x0, size_y=y1 - y0),
            source_img=self.image(0, np.zeros((1, 1), np.uint8)),
            **({} if self.noetic else {"is_tracking": True, "tracking_id": f"t{row}"}),
        )

    def rows(self) -> Iterator[Row]:
        for index in range(6):
            stamp = START + index * STEP
            boxes = [self.detection(stamp, 0), self.detection(stamp, 1)]
            yield "/info", self.camera_info(stamp), stamp
            yield "/depth", self.image(stamp, np.full(SIZE, 1000 + index, np.uint16)), stamp
            yield "/boxes", self.make("vision_msgs/msg/Detection2DArray", header=self.header(stamp), detections=boxes), stamp
            yield "/rgb", self.image(stamp, picture(index)), stamp


NOETIC = {
    "vision_msgs/msg/ObjectHypothesisWithPose": "int64 id\nfloat64 score\ngeometry_msgs/PoseWithCovariance pose",
    "vision_msgs/msg/BoundingBox2D": "geometry_msgs/Pose2D center\nfloat64 size_x\nfloat64 size_y",
    "vision_msgs/msg/Detection2D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\nvision_msgs/BoundingBox2D bbox\n"
        "sensor_msgs/Image source_img"
    ),
    "vision_msgs/msg/Detection2DArray": "std_msgs/Header header\nvision_msgs/Detection2D[] detections",
}


def store_of(base: Stores, texts: dict[str, str]) -> Typestore:
    known = get_typestore(base)
    store = get_typestore(Stores.EMPTY)
    store.register({name: fields for name, fields in known.fielddefs.items() if not name.startswith("vision_msgs/")})
    for name, text in texts.items():
        store.register(get_types_from_msg(text, name))
    return store


def noetic(path: Path) -> Path:
    store = store_of(Stores.ROS1_NOETIC, NOETIC)
    with Writer1(path) as writer:
        connections: dict[str, Any] = {}
        for topic, message, time in OldMessages(store, noetic=True).rows():
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=store)
            writer.write(connections[topic], time, store.serialize_ros1(message, message.__msgtype__))
    return path


def foxy(path: Path, plugin: StoragePlugin, definitions: bool) -> Path:
    store = store_of(Stores.ROS2_FOXY, FOXY)
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connections: dict[str, Any] = {}
        for topic, message, time in OldMessages(store, noetic=False).rows():
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=store)
            writer.write(connections[topic], time, store.serialize_cdr(message, message.__msgtype__))
    if not definitions:
        with sqlite3.connect(file_of(path)) as connection:
            connection.execute("DROP TABLE message_definitions")
            connection.execute("UPDATE schema SET schema_version = 3")
    return path


def unindexed(path: Path) -> Path:
    """A bag whose writer was killed: no index, and no word of where it is."""
    data = bytearray(path.read_bytes())
    place = data.index(b"index_pos=") + 10
    (end,) = struct.unpack_from("<Q", data, place)
    data[place : place + 8] = bytes(8)
    path.write_bytes(bytes(data[:end]))
    return path

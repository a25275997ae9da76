"""Segmented objects as messages: objects, images and clouds."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point, Pose, Vector3
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from wesam_ros.data.codecs import encode_image
from wesam_ros.data.detections import Detections
from wesam_ros.data.rotations import quaternion_of
from wesam_ros.msg import Mask, Object

if TYPE_CHECKING:  # with them comes torch, which the page does without
    from wesam_ros.sam.masks import Masks
    from wesam_ros.scene.geometry import Located
    from wesam_ros.scene.oriented_box import OrientedBox

CLOUD_TYPE = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("instance", "<u4")])


def mask_message(mask: npt.NDArray[np.bool_], crop: tuple[slice, slice]) -> Mask:
    """An (H, W) mask, cut out to the rows and columns that hold it; width 0 where it is empty."""
    rows, columns = crop
    pixels = mask[crop]
    data = array("B", (pixels.view(np.uint8) * np.uint8(255)).tobytes())
    return Mask(x=columns.start, y=rows.start, width=pixels.shape[1], height=pixels.shape[0], data=data)


def mask_of(message: Mask, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The (H, W) mask of a message for an image of `size`."""
    mask = np.zeros(size, bool)
    crop = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width) > 0
    mask[message.y : message.y + message.height, message.x : message.x + message.width] = crop
    return mask


def object_messages(masks: Masks, detections: Detections, located: Sequence[Located | None], frame_id: str) -> list[Object]:
    """One Object per mask, labelled 1..n in their order; `located` may be empty, else its places are in the frame `frame_id`."""
    objects = []
    for i in range(len(masks)):
        message = Object(
            id=detections.ids[i],
            class_id=detections.classes[i],
            detection_score=float(detections.scores[i]),
            score=float(masks.scores[i]),
            source=masks.sources[i] if masks.sources else "model",
            track_id=masks.track_ids[i] if masks.track_ids else 0,
            label=i + 1,
            box=detections.boxes[i],
            mask=mask_message(masks.masks[i], masks.crops[i]),
        )
        place = located[i] if located else None
        if place is not None:
            message.has_3d = True
            message.frame_id = frame_id
            _set_xyz(message.centroid, place.centroid)
            _set_xyz(message.extent, place.extent)
            message.depth_points = place.points
            if place.box is not None:
                _set_box(message, place.box)
        objects.append(message)
    return objects


def set_pose(message: Pose, box: OrientedBox) -> None:
    """Gives a pose the centre and the orientation of a box."""
    _set_xyz(message.position, box.center)
    rotation = message.orientation
    rotation.x, rotation.y, rotation.z, rotation.w = quaternion_of(box.axes)


def _set_box(message: Object, box: OrientedBox) -> None:
    """Fills the fields of an object's oriented box."""
    set_pose(message.box_pose, box)
    _set_xyz(message.box_size, box.size)
    message.box_points, message.on_plane, message.grasp_width = box.points, box.on_plane, box.grasp_width
    _set_xyz(message.approach_axis, box.approach)


def _set_xyz(message: Point | Vector3, values: npt.NDArray[np.float64]) -> None:
    """Fills a message's part in place: to make another one takes longer."""
    message.x, message.y, message.z = values.tolist()


def image_message(header: Header, pixels: npt.NDArray[np.uint8] | npt.NDArray[np.uint16]) -> Image:
    """(H, W, 3) uint8 RGB as rgb8, or (H, W) uint16 as 16UC1."""
    raw = encode_image(pixels)
    message = Image(header=header, height=raw.height, width=raw.width, encoding=raw.encoding, step=raw.step, is_bigendian=raw.is_bigendian)
    message.data = array("B")
    message.data.frombytes(raw.data)  # array("B", ...) of a memoryview would go through a list of numbers
    return message


def cloud_message(header: Header, points: npt.NDArray[np.float32], instances: npt.NDArray[np.uint16]) -> PointCloud2:
    """A cloud of (k, 3) points in metres with their label (k,) in the field `instance`, in the frame of the header; unordered."""
    packed = np.empty(len(points), CLOUD_TYPE)
    for axis, name in enumerate("xyz"):
        packed[name] = points[:, axis]
    packed["instance"] = instances
    kinds = {"f": PointField.FLOAT32, "u": PointField.UINT32}
    fields = [
        PointField(name=name, offset=CLOUD_TYPE.fields[name][1], datatype=kinds[CLOUD_TYPE[name].kind], count=1)  # type: ignore[index]
        for name in CLOUD_TYPE.names or ()
    ]
    message = PointCloud2(header=header, height=1, width=len(points), fields=fields, is_bigendian=False, is_dense=True)
    message.point_step, message.row_step = CLOUD_TYPE.itemsize, CLOUD_TYPE.itemsize * len(points)
    message.data = array("B", packed.tobytes())
    return message

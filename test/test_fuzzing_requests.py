"""Bad detections, transforms and depth: values or the documented error, never anything else, as in test_fuzzing.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from fuzz_inputs import CAMERA, PLANE, RGB, SIZE, Attempt, damaged
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wesam_ros.data import codecs
from wesam_ros.data.detections import Detections
from wesam_ros.data.detections_3d import detections_of_3d
from wesam_ros.data.intrinsics import Camera
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.decoding import BagMessage, Conversion, FrameMessages, decode_frame
from wesam_ros.data.recordings.reports import ReadingReport
from wesam_ros.data.recordings.same_stamp import merged_by_stamp
from wesam_ros.data.recordings.topics import BagError
from wesam_ros.data.recordings.transforms import KIND, RecordedTransforms
from wesam_ros.data.transforms import TransformBuffer, TransformError
from wesam_ros.scene.geometry import locate

TYPES = messages.typestore().types
STAMP = 5
FRAMES = st.sampled_from(["", "a", "/a", "b", messages.CAMERA_FRAME])
EIGHT = st.lists(st.floats() | st.sampled_from([0.0, 1.0, -1.0, 1e30]), min_size=10, max_size=10)


def vector(x: float, y: float, z: float) -> Any:
    return TYPES["geometry_msgs/msg/Vector3"](x=x, y=y, z=z)


def rotation(x: float, y: float, z: float, w: float) -> Any:
    return TYPES["geometry_msgs/msg/Quaternion"](x=x, y=y, z=z, w=w)


def flat() -> Any:
    return messages.detection_array(STAMP, Detections(np.array([[1, 2, 9, 9], [3, 3, 20, 20]], np.float32), ("a", "b"), ("cup", "")))


def in_space(frame: str, numbers: list[float]) -> Any:
    """A Detection3DArray of one box with these numbers: place, rotation, size."""
    like = flat().detections[0]
    point = TYPES["geometry_msgs/msg/Point"](x=numbers[0], y=numbers[1], z=numbers[2])
    pose = TYPES["geometry_msgs/msg/Pose"](position=point, orientation=rotation(*numbers[3:7]))
    box = TYPES["vision_msgs/msg/BoundingBox3D"](center=pose, size=vector(*numbers[7:]))
    one = TYPES["vision_msgs/msg/Detection3D"](header=like.header, results=like.results, bbox=box, id="a")
    return TYPES[messages.DETECTIONS_3D](header=messages.header(STAMP, frame), detections=[one])


def transform(parent: str, child: str, numbers: list[float], stamp: int) -> Any:
    """A TFMessage of one transform."""
    value = TYPES["geometry_msgs/msg/Transform"](translation=vector(*numbers[:3]), rotation=rotation(*numbers[3:7]))
    each = TYPES["geometry_msgs/msg/TransformStamped"](header=messages.header(stamp, parent), child_frame_id=child, transform=value)
    return TYPES[KIND](transforms=[each])


def recorded(topic: str, message: Any, data: bytes | None = None) -> BagMessage:
    return BagMessage(topic, message.__msgtype__, STAMP, messages.serialize(message) if data is None else data)


IMAGE = recorded("/image", messages.compressed_image(STAMP, "png", codecs.encode_png(RGB)))
INFO = messages.camera_info(STAMP, CAMERA, SIZE)


@given(frame=FRAMES, numbers=EIGHT, data=st.data())
def test_recorded_detections_and_transforms(attempt: Attempt, frame: str, numbers: list[float], data: st.DataObject) -> None:
    sent = data.draw(st.sampled_from([flat(), in_space(frame, numbers)]))
    rows = [recorded("/boxes", sent, data.draw(st.none() | damaged(messages.serialize(sent)))) for _ in range(2)]
    left_out: list[str] = []
    merged = attempt(
        lambda: list(merged_by_stamp([*rows, IMAGE], {"/boxes": "detections", "/image": "image"}, lambda *why: left_out.append(why[1]))),
        refusal=BagError,
    )
    moves = transform(data.draw(FRAMES), data.draw(FRAMES), numbers, data.draw(st.sampled_from([-1, 0, 4, 5, 10**10])))
    bytes_of_moves = data.draw(st.none() | damaged(messages.serialize(moves)))
    transforms = RecordedTransforms(
        {"/tf": (KIND, 1), "/tf_static": (KIND, 1)}, lambda topics: iter([recorded("/tf", moves, bytes_of_moves)])
    )
    info = recorded("/info", INFO, data.draw(st.none() | damaged(messages.serialize(INFO))))
    boxes = next((each for each in merged or () if each.topic == "/boxes"), rows[0])
    parts = FrameMessages(STAMP, {"image": IMAGE, "camera_info": info, "detections": boxes})
    attempt(decode_frame, parts, "", ReadingReport(), Conversion(transforms=transforms), refusal=BagError)


@given(numbers=EIGHT, d=st.sampled_from([(), (0.1, 0, 0, 0, 0)]))
def test_any_box_in_space(attempt: Attempt, numbers: list[float], d: tuple[float, ...]) -> None:
    camera = Camera(CAMERA, SIZE, d, "plumb_bob" if d else "")
    found = attempt(detections_of_3d, in_space("a", numbers), camera, None, refusal=ValueError)
    assert found is None or np.isfinite(found[0].boxes).all()


@given(links=st.lists(st.tuples(FRAMES, FRAMES, EIGHT, st.integers(-(2**31), 2**31) | st.integers(0, 9), st.booleans()), max_size=5))
def test_any_tree_of_frames(attempt: Attempt, links: list[Any]) -> None:
    buffer = TransformBuffer()
    for parent, child, numbers, stamp, static in links:
        buffer.add(transform(parent, child, numbers, stamp).transforms, static=static)
    found = attempt(buffer.lookup, "a", "b", STAMP, refusal=TransformError)
    assert found is None or found.shape == (4, 4)


@given(
    labels=hnp.arrays(np.uint16, SIZE, elements=st.integers(0, 2), fill=st.integers(0, 2)),
    depth=hnp.arrays(np.float32, SIZE, elements=st.floats(0, 100, width=32), fill=st.sampled_from([0.0, 0.5, 1.0])),
    focal=st.sampled_from([1e-3, 40.0, 1e6]),
    moved=st.booleans(),
    sloped=st.booleans(),
)
def test_places_of_any_labels_and_depth(
    attempt: Attempt, labels: np.ndarray, depth: np.ndarray, focal: float, moved: bool, sloped: bool
) -> None:
    if sloped:
        depth = depth + (PLANE / PLANE.max()).astype(np.float32)
    camera = np.array([[focal, 0, 16], [0, focal, 12], [0, 0, 1]])
    whole = slice(0, SIZE[0]), slice(0, SIZE[1])
    found = attempt(locate, labels, depth, camera, [whole, whole], np.eye(4) if moved else None, refusal=ValueError)
    for each in found:
        if each is not None:
            parts = SimpleNamespace(**vars(each.box))
            assert all(np.isfinite(value).all() for value in (each.centroid, each.extent, parts.center, parts.axes, parts.size))
            np.testing.assert_allclose(parts.axes.T @ parts.axes, np.eye(3), atol=1e-6)
            assert (parts.size >= 0).all()

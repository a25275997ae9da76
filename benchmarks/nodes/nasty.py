"""A recording as the field has them, against the same one clean: replayed, adapted to and reported in one go.

    source scripts/env.sh
    python benchmarks/nodes/nasty.py demo/tabletop.mcap --frames 40 --json out/nasty.json

The nasty recording has the frames of the clean one, and:

- colour as yuv422_yuy2, or with --colour jpeg as JPEG; one picture of it is cut short;
- depth stamped 1 to 30 ms beside its image (--sync-slop 0.035 is given to each run), and a camera_info whose stamp never changes;
- two detectors on one topic, each with half of the boxes, all of them turned by a quarter (theta);
- ten topics that have nothing to do with it, among them a second camera;
- three files, each packed by zstd, in one folder.

Lossless colour is not the same as JPEG: yuy2 halves the colour's width. So figures may differ by what that does to the model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from wesam_ros.data import codecs
from wesam_ros.data.detections import Detections
from wesam_ros.data.frames import Frame
from wesam_ros.data.recordings import messages
from wesam_ros.data.recordings.bags import read_bag, write_bag
from wesam_ros.files import write_json
from wesam_ros.machine import processor

Row = tuple[str, Any, int]
MS = 10**6
IMAGE, BROKEN = "/camera/color/image_raw", 3
"""The colour topic, and the frame whose picture is cut short."""
SLOP = 0.035
"""Seconds; the depth's stamps are up to 30 ms off."""
FILES = 3
FIGURES = ("frames", "miou_frozen", "miou_adapted", "adapter_versions", "frames_accepted", "instances_scored")
"""Of a run's summary."""


def make(kind: str, /, **fields: Any) -> Any:
    """A message of the recordings' types."""
    return messages.typestore().types[kind](**fields)


def raw(stamp: int, encoding: str, pixels: np.ndarray) -> Any:
    """sensor_msgs/Image of an array's bytes."""
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8)
    fields = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0, "step": data.size // height, "data": data}
    return make(messages.IMAGE, header=messages.header(stamp), **fields)


def yuy2(image: np.ndarray) -> np.ndarray:
    """(H, W, 2) of an RGB image with an even width, in BT.601's limited range: Y everywhere, U and V of each two pixels by turns."""
    r, g, b = (image[..., k].astype(np.float64) for k in range(3))
    y = 16 + (65.738 * r + 129.057 * g + 25.064 * b) / 256
    u = 128 + (-37.945 * r - 74.494 * g + 112.439 * b) / 256
    v = 128 + (112.439 * r - 94.154 * g - 18.285 * b) / 256
    packed = np.stack([y, np.zeros_like(y)], 2)
    packed[:, ::2, 1], packed[:, 1::2, 1] = ((each[:, ::2] + each[:, 1::2]) / 2 for each in (u, v))
    return np.rint(packed).clip(0, 255).astype(np.uint8)


def turned(stamp: int, found: Detections, rows: slice) -> Any:
    """Some of the boxes as a Detection2DArray, each turned by a quarter, so that the upright box around it is the same."""
    part = Detections(found.boxes[rows], found.ids[rows], found.classes[rows], found.scores[rows])
    message = messages.detection_array(stamp, part)
    for each in message.detections:
        each.bbox.center.theta = np.pi / 2
        each.bbox.size_x, each.bbox.size_y = each.bbox.size_y, each.bbox.size_x
    return message


def unrelated(stamp: int) -> Iterator[tuple[str, Any]]:
    """Messages of ten topics of a robot."""
    header, xyz = messages.header(stamp), {"x": 0.0, "y": 0.0, "z": 9.81}
    vector, turn = make("geometry_msgs/msg/Vector3", **xyz), make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0)
    nine = np.zeros(9)
    rates = {"orientation": turn, "angular_velocity": vector, "linear_acceleration": vector}
    covariances = {f"{name}_covariance": nine for name in rates}
    twist = make("geometry_msgs/msg/Twist", linear=vector, angular=vector)
    infrared = np.zeros((48, 64), np.uint8)
    none = np.zeros(0)
    yield "/imu", make("sensor_msgs/msg/Imu", header=header, **rates, **covariances)
    yield "/joint_states", make("sensor_msgs/msg/JointState", header=header, name=["a"], position=none, velocity=none, effort=none)
    yield "/cmd_vel", twist
    yield "/cmd_vel_stamped", make("geometry_msgs/msg/TwistStamped", header=header, twist=twist)
    yield "/battery", make("std_msgs/msg/Float64", data=12.5)
    yield "/mode", make("std_msgs/msg/String", data="pick")
    yield "/clock", make("rosgraph_msgs/msg/Clock", clock=header.stamp)
    yield "/camera/infra1/image_rect_raw", raw(stamp, "mono8", infrared)
    yield "/wrist/debug/image_raw/compressed", messages.compressed_image(stamp, "jpeg", codecs.encode_jpeg(np.dstack([infrared] * 3)))
    yield "/wrist/debug/camera_info", messages.camera_info(stamp, np.eye(3), (48, 64))


def nasty_rows(frames: Iterable[Frame], colour: str) -> Iterator[Row]:
    """Topic, message and time of recording of everything in the nasty recording of labelled frames with depth."""
    random, info = np.random.default_rng(0), None
    for index, frame in enumerate(frames):
        assert frame.depth is not None
        assert frame.camera is not None
        assert frame.detections is not None
        stamp = frame.stamp_ns
        info = info or messages.camera_info(stamp, frame.camera.astype(np.float64), frame.size)
        yield "/camera/color/camera_info", info, stamp
        offset = int(random.integers(1, 31)) * MS * (1 if index % 2 else -1)
        yield "/camera/depth/image_raw", raw(stamp + offset, "16UC1", np.rint(frame.depth * 1000).astype(np.uint16)), stamp + offset
        if frame.labels is not None:
            yield "/ground_truth/labels", messages.compressed_image(stamp, "16UC1; png compressed ", codecs.encode_png(frame.labels)), stamp
        if colour == "jpeg":
            data = codecs.encode_jpeg(frame.image, 95)
            picture = messages.compressed_image(stamp, "rgb8; jpeg compressed bgr8", data[: len(data) // 2] if index == BROKEN else data)
        else:
            picture = raw(stamp, "yuv422_yuy2", yuy2(frame.image))
            picture.data = picture.data[: len(picture.data) // 2] if index == BROKEN else picture.data
        yield IMAGE + ("/compressed" if colour == "jpeg" else ""), picture, stamp
        half = len(frame.detections.boxes) // 2
        yield "/detections", turned(stamp, frame.detections, slice(0, half)), stamp + 40 * MS
        yield "/detections", turned(stamp, frame.detections, slice(half, None)), stamp + 60 * MS
        yield from ((topic, message, stamp + 10 * MS) for topic, message in unrelated(stamp))


def write_split(folder: Path, rows: Iterable[Row], files: int = FILES) -> Path:
    """A folder of packed MCAP files with one metadata.yaml, as `ros2 bag record --max-bag-duration --compression-mode file` leaves it."""
    ordered = sorted(rows, key=lambda row: row[2])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    whole: dict[str, Any] = {}
    for number, part in enumerate(np.array_split(np.arange(len(ordered)), files)):
        place = folder / f"{folder.name}_{number}"
        writer = Writer(place, version=9, storage_plugin=StoragePlugin.MCAP)
        writer.set_compression(CompressionMode.FILE, CompressionFormat.ZSTD)
        with writer:
            connections: dict[str, Any] = {}
            for topic, message, time in (ordered[k] for k in part):
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=messages.typestore())
                writer.write(connections[topic], time, messages.serialize(message))
        _join(whole, yaml.safe_load((place / "metadata.yaml").read_text())["rosbag2_bagfile_information"])
        next(place.glob("*.zstd")).rename(folder / f"{place.name}.mcap.zstd")
        shutil.rmtree(place)
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": whole}))
    return folder


def _join(whole: dict[str, Any], part: dict[str, Any]) -> None:
    """Adds the metadata of one more file to those of a recording."""
    if not whole:
        whole.update(part)
        return
    start = whole["starting_time"]["nanoseconds_since_epoch"]
    end = part["starting_time"]["nanoseconds_since_epoch"] + part["duration"]["nanoseconds"]
    whole["duration"]["nanoseconds"] = end - start
    whole["message_count"] += part["message_count"]
    whole["relative_file_paths"] += part["relative_file_paths"]
    whole["files"] += part["files"]
    counts = {each["topic_metadata"]["name"]: each for each in whole["topics_with_message_count"]}
    for each in part["topics_with_message_count"]:
        if (known := counts.get(each["topic_metadata"]["name"])) is not None:
            known["message_count"] += each["message_count"]
        else:
            whole["topics_with_message_count"].append(each)


def run(words: list[str], out: Path) -> dict[str, Any]:
    """The summary of a command, and what its report says of messages that were left out."""
    command = [sys.executable, "-m", "wesam_ros.cli", *words, "--out", str(out), "--sync-slop", str(SLOP)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    summary = json.loads((out / "summary.json").read_text())
    page = (out / "report.html").read_text()
    _, _, rest = page.partition("Messages left out")
    left_out = rest.partition("</tr>")[0].replace("</th>", "").replace("<td>", "").replace("</td>", "").strip()
    return {**{name: summary.get(name) for name in FIGURES}, "left_out": left_out}


def compare(bag: Path, frames: int, colour: str, out: Path, options: list[str]) -> dict[str, Any]:
    """Figures of both recordings, replayed and adapted to."""
    write_bag(out / "clean.mcap", islice(read_bag(bag, labels=True), frames), jpeg_quality=95)
    write_split(out / "nasty", nasty_rows(islice(read_bag(bag, labels=True), frames), colour))
    result: dict[str, Any] = {}
    for name in ("clean.mcap", "nasty"):
        short = name.partition(".")[0]
        result[short] = {
            "replay": run(["replay", str(out / name), "--lock-step", *options], out / f"{short}_replay"),
            "adapt": run(["adapt", str(out / name), "--threads", "1", *options], out / f"{short}_adapt"),
        }
    return result


def main() -> int:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("bag", type=Path, help="a labelled recording with depth and detections")
    parser.add_argument("--frames", type=int, default=40, help="its first frames, default 40")
    parser.add_argument("--colour", choices=("yuy2", "jpeg"), default="yuy2", help="default yuy2")
    parser.add_argument("--out", type=Path, default=Path("out/nasty"), help="folder for recordings and runs, default out/nasty")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    figures = compare(args.bag, args.frames, args.colour, args.out.resolve(), [])
    result = {"processor": processor(), "recording": args.bag.name, "frames": args.frames, "colour": args.colour, **figures}
    print(json.dumps(result, indent=1))
    if args.json:
        write_json(args.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

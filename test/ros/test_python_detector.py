"""examples/python_detector.py as a node of its own, asked for the boxes of an image."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from vision_msgs.msg import Detection2DArray

from wesam_ros.data.messages import detections_of, stamp_of
from wesam_ros.ros.objects import image_message

SCRIPT = Path(__file__).parents[2] / "examples" / "python_detector.py"


def test_boxes_come_with_the_stamp_of_their_image(graph: Any, tmp_path: Path) -> None:
    found: dict[int, Detection2DArray] = {}
    subscription = graph.node.create_subscription(Detection2DArray, "found", lambda m: found.update({stamp_of(m.header): m}), 10)
    process = subprocess.Popen([sys.executable, str(SCRIPT), "--ros-args", "-r", "detections:=found"], cwd=tmp_path)
    image = np.full((120, 160, 3), 80, np.uint8)
    image[20:50, 30:70] = (200, 30, 30)
    header = graph.next_header()
    try:
        graph.until(lambda: graph.node.count_publishers("found"), "the detector's start")

        def answered() -> bool:  # the first image may come before the subscription is matched
            graph.send(image=image_message(header, image))
            return stamp_of(header) in found

        graph.until(answered, "boxes for the image")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)
        graph.node.destroy_subscription(subscription)
    message = found[stamp_of(header)]
    assert message.header == header
    detections = detections_of(message)
    np.testing.assert_allclose(detections.boxes, [(30, 20, 70, 50)], atol=1)
    assert detections.classes == ("blob",)

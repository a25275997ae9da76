"""An adapter node that saves nothing, killed and started again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from wesam_ros.nodes.children import NodeProcess
from wesam_ros.nodes.conversions import stamp_of


@pytest.mark.usefixtures("segmenter")
def test_segmenters_do_not_keep_what_is_lost(graph: Any, random_tiny: Path, tmp_path: Path) -> None:
    """They have a version that the new process knows nothing of; it would count its own from there unseen."""
    parameters = {"checkpoint": random_tiny, "torch_threads": 1, "steps_per_frame": 1, "adaptation.publish_every": 1}
    parameters |= {"adaptation.held_back": 2, "adaptation.judges": 1, "adaptation.tolerance": 1.0}

    def start(log: str) -> NodeProcess:
        before = graph.listeners("/detections")
        process = NodeProcess("adapter", parameters, tmp_path / log, {})

        def subscribed() -> bool:
            process.check()
            return bool(graph.listeners("/detections") - before)

        graph.until(subscribed, "the adapter node's start")
        return process

    process = start("first.log")
    try:
        status = None
        for _ in range(10):
            header = graph.next_header()
            stamp = stamp_of(header)
            graph.send(**graph.frame(header))
            status = graph.until(lambda stamp=stamp: graph.statuses.get(stamp), "a status")
            if status.published:
                break
        assert status is not None and status.version >= 1
        graph.until(lambda: graph.versions and graph.versions[-1] == status.version, "the segmenter's taking the adapter")
        process.process.kill()
        process.process.wait(10)
        process = start("second.log")
        graph.until(lambda: graph.versions[-1] == 0, "the segmenter's taking the one that changes nothing")
    finally:
        process.stop()

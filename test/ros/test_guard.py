"""The adapter node when the adapter that it published has become worse than the frozen model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import torch
from wesam_ros.msg import AdaptationStatus
from wesam_ros.msg import Adapter as AdapterMessage

from wesam_ros.data.messages import stamp_of
from wesam_ros.engines.parity import scene
from wesam_ros.ros.children import NodeProcess
from wesam_ros.ros.objects import image_message
from wesam_ros.sam import Adapter, base_hash, load_sam


def test_goes_back_to_the_frozen_model_and_says_so(graph: Any, tmp_path: Path) -> None:
    """It starts from an adapter that ruins the shipped model, as if the scene had changed since that was good."""
    sam, saved, ruined_version = load_sam("tiny"), tmp_path / "adapter.safetensors", 7
    untrained = Adapter.untrained(sam, base_hash(sam), 4, seed=0)
    replace(untrained, b=torch.full_like(untrained.b, 10.0), version=ruined_version).save(saved)
    parameters = {
        "torch_threads": 1,
        "save_to": saved,
        "steps_per_frame": 1,
        "adaptation.publish_every": 1,
        "adaptation.validation_every": 2,
    }
    before = graph.listeners("/detections")
    process = NodeProcess("adapter", parameters, tmp_path / "adapter.log", {})
    try:

        def subscribed() -> bool:
            process.check()
            return bool(graph.listeners("/detections") - before)

        graph.until(subscribed, "the adapter node's start")
        image, prompts = scene()
        boxes = [each.box.tolist() for each in prompts.objects if each.box is not None]
        statuses: list[AdaptationStatus] = []
        while not (statuses and statuses[-1].published):
            assert len(statuses) < 5, statuses
            header = graph.next_header()
            stamp = stamp_of(header)
            graph.send(image=image_message(header, image), detections=graph.frame(header, boxes)["detections"])
            statuses.append(graph.until(lambda stamp=stamp: graph.statuses.get(stamp), "a status"))
        assert [each.version for each in statuses[:-1]] == [ruined_version] * (len(statuses) - 1)
        assert statuses[-1].version == ruined_version + 1
        assert statuses[-1].proposal_reason.startswith("below_frozen (")

        def message() -> AdapterMessage | None:  # earlier tests' nodes have published adapters of another model
            mine = (each for each in graph.adapters if (each.version, each.base_hash) == (ruined_version + 1, untrained.base))
            return next(mine, None)

        published = graph.until(message, "the adapter's message")
        assert not Adapter.from_bytes(published.data.tobytes(), for_sam=sam).b.any()
        assert saved.read_bytes() == published.data.tobytes()
        graph.until(lambda: graph.count("adapter", "restored.below_frozen") == 1, "the count")
        assert f"version {ruined_version} is judged below_frozen" in process.log_end()
    finally:
        process.stop()

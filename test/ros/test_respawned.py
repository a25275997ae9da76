"""Nodes that were killed and started again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

from std_srvs.srv import SetBool

from wesam_ros.data.messages import stamp_of
from wesam_ros.ros.children import NodeProcess
from wesam_ros.sam import Adapter, base_hash


@pytest.mark.usefixtures("segmenter")
def test_segmenters_do_not_keep_what_is_lost(graph: Any, random_tiny: Path, tmp_path: Path) -> None:
    """They have a version that the new process knows nothing of; it would count its own from there unseen."""
    parameters = {"checkpoint": random_tiny, "torch_threads": 1, "steps_per_frame": 1, "adaptation.publish_every": 1}
    parameters |= {
        "adaptation.validation_every": 2,
        "adaptation.validation_frames": 1,
        "adaptation.tolerance": 1.0,
        "adaptation.prompt_fit": 0.0,
    }

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


def test_the_choice_of_the_frozen_model_survives_a_kill(graph: Any, random_tiny: Path, sam: Any, tmp_path: Path) -> None:
    file = tmp_path / "adapter.safetensors"
    replace(Adapter.untrained(sam, base_hash(sam), 4, seed=0), version=5).save(file)
    parameters = {"checkpoint": random_tiny, "torch_threads": 1, "engine": "torch", "adapter": file, "keep_beside": file}

    def start() -> NodeProcess:
        graph.diagnostics.pop("/chosen/segmenter", None)
        return NodeProcess("segmenter", parameters, tmp_path / "segmenter.log", {}, {"__ns": "/chosen"})

    def choose(frozen: bool) -> None:
        assert graph.call(SetBool, "/chosen/segmenter/use_frozen", SetBool.Request(data=frozen)).success

    def until_in_use(what: str) -> None:
        def found() -> bool:
            process.check()
            values = graph.diagnostics.get("/chosen/segmenter", {})
            return (values.get("adapter_version"), values.get("in_use")) == ("5", what)

        graph.until(found, f"the {what} in use")

    process = start()
    try:
        until_in_use("adapter")
        choose(True)
        process.process.kill()
        process.process.wait(10)
        process = start()
        until_in_use("frozen model")
        assert "the frozen model serves, as was chosen before this node ended" in process.log_end()
        choose(False)
        until_in_use("adapter")
        assert {each.name for each in tmp_path.iterdir()} == {file.name, "segmenter.log"}
    finally:
        process.stop()


LEASE = 4
"""Seconds after which a killed process is gone from the graph, rather than 20."""


@pytest.mark.usefixtures("segmenter")
def test_the_second_of_two_adapter_nodes_takes_over_when_the_first_is_killed(
    graph: Any, random_tiny: Path, sam: Any, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.xml"
    place = "<discovery_config>"
    variable = next(name for name in os.environ if name.endswith("_DEFAULT_PROFILES_FILE"))
    before, after = Path(os.environ[variable]).read_text().split(place)
    profile.write_text(f"{before}{place}<leaseDuration><sec>{LEASE}</sec></leaseDuration>{after}")
    environment = {variable: str(profile)}
    versions = {"one": 31, "two": 32}
    nodes = {}
    try:
        for name, version in versions.items():
            file = tmp_path / f"{name}.safetensors"
            replace(Adapter.untrained(sam, base_hash(sam), 4, seed=0), version=version).save(file)
            parameters = {"checkpoint": random_tiny, "torch_threads": 1, "save_to": file}
            nodes[name] = NodeProcess("adapter", parameters, tmp_path / f"{name}.log", environment, {"__node": name})

        def warned(sentence: str) -> bool:
            for node in nodes.values():
                node.check()
            return sentence in graph.warnings.get("/segmenter", "")

        graph.until(lambda: graph.versions and graph.versions[-1] in versions.values(), "the segmenter's taking an adapter")
        first, second = sorted(versions, key=lambda name: versions[name] != graph.versions[-1])
        sentence = f"/{second} publishes adapters, but those of /{first} are in use"
        graph.until(lambda: warned(sentence), "the warning of a second adapter node")
        assert graph.versions[-1] == versions[first]
        killed = nodes.pop(first).process
        killed.kill()
        killed.wait(10)
        graph.until(lambda: graph.versions[-1] == versions[second], "the segmenter's taking the second node's")
        assert len(graph.answer().objects) == 2
        killed = nodes.pop(second).process
        killed.kill()
        killed.wait(10)
        graph.until(lambda: warned(f"the adapter of /{second} is in use, but that node is gone"), "the warning that nobody is left")
        assert graph.answer().adapter_version == versions[second]
    finally:
        for node in nodes.values():
            node.stop()

"""Faults around the nodes, in real processes: life cycle, clocks, QoS, a second adapter, several robots."""

from __future__ import annotations

import itertools
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("wesam_ros.msg", reason="needs ROS 2 and the built package")

import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock
from wesam_ros.msg import Adapter as AdapterMessage
from wesam_ros.msg import ObjectArray

from wesam_ros.ros.children import NodeProcess
from wesam_ros.ros.subscriptions import LATCHED
from wesam_ros.sam import Adapter, base_hash

pytestmark = pytest.mark.usefixtures("segmenter")
NODE_PARAMETERS = {"use_sim_time": True}  # of the segmenter; nobody publishes a clock


def publish(publisher: Any, sam: Any, version: int) -> None:
    """Publishes an adapter that changes nothing."""
    fresh = Adapter.untrained(sam, base_hash(sam), 4, seed=0)
    adapter = Adapter(fresh.a, fresh.b, fresh.base, version)
    publisher.publish(AdapterMessage(version=version, base_hash=adapter.base, data=array("B", adapter.to_bytes())))


def test_without_a_clock_it_serves_and_reports(graph: Any) -> None:
    assert len(graph.answer().objects) == 2
    expected = {"rate_hz", "rate_hz.image", "memory_mib", "threads", "open_files", "version.torch", "version.rmw"}
    graph.until(lambda: expected <= set(graph.diagnostics.get("/segmenter", {})), "whole diagnostics")


def test_the_security_policy_permits_what_the_node_does(graph: Any) -> None:
    permitted, found = graph.permitted("segmenter"), graph.until(lambda: graph.endpoints("segmenter"), "its endpoints")
    assert found["reply"] == permitted["reply"]
    for kind in ("publish", "subscribe"):
        assert found[kind] and found[kind] <= permitted[kind], kind
    assert "/adapter" not in permitted["publish"]


def test_a_clock_that_goes_back(graph: Any) -> None:
    """A recording that says the time is played again."""
    clock = graph.node.create_publisher(Clock, "/clock", 10)
    try:
        graph.until(clock.get_subscription_count, "the segmenter's subscription to /clock")
        results = []
        for back in (0, 500):
            for _ in range(3):
                header = graph.next_header()
                header.stamp.sec -= back
                clock.publish(Clock(clock=header.stamp))
                graph.send(**graph.frame(header))
                results.append(graph.masks_of(header))
            graph.until(lambda sec=header.stamp.sec: graph.clocks.get("/segmenter") == sec, "the segmenter's taking the time")
    finally:
        graph.node.destroy_publisher(clock)
    assert [[each.has_3d for each in result.objects] for result in results] == [[True, True]] * 6
    graph.until(lambda: graph.count("segmenter", "jumped.image") == 1, "the count of the clock's going back")


SLOW = """
import time

import rclpy
from sensor_msgs.msg import Image
from wesam_ros.msg import ObjectArray

rclpy.init()
node = rclpy.create_node("slow")
node.create_subscription(ObjectArray, "segmenter/objects", lambda _: None, 10)
node.create_subscription(Image, "segmenter/labels", lambda _: None, 10)
time.sleep(1000)
"""


def test_a_subscriber_that_takes_nothing_holds_nobody_up(graph: Any, tmp_path: Path) -> None:
    """It is reliable, and never spins: more frames come than it keeps, or the publishers for it."""
    before = graph.node.count_subscribers("segmenter/labels")
    slow = subprocess.Popen([sys.executable, "-c", SLOW], cwd=tmp_path)
    try:
        graph.until(lambda: graph.node.count_subscribers("segmenter/labels") > before, "the slow node's subscription")
        for _ in range(12):
            assert len(graph.answer().objects) == 2
    finally:
        slow.kill()
        slow.wait()


def test_qos_that_does_not_fit_is_explained(graph: Any, segmenter: NodeProcess) -> None:
    volatile = graph.node.create_publisher(AdapterMessage, "adapter", QoSProfile(depth=1))
    latched = graph.node.create_subscription(
        ObjectArray, "segmenter/objects", lambda _: None, QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    try:
        graph.until(lambda: graph.count("segmenter", "incompatible_qos") >= 2, "the count of both mismatches")
        for other in ("a publisher on /adapter", "a subscriber on /segmenter/objects"):
            sentence = f"{other} and this node exchange nothing: its DURABILITY does not fit"
            graph.until(lambda sentence=sentence: sentence in segmenter.log_end(), f"in the log: {sentence}")
    finally:
        graph.node.destroy_publisher(volatile)
        graph.node.destroy_subscription(latched)


@pytest.fixture
def other_node() -> Iterator[Any]:
    """A node of another name, in a participant of its own, as another process's would be."""
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("intruder", context=context)
    yield node
    if context.ok():
        context.shutdown()


def test_a_second_publisher_of_adapters_waits_until_the_first_is_gone(
    graph: Any, segmenter: NodeProcess, sam: Any, other_node: Any
) -> None:
    def says(text: str) -> Callable[[], bool]:
        return lambda: text in graph.warnings.get("/segmenter", "")

    before = len(graph.versions)
    first = graph.node.create_publisher(AdapterMessage, "adapter", LATCHED)
    publish(first, sam, 11)
    graph.until(lambda: graph.versions and graph.versions[-1] == 11, "the segmenter's taking version 11")
    second = other_node.create_publisher(AdapterMessage, "adapter", LATCHED)
    publish(second, sam, 12)
    graph.until(says("/intruder publishes adapters, but those of /tester are in use"), "the warning of two publishers")
    assert graph.count("segmenter", "rejected.adapter.other_publisher") == 1
    publish(first, sam, 13)
    graph.until(lambda: graph.versions[-1] == 13, "the segmenter's taking version 13")
    graph.node.destroy_publisher(first)
    graph.until(lambda: graph.versions[-1] == 12, "the segmenter's taking the other's, now that it is the only one")
    assert 12 not in graph.versions[before:-1]
    graph.until(lambda: graph.diagnostics["/segmenter"]["adapter_from"] == "/intruder", "its name in the diagnostics")
    gone = "the adapter of /intruder is in use, but that node is gone"
    other_node.destroy_publisher(second)
    graph.until(says(gone), "the warning that nobody judges it")
    other_node.create_publisher(AdapterMessage, "adapter", LATCHED)  # back, and it has published nothing yet
    graph.until(lambda: f"no more: {gone}" in segmenter.log_end(), "its end in the log")
    assert graph.versions[-1] == 12


def test_an_input_that_stops_is_named_until_it_is_back(graph: Any, segmenter: NodeProcess) -> None:
    graph.until(lambda: "nothing comes on /image: it has a publisher" in graph.warnings["/segmenter"], "the warning")
    assert len(graph.answer().objects) == 2
    graph.until(lambda: "nothing comes" not in graph.warnings["/segmenter"], "the end of the warning")
    graph.until(lambda: "no more: nothing comes on /image" in segmenter.log_end(), "its end in the log")


STATES = {
    (State.PRIMARY_STATE_ACTIVE, Transition.TRANSITION_DEACTIVATE): State.PRIMARY_STATE_INACTIVE,
    (State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_ACTIVATE): State.PRIMARY_STATE_ACTIVE,
    (State.PRIMARY_STATE_INACTIVE, Transition.TRANSITION_CLEANUP): State.PRIMARY_STATE_UNCONFIGURED,
    (State.PRIMARY_STATE_UNCONFIGURED, Transition.TRANSITION_CONFIGURE): State.PRIMARY_STATE_INACTIVE,
}
TRANSITIONS = sorted({transition for _, transition in STATES})


def test_transitions_in_every_order(graph: Any, segmenter: NodeProcess) -> None:
    """Every pair of transitions, one after the other: legal ones lead where they should, others are refused and change nothing."""
    state = State.PRIMARY_STATE_ACTIVE
    for transition in itertools.chain.from_iterable(itertools.product(TRANSITIONS, repeat=2)):
        request = ChangeState.Request(transition=Transition(id=transition))
        done = graph.call(ChangeState, "/segmenter/change_state", request).success
        assert done == ((state, transition) in STATES), (state, transition)
        state = STATES.get((state, transition), state)
        segmenter.check()
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        if (state, transition) in STATES:
            assert graph.call(ChangeState, "/segmenter/change_state", ChangeState.Request(transition=Transition(id=transition))).success
            state = STATES[state, transition]
    assert state == State.PRIMARY_STATE_ACTIVE
    graph.until(graph.publishers["detections"].get_subscription_count, "the subscriptions")
    assert len(graph.answer().objects) == 2
    shut_down = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_ACTIVE_SHUTDOWN))
    assert graph.call(ChangeState, "/segmenter/change_state", shut_down).success
    assert graph.call(GetState, "/segmenter/get_state", GetState.Request()).current_state.id == State.PRIMARY_STATE_FINALIZED
    segmenter.check()

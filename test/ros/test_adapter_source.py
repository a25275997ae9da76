"""Several publishers of adapters, of which one is served, without ROS."""

from __future__ import annotations

import pytest

pytest.importorskip("wesam_ros.msg", reason="wesam_ros.nodes needs ROS 2")

from wesam_ros.ros.adapter_source import UNKNOWN, AdapterSource

A, B, C = (bytes([n]) * 16 for n in range(3))


@pytest.fixture
def graph() -> dict[bytes, str]:
    """The publishers that the graph knows, by id."""
    return {A: "/adapter"}


@pytest.fixture
def source(graph: dict[bytes, str]) -> AdapterSource:
    """One that serves A."""
    made = AdapterSource(lambda: graph)
    assert made.rejection(A) is None
    made.take(A)
    assert made.name == "/adapter"
    return made


def test_one_that_was_never_taken_does_not_bind(graph: dict[bytes, str]) -> None:
    source = AdapterSource(lambda: graph)
    assert source.rejection(B) is None
    assert source.rejection(A) is None


def test_another_node_waits_until_the_first_is_gone(graph: dict[bytes, str], source: AdapterSource) -> None:
    graph[B] = "/robot2/adapter"
    assert "/robot2/adapter publishes adapters, but those of /adapter are in use" in (source.rejection(B) or "")
    assert source.rejection(A) is None
    del graph[A]
    assert source.rejection(B) is None


def test_a_restarted_node_takes_over_while_its_killed_self_is_still_in_the_graph(graph: dict[bytes, str], source: AdapterSource) -> None:
    graph[B] = "/adapter"
    assert source.rejection(B) is None
    source.take(B)
    assert source.rejection(B) is None
    assert "two nodes named /adapter" in (source.rejection(A) or "")  # so it was not killed after all


def test_a_node_whose_name_has_not_arrived_is_looked_at_again(graph: dict[bytes, str], source: AdapterSource) -> None:
    graph[C] = f"{UNKNOWN}/{UNKNOWN}"
    assert source.rejection(C) == ""
    graph[C] = "/adapter"
    assert source.rejection(C) is None


def test_a_name_that_arrives_late_is_taken_note_of(graph: dict[bytes, str]) -> None:
    """The adapter comes before the name does, after the network between them was down."""
    graph.clear()
    graph[A] = f"{UNKNOWN}/{UNKNOWN}"
    source = AdapterSource(lambda: graph)
    source.take(A)
    graph[B] = "/robot2/adapter"
    assert source.name == ""
    assert source.rejection(B) == ""
    assert not source.gone()
    graph[A] = "/adapter"
    assert source.name == "/adapter"
    assert "those of /adapter are in use" in (source.rejection(B) or "")
    graph[A] = f"{UNKNOWN}/{UNKNOWN}"
    assert source.name == "/adapter"
    del graph[A]
    assert source.gone()


def test_a_node_is_gone_until_it_is_back_under_its_name(graph: dict[bytes, str], source: AdapterSource) -> None:
    assert not source.gone()
    graph[B] = "/robot2/adapter"
    del graph[A]
    assert source.gone()
    graph[C] = "/adapter"  # restarted; it has published nothing yet
    assert not source.gone()
    assert not AdapterSource(dict).gone()  # nobody's was taken: one from a file may well have no node


def test_two_publishers_of_one_process_are_one_source(graph: dict[bytes, str], source: AdapterSource) -> None:
    other = A[:12] + b"else"
    graph[other] = "/adapter"
    assert source.rejection(other) is None
    source.take(other)
    assert source.rejection(A) is None

"""The robots of a graph, for the page."""

from __future__ import annotations

from rclpy.executors import Executor
from rclpy.node import Node

from wesam_ros.ros.robot_topics import namespaces_of
from wesam_ros.ros.watched_robot import WatchedRobot


class WatchedRobots:
    """A `wesam_ros.web.values.Robots` of the graph: every namespace with a segmenter is a robot.

    Args:
        node: the owner of all subscriptions.
        executor: spins it, in another thread.
        image: base name of the colour image; "" to ask the graph.
    """

    def __init__(self, node: Node, executor: Executor, image: str = "") -> None:
        self._node, self._executor, self._image = node, executor, image
        self._robots: dict[str, WatchedRobot] = {}

    def names(self) -> list[str]:
        """Namespaces of the robots that are there now, and of those that are watched."""
        there = namespaces_of(self._node.get_node_names_and_namespaces())
        return sorted({*there, *self._robots})

    def robot(self, name: str) -> WatchedRobot:
        """A robot by its namespace. KeyError: there is none."""
        if name not in self._robots:
            if name not in self.names():
                raise KeyError(name)
            self._robots[name] = WatchedRobot(self._node, self._executor, name, self._image)
        return self._robots[name]

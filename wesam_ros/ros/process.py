"""A node's process: start, spin, end."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

from wesam_ros.ros.frame_node import FrameNode


def run_node(make: Callable[[], FrameNode[Any]], args: list[str] | None) -> int:
    """Runs a node in this process until SIGINT or SIGTERM. Where its lifecycle is shut down it stays, finalized, as rclcpp's nodes do.

    Returns:
        The exit status: 0; 2 where a parameter is wrong, or autostart cannot configure the node with its settings; 1 where it could not
        for a reason that may pass, such as too little memory. The log says why.
    """
    rclpy.init(args=args)
    try:
        node = make()
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.parameters.autostart and not _started(node):
            return 1 if node.may_pass else 2
        _spin(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # how a node is asked to end
    finally:
        # A second Ctrl-C must not keep the node from saving what it has learnt; SIGKILL still ends it at once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        node.close()
        executor.shutdown(0)
        rclpy.try_shutdown()
    return 0


def _started(node: FrameNode[Any]) -> bool:
    return TransitionCallbackReturn.SUCCESS == node.trigger_configure() == node.trigger_activate()


def _spin(node: FrameNode[Any], executor: SingleThreadedExecutor) -> None:
    """Spins; an exception in a callback is counted and logged, and the node lives on."""
    while rclpy.ok():
        try:
            executor.spin_once()
        except (KeyboardInterrupt, ExternalShutdownException):
            raise
        except Exception as error:
            traceback.print_exc()
            node.diagnostics.problem("failed.callback", f"{type(error).__name__}: {error}; the message is lost, the node goes on")

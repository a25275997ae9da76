"""The process of a node: start, spin, end."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node

if TYPE_CHECKING:  # with it comes torch, which the page does without
    from wesam_ros.ros.diagnostics import Diagnostics
    from wesam_ros.ros.lifecycle import Lifecycle

PATIENCE = 5.0
"""Seconds that the end of a process waits for the middleware."""


class FrameNode(Protocol):
    """A lifecycle node with the parts that `run_node` needs."""

    declared: Any
    diagnostics: Diagnostics
    lifecycle: Lifecycle

    def trigger_configure(self) -> TransitionCallbackReturn: ...

    def trigger_activate(self) -> TransitionCallbackReturn: ...


def run_node(make: Callable[[], FrameNode], args: list[str] | None) -> int:
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
    executor.add_node(cast(Node, node))
    try:
        if node.declared.value.autostart and not _started(node):
            return 1 if node.lifecycle.may_pass else 2
        _spin(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # how a node is asked to end
    finally:
        # A second Ctrl-C must not keep the node from saving what it has learnt; SIGKILL still ends it at once.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        node.lifecycle.close()
        executor.shutdown(0)
        rclpy.try_shutdown()
    return 0


def _started(node: FrameNode) -> bool:
    return TransitionCallbackReturn.SUCCESS == node.trigger_configure() == node.trigger_activate()


def _spin(node: FrameNode, executor: SingleThreadedExecutor) -> None:
    """Spins; an exception in a callback is counted and logged, and the node lives on."""
    while rclpy.ok():
        try:
            executor.spin_once()
        except (KeyboardInterrupt, ExternalShutdownException):
            raise
        except Exception as error:
            traceback.print_exc()
            node.diagnostics.problem("failed.callback", f"{type(error).__name__}: {error}; the message is lost, the node goes on")


@contextmanager
def spinning(executor: SingleThreadedExecutor) -> Iterator[None]:
    """Spins in a thread that has ended when this ends: a process that exits while a thread still waits in the middleware may crash."""

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            return

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        executor.shutdown(0)
        thread.join(PATIENCE)

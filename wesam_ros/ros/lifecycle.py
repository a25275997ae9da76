"""The life cycle of a node that takes frames: configure loads the model, activate subscribes and starts the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from wesam_ros.machine import cores, resolve_device
from wesam_ros.ros.intake import Intake
from wesam_ros.ros.parameters import Declared
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.settings import InputParameters

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


class Lifecycle:
    """The transitions of a node; the node calls them in its own, which rclpy calls.

    Args:
        node: the owner.
        declared: its parameters.
        intake: its frames.
        prepare: makes what the node needs of the model. An exception of it fails the configuration, after `discard`.
        discard: frees what `prepare` made.
        start: called when the worker runs, before frames come. An exception of it fails the activation.
        stop: called when the worker has ended, or, with False, is left behind in the middle of a frame.

    Attributes:
        device: the torch device that is computed on.
        state: "unconfigured", "inactive", "active" or "finalized".
        may_pass: True where what failed the last transition was no setting, so that it may work later: memory, a full disk, a file in use.
    """

    def __init__(
        self,
        node: LifecycleNode,
        declared: Declared[Any],
        intake: Intake,
        *,
        prepare: Callable[[Sam], None],
        discard: Callable[[], None],
        start: Callable[[], None],
        stop: Callable[[bool], None],
    ) -> None:
        self.device = resolve_device(declared.value.device)
        self.state = "unconfigured"
        self.may_pass = False
        self._node, self._declared, self._intake = node, declared, intake
        self._prepare, self._discard, self._start, self._stop = prepare, discard, start, stop

    def configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the model; fails with a sentence in the log."""
        parameters: InputParameters = self._declared.value
        # Two nodes with as many threads each as there are cores were 8 times slower than with half of them: OpenMP's threads wait for
        # each other at every layer, and one that has no core holds up all.
        torch.set_num_threads(parameters.torch_threads or max(1, cores() // 2))
        try:
            checkpoint = Path(parameters.checkpoint).expanduser() if parameters.checkpoint else None
            self._prepare(load_sam(parameters.model, checkpoint, self.device))
        except Exception as error:  # rclpy would take it for an error without a word
            # RuntimeError: memory that torch did not get, or a device that it does not have; that may be there later, too.
            self.may_pass = isinstance(error, (OSError, RuntimeError, MemoryError)) and not isinstance(error, FileNotFoundError)
            ours = isinstance(error, (ValueError, OSError, RuntimeError))
            self._node.get_logger().error(f"cannot configure: {error}" if ours else f"cannot configure: {type(error).__name__}: {error}")
            self._discard()
            return TransitionCallbackReturn.FAILURE
        self.state = "inactive"
        return LifecycleNode.on_configure(self._node, state)

    def activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Starts the worker and subscribes; fails with a sentence in the log, and leaves nothing behind."""
        if self._intake.busy:  # two threads must not compute with the same weights
            self.may_pass = True
            self._node.get_logger().error(
                "cannot activate: the frame at hand when the node was deactivated is not done; try again when it is"
            )
            return TransitionCallbackReturn.FAILURE
        result = LifecycleNode.on_activate(self._node, state)
        self._intake.start()
        try:
            self._start()
            self._intake.subscribe()
        except Exception as error:  # rclpy would take it for an error without a word, and leave behind what has been started
            self.may_pass = True
            self._node.get_logger().error(f"cannot activate: {type(error).__name__}: {error}")
            self._end()
            LifecycleNode.on_deactivate(self._node, state)
            return TransitionCallbackReturn.FAILURE
        self.state = "active"
        parameters: InputParameters = self._declared.value
        device = self.device if parameters.device == self.device else f"{self.device} (device {parameters.device})"
        topics = ", ".join(self._node.resolve_topic_name(f"{each}image") for each in self._intake.prefixes)
        self._node.get_logger().info(f"active: {parameters.model} on {device}, frames from {topics}")
        return result

    def deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends the subscriptions and the worker."""
        self._end()
        self.state = "inactive"
        return LifecycleNode.on_deactivate(self._node, state)

    def cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Frees the model."""
        self._discard()
        self.state = "unconfigured"
        return LifecycleNode.on_cleanup(self._node, state)

    def shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Ends all; the process stays, finalized."""
        self._end()
        self._discard()
        self.state = "finalized"
        return LifecycleNode.on_shutdown(self._node, state)

    def close(self) -> None:
        """Ends the worker and what is to be finished with it; for the end of the process, in any state."""
        if self._intake.worker is not None:
            self._stop(self._intake.stop())

    def values(self) -> dict[str, str]:
        """Values for /diagnostics: state, GPU memory, and in "warning" a line for each input that does not come."""
        values = {"lifecycle": self.state}
        if self.device.startswith("cuda") and torch.cuda.is_initialized():
            values["gpu_memory_mib"] = f"{torch.cuda.memory_reserved(self.device) / 2**20:.0f}"
        inactive = "" if self.state == "active" else f"the node is {self.state}, and takes no frames"
        return {**values, **self._intake.quiet(), "warning": "\n".join(filter(None, (inactive, *self._intake.missing())))}

    def _end(self) -> None:
        self._intake.unsubscribe()
        self.close()

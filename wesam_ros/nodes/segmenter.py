"""The segmenter node: image and boxes (or points, or coarse masks) in, masks and 3D objects out, with the newest adapter.

The way of a frame, from topic to objects, file by file:

- ros/subscriptions.py takes each message; ros/inputs.py has wired it to the synchronizer.
- data/synchronizer.py puts the messages of one moment together, and hands on each complete frame.
- ros/intake.py leaves the frame for the worker thread: callbacks only enqueue.
- ros/frame_request.py converts it, in that thread, to values: image, depth, camera, prompts.
- nodes/segmenter.py, `_process`: `_segment` is called, as for a frame of the service ~/segment.
- engines/serving.py computes masks with the adapter in use; ros/proposing.py and scene/carrying.py add objects; scene/refiner.py refines.
- ros/object_output.py finds the objects in 3D, and publishes them.

Lifecycle: configure loads the model, activate serves. A new adapter takes effect with the next frame; results carry its version.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import Header

from wesam_ros.engines.serving import ServingEngine
from wesam_ros.machine import keep_freed_memory
from wesam_ros.ros.adapter_input import AdapterInput
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.ros.frame_request import FrameRequest
from wesam_ros.ros.frozen_switch import FrozenSwitch
from wesam_ros.ros.intake import STOP_SECONDS, Intake
from wesam_ros.ros.lifecycle import Lifecycle
from wesam_ros.ros.object_output import ObjectOutput, SegmentedFrame
from wesam_ros.ros.parameters import declare
from wesam_ros.ros.process import run_node
from wesam_ros.ros.proposing import Proposing
from wesam_ros.ros.refining import Refining
from wesam_ros.ros.segment_service import SegmentService
from wesam_ros.sam.adapter import Adapter
from wesam_ros.settings import SegmenterParameters

if TYPE_CHECKING:
    from segment_anything.modeling import Sam


class Segmenter(LifecycleNode):
    """Holds the parts and connects them. Topics, services and parameters are listed in docs/."""

    def __init__(self) -> None:
        super().__init__("segmenter")
        self.declared = declare(self, SegmenterParameters)
        self.diagnostics = Diagnostics(self, self._values)
        self.intake = Intake(self, self.declared, self.diagnostics, self._process, self._rejected)
        self.lifecycle = Lifecycle(
            self, self.declared, self.intake, prepare=self._prepare, discard=self._discard, start=self._start, stop=self._stop
        )
        self.serving: ServingEngine | None = None
        self.refining = Refining(self, self.declared, self.diagnostics)
        self.proposing = Proposing(self, self.declared, self.diagnostics)
        self.adapters = AdapterInput(self, self.diagnostics, self.intake.post, lambda: self._engine().sam, self._taken)
        self.output = ObjectOutput(self, self.declared, self.diagnostics)
        self.segment_service = SegmentService(self, self.declared, self.intake, self._segment, self.output)
        self.frozen_switch = FrozenSwitch(self, self.diagnostics, self.declared.value.keep_beside, self._announce)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self.lifecycle.shutdown(state)

    def _prepare(self, sam: Sam) -> None:
        parameters, log = self.declared.value, self.get_logger()
        if parameters.adapter:
            self.adapters.adapter = Adapter.load(path := Path(parameters.adapter).expanduser(), for_sam=sam)
            log.info(f"starts with adapter version {self.adapters.version} from {path}")
        self.serving = ServingEngine(sam, parameters.engine, self.adapters.adapter, log.info, self.diagnostics, parameters.device)

    def _discard(self) -> None:
        if self.serving is not None:
            self.serving.close()
        self.serving = self.adapters.adapter = None

    def _start(self) -> None:
        self._engine().start_checks(self.intake.between_frames)
        if self.adapters.adapter is not None:
            self._engine().check(self.adapters.adapter)
        self.adapters.subscribe()
        self._announce()

    def _stop(self, ended: bool) -> None:
        self.adapters.unsubscribe()
        self._engine().stop_checks(STOP_SECONDS)

    def _engine(self) -> ServingEngine:
        if self.serving is None:
            raise RuntimeError("the segmenter is not configured; configure it first")
        return self.serving

    def _process(self, request: FrameRequest) -> None:
        self.output.publish(self._segment(request))

    def _segment(self, request: FrameRequest, frozen: bool = False) -> SegmentedFrame:
        """Masks and 3D objects of a frame, in the worker thread."""
        adapter, began = None if frozen else self._in_use(), time.monotonic()
        decode = self._engine().decoder(request.frame.image, adapter)
        request = self.proposing.complete(request, decode)
        request, masks = self.refining.serve(request, decode, frozen=adapter is None)
        return self.output.locate(request, masks, adapter.version if adapter is not None else 0, time.monotonic() - began)

    def _rejected(self, header: Header, sentence: str, failed: bool) -> None:
        """Answers a frame that has no masks, so that a player in lock step goes on."""
        if self.declared.value.lock_step:
            self.output.answer_nothing(header)

    def _in_use(self) -> Adapter | None:
        return None if self.declared.value.use_frozen else self.adapters.adapter

    def _taken(self, adapter: Adapter) -> None:
        self._announce()
        self._engine().check(adapter)

    def _announce(self) -> int:
        """Publishes the version in use; returns that of the adapter received last."""
        self.output.announce(adapter.version if (adapter := self._in_use()) is not None else 0)
        return self.adapters.version

    def _values(self) -> list[dict[str, str]]:
        parameters = self.declared.value
        own = {"model": parameters.model, "engine": parameters.engine, "device": self.lifecycle.device}
        own |= self.serving.values() if self.serving is not None else {}
        return [self.lifecycle.values(), self.adapters.values(self._in_use() is not None), own]


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is interrupted; returns the exit status."""
    keep_freed_memory()
    return run_node(Segmenter, args)


if __name__ == "__main__":
    raise SystemExit(main())

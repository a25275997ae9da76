"""The parity gate for adapters that arrive while an engine serves: checked beside the frames, not among them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

from wesam_ros.engines.engine import Engine, EngineError
from wesam_ros.engines.parity import check_parity
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.nodes.worker import Worker
from wesam_ros.sam.lora import Adapter
from wesam_ros.sam.masks import Masks

NICENESS = 5
"""Of the gate's thread (0 is normal, 19 the least urgent), and of those that torch starts in it."""


class AdapterGate:
    """Holds an engine against torch with each adapter that it is offered, in a thread of its own; where several wait, the newest.

    It computes with the model in torch, so that nothing else may do so while it lives. After a refusal it checks no more.

    Args:
        engine: the one that serves, which is not torch.
        between_frames: runs a function in the thread that serves and returns its result; for engines that take one thread at a time.
        checked: called in the gate's thread with each adapter and None, or with the sentence that says why the engine is refused.
        failed: called there with an exception that is no verdict, such as the end of the thread that serves.
    """

    def __init__(
        self,
        engine: Engine,
        between_frames: Callable[[Callable[[], Masks]], Masks],
        checked: Callable[[Adapter, str | None], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._engine, self._reference = engine, TorchEngine(engine.sam)
        self._between_frames = between_frames
        self._checked = checked
        self._over = False
        self._worker = Worker("gate", self._check, failed, lambda source: None)
        self._worker.call(_be_patient)

    def offer(self, adapter: Adapter) -> None:
        """Leaves an adapter to be checked, in place of one that still waits."""
        self._worker.offer("adapter", adapter)

    def stop(self, timeout: float) -> bool:
        """Ends the gate after the check at hand; False if that did not end within `timeout` seconds."""
        return self._worker.stop(timeout)

    def _check(self, adapter: Adapter) -> None:
        if self._over:
            return
        refusal = None
        try:
            check_parity(self._engine, self._reference, adapter, None if self._engine.concurrent else self._between_frames)
        except EngineError as error:
            refusal = f"with adapter version {adapter.version}, {error}"
            self._over = True
        self._checked(adapter, refusal)


def _be_patient() -> None:
    if sys.platform == "linux":  # where a thread has a priority of its own; elsewhere the check is as urgent as all else
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))

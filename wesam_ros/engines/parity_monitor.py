"""The parity gate for adapters that arrive while an engine serves: checked beside the frames, not among them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from wesam_ros.engines.engine import Engine, EngineError
from wesam_ros.engines.parity import check_parity
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import Prompts
from wesam_ros.worker import Worker

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

NICENESS = 5
"""Of the gate's thread (0 is normal, 19 the least urgent), and of those that torch starts in it."""


class ParityMonitor:
    """Holds an engine against torch with each adapter that it is offered, in a thread of its own; where several wait, the newest.

    It computes with the model in torch, so that nothing else may do so until its `end`. After a refusal it has ended.

    Args:
        engine: the one that serves, which is not torch.
        between_frames: runs a function in the thread that serves and returns its result; for engines that take one thread at a time.
        checked: called in the gate's thread with each adapter and None, or with the sentence that says why the engine is refused.
        failed: called there with an exception that tells nothing of the engine, such as the end of the thread that serves.
    """

    def __init__(
        self,
        engine: Engine,
        between_frames: Callable[[Callable[[], Masks]], Masks],
        checked: Callable[[Adapter, str | None], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._engine, self._reference = engine, _Reference(engine.sam)
        self._between_frames = between_frames
        self._checked = checked
        self._worker = Worker("gate", self._check, failed, lambda source: None)
        self._worker.call(_be_patient)

    def offer(self, adapter: Adapter) -> None:
        """Leaves an adapter to be checked, in place of one that still waits."""
        self._worker.offer("adapter", adapter)

    def end(self) -> None:
        """Has it check no more, and call nobody. When this returns, it does not compute with the model in torch, and never will.

        It may be called in the thread that serves: it waits for torch alone, and for no check that itself waits for that thread.
        """
        self._reference.end()

    def stop(self, timeout: float) -> bool:
        """Ends the gate after the check at hand; False if that did not end within `timeout` seconds."""
        return self._worker.stop(timeout)

    def _check(self, adapter: Adapter) -> None:
        refusal = None
        try:
            check_parity(self._engine, self._reference, adapter, None if self._engine.concurrent else self._between_frames)
        except _EndedError:
            return
        except EngineError as error:
            refusal = f"with adapter version {adapter.version}, {error}"
        if not self._reference.ended:  # else the engine may have been closed under the check
            if refusal is not None:
                self.end()
            self._checked(adapter, refusal)


class _EndedError(Exception):
    """The gate has ended."""


class _Reference(TorchEngine):
    """Torch, until it ends."""

    def __init__(self, sam: Sam) -> None:
        super().__init__(sam)
        self.ended = False
        self._free = threading.Lock()

    def segment(self, image: npt.NDArray[np.uint8], prompts: Prompts, adapter: Adapter | None = None) -> Masks:
        with self._free:
            if self.ended:
                raise _EndedError
            return super().segment(image, prompts, adapter)

    def end(self) -> None:
        with self._free:
            self.ended = True


def _be_patient() -> None:
    if sys.platform == "linux":  # where a thread has a priority of its own; elsewhere the check is as urgent as all else
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))

"""The engine that serves a stream: torch takes its place when it fails, or is wrong with an adapter."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from wesam_ros.counts import Counts
from wesam_ros.engines.engine import Engine, give_up
from wesam_ros.engines.parity_monitor import ParityMonitor
from wesam_ros.engines.segmentation import EncodedImage
from wesam_ros.engines.selection import create_engine
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam.adapter import Adapter, AdapterError
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.prompts import PromptError, Prompts
from wesam_ros.worker import WorkerStoppedError

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

T = TypeVar("T")

BetweenFrames = Callable[[Callable[[], Any]], Any]
"""Runs a function in the thread that serves, between two frames, and returns its result."""


class ServingEngine:
    """An engine, the monitor that compares it with torch for each new adapter, and torch in its place where it is refused.

    It serves in one thread, and is made in one that does not serve at the same time.

    Args:
        sam: a model from load_sam, on the device to compute on.
        choice: one of engines.CHOICES.
        adapter: of this model, for the first frames.
        say: told the engine that was taken, and why not the others.
        counts: counts "checked.adapter", "refused.engine" and "failed.gate".
        device: as the setting `device` names it.

    Attributes:
        refused: a sentence for each engine that does not serve, with the reason.

    Raises:
        EngineError: the engine asked for by name cannot serve, for whatever reason.
        OSError: a file that it needs cannot be written, as on a full disk.
    """

    def __init__(
        self, sam: Sam, choice: str, adapter: Adapter | None, say: Callable[[str], object], counts: Counts, device: str = ""
    ) -> None:
        self.sam = sam
        self._counts = counts
        self._monitor: ParityMonitor | None = None
        selection = create_engine(sam, choice, say, adapter=adapter, device=device)
        self._engine, self.refused = selection.engine, selection.refused
        self._compute(lambda engine: engine.warm_up())

    def values(self) -> dict[str, str]:
        """Values for /diagnostics: the engine that serves now, and those that were refused."""
        refused = {"engine.refused": "; ".join(self.refused)} if self.refused else {}
        return {"engine": str(self._engine.capabilities), **refused}

    def decoder(self, image: npt.NDArray[np.uint8], adapter: Adapter | None) -> Callable[[Prompts], Masks]:
        """A function that gives masks of prompts in an (H, W, 3) uint8 RGB image, by torch where the engine fails with it.

        It encodes the image once, however often it is called. It raises AdapterError and PromptError of arguments that do not fit the
        model, which are no fault of the engine.
        """
        encoded = EncodedImage(image, adapter)
        return lambda prompts: self._compute(lambda engine: encoded.segment(engine, prompts))

    def start_checks(self, between_frames: BetweenFrames) -> None:
        """Checks the adapters given to `check` from now on, beside the frames. Torch needs no check."""
        if not isinstance(self._engine, TorchEngine):
            engine = self._engine

            def checked(adapter: Adapter, refusal: str | None) -> None:
                self._counts.count("checked.adapter")
                if refusal is not None:
                    between_frames(lambda: self._refuse(engine, refusal))

            self._monitor = ParityMonitor(engine, between_frames, checked, self._check_failed)

    def check(self, adapter: Adapter) -> None:
        """Leaves an adapter that serves from now on to be checked, in place of one that still waits."""
        if self._monitor is not None:
            self._monitor.offer(adapter)

    def stop_checks(self, timeout: float) -> None:
        """Ends the checks, with the one at hand where that ends within `timeout` seconds."""
        if self._monitor is not None:
            self._monitor.stop(timeout)
            self._monitor = None

    def close(self) -> None:
        """Frees the engine."""
        give_up(self._engine)

    def _compute(self, function: Callable[[Engine], T]) -> T:
        """The result of a function of the engine; where another than torch fails, it is refused, and torch computes the same again."""
        engine = self._engine
        try:
            return function(engine)
        except (AdapterError, PromptError):
            raise
        except Exception as error:
            if isinstance(engine, TorchEngine):
                raise
            refusal = f"{engine.capabilities} fails: {type(error).__name__}: {error}"
        self._refuse(engine, refusal)
        return function(self._engine)

    def _refuse(self, engine: Engine, refusal: str) -> None:
        """Has torch serve, in the thread that serves: it agrees with itself, and another engine would have to be loaded and checked."""
        if engine is not self._engine:
            return  # refused already, for another reason
        if self._monitor is not None:
            self._monitor.end()  # it would compute with the model in torch at the same time
        self._engine, self.refused = TorchEngine(engine.sam), (*self.refused, f"{engine.capabilities.name}: {refusal}")
        give_up(engine)
        self._counts.problem("refused.engine", f"{refusal}; torch serves from now on")

    def _check_failed(self, error: Exception) -> None:
        if not isinstance(error, WorkerStoppedError):  # a check that the end has cut short; the next start begins with it
            self._counts.problem("failed.gate", f"an adapter could not be checked: {type(error).__name__}: {error}")

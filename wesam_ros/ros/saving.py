"""The files of an adapter node: each adapter that it publishes, and from time to time the state of its training."""

from __future__ import annotations

import fcntl
import time
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING

from rclpy.impl.rcutils_logger import RcutilsLogger

from wesam_ros.adaptation import state
from wesam_ros.adaptation.config import AdaptationConfig
from wesam_ros.adaptation.learner import Learner
from wesam_ros.files import remove_leftovers
from wesam_ros.ros.diagnostics import Diagnostics
from wesam_ros.sam.adapter import Adapter, AdapterError

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

RETRY_SECONDS = 10.0
"""An adapter that could not be saved is tried again after so many seconds."""


class LearnerFiles:
    """An adapter file, and the state beside it. A file that cannot be written, as on a full disk, is counted and tried again; training
    and publishing go on. Used in one thread.

    Args:
        adapter: file of the adapter; None keeps nothing.
        diagnostics: counts "failed.save", "failed.resume" and "refused.adapter_file".
        log: tells what it goes on from.

    Attributes:
        saved_version: of the adapter in the file.
        refused: the new name of an adapter file that could not be used; None if there was none.
    """

    def __init__(self, adapter: Path | None, diagnostics: Diagnostics, log: RcutilsLogger) -> None:
        self.adapter = adapter
        self.state = adapter.with_name(adapter.name + ".state") if adapter is not None else None
        self.saved_version = 0
        self.refused: Path | None = None
        self._lock: IO[bytes] | None = None
        self._diagnostics, self._log = diagnostics, log
        self._unsaved: Adapter | None = None
        self._retry_at = 0.0
        self._state_saved = time.monotonic()

    def learner(self, sam: Sam, config: AdaptationConfig, seed: int, *, resume: bool) -> Learner:
        """A learner that goes on from the files, as far as there are any.

        An adapter file that is damaged, or of another model, is put aside, and the last published adapter of the saved state is taken. A
        process that ended with an error would be started again and again.

        Raises:
            AdapterError: the adapter's path is that of a folder or a device.
            OSError: a file cannot be read, or another process keeps its adapters there.
        """
        if self.adapter is None or self.state is None:
            return Learner(sam, config, seed)
        self.adapter.parent.mkdir(parents=True, exist_ok=True)
        self._take(self.adapter.with_name(self.adapter.name + ".lock"))
        for each in (self.adapter, self.state):
            remove_leftovers(each)
        self.saved_version, self.refused = 0, None
        adapter = self._load(self.adapter, sam) if self.adapter.exists() else None
        if adapter is not None:
            self.saved_version = adapter.version
            self._log.info(f"goes on from adapter version {adapter.version} in {self.adapter}")
        elif self.refused is None:
            self._log.info(f"starts anew: there is no {self.adapter} yet")
        learner = self._resumed(self.state, sam, config, seed, adapter) if resume and self.state.exists() else None
        if self.refused is not None:
            instead = "anew" if learner is None else f"from version {learner.adapter.version} of the saved state"
            self._diagnostics.problem("refused.adapter_file", f"the adapter file is now {self.refused}; training goes on {instead}")
        return learner or Learner(sam, config, seed, adapter)

    def _take(self, path: Path) -> None:
        """Keeps other adapter nodes from the files until `release`, or the end of the process, however it comes."""
        self.release()
        try:
            self._lock = path.open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.release()
            raise BlockingIOError(
                f"{self.adapter} is in use by another adapter node; end that one, or give each a save_to of its own"
            ) from error
        except OSError as error:  # a disk that takes nothing, or a network file system without locks
            self._log.warning(f"{path} cannot be locked ({error.strerror}): see to it that no second adapter node has the same save_to")

    def release(self) -> None:
        """Lets other nodes have the files."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _load(self, path: Path, sam: Sam) -> Adapter | None:
        """The adapter in a file; None, and the file renamed, where it cannot be used."""
        try:
            return Adapter.load(path, for_sam=sam)
        except AdapterError as error:
            if not path.is_file():
                raise
            names = (path.with_name(f"{path.name}.refused{number or ''}") for number in count())
            self.refused = path.rename(next(each for each in names if not each.exists()))  # rename would replace an older one
            self._log.error(f"{path} is refused: {error}; it is kept as {self.refused}")
            return None

    def _resumed(self, path: Path, sam: Sam, config: AdaptationConfig, seed: int, adapter: Adapter | None) -> Learner | None:
        """A learner that goes on from a saved state and `adapter`, the state's own where that was refused; None where it cannot."""
        learner = Learner(sam, config, seed, adapter)
        try:
            state.resume(learner, path, own_adapter=self.refused is not None)
        except ValueError as error:
            self._diagnostics.problem("failed.resume", f"{error}; training goes on without its frames and optimizer")
            return None
        self._log.info(f"resumes training with {len(learner.replay_buffer)} frames from {path}")
        return learner

    def keep(self, adapter: Adapter) -> None:
        """Saves an adapter that is about to be published."""
        self._unsaved = adapter if self.adapter is not None else None
        self._retry()

    def frame_done(self, learner: Learner, minutes: float) -> None:
        """Saves what is due; call it after each frame. `minutes` between two savings of the state, 0 for never."""
        if time.monotonic() >= self._retry_at:
            self._retry()
        if minutes and time.monotonic() - self._state_saved >= 60 * minutes:
            self.keep_state(learner)

    def close(self, learner: Learner, minutes: float) -> None:
        """Saves what has not been saved yet."""
        self._retry()
        if minutes:
            self.keep_state(learner)

    def save(self, learner: Learner, minutes: float) -> str:
        """Saves now, because someone asked; returns what was saved. Raises ValueError where there is no file, and OSError."""
        if self.adapter is None or self.state is None:
            raise ValueError("there is no file to save to; start the node with the parameter save_to")
        learner.adapter.save(self.adapter)
        self.saved_version, self._unsaved = learner.adapter.version, None
        if minutes:
            state.save(learner, self.state)
            self._state_saved = time.monotonic()
        return f"version {self.saved_version} saved to {self.adapter}"

    def forget(self) -> None:
        """Removes the saved state. OSError where it cannot be."""
        if self.state is not None:
            self.state.unlink(missing_ok=True)

    def keep_state(self, learner: Learner) -> None:
        """Saves the state of the training."""
        self._state_saved = time.monotonic()
        if self.state is not None:
            try:
                state.save(learner, self.state)
            except OSError as error:
                self._failed(self.state, error, "with the next save")

    def _retry(self) -> None:
        if self._unsaved is None or self.adapter is None:
            return
        try:
            self._unsaved.save(self.adapter)
        except OSError as error:
            self._retry_at = time.monotonic() + RETRY_SECONDS
            self._failed(self.adapter, error, f"in {RETRY_SECONDS:g} s")
        else:
            self.saved_version, self._unsaved = self._unsaved.version, None

    def _failed(self, path: Path, error: OSError, again: str) -> None:
        self._diagnostics.problem(
            "failed.save",
            f"{path} cannot be written ({error.strerror or error}); it is tried again {again}, training goes on",
            of=str(path),
        )

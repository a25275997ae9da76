"""The thread that computes, beside the executor's: callbacks only leave work for it."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


class WorkerStoppedError(RuntimeError):
    """The thread takes no more calls: it has ended, or is about to."""


class Worker:
    """Processes jobs, the newest per source: a job that waits is replaced by the next one of its source, in whose place it is processed.

    Args:
        name: of the thread.
        process: called with each job, in the thread.
        failed: called with what `process` raised, in the thread; the thread goes on.
        dropped: called with the source of each job that was replaced.
        merged: called with a job that waits and the next one of its source; returns one job for both, or None where the next one replaces
            it.
    """

    def __init__(
        self,
        name: str,
        process: Callable[[Any], None],
        failed: Callable[[Exception], None],
        dropped: Callable[[str], None],
        merged: Callable[[Any, Any], Any] = lambda waiting, job: None,
    ) -> None:
        self._process = process
        self._failed = failed
        self._dropped = dropped
        self._merged = merged
        self._changed = threading.Condition()
        self._jobs: OrderedDict[str, Any] = OrderedDict()
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def offer(self, source: str, job: Any) -> None:
        """Leaves a job in the slot of its source; a job that still waits there is merged with it, or dropped."""
        with self._changed:
            waiting = self._jobs.get(source)
            both = self._merged(waiting, job) if waiting is not None else None
            # It keeps its place, or a source that offers often would always be behind the others.
            self._jobs[source] = job if both is None else both
            self._changed.notify()
        if waiting is not None and both is None:
            self._dropped(source)

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Has `function` run in the thread before the next job; the future gives its result, its exception, or WorkerStoppedError."""
        future: Future[Any] = Future()
        with self._changed:
            if self._stopping:
                future.set_exception(WorkerStoppedError("the node is not active; activate it first"))
                return future
            self._calls.append((function, future))
            self._changed.notify()
        return future

    def run_calls(self) -> None:
        """Runs what `call` left. The thread does so between jobs; a long job may do so between its steps."""
        while True:
            with self._changed:
                if not self._calls:
                    return
                function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

    @property
    def alive(self) -> bool:
        """True until the thread has ended."""
        return self._thread.is_alive()

    @property
    def stopping(self) -> bool:
        """True where a long job should end soon."""
        return self._stopping

    def stop(self, timeout: float) -> bool:
        """Ends the thread after the job at hand; waiting jobs are forgotten. False if it did not end within `timeout` seconds."""
        with self._changed:
            self._stopping = True
            self._jobs.clear()
            self._changed.notify()
        self._thread.join(timeout)
        return not self.alive

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._calls or self._stopping)
                stopping = self._stopping
                job = None
                if self._jobs and not self._calls:
                    _, job = self._jobs.popitem(last=False)
            self.run_calls()
            if stopping:
                return
            if job is not None:
                try:
                    self._process(job)
                except Exception as error:
                    self._failed(error)

"""The worker thread: newest job per source, each source in its turn."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

from wesam_ros.worker import Worker, WorkerStoppedError


def test_a_source_that_offers_often_has_its_turn() -> None:
    """One source offers before each of the other's jobs is even done; both are processed alternately, each with its newest job."""
    done: list[tuple[str, int]] = []
    gate, entered = threading.Semaphore(0), threading.Semaphore(0)

    def process(job: tuple[str, int]) -> None:
        entered.release()
        gate.acquire()
        done.append(job)

    dropped: Counter[str] = Counter()
    worker = Worker("test", process, lambda error: None, lambda source: dropped.update([source]))
    worker.offer("often", ("often", 0))
    for turn in range(1, 9):
        assert entered.acquire(timeout=10)
        for name in ("often", "seldom", "often"):
            worker.offer(name, (name, turn))
        gate.release()
    gate.release(20)
    end = time.monotonic() + 10
    while len(done) < 10 and time.monotonic() < end:
        time.sleep(0.01)
    assert worker.stop(10)
    assert [name for name, _ in done] == ["often", "often", *["seldom", "often"] * 4]
    assert dropped["often"] > dropped["seldom"] > 0


def test_a_call_goes_before_jobs_and_gives_its_exception() -> None:
    order: list[Any] = []
    begun, gate = threading.Event(), threading.Event()

    def process(job: int) -> None:
        begun.set()
        gate.wait(10)
        order.append(job)

    worker = Worker("test", process, lambda error: None, lambda source: None)
    worker.offer("a", 1)
    assert begun.wait(10)
    worker.offer("a", 2)
    called = worker.call(lambda: order.append("call"))
    failed = worker.call(lambda: 1 // 0)
    gate.set()
    called.result(10)
    assert isinstance(failed.exception(10), ZeroDivisionError)
    end = time.monotonic() + 10
    while len(order) < 3 and time.monotonic() < end:
        time.sleep(0.01)
    assert order == [1, "call", 2]
    assert worker.stop(10)


def test_a_call_after_the_end_says_so() -> None:
    worker = Worker("test", lambda job: None, lambda error: None, lambda source: None)
    assert worker.stop(10)
    assert isinstance(worker.call(lambda: None).exception(10), WorkerStoppedError)


def test_a_job_that_belongs_to_one_that_waits_is_merged_and_not_dropped() -> None:
    done: list[tuple[int, str]] = []
    gate, entered = threading.Semaphore(0), threading.Semaphore(0)

    def process(job: tuple[int, str]) -> None:
        entered.release()
        gate.acquire()
        done.append(job)

    def merged(waiting: tuple[int, str], job: tuple[int, str]) -> tuple[int, str] | None:
        return (job[0], waiting[1] + job[1]) if waiting[0] == job[0] else None

    dropped: Counter[str] = Counter()
    worker = Worker("test", process, lambda error: None, lambda source: dropped.update([source]), merged)
    worker.offer("a", (1, "x"))
    assert entered.acquire(timeout=10)
    for job in ((1, "y"), (1, "z"), (2, "x"), (2, "y")):
        worker.offer("a", job)
    gate.release(3)
    end = time.monotonic() + 10
    while len(done) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert worker.stop(10)
    assert done == [(1, "x"), (2, "xy")]
    assert dropped == {"a": 1}

"""The machine: its name, which figures carry, its cores, its memory, and processes that share work on it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import wait
from pathlib import Path


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def processor() -> str:
    """The processor's name and how many of its cores this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{name}, {cores()} cores"


def resolve_device(device: str) -> str:
    """The torch device that a setting names; "auto" is cuda where torch finds a GPU, else cpu."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""mallopt's parameters, as in glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Lets this process keep the memory that tensors have left for the next ones. To be called before it starts threads.

    By itself glibc gives large blocks back to the kernel at once, which has to clear each page again for the next tensor (figures in
    docs/operation.md). Here they come from the heap, which does not shrink, and there is one heap for all threads: in those that glibc
    makes for threads no block is larger than 64 MB. It is for inference: training left holes in such a heap, and took two thirds more
    memory.

    Returns:
        Whether it could: False where the C library is not glibc, or will not have it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    wanted = ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, -1))
    if mallopt is None:
        return False
    results = [mallopt(parameter, value) for parameter, value in wanted]
    return all(result == 1 for result in results)


@contextmanager
def worker_pool(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes that end with this one, even if it is killed, and at once where the context ends by an exception, as at
    Ctrl-C: else they would compute on for nobody.
    """
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                if child not in others:
                    child.kill()
            raise


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

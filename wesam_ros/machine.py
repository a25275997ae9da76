"""The machine: its name, which figures carry, its cores, its memory, and processes that share work on it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import platform
import re
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


def memory(device: str) -> int:
    """Bytes of memory that a torch device computes in: a GPU's own, else the machine's."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class DeviceError(ValueError):
    """A device that torch cannot compute on here; the sentence says which ones there are, and how to get the other."""


OPENVINO = "openvino:"
"""The beginning of the name of a device that OpenVINO computes on, not torch."""


def resolve_device(device: str) -> str:
    """The torch device that a setting names, proved to be here; "auto" is cuda where torch finds a GPU, else cpu.

    With openvino:GPU, openvino:NPU and openvino:CPU, torch is on the cpu; whether OpenVINO has such a device, its engine knows.

    Raises:
        DeviceError: no name of a device, or one that is not here.
    """
    there = devices()
    if device in ("", "auto"):
        return "cuda" if "cuda" in there else "cpu"
    if re.fullmatch(rf"{OPENVINO}(CPU|NPU|GPU(\.\d+)?)", device):
        return "cpu"
    if device in there:
        return device
    if re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d+)?", device) is None:
        raise DeviceError(
            f"device must be auto, cpu, cuda, cuda:N, mps, openvino:GPU or openvino:NPU, but got {device!r}; "
            f"here there is {', '.join(there)}"
        )
    raise DeviceError(f"device {device} is not here, only {', '.join(there)}: {_why_not(device, there)}")


def devices() -> list[str]:
    """Names of the torch devices of this machine, such as ["cpu", "cuda", "cuda:0"]; the CPU first."""
    import torch  # whoever only asks for cores does without it

    found = ["cpu"]
    if torch.cuda.is_available():
        found += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def _why_not(device: str, there: list[str]) -> str:
    import torch

    if not device.startswith("cuda"):
        return f"torch {torch.__version__} finds none by this name"
    if "cuda" in there:
        return "GPUs are counted from cuda:0; CUDA_VISIBLE_DEVICES may hide some"
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"torch {torch.__version__} is built without CUDA; where there is an NVIDIA GPU, install a build with CUDA "
            "(pytorch.org/get-started; on a Jetson, NVIDIA's own build), else set device to cpu"
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES is {hidden!r}, which hides every GPU; unset it, or set device to cpu"
    return (
        f"torch {torch.__version__} is built for CUDA {torch.version.cuda}, but finds no GPU, or no driver that fits; "
        "nvidia-smi must list the GPU (start a container with --gpus all), else set device to cpu"
    )


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

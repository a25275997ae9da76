"""Memory that is kept, and processes that share work."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = """
import os, time
from wesam_ros.machine import worker_pool
with worker_pool(1) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600).result()
"""

FAILING = """
import time
from wesam_ros.machine import worker_pool
with worker_pool(2) as pool:
    running = [pool.submit(time.sleep, 600), pool.submit(int, "no number"), *(pool.submit(time.sleep, 600) for _ in range(8))]
    running[1].result()
"""

FAULTS = """
import resource, sys, threading
import torch
from wesam_ros.machine import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    print(-1)
    sys.exit()

def work():  # as the nodes do, in a thread
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(40):
        torch.zeros(2**24).add_(1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def test_memory_of_tensors_is_kept_for_the_next() -> None:
    """40 tensors of 64 MiB, one after another: the kernel clears the pages of a few of them, or of each."""
    taken = {}
    for name in ("kept", "given back"):
        run = subprocess.run([sys.executable, "-c", FAULTS, name], capture_output=True, text=True, check=True)
        taken[name] = int(run.stdout)
    if taken["kept"] < 0:
        pytest.skip("the C library is not glibc")
    assert taken["kept"] < taken["given back"] / 5


def _runs(pid: int) -> bool:
    """True if there is such a process; a zombie, which waits for whoever has inherited it, has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc, which is Linux's")
def test_workers_end_with_a_command_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        worker = int(command.stdout.readline())
        assert _runs(worker)
        command.kill()
    deadline = time.monotonic() + 30
    while _runs(worker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(worker)


def test_where_one_piece_of_work_fails_the_others_are_not_waited_for() -> None:
    run = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 1 and "no number" in run.stderr

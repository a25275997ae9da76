"""Keeps the tests' ROS graph apart from others, and makes sure that the ROS tests run where they are asked for.

A ROS test module skips itself where ROS is missing: `pytest.importorskip("wesam_ros.msg")`. `make test` sets
WESAM_REQUIRE_ROS=1, and then a missing module is an error, not a skip.
"""

from __future__ import annotations

import importlib
import logging
import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: threads that spin hold up the other processes of these tests

import resource
import signal
import socket
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from safetensors.torch import save_file

from wesam_ros.machine import cores
from wesam_ros.ros.children import set_up_by

FIRST_PORT, PORTS_PER_DOMAIN, METATRAFFIC = 7400, 250, 10
"""Ports on which DDS participants listen (RTPS specification, 9.6.1.1): the first one of a domain on a machine, for discovery."""
DOMAINS = 100
"""Ids from 1 to this are safe on every system."""


def free_domain() -> int:
    """A ROS_DOMAIN_ID that nobody on this machine uses. Test runs side by side start looking in different places."""
    for n in range(DOMAINS):
        domain = 1 + (os.getpid() + n) % DOMAINS
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", FIRST_PORT + PORTS_PER_DOMAIN * domain + METATRAFFIC))
            except OSError:
                continue
            return domain
    raise pytest.UsageError("every ROS domain from 1 to 100 is in use on this machine: end the ROS processes that are left")


# Read by the middleware when a test, or a node that it starts, joins the graph. The profile keeps it on this machine, and off shared
# memory, through which raw images may come 3 s late.
os.environ |= set_up_by(Path(__file__).parents[1] / "config" / "loopback.xml")
os.environ["ROS_DOMAIN_ID"] = str(free_domain())
# Whatever has been exported on this machine: in the tests, engines find only what a test exports.
os.environ["WESAM_CACHE"] = str(Path(tempfile.gettempdir()) / f"wesam-tests-{os.getpid()}")

FUZZ_EXAMPLES = int(os.environ.get("WESAM_FUZZ", "0"))
"""Inputs that each property of the fuzzing tests is tried with, others each time; by default a few, always the same."""
LARGEST = 2 * 2**30
"""Bytes that one call may ask for beyond what the process has already."""
LONGEST = 120
"""Seconds after which a call hangs."""
settings.register_profile(
    "fuzz",
    max_examples=FUZZ_EXAMPLES or 15,
    derandomize=not FUZZ_EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("fuzz")
tried: Counter[str] = Counter()


@pytest.fixture(scope="session")
def attempt() -> Callable[..., Any]:
    """Makes a call with fuzzed input: its value, or None where it was refused with the documented error, whose text says something.

    Any other exception fails the test, and so does a call that does not end, or asks for gigabytes unless it `may_ask` for them.
    """

    def stop(*_: Any) -> None:
        raise AssertionError(f"the call has not ended after {LONGEST} s")

    def call(function: Callable[..., Any], *args: Any, refusal: type[Exception], may_ask: bool = False, **kwargs: Any) -> Any:
        limits = resource.getrlimit(resource.RLIMIT_AS)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        before = signal.signal(signal.SIGALRM, stop)
        signal.alarm(LONGEST)
        resource.setrlimit(resource.RLIMIT_AS, (mapped + LARGEST, limits[1]))
        refused: Exception | None = None
        value = None
        try:
            value = function(*args, **kwargs)
        except refusal as error:
            refused = error
        finally:
            resource.setrlimit(resource.RLIMIT_AS, limits)
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        tried["refused" if refused else "taken"] += 1
        if refused is not None:
            assert len(str(refused)) > 20, f"a refusal that says nothing: {refused!r}"
            told = f"{refused} {refused.__cause__!r}".lower()
            hungry = "memoryerror" in told or "insufficient memory" in told
            assert may_ask or not hungry, f"refused only after it asked for {LARGEST} bytes: {refused}"
        return value

    return call


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tells how many inputs the fuzzing tests have tried."""
    if tried:
        terminalreporter.write_line(f"fuzzing: {sum(tried.values())} inputs, {tried['refused']} of them refused")


def pytest_configure() -> None:
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    torch.set_num_threads(max(1, cores() // processes))  # threads that wait for each other's cores make tests several times as slow
    if os.environ.get("WESAM_REQUIRE_ROS") != "1":
        return
    for name in ("rclpy", "vision_msgs.msg", "wesam_ros.msg"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise pytest.UsageError(f"the ROS tests cannot run ({error}): build with `make setup`, then `source scripts/env.sh`") from error


@pytest.fixture(scope="session")
def random_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `tiny` with random weights, for what must hold for any weights."""
    from wesam_ros.sam.architectures import build_tiny

    torch.manual_seed(0)
    sam = build_tiny()
    for parameter in sam.parameters():  # the position tables start at zero, which would hide mistakes in their use
        torch.nn.init.normal_(parameter, std=0.05)
    path = tmp_path_factory.mktemp("weights") / "random_tiny.safetensors"
    save_file(sam.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def untrained_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of `tiny` as torch draws it: its masks cover a part of the image, and an adapter changes them."""
    from wesam_ros.sam.architectures import build_tiny

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("untrained") / "tiny.safetensors"
    save_file({name: value.contiguous() for name, value in build_tiny().state_dict().items()}, path)
    return path


@pytest.fixture(scope="session")
def sam(random_tiny: Path) -> Any:
    """`tiny` with random weights, loaded as any checkpoint is. Tests leave it as they found it."""
    from wesam_ros.sam import load_sam

    return load_sam("tiny", random_tiny)


def build_small() -> Any:
    """SAM at 256 px with a block of windows, which do not divide the grid (as in vit_b), and one that attends globally."""
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    width, grid = 64, (16, 16)
    encoder = ImageEncoderViT(
        img_size=256,
        embed_dim=64,
        depth=2,
        num_heads=2,
        out_chans=width,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=6,
        global_attn_indexes=(1,),
    )
    prompts = PromptEncoder(embed_dim=width, image_embedding_size=grid, input_image_size=(256, 256), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=width, mlp_dim=128, num_heads=4)
    return Sam(encoder, prompts, MaskDecoder(transformer_dim=width, transformer=transformer, iou_head_hidden_dim=32)).eval()


@pytest.fixture(scope="session")
def small_architecture() -> Any:
    """The architecture that goes by the name of `tiny` where a small model is tested: an export of it takes a third of the time."""
    from wesam_ros.sam.architectures import ARCHITECTURES

    return replace(ARCHITECTURES["tiny"], build=build_small)


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = build_small()
    for parameter in model.parameters():  # position tables and the last bias of the logits start at zero, which would hide mistakes
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_file(model.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def small_sam(small_checkpoint: Path, small_architecture: Any) -> Any:
    """A small model with random weights. Tests leave it as they found it."""
    from wesam_ros.sam import load_sam
    from wesam_ros.sam.architectures import ARCHITECTURES

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "tiny", small_architecture)
        return load_sam("tiny", small_checkpoint)


@pytest.fixture(scope="session")
def exported(small_sam: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the export of the small model."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"needs {package}: pip install -e '.[onnx]'")
    from wesam_ros.engines.export import export
    from wesam_ros.engines.store import folder_of

    cache = tmp_path_factory.mktemp("cache")
    before = os.environ["WESAM_CACHE"]
    os.environ["WESAM_CACHE"] = str(cache)
    logging.disable(logging.DEBUG)  # torch traces each step of its exporter there, and pytest would keep it all
    try:
        errors = export(small_sam, folder_of(small_sam))
    finally:
        logging.disable(logging.NOTSET)
        os.environ["WESAM_CACHE"] = before
    assert errors.largest < 1e-5
    return cache


@pytest.fixture
def cache(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache that engines look into holds the export of the small model, and nothing of how fast engines were."""
    monkeypatch.setenv("WESAM_CACHE", str(exported))
    for file in exported.rglob("race-*.json"):
        file.unlink()
    return exported

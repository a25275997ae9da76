"""`wesam doctor`: what there is on this machine to compute with, whether it agrees with torch, how fast it is, and what is taken."""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

import wesam_ros
from wesam_ros.commands import common
from wesam_ros.engines import CHOICES
from wesam_ros.machine import memory
from wesam_ros.options import positive_integer
from wesam_ros.sam.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

    from wesam_ros.engines.engine import Engine

LEAST_FOR_VIT_B, LEAST_FOR_VIT_T = 8 * 2**30, 3 * 2**30
"""Bytes of memory to serve and to adapt a model with, in two processes."""
PACKAGES = ("numpy", "segment-anything", "onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "openvino", "nicegui")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    common.add_model_options(parser)
    parser.add_argument("--engine", default="auto", choices=CHOICES, help="the one that has to serve (default: %(default)s)")
    parser.add_argument("--runs", type=positive_integer, default=20, metavar="N", help="frames timed per engine (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Examines every engine, exporting and building what is missing; returns 0 if the one asked for serves, else 1."""
    from wesam_ros.engines.selection import create_engine
    from wesam_ros.sam.checkpoints import load_sam

    device = common.device_of(args)
    for name, text in facts().items():
        print(f"{name}: {text}")
    print(f"model: {args.model} on {device}", flush=True)
    print(advice(args.model, device, memory(device)), flush=True)
    sam = load_sam(args.model, args.checkpoint, device)
    for name in CHOICES[1:] if device == args.device or args.device == "auto" else ("openvino",):
        print(f"\n{name}, on a frame of 12 objects:", flush=True)
        _examine(name, sam, args.runs, args.device)
    print(f"\nWith engine:={args.engine} serves:")
    try:
        selection = create_engine(sam, args.engine, lambda sentence: None, device=args.device)
        selection.engine.warm_up()
        print(f"  {selection.engine.capabilities}")
        for sentence in selection.refused:
            print(f"  not {sentence}")
        selection.engine.close()
    except Exception as error:  # torch's and CUDA's among them
        print(f"  none: {_text(error)}")
        print("If that sentence does not help, report all of this output, with the command, as an issue of wesam_ros.")
        return 1
    print("If masks or speed are not what they should be, report all of this output, with the command, as an issue of wesam_ros.")
    return 0


def advice(name: str, device: str, available: int) -> str:
    """A sentence on which model serves, and which official one is better where a device with so many bytes of memory can carry it.

    A GPU is to carry ViT-B, whose encoder takes 4.3 GB in training (docs/results.md), and other devices MobileSAM, since ViT-B takes
    seconds per frame on a CPU.
    """
    model = ARCHITECTURES[name]
    if model.official_file:
        return f"{name} serves, {model.official_file} of {model.project}, or a model trained from it."
    better, least = ("vit_b", LEAST_FOR_VIT_B) if device.startswith("cuda") and available >= LEAST_FOR_VIT_B else ("vit_t", LEAST_FOR_VIT_T)
    ships = f"{name} serves: it ships with the package, and its card tells what it knows (wesam_ros/weights/{name}.md)."
    has = f"{device} has {available / 2**30:.0f} GiB"
    if available < least:
        return f"{ships} Official models are better, but {has}, too little for them beside an adapter node."
    official = ARCHITECTURES[better]
    return (
        f"{ships} {official.project}'s own is better, and {has}, enough for it: download {official.official_file}, which the README of "
        f"{official.project} links, and give --model {better} --checkpoint {official.official_file} here, or model:={better} "
        f"checkpoint:=/path/to/{official.official_file} to adapt.launch.py."
    )


def facts() -> dict[str, str]:
    """Versions of what the results depend on, the GPU, and ROS; what is missing is said to be."""
    found = {
        "wesam_ros": wesam_ros.__version__,
        "system": f"{platform.platform()}, {os.cpu_count()} cores",
        "Python": platform.python_version(),
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda or 'not in this build'}, {torch.get_num_threads()} threads",
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if package != "onnxruntime-gpu":  # it takes the place of onnxruntime
                found[package] = "not installed"
    found["TensorRT"] = _version_of("tensorrt")
    found["GPU"] = ", ".join(map(_gpu, range(torch.cuda.device_count()))) or "none that torch can use"
    distribution = os.environ.get("ROS_DISTRO", "none sourced")
    found["ROS"] = f"{distribution}, rclpy {'found' if find_spec('rclpy') else 'not found'}"
    return found


def _version_of(module: str) -> str:
    try:
        return str(getattr(import_module(module), "__version__", "without a version"))
    except (ImportError, OSError) as error:
        return f"cannot be imported ({error})"


def _gpu(index: int) -> str:
    properties = torch.cuda.get_device_properties(index)
    return f"{properties.name} ({properties.major}.{properties.minor}, {properties.total_memory / 2**30:.1f} GiB)"


def _examine(name: str, sam: Sam, runs: int, device: str) -> None:
    from wesam_ros.engines.engine import give_up
    from wesam_ros.engines.selection import create_engine

    try:
        selection = create_engine(sam, name, _say, device=device)
        try:
            p50, p95 = np.percentile(_time(selection.engine, runs), (50, 95))
        finally:
            give_up(selection.engine)
        _say(f"{p50:.1f} ms from the image to all masks (median of {runs}; 95 %: {p95:.1f} ms)")
    except Exception as error:  # the next engine may serve all the same
        _say(f"does not serve: {_text(error)}")


def _text(error: Exception) -> str:
    """An error's text, with its type where the text is not a sentence of ours."""
    return str(error) if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: {error}"


def _time(engine: Engine, runs: int) -> npt.NDArray[np.float64]:
    """Milliseconds (runs,) that the frame of the gate takes, after one that is not counted."""
    from wesam_ros.engines.parity import scene

    image, prompts = scene()
    stamps = []
    for _ in range(runs + 1):
        engine.segment(image, prompts)
        stamps.append(time.perf_counter())
    return np.diff(stamps) * 1e3


def _say(sentence: str) -> None:
    print(f"  {sentence}", flush=True)

"""The command `wesam`: finds the subcommand, imports its module only then, and turns known errors into one sentence."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from wesam_ros import __version__, install_extra

COMMANDS = {
    "replay": ("wesam_ros.commands.replay", "play a recording into the ROS graph, learn from it, and write a report (needs ROS 2)"),
    "adapt": ("wesam_ros.commands.adapt", "adapt to recordings without ROS, and write the adapter and a report"),
    "segment": ("wesam_ros.commands.segment", "segment everything in a picture, without a prompt and without ROS"),
    "web": ("wesam_ros.commands.web", "serve a page that shows what the nodes see and learn, and takes clicks (needs ROS 2)"),
    "bag": ("wesam_ros.commands.bag", "make recordings from data sets or the simulator, and look into them"),
    "evaluate": ("wesam_ros.commands.evaluate", "compare adaptation methods on data sets and recordings"),
    "doctor": ("wesam_ros.commands.doctor", "say what this machine computes with, build the engines, and compare them with torch"),
    "export": ("wesam_ros.commands.export", "write the model as ONNX files, for OpenVINO, ONNX Runtime and others"),
    "hand-over": ("wesam_ros.commands.hand_over", "write an adapter in the format of another tool, or take one of theirs"),
    "benchmark": ("wesam_ros.commands.benchmark", "time every engine that is present against SamPredictor"),
    "pretrain": ("wesam_ros.commands.pretrain", "train the small models on real pictures and simulated scenes"),
}
"""By name: a module with add_arguments(parser) and run(args) -> int, and a line of help."""

REMEDIES = {
    "rclpy": "source a ROS 2 environment (Jazzy or newer), or install the wheels with `make setup`",
    "wesam_ros.msg": "`make setup` and `source scripts/env.sh`, or `colcon build` and source its install/setup.bash",
    "mujoco": install_extra("sim"),
    "onnx": install_extra("onnx"),
    "onnxruntime": install_extra("onnx"),
    "onnxscript": install_extra("onnx"),
    "openvino": install_extra("openvino"),
    "nicegui": install_extra("web"),
    "rosbags": "install it: pip install rosbags",
    "torch": "install it: pip install torch",
    "segment_anything": "install it: pip install segment-anything",
}
"""By a module that only some commands need: what to do where it is missing."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Returns:
        The exit status: the subcommand's own, 2 for bad arguments and known errors (one sentence on stderr), 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), "")
    verbose = False
    try:
        if chosen == "run":
            raise ValueError("there is no command run: it is called replay now")
        parser = _parser(chosen)
        args = parser.parse_args(words)
        verbose = args.verbose
        logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s: %(message)s")
        status: int = import_module(COMMANDS[args.command][0]).run(args)
        return status
    except KeyboardInterrupt:
        print("wesam: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        sentence = known_error(error)
        if sentence is None or verbose:
            raise
        print(f"wesam: {sentence}", file=sys.stderr)
        return 2


def _parser(chosen: str) -> argparse.ArgumentParser:
    """Parser of all commands by name, with the options of the chosen one only: `wesam --help` imports nothing."""
    parser = argparse.ArgumentParser(prog="wesam", description="Segment what a robot is about to grasp, and get better at it on the site.")
    parser.add_argument("--version", action="version", version=f"wesam {__version__}")
    parser.add_argument("--verbose", action="store_true", help="say more, and show where an error comes from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name == chosen:
            import_module(module).add_arguments(command)
    return parser


def known_error(error: BaseException) -> str | None:
    """The sentence of an error that a user can do something about; None for any other, which is a fault of ours.

    Known are bad values (ValueError: bags, images, checkpoints, configurations, data sets), files (OSError), what the simulator lacks,
    and missing packages that only some commands need.
    """
    if isinstance(error, ModuleNotFoundError):
        return next((f"{name} is missing: {cure}" for name, cure in REMEDIES.items() if f"{error.name}.".startswith(f"{name}.")), None)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    # The simulator's error goes by name: importing the class would load the simulator.
    if isinstance(error, ValueError) or type(error).__name__ == "SimulatorError":
        return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main())

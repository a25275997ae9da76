"""Plans, as TensorRT calls built engines: made from the exported files for one GPU, and kept in the cache.

Written against the documentation and the Python bindings of TensorRT 10 and 11. A plan works with the version and on the GPU that it was
built for only, so both are part of its key.
"""

from __future__ import annotations

import logging
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wesam_ros.engines.engine import EngineError
from wesam_ros.engines.half_precision import to_half_precision
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER, check, folder_for, publish, whole
from wesam_ros.files import write_atomically
from wesam_ros.sam.adapter import MAX_RANK

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_log = logging.getLogger(__name__)

FORMAT = 2
"""Counts up when plans are built in another way."""
PRECISION = "float16"
RANKS, OBJECTS, TOKENS = (1, 4, MAX_RANK), (1, 10, 32), (1, 2, 64)
"""Least, tuned for and most: of an adapter's rank, of objects in a call, and of tokens per object (a box has two)."""
PROFILE: dict[str, dict[int, tuple[int, int, int]]] = {
    "a": {0: RANKS},
    "b": {1: RANKS},
    "points": {0: OBJECTS, 1: TOKENS},
    "labels": {0: OBJECTS, 1: TOKENS},
    "masks": {0: OBJECTS},
}
"""The free axes of inputs."""
OLDEST = 10
"""The major version of TensorRT that reads operator set 20 and takes a graph's types as they are."""


class PlanError(EngineError):
    """A plan that TensorRT does not load, or that belongs to another graph. Building it again helps."""


@dataclass(frozen=True, eq=False)
class Platform:
    """TensorRT, and the GPU that plans are built for.

    Attributes:
        trt: the module tensorrt.
        device: the GPU.
        name: the GPU's, such as "Orin".
        capability: its compute capability, such as "8.7".
        logger: a trt.ILogger that passes TensorRT's messages on.
        errors: the last errors that went to the logger; TensorRT gives no other reason for a failure.
    """

    trt: Any
    device: torch.device
    name: str
    capability: str
    logger: Any
    errors: deque[str]

    @classmethod
    def of(cls, device: torch.device) -> Platform:
        """TensorRT on the GPU that a model is on.

        Raises:
            EngineError: the model is not on a GPU, or TensorRT is missing, broken or too old.
        """
        trt = import_tensorrt()
        if device.type != "cuda":
            raise EngineError(f"TensorRT needs an NVIDIA GPU, but the model is on {device}; set device to cuda")
        errors: deque[str] = deque(maxlen=3)
        capability = ".".join(map(str, torch.cuda.get_device_capability(device)))
        return cls(trt, device, torch.cuda.get_device_name(device), capability, _logger(trt, errors), errors)

    @property
    def version(self) -> str:
        """TensorRT's."""
        return str(self.trt.__version__)

    @property
    def reason(self) -> str:
        """The last errors that TensorRT has logged."""
        return "; ".join(self.errors) or "it gives no reason"

    def failed(self, what: str, remedy: str) -> EngineError:
        """An error that names what TensorRT could not do, TensorRT's own reason, and the remedy."""
        return EngineError(f"TensorRT {self.version} {what}: {self.reason}; {remedy}")

    def make(self, factory: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a factory of TensorRT, which returns None or raises TypeError where it fails; raises EngineError instead."""
        self.errors.clear()
        try:
            made = factory(*arguments)
        except TypeError as error:
            raise self.failed(f"cannot start ({error})", "check that the driver is new enough for it, with nvidia-smi") from error
        if made is None:
            raise self.failed(f"gives no {factory.__name__}", "check that the GPU has memory left")
        return made


def import_tensorrt() -> Any:
    """The module tensorrt.

    Raises:
        EngineError: it is missing, lacks its libraries, or is too old.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise EngineError(
            f"tensorrt cannot be imported ({error}); install NVIDIA TensorRT 10 or 11: pip install tensorrt, or on a Jetson with JetPack, "
            "whose packages a virtual environment sees if it was made with --system-site-packages"
        ) from error
    version = str(getattr(tensorrt, "__version__", ""))
    if not version.split(".")[0].isdecimal() or int(version.split(".")[0]) < OLDEST:
        raise EngineError(f"TensorRT {version or 'without a version'} is too old; install TensorRT 10 or 11")
    return tensorrt


def _logger(trt: Any, errors: deque[str]) -> Any:
    severities = trt.ILogger.Severity

    class Logger(trt.ILogger):  # type: ignore[misc] # a class of a module that is not there for mypy
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the bindings refuse super().__init__

        def log(self, severity: Any, msg: str) -> None:
            if severity in (severities.INTERNAL_ERROR, severities.ERROR):
                errors.append(msg.strip())
                _log.error("TensorRT: %s", msg)
            else:
                _log.log(logging.WARNING if severity == severities.WARNING else logging.DEBUG, "TensorRT: %s", msg)

    return Logger()


def key_of_plans(platform: Platform, manifest: dict[str, Any]) -> dict[str, str]:
    """Everything that the plans depend on. `manifest` is the export's."""
    files = {name: str(manifest["files"][name]["sha256"]) for name in sorted(manifest["files"])}
    return {
        **files,
        "tensorrt": platform.version,
        "gpu": platform.name,
        "capability": platform.capability,
        "precision": PRECISION,
        "profile": str(PROFILE),
        "format": str(FORMAT),
    }


def plans_of(
    sam: Sam, exported: Path, platform: Platform, *, build: bool, again: bool = False, say: Callable[[str], object] = _log.info
) -> Path:
    """The folder in the cache with the three plans of an export.

    Args:
        sam: the model.
        exported: the folder of its export.
        platform: TensorRT and the GPU that they are for.
        build: build plans where there are none. Damaged plans are built again anyway.
        again: build them in any case.
        say: called with a sentence on each stage that takes minutes.

    Raises:
        EngineError: the export is missing or of another model, a plan cannot be built, or none has been built and `build` is false.
        OSError: the disk is full or the cache cannot be written to; then nothing is left behind.
    """
    key = key_of_plans(platform, check(exported, sam))
    folder = folder_for("tensorrt", str(sam.weights_name), key)
    if folder.exists() and not again:
        sentence = _damage(folder)
        if sentence is None:
            return folder
        say(sentence)
    elif not (build or again):
        raise EngineError(
            f"no plans have been built for TensorRT {platform.version} on {platform.name}; build them with "
            f"`wesam doctor --model {sam.weights_name} --device {platform.device}`"
        )
    _build_plans(exported, folder, platform, key, again, say)
    return folder


def _damage(folder: Path) -> str | None:
    """The fault of a folder of plans in a sentence; None where it is whole."""
    try:
        whole(folder, "its plans are built again")
    except EngineError as error:
        return str(error)
    return None


def _build_plans(exported: Path, folder: Path, platform: Platform, key: dict[str, str], again: bool, say: Callable[[str], object]) -> None:
    timings = folder.parent / f"timings-{platform.version}-{platform.capability}.cache"

    def build(into: Path) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=into.parent) as temporary:
            for name in (ENCODER, DECODER, DECODER_WITH_MASKS):
                say(f"TensorRT builds {name} for {platform.name}, which takes a minute to many")
                half = Path(temporary) / name
                to_half_precision(exported / name, half)
                (into / plan_file(name)).write_bytes(build_plan(platform, half, timings))
        return {"key": key}

    publish(folder, build, unless=lambda: not again and _damage(folder) is None)


def plan_file(name: str) -> str:
    """The file name of the plan of an exported file."""
    return Path(name).with_suffix(".plan").name


def build_plan(platform: Platform, graph: Path, timings: Path) -> bytes:
    """Builds one plan, with float16 where the graph has it, for the shapes of PROFILE.

    Args:
        platform: TensorRT and the GPU that it is for.
        graph: the ONNX file.
        timings: file of the timing cache; read where it is there and fits, and written. Kernels that are in it are not timed again.

    Raises:
        EngineError: TensorRT cannot read or build it; the message has TensorRT's reason.
    """
    trt = platform.trt
    report = "report this with the output of `wesam doctor`, and take another engine"
    with torch.cuda.device(platform.device):
        builder = platform.make(trt.Builder, platform.logger)
        # Version 10 takes a graph's types as they are where it is asked to; 11 always does, and still knows the flag.
        network = platform.make(builder.create_network, 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = platform.make(trt.OnnxParser, network, platform.logger)
        if not parser.parse_from_file(str(graph)):
            reasons = "; ".join(f"{parser.get_error(index).desc()}" for index in range(parser.num_errors))
            raise EngineError(f"TensorRT {platform.version} cannot read {graph.name}: {reasons}; {report}")
        config = platform.make(builder.create_builder_config)
        # TensorFloat-32 has 10 bits of mantissa. The values left in float32 need more: positions of points to a fraction of a pixel.
        config.clear_flag(trt.BuilderFlag.TF32)
        _add_profile(platform, builder, network, config)
        _take_timings(config, timings)
        platform.errors.clear()
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise platform.failed(f"cannot build {graph.name}", report)
        try:
            write_atomically(timings, bytes(config.get_timing_cache().serialize()))
        except OSError as error:
            _log.warning("TensorRT's timing cache cannot be written (%s); the next build will take as long", error)
        return bytes(plan)


def _add_profile(platform: Platform, builder: Any, network: Any, config: Any) -> None:
    profile = platform.make(builder.create_optimization_profile)
    for tensor in (network.get_input(index) for index in range(network.num_inputs)):
        shape, free = tuple(tensor.shape), PROFILE.get(tensor.name, {})
        if {axis for axis, size in enumerate(shape) if size < 0} != set(free):
            raise EngineError(f"input {tensor.name} has shape {shape}, but its free axes should be {sorted(free)}; export the model again")
        if free:
            least, best, most = (tuple(free[axis][i] if axis in free else size for axis, size in enumerate(shape)) for i in range(3))
            profile.set_shape(tensor.name, least, best, most)
    if config.add_optimization_profile(profile) < 0:
        raise platform.failed("refuses the shapes", "report this with the output of `wesam doctor`")


def _take_timings(config: Any, timings: Path) -> None:
    cache = config.create_timing_cache(timings.read_bytes()) if timings.exists() else None
    if cache is None or not config.set_timing_cache(cache, False):  # it is damaged or of another version or GPU
        config.set_timing_cache(config.create_timing_cache(b""), False)

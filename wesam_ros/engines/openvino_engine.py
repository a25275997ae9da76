"""The exported model in OpenVINO: on a CPU in bfloat16 where that computes in it, and on Intel's GPUs and NPUs."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wesam_ros import install_extra
from wesam_ros.engines.engine import Capabilities, Engine, EngineError
from wesam_ros.engines.exported import decode
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER, MANIFEST, check, folder_for, publish, whole
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.lora import adapter_shape
from wesam_ros.sam.preprocessing import CPU
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

OBJECTS_PER_CALL = {"CPU": 8, "GPU": 32}
"""Objects decoded at once, by the kind of device."""
FIXED_SHAPES, FIXED_RANK = ("NPU",), 16
"""Kinds of devices that compute with fixed shapes only, and the rank that adapters are filled up to there, with zeros."""
PRECISIONS = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
"""Names of precisions, by OpenVINO's."""
BLOB = "compiled.blob"
_log = logging.getLogger(__name__)


class OpenVinoEngine(Engine):
    """Computes with the files of `wesam export`; the model in torch is on the CPU, whatever OpenVINO computes on.

    Args:
        sam: the model.
        folder: with the files.
        device: OpenVINO's name of a device: CPU, GPU, GPU.1, NPU. An NPU computes the encoder, and the CPU the decoder.
        threads: for the CPU; None for as many as torch uses.
        precision: "float32"; None for the one that the device is fast in (`_precision`).
        cached: compiled files are taken from the cache, and left there.

    Raises:
        EngineError: OpenVINO is missing, does not find the device, or cannot load the files.
    """

    def __init__(
        self,
        sam: Sam,
        folder: Path,
        device: str = "CPU",
        threads: int | None = None,
        precision: str | None = None,
        cached: bool = False,
    ) -> None:
        super().__init__(sam)
        if sam.device.type != "cpu":
            raise EngineError(f"openvino needs the model in torch on the cpu, but it is on {sam.device}; set device to cpu or openvino:GPU")
        need_device(device)
        self._compiler = compiler = _Compiler(folder, threads, precision, str(sam.weights_name) if cached else None)
        self._device = device
        self._fixed = device.split(".")[0] in FIXED_SHAPES
        decodes_on = "CPU" if self._fixed else device
        self._per_call = OBJECTS_PER_CALL[decodes_on.split(".")[0]]
        terms_in, terms_out = adapter_shape(sam)
        fixed = {"a": [FIXED_RANK, terms_in], "b": [terms_out, FIXED_RANK]} if self._fixed else {}
        # A frozen model is an adapter of zeros; rank 1 is the cheapest.
        self._frozen = np.zeros((1, terms_in), np.float32), np.zeros((terms_out, 1), np.float32)
        self._requests = {ENCODER: compiler.compiled(ENCODER, device, fixed).create_infer_request()}
        for name in (DECODER, DECODER_WITH_MASKS):
            self._requests[name] = compiler.compiled(name, decodes_on, {}).create_infer_request()

    @classmethod
    def load(cls, sam: Sam, folder: Path, device: str = "CPU", threads: int | None = None, precision: str | None = None) -> OpenVinoEngine:
        """An engine with what `export` wrote into `folder`, compiled once and kept in the cache.

        Raises:
            EngineError: as the constructor does, and where the files are missing, changed or of another model.
        """
        _import()  # a missing package is named before a missing export
        check(folder, sam)
        return cls(sam, folder, device, threads, precision, cached=True)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            "openvino", self._compiler.version.split("-")[0], self._device.lower(), PRECISIONS[self._compiler.precision(self._device)]
        )

    @property
    def input_device(self) -> torch.device:
        return CPU  # its inputs are arrays

    def _embed(self, pixels: Tensor, adapter: Adapter | None) -> Tensor:
        a, b = self._frozen if adapter is None else (each.detach().cpu().contiguous().numpy() for each in adapter.low_rank)
        if self._fixed:
            a, b = _filled(a, 0), _filled(b, 1)
        (embedding,) = self._run(ENCODER, {"pixels": pixels.numpy(), "a": a, "b": b})
        return torch.from_numpy(embedding)

    def _decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        return decode(self._run, features, prompts, self.side, self._per_call)

    def _run(self, name: str, inputs: dict[str, Any]) -> list[Any]:
        if name not in self._requests:
            raise EngineError("this engine is closed; make another with create_engine")
        request = self._requests[name]
        # Inputs are read in place; outputs are copied, as the next run writes over them.
        found = request.infer(inputs, share_inputs=True, share_outputs=False)
        return [found[output] for output in request.model_outputs]

    def close(self) -> None:
        self._requests.clear()


class _Compiler:
    """Compiles exported files, or takes them from the cache where they are as they were written."""

    def __init__(self, folder: Path, threads: int | None, precision: str | None, model: str | None) -> None:
        openvino = _import()
        self.version = str(openvino.__version__)
        self._runtime: Any = openvino.Core()
        self._folder, self._threads, self._wanted, self._model = folder, threads or torch.get_num_threads(), precision, model

    def precision(self, device: str) -> str:
        """OpenVINO's name of the precision: bf16 on a CPU with AMX or AVX512-BF16, f16 on a GPU or NPU, else or where wanted f32."""
        if self._wanted == "float32":
            return "f32"
        if device != "CPU":
            return "f16"
        return "bf16" if "BF16" in self._runtime.get_property(device, "OPTIMIZATION_CAPABILITIES") else "f32"

    def compiled(self, name: str, device: str, shapes: dict[str, list[int]]) -> Any:
        """A file for a device, with the inputs in `shapes` of fixed shapes."""
        cached = self._place(name, device) if self._model is not None else None
        if cached is not None and cached.exists():
            try:
                whole(cached, "it is compiled again")
                return self._runtime.import_model(io.BytesIO((cached / BLOB).read_bytes()), device, self._options(device))
            except (EngineError, OSError, RuntimeError) as error:
                _log.warning("a compiled file of OpenVINO cannot be taken from the cache: %s", _reason(error))
        try:
            model = self._runtime.read_model(str(self._folder / name))
            if shapes:
                model.reshape(shapes)
            compiled = self._runtime.compile_model(model, device, self._options(device))
        except Exception as error:  # the library's exceptions have no base of their own
            raise EngineError(f"openvino {self.version} cannot load {self._folder / name} on {device}: {_reason(error)}") from error
        if cached is not None:
            _keep(compiled, cached)
        return compiled

    def _options(self, device: str) -> dict[str, Any]:
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": self.precision(device)}
        if device == "CPU":
            # Threads are not pinned to cores: a trainer beside would be pushed off its own.
            options |= {"INFERENCE_NUM_THREADS": self._threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
        return options

    def _place(self, name: str, device: str) -> Path:
        manifest = json.loads((self._folder / MANIFEST).read_text())
        key = {
            "file": f"{name} {manifest['files'][name]['sha256']}",
            "openvino": self.version,
            "device": f"{device} {self._runtime.get_property(device, 'FULL_DEVICE_NAME')}",
            "precision": self.precision(device),
        }
        return folder_for("openvino", f"{self._model}-{Path(name).stem}", key)


def _keep(compiled: Any, folder: Path) -> None:
    """Leaves a compiled file in the cache; where that is impossible, the next start compiles again."""

    def build(into: Path) -> dict[str, Any]:
        blob = compiled.export_model()
        (into / BLOB).write_bytes(blob if isinstance(blob, bytes) else blob.getvalue())
        return {"key": {}}

    try:
        publish(folder, build)
    except (OSError, RuntimeError) as error:
        _log.warning("%s cannot be written (%s): OpenVINO compiles again at the next start", folder, _reason(error))


def need_device(device: str) -> None:
    """Raises EngineError if OpenVINO is not installed, or does not find the device."""
    openvino = _import()
    there = [str(each) for each in openvino.Core().available_devices]
    if device not in there and f"{device}.0" not in there:  # GPU is GPU.0 where there are several
        raise EngineError(
            f"openvino {openvino.__version__} finds no device {device} here, only {', '.join(there)}; Intel's GPUs and NPUs need their "
            "drivers and access to /dev/dri or /dev/accel"
        )


def _import() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise EngineError(f"openvino cannot be imported ({error}); {install_extra('openvino')}") from error
    return openvino


def _filled(array: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    """An adapter's array with zeros up to FIXED_RANK along an axis. Raises EngineError if its rank is larger."""
    rank = array.shape[axis]
    if rank > FIXED_RANK:
        raise EngineError(
            f"on an NPU an adapter's rank is at most {FIXED_RANK}, but this one has {rank}; set device to openvino:GPU or cpu"
        )
    return np.pad(array, [(0, FIXED_RANK - rank if each == axis else 0) for each in range(array.ndim)])


def _reason(error: Exception) -> str:
    """The line of an error that says something: OpenVINO's begin with places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(("Exception from", "Check '"))]
    return (told or lines or [type(error).__name__])[0]

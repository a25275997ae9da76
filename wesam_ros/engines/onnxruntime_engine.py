"""The exported model in ONNX Runtime, on the CPU or, where the package has it, with CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wesam_ros import install_extra
from wesam_ros.engines.engine import Capabilities, Engine, EngineError
from wesam_ros.engines.exported import decode
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER, check
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.lora import adapter_shape
from wesam_ros.sam.preprocessing import CPU
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

OBJECTS_PER_CALL = {"cpu": 8, "cuda": 32}
"""Objects decoded at once. On a CPU, the data of a few stay in its caches: 32 took a sixth longer per object than 4 or 8."""


class OnnxRuntimeEngine(Engine):
    """Computes with the files of `wesam export`, on the kind of device that the model in torch is on.

    `load` checks first that the files are whole and of this model; the constructor takes them as they are.

    Args:
        sam: the model.
        folder: with the files.
        threads: for the CPU; None for as many as torch uses.

    Raises:
        EngineError: onnxruntime is missing or lacks CUDA, or cannot load the files.
    """

    concurrent = True  # sessions may be run from several threads

    def __init__(self, sam: Sam, folder: Path, threads: int | None = None) -> None:
        super().__init__(sam)
        onnxruntime = _import()
        self.folder = folder
        self._device: torch.device = sam.device
        self._version = str(onnxruntime.__version__)
        providers = _providers(onnxruntime, self._device)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.use_deterministic_compute = True
        # A thread that spins while it waits takes its core from the trainer beside us.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # it plans for inputs of one shape, and ours have as many as there are numbers of objects
        options.log_severity_level = 3
        self._sessions: dict[str, Any] = {}
        for name in (ENCODER, DECODER, DECODER_WITH_MASKS):
            try:
                session = onnxruntime.InferenceSession(str(folder / name), options, providers=providers)
            except Exception as error:  # the library's exceptions have no base of their own
                raise EngineError(f"onnxruntime {self._version} cannot load {folder / name}: {_first_line(error)}") from error
            if session.get_providers()[0] != _name(providers[0]):
                raise EngineError(
                    f"onnxruntime {self._version} could not start {_name(providers[0])}: check that CUDA and cuDNN are of its versions"
                )
            self._sessions[name] = session
        terms_in, terms_out = adapter_shape(sam)
        # A frozen model is an adapter of zeros; rank 1 is the cheapest.
        self._frozen = np.zeros((1, terms_in), np.float32), np.zeros((terms_out, 1), np.float32)

    @classmethod
    def load(cls, sam: Sam, folder: Path, threads: int | None = None) -> OnnxRuntimeEngine:
        """An engine with what `export` wrote into `folder`.

        Raises:
            EngineError: as the constructor does, and where the files are missing, changed or of another model.
        """
        _import()  # a missing package is named before a missing export
        check(folder, sam)
        return cls(sam, folder, threads)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("onnxruntime", self._version, str(self._device))

    @property
    def input_device(self) -> torch.device:
        return CPU  # its inputs are arrays

    def _embed(self, pixels: Tensor, adapter: Adapter | None) -> Tensor:
        a, b = self._frozen if adapter is None else (each.detach().cpu().contiguous().numpy() for each in adapter.low_rank)
        (embedding,) = self._run(ENCODER, {"pixels": pixels.numpy(), "a": a, "b": b})
        return torch.from_numpy(embedding)

    def _decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        return decode(self._run, features, prompts, self.side, OBJECTS_PER_CALL[self._device.type])

    def _run(self, name: str, inputs: dict[str, Any]) -> list[Any]:
        if name not in self._sessions:
            raise EngineError("this engine is closed; make another with create_engine")
        return list(self._sessions[name].run(None, inputs))

    def close(self) -> None:
        self._sessions.clear()


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        remedy = install_extra("onnx")
        raise EngineError(f"onnxruntime cannot be imported ({error}); {remedy}") from error
    return onnxruntime


def _providers(onnxruntime: Any, device: torch.device) -> list[Any]:
    """The execution providers for the device that the model is on."""
    if device.type == "cpu":
        return ["CPUExecutionProvider"]
    if device.type != "cuda":
        raise EngineError(f"onnxruntime serves models on cpu and cuda, but this one is on {device}")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise EngineError(
            f"this build of onnxruntime has no CUDAExecutionProvider ({', '.join(onnxruntime.get_available_providers())}); "
            "install onnxruntime-gpu in its place"
        )
    # TensorFloat-32, its default, has 10 bits of mantissa: less than the parity that an engine of full precision has to show.
    return [("CUDAExecutionProvider", {"device_id": str(device.index or 0), "use_tf32": "0"}), "CPUExecutionProvider"]


def _name(provider: Any) -> str:
    return str(provider if isinstance(provider, str) else provider[0])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

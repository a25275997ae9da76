"""The exported model in TensorRT, in half precision, on an NVIDIA GPU.

Written against the documentation and the Python bindings of TensorRT 10 and 11, and not run by its authors: they had no GPU. The parity
gate (engines/parity.py) decides on each machine whether it may serve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from wesam_ros.engines.engine import Capabilities, Engine, EngineError
from wesam_ros.engines.store import DECODER, DECODER_WITH_MASKS, ENCODER
from wesam_ros.engines.tensorrt_plans import OBJECTS, PRECISION, TOKENS, PlanError, Platform, plan_file, plans_of
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.decoder import batches, decode_together
from wesam_ros.sam.lora import adapter_shape
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_DECODED = ("logits", "iou")
INPUTS_AND_OUTPUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    ENCODER: (("pixels", "a", "b"), ("embedding",)),
    DECODER: (("embedding", "points", "labels"), _DECODED),
    DECODER_WITH_MASKS: (("embedding", "points", "labels", "masks"), _DECODED),
}


class TensorRtEngine(Engine):
    """Computes with plans of TensorRT on a stream of its own; the host waits for nothing before the masks are copied back.

    An adapter's tensors are copied to the GPU when it is first used, and from then on a swap is two pointers.

    Args:
        sam: the model, on the GPU.
        folder: with the plans.
        platform: TensorRT and the GPU that they were built for.

    Raises:
        PlanError: a plan cannot be loaded; building it again helps.
        EngineError: the GPU has no memory left for it.
    """

    def __init__(self, sam: Sam, folder: Path, platform: Platform) -> None:
        super().__init__(sam)
        self.platform = platform
        self._device = platform.device
        self._stream = torch.cuda.Stream(self._device)
        with torch.cuda.device(self._device):
            runtime = platform.make(platform.trt.Runtime, platform.logger)
            self._plans = {name: _Plan(platform, runtime, folder, name) for name in INPUTS_AND_OUTPUTS}
        terms_in, terms_out = adapter_shape(sam)
        # A frozen model is an adapter of zeros; rank 1 is the cheapest.
        shapes = (1, terms_in), (terms_out, 1)
        with self._own_stream():
            self._frozen = torch.zeros(shapes[0], device=self._device), torch.zeros(shapes[1], device=self._device)
        self._uploaded: tuple[Adapter, tuple[Tensor, Tensor]] | None = None

    @classmethod
    def load(cls, sam: Sam, exported: Path, *, build: bool = True, say: Callable[[str], object] = print) -> TensorRtEngine:
        """An engine for what `export` wrote into `exported`, with plans from the cache, which are built where they do not load.

        Args:
            sam: the model, on the GPU.
            exported: the folder of its export.
            build: build plans where there are none for this GPU and version; it takes minutes.
            say: called with a sentence on each stage that takes minutes.

        Raises:
            EngineError, OSError: as `plans_of` does, and where plans that were just built do not load.
        """
        platform = Platform.of(sam.device)
        try:
            return cls(sam, plans_of(sam, exported, platform, build=build, say=say), platform)
        except PlanError as error:
            say(f"{error}; the plans are built again")
        return cls(sam, plans_of(sam, exported, platform, build=True, again=True, say=say), platform)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("tensorrt", self.platform.version, f"{self._device} ({self.platform.name})", PRECISION)

    @property
    def input_device(self) -> torch.device:
        return self._device

    def _embed(self, pixels: Tensor, adapter: Adapter | None) -> Tensor:
        with self._own_stream():
            a, b = self._low_rank(adapter)
            (embedding,) = self._run(ENCODER, {"pixels": self._upload(pixels), "a": a, "b": b})
        return embedding

    def _decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        with self._own_stream():
            embedding = features.to(self._device, torch.float32).contiguous()
            logits = torch.empty(len(prompts), self.side // 4, self.side // 4, device=self._device)
            iou = torch.empty(len(prompts), device=self._device)
            # A plan has a largest number of tokens. Torch decodes the objects that have more points.
            many = np.array([len(each.points) + 2 > TOKENS[2] for each in prompts.objects])
            for rows, inputs in self._batches(prompts, np.flatnonzero(~many)):
                where = self._upload(torch.from_numpy(rows))
                on_device = {name: self._upload(value) for name, value in inputs.items()}
                found = self._run(DECODER_WITH_MASKS if "masks" in inputs else DECODER, {"embedding": embedding, **on_device})
                logits[where], iou[where] = found
            if many.any():
                where = self._upload(torch.from_numpy(np.flatnonzero(many)))
                logits[where], iou[where] = decode_together(self.sam, embedding, prompts.select(np.flatnonzero(many)))
        return logits, iou

    def _batches(self, prompts: Prompts, rows: Any) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        if len(rows):
            for chosen, inputs in batches(prompts.select(rows), self.side, OBJECTS[2]):
                yield rows[chosen], inputs

    def _low_rank(self, adapter: Adapter | None) -> tuple[Tensor, Tensor]:
        if adapter is None:
            return self._frozen
        if self._uploaded is None or self._uploaded[0] is not adapter:
            self._uploaded = adapter, (self._upload(adapter.a.detach()), self._upload(adapter.b.detach()))
        return self._uploaded[1]

    def _upload(self, value: Tensor) -> Tensor:
        """A copy on the GPU by way of pinned memory, which torch keeps for the next one, but not before this copy is done."""
        return value.contiguous().pin_memory().to(self._device, non_blocking=True) if value.device.type == "cpu" else value.to(self._device)

    @contextmanager
    def _own_stream(self) -> Iterator[None]:
        """On the GPU, not on the host: within the block all that was queued outside is done, and after it, all that was queued within.

        Memory that was taken within and freed outside is used again within only, so that it is not overwritten while it is read outside.
        """
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def _run(self, name: str, inputs: dict[str, Tensor]) -> list[Tensor]:
        if name not in self._plans:
            raise EngineError("this engine is closed; make another with create_engine")
        return self._plans[name].run(inputs, self._stream)

    def close(self) -> None:
        self._stream.synchronize()
        self._plans.clear()
        self._uploaded = None


class _Plan:
    """One plan, loaded, with the memory that it computes in."""

    def __init__(self, platform: Platform, runtime: Any, folder: Path, name: str) -> None:
        self.platform, self.name = platform, name
        self.inputs, self.outputs = INPUTS_AND_OUTPUTS[name]
        path = folder / plan_file(name)
        trt = platform.trt
        platform.errors.clear()
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise PlanError(f"TensorRT {platform.version} does not load {path}: {platform.reason}")
        found = {engine.get_tensor_name(index) for index in range(engine.num_io_tensors)}
        types = {each: trt.int64 if each == "labels" else trt.float32 for each in (*self.inputs, *self.outputs)}
        if found != set(types) or any(engine.get_tensor_dtype(each) != types[each] for each in found):
            raise PlanError(f"{path} is not a plan of the exported {name}: it has the inputs and outputs {', '.join(sorted(found))}")
        self.engine = engine  # the context's memory belongs to it
        self.context = platform.make(engine.create_execution_context)

    def run(self, inputs: dict[str, Tensor], stream: torch.cuda.Stream) -> list[Tensor]:
        """Queues the computation on `stream`, and gives the outputs, float32, which are there when the stream has come so far."""
        self.platform.errors.clear()
        done = True
        for name, value in inputs.items():
            done = done and self.context.set_input_shape(name, tuple(value.shape))
            done = done and self.context.set_tensor_address(name, value.data_ptr())
        outputs = []
        for name in self.outputs if done else ():
            outputs.append(torch.empty(tuple(self.context.get_tensor_shape(name)), device=self.platform.device))
            done = done and self.context.set_tensor_address(name, outputs[-1].data_ptr())
        if not done or not self.context.execute_async_v3(stream.cuda_stream):
            shapes = {name: tuple(value.shape) for name, value in inputs.items()}
            raise self.platform.failed(f"cannot compute {self.name} for {shapes}", "run `wesam doctor`, and take another engine until then")
        return outputs

"""The model compiled by torch: fused kernels, and on an NVIDIA GPU half precision and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from wesam_ros.engines.engine import Capabilities, Engine, EngineError
from wesam_ros.sam.adapter import Adapter
from wesam_ros.sam.decoder import ABSENT, Decoder, batches
from wesam_ros.sam.lora import adapter_shape
from wesam_ros.sam.predictor import Encoder
from wesam_ros.sam.prompts import Prompts

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

OBJECTS_PER_CALL = {"cpu": 8, "cuda": 32}
LEAST_RANK = 4
"""Adapters are filled up with zeros to this rank, or the next power of two. Each rank is compiled apart, at most 8 by torch."""
WARM_UP = 3
"""Runs before a CUDA graph is captured, in which libraries choose their algorithms (PyTorch's notes on CUDA graphs have as many)."""


class CompiledEngine(Engine):
    """Computes with encoder and decoder as torch.compile compiles them; an adapter's tensors are inputs of the encoder.

    Ranks and numbers of objects and tokens are filled up to powers of two, so that few shapes occur: on a GPU each has a CUDA graph of its
    own, captured when it first comes. The first use compiles, for half a minute to some minutes; torch keeps the result on disk.

    Args:
        sam: the model, on the device to compute on.
        backend: of torch.compile; tests take a quicker one.
    """

    def __init__(self, sam: Sam, backend: str = "inductor") -> None:
        super().__init__(sam)
        self._half = sam.device.type == "cuda"
        encoder, decoder = _Function(Encoder(sam), self._half), _Function(Decoder(sam).to(sam.device), self._half)
        self._encoder = torch.compile(encoder, fullgraph=True, dynamic=False, backend=backend)
        self._decoder = torch.compile(decoder, fullgraph=True, dynamic=True, backend=backend)
        terms_in, terms_out = adapter_shape(sam)
        self._frozen = torch.zeros(1, terms_in), torch.zeros(terms_out, 1)  # an adapter that changes nothing
        self._calls: dict[tuple[object, ...], _Call] = {}
        self._closed = False

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities("compiled", torch.__version__, str(self.sam.device), "float16" if self._half else "float32")

    def _embed(self, pixels: Tensor, adapter: Adapter | None) -> Tensor:
        a, b = self._frozen if adapter is None else adapter.low_rank
        rank = max(LEAST_RANK, _power_of_two(a.shape[0]))
        inputs = pixels, _filled(a, (rank, a.shape[1]), 0), _filled(b, (b.shape[0], rank), 0)
        (features,) = self._run(self._encoder, *inputs)
        return features

    def _decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        device = self.sam.device
        logits = torch.empty(len(prompts), self.side // 4, self.side // 4, device=device)
        iou = torch.empty(len(prompts), device=device)
        for chosen, inputs in batches(prompts, self.side, OBJECTS_PER_CALL[device.type]):
            count, tokens = (_power_of_two(each) for each in inputs["labels"].shape)
            padded = [features, _filled(inputs["points"], (count, tokens, 2), 0), _filled(inputs["labels"], (count, tokens), ABSENT)]
            if "masks" in inputs:
                padded.append(_filled(inputs["masks"], (count, *inputs["masks"].shape[1:]), 0))
            low_res, scores = self._run(self._decoder, *padded)
            where = torch.from_numpy(chosen).to(device)
            logits[where], iou[where] = low_res[: len(chosen)], scores[: len(chosen)]
        return logits, iou

    def _run(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        if self._closed:
            raise EngineError("this engine is closed; make another with create_engine")
        key = (function, *(each.shape for each in inputs))
        if key not in self._calls:
            self._calls[key] = _Call(function, inputs, self.sam.device)
        return self._calls[key](*inputs)

    def close(self) -> None:
        self._closed = True
        self._calls.clear()


class _Function(nn.Module):
    """A module's function, in half precision where asked for; its outputs are float32."""

    def __init__(self, module: nn.Module, half: bool) -> None:
        super().__init__()
        self.module, self.half_precision = module, half

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        # A cache of weights in half precision would not outlive the capture of a CUDA graph.
        with torch.autocast(inputs[0].device.type, torch.float16, enabled=self.half_precision, cache_enabled=False):
            outputs = self.module(*inputs)
        return tuple(each.float() for each in (outputs if isinstance(outputs, tuple) else (outputs,)))


class _Call:
    """A compiled function for inputs of fixed shapes, which are copied into place; on a GPU it replays one CUDA graph."""

    def __init__(self, function: Callable[..., tuple[Tensor, ...]], like: tuple[Tensor, ...], device: torch.device) -> None:
        self._function = function
        with torch.inference_mode(False):  # tensors of inference mode are another kind, for which torch would compile once more
            self._inputs = tuple(torch.zeros(each.shape, dtype=each.dtype, device=device) for each in like)
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._put(like)
            self._capture(device)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self._put(inputs)
        if self._graph is None:
            return self._function(*self._inputs)
        self._graph.replay()
        return tuple(each.clone() for each in self._outputs)  # the next replay overwrites them

    def _put(self, inputs: tuple[Tensor, ...]) -> None:
        for own, each in zip(self._inputs, inputs, strict=True):
            own.copy_(each)

    def _capture(self, device: torch.device) -> None:
        side = torch.cuda.Stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self._function(*self._inputs)
        torch.cuda.current_stream(device).wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        # Another thread, such as the parity monitor's, may allocate meanwhile.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._outputs = self._function(*self._inputs)


def _power_of_two(number: int) -> int:
    """The least power of two that is at least `number` and 2: torch compiles for sizes of 1 apart."""
    return max(2, 1 << (number - 1).bit_length())


def _filled(tensor: Tensor, shape: tuple[int, ...], value: float) -> Tensor:
    """The tensor in the first corner of one of `shape`, `value` elsewhere."""
    filled = tensor.new_full(shape, value)
    filled[tuple(slice(size) for size in tensor.shape)] = tensor
    return filled

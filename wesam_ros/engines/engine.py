"""The interface of every engine: embed an image once, with an adapter or without, and decode the masks of any prompts in it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wesam_ros.sam.adapter import Adapter, AdapterError, base_hash
from wesam_ros.sam.masks import Masks
from wesam_ros.sam.preprocessing import preprocess
from wesam_ros.sam.prompts import PromptError, Prompts
from wesam_ros.sam.upscaling import masks_from_logits, to_host

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

_log = logging.getLogger(__name__)


class EngineError(ValueError):
    """An engine that cannot be made or used here. The message names the fault, the value and the remedy."""


@contextmanager
def as_engine_error(what: str) -> Iterator[None]:
    """Turns every exception raised within, but for OSError, into an EngineError: "`what`: its type: its first line".

    The exceptions of onnx, onnxruntime, protobuf and TensorRT's bindings have nothing in common but Exception.
    """
    try:
        yield
    except (EngineError, OSError):
        raise
    except Exception as error:
        raise EngineError(f"{what}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}") from error


@dataclass(frozen=True)
class Capabilities:
    """Name, version, device and precision of an engine.

    Attributes:
        name: as the parameter `engine` names it.
        version: of the library that computes.
        device: what it computes on, such as "cpu" or "cuda:0".
        precision: "float32", "float16" or "bfloat16". The parity gate asks less of the half ones (parity.MIN_IOU).
    """

    name: str
    version: str
    device: str
    precision: str = "float32"

    def __str__(self) -> str:
        return f"{self.name} {self.version} on {self.device} in {self.precision}"


@dataclass(frozen=True, eq=False)
class Embedding:
    """An image that has been encoded.

    Attributes:
        features: (1, c, h, w).
        size: (H, W) of the image in pixels.
        adapter_version: of the adapter that it was encoded with; 0 for the frozen model.
        adapted: whether that adapter changes anything: one that has been withdrawn leaves another that does not.
    """

    features: Tensor
    size: tuple[int, int]
    adapter_version: int
    adapted: bool = False


class Engine(ABC):
    """Segments with a model from load_sam. One thread at a time.

    Subclasses compute two functions of tensors, `_embed` and `_decode`. Preprocessing, checks and upscaling are here. Adapters are
    inputs, so that a swap costs nothing.

    Attributes:
        sam: the model in torch, with the weights that the engine computes with.
        side: the model's input size in pixels.
        concurrent: true for an engine that several threads may use at once.
    """

    concurrent = False

    def __init__(self, sam: Sam) -> None:
        self.sam = sam
        self.side: int = sam.image_encoder.img_size

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """Name, version, device and precision of this engine."""

    @property
    def input_device(self) -> torch.device:
        """The device that images are preprocessed on: the model's, or the CPU for an engine that takes arrays."""
        device: torch.device = self.sam.device
        return device

    @abstractmethod
    def _embed(self, pixels: Tensor, adapter: Adapter | None) -> Tensor:
        """Features (1, c, h, w) of preprocessed pixels (1, 3, side, side), which are on `input_device`."""

    @abstractmethod
    def _decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (n, h, w) and predicted IoU (n,), float32, of n >= 1 objects."""

    @torch.inference_mode()
    def encode(self, image: npt.NDArray[np.uint8], adapter: Adapter | None = None) -> Embedding:
        """Embeds an (H, W, 3) uint8 RGB image, with an adapter of this model or with the frozen weights.

        Raises:
            AdapterError: the adapter belongs to another model.
        """
        if adapter is not None and adapter.base != base_hash(self.sam):
            raise AdapterError(
                "base",
                f"the adapter belongs to a model with hash {adapter.base[:12]}, but this one has {base_hash(self.sam)[:12]}; "
                "use the model and checkpoint that it was trained with",
            )
        features = self._embed(preprocess(image, self.side, self.input_device)[None], adapter)
        return Embedding(
            features,
            (image.shape[0], image.shape[1]),
            adapter.version if adapter is not None else 0,
            adapter is not None and adapter.trained,
        )

    @torch.inference_mode()
    def decode(self, embedding: Embedding, prompts: Prompts) -> Masks:
        """Masks of the prompted objects in the original image.

        Raises:
            PromptError: the prompts are for an image of another size.
        """
        if prompts.size != embedding.size:
            raise PromptError(
                f"the prompts are for an image of {prompts.size}, but the embedding is of one of {embedding.size} (height, width)"
            )
        if not len(prompts):
            low = self.side // 4
            return Masks(np.zeros((0, *prompts.size), bool), np.zeros(0, np.float32), np.zeros((0, low, low), np.float32))
        low_res, scores = self._decode(embedding.features, prompts)
        masks, within = masks_from_logits(low_res, prompts.size, self.side)
        return Masks(masks, to_host(scores), to_host(low_res), within, adapted=embedding.adapted)

    def segment(self, image: npt.NDArray[np.uint8], prompts: Prompts, adapter: Adapter | None = None) -> Masks:
        """Masks of the prompted objects in an image: `encode`, then `decode`."""
        return self.decode(self.encode(image, adapter), prompts)

    def warm_up(self) -> None:
        """Segments an empty image, so that the first frame is as fast as the others."""
        size = (self.side // 2, self.side // 2)
        box = np.array([[0, 0, size[1], size[0]]], np.float32)
        self.segment(np.zeros((*size, 3), np.uint8), Prompts.from_boxes(box, size))

    def close(self) -> None:  # noqa: B027 - most have nothing to free
        """Frees what the engine holds; it is not used again."""


def give_up(engine: Engine) -> None:
    """Closes an engine that may have failed. An error in closing, such as CUDA's, is logged."""
    try:
        engine.close()
    except Exception as error:
        _log.warning("%s does not close: %s: %s", engine.capabilities, type(error).__name__, error)

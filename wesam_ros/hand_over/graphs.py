"""The merged model as ONNX graphs with segment_anything's names, and as a model repository of Triton.

    encoder.onnx   image (H, W, 3) float32 RGB 0 to 255, its longest side the model's  -> image_embeddings
    decoder.onnx   image_embeddings, point_coords (b, n, 2), point_labels (b, n), mask_input, has_mask_input (1), orig_im_size (2)
                   -> masks (b, 1, H, W) logits in the original image, iou_predictions (b, 1), low_res_masks (b, 1, 4 h, 4 w)

Points are in pixels of the resized image; labels are 0 and 1 for points, 2 and 3 for a box's corners, -1 for a point that is none, one of
which belongs to prompts without a box. The masks are those of SAM's single-mask output, which adapters are trained on.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from wesam_ros import install_extra
from wesam_ros.engines.engine import EngineError, as_engine_error

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

OPSET = 17
"""That of segment_anything's and Isaac ROS's own exports."""
NAMES = ("image_embeddings", "point_coords", "point_labels", "mask_input", "has_mask_input", "orig_im_size")
OUTPUTS = ("masks", "iou_predictions", "low_res_masks")
POINTS = {name: {0: "objects", 1: "points"} for name in NAMES[1:3]}
TRITON_MODEL = "segment_anything"
"""The name that Isaac ROS asks for."""


class OfficialEncoder(nn.Module):
    """From a resized picture to its embedding."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(self, image: Tensor) -> Tensor:
        """Embedding (1, c, h, w) of a picture (H, W, 3)."""
        side = self.sam.image_encoder.img_size
        pixels = (image.permute(2, 0, 1) - self.sam.pixel_mean) / self.sam.pixel_std
        embedding: Tensor = self.sam.image_encoder(functional.pad(pixels, (0, side - image.shape[1], 0, side - image.shape[0]))[None])
        return embedding


class OfficialDecoder(nn.Module):
    """Prompt encoder, mask decoder and upscaling under segment_anything's names for ONNX."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(
        self,
        image_embeddings: Tensor,
        point_coords: Tensor,
        point_labels: Tensor,
        mask_input: Tensor,
        has_mask_input: Tensor,
        orig_im_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Masks (b, 1, H, W), predicted IoU (b, 1) and logits (b, 1, 4 h, 4 w)."""
        prompts = self.sam.prompt_encoder
        # X-AnyLabeling's empty mask is 256 x 256 whatever the model.
        coarse = functional.interpolate(mask_input, prompts.mask_input_size, mode="bilinear", align_corners=False)
        given = has_mask_input.reshape(-1, 1, 1, 1)
        dense = given * prompts.mask_downscaling(coarse) + (1 - given) * prompts.no_mask_embed.weight.reshape(1, -1, 1, 1)
        masks, scores = self.sam.mask_decoder.predict_masks(
            image_embeddings=image_embeddings,
            image_pe=prompts.get_dense_pe(),
            sparse_prompt_embeddings=self._tokens(point_coords, point_labels),
            dense_prompt_embeddings=dense,
        )
        low_res = masks[:, :1]
        return self._upscaled(low_res, orig_im_size), scores[:, :1], low_res

    def _tokens(self, points: Tensor, labels: Tensor) -> Tensor:
        prompts = self.sam.prompt_encoder
        encoded = prompts.pe_layer._pe_encoding((points + 0.5) / self.sam.image_encoder.img_size)
        labels = labels[..., None]
        tokens: Tensor = encoded * (labels != -1) + prompts.not_a_point_embed.weight * (labels == -1)
        for index, each in enumerate(prompts.point_embeddings):
            tokens = tokens + each.weight * (labels == index)
        return tokens

    def _upscaled(self, low_res: Tensor, size: Tensor) -> Tensor:
        side = self.sam.image_encoder.img_size
        whole = functional.interpolate(low_res, (side, side), mode="bilinear", align_corners=False)
        inner = torch.floor(size * (side / size.max()) + 0.5).to(torch.int64)
        height, width = size.to(torch.int64)
        return functional.interpolate(whole[..., : inner[0], : inner[1]], size=(height, width), mode="bilinear", align_corners=False)


class OfficialModel(nn.Module):
    """Encoder of preprocessed images and decoder in one graph, as Isaac ROS has it."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.encoder, self.decoder = sam.image_encoder, OfficialDecoder(sam)

    def forward(self, images: Tensor, *prompts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See OfficialDecoder; images are (1, 3, side, side)."""
        masks: tuple[Tensor, Tensor, Tensor] = self.decoder(self.encoder(images), *prompts)
        return masks


def write_onnx(sam: Sam, out: Path) -> list[Path]:
    """Writes encoder.onnx, decoder.onnx and x_anylabeling.yaml. Raises EngineError where onnx is missing or an export fails."""
    out.mkdir(parents=True)
    side = sam.image_encoder.img_size
    picture = torch.zeros(side * 3 // 4, side, 3)
    _export(OfficialEncoder(sam), {"image": picture}, ["image_embeddings"], {"image": {0: "height", 1: "width"}}, out / "encoder.onnx")
    free = {**POINTS, "mask_input": {2: "mask_height", 3: "mask_width"}}
    _export(OfficialDecoder(sam), _prompts(sam), list(OUTPUTS), free, out / "decoder.onnx")
    name = f"wesam-{sam.weights_name}"
    (out / "x_anylabeling.yaml").write_text(
        f"type: segment_anything\nname: {name}\ndisplay_name: {name}\nencoder_model_path: encoder.onnx\n"
        f"decoder_model_path: decoder.onnx\ninput_size: {side}\nmax_width: {side}\nmax_height: {side * 2 // 3}\n"
    )
    return sorted(out.iterdir())


def write_triton(sam: Sam, out: Path) -> list[Path]:
    """Writes segment_anything/config.pbtxt and segment_anything/1/model.onnx. Raises EngineError as `write_onnx` does."""
    folder = out / TRITON_MODEL
    (folder / "1").mkdir(parents=True)
    side = sam.image_encoder.img_size
    low = 4 * sam.prompt_encoder.image_embedding_size[0]
    inputs = {"images": torch.zeros(1, 3, side, side), **{name: value for name, value in _prompts(sam).items() if name != NAMES[0]}}
    _export(OfficialModel(sam), inputs, list(OUTPUTS), POINTS, folder / "1" / "model.onnx")
    shapes = {
        "images": (1, 3, side, side),
        NAMES[1]: (-1, -1, 2),
        NAMES[2]: (-1, -1),
        NAMES[3]: (1, 1, low, low),
        NAMES[4]: (1,),
        NAMES[5]: (2,),
    }
    results = {OUTPUTS[0]: (-1, -1, -1, -1), OUTPUTS[1]: (-1, 1), OUTPUTS[2]: (-1, 1, -1, -1)}
    lines = [f'name: "{TRITON_MODEL}"', 'platform: "onnxruntime_onnx"', "max_batch_size: 0"]
    for kind, tensors in (("input", shapes), ("output", results)):
        for name, shape in tensors.items():
            lines.append(f'{kind} {{ name: "{name}" data_type: TYPE_FP32 dims: [ {", ".join(map(str, shape))} ] }}')
    (folder / "config.pbtxt").write_text("\n".join(lines) + "\n")
    return [folder / "config.pbtxt", *sorted((folder / "1").iterdir())]


def _prompts(sam: Sam) -> dict[str, Tensor]:
    """Example inputs of the decoder."""
    channels = torch.zeros(1, 3, 1, 1)  # of the embedding, which has more than the prompt encoder's where finer features are in it
    with torch.inference_mode():
        side = sam.image_encoder.img_size
        embedding = sam.image_encoder(channels.expand(1, 3, side, side)).clone()
    low = sam.prompt_encoder.mask_input_size
    values = (embedding, torch.ones(2, 3, 2), torch.ones(2, 3), torch.zeros(1, 1, *low), torch.zeros(1), torch.tensor([60.0, 80.0]))
    return dict(zip(NAMES, values, strict=True))


def _export(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], free: dict[str, Any], path: Path) -> None:
    try:
        import onnx
    except ImportError as error:
        raise EngineError(f"onnx cannot be imported ({error}); {install_extra('onnx')}") from error
    with as_engine_error(f"{path.name} cannot be exported"), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of tracing, whose shapes are meant
        # The tracing exporter: sizes that are values of an input are beyond the newer one.
        torch.onnx.export(
            module.eval(),
            tuple(each.clone() for each in inputs.values()),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=outputs,
            dynamic_axes=free,
        )
        onnx.checker.check_model(str(path))

"""Files that are given as checkpoints of SAM and are something else: their names, and what to do, by first bytes or by tensors' names."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, NamedTuple

HEAD_BYTES = 1024


class Kind(NamedTuple):
    """A kind of thing that a file can be.

    Attributes:
        name: with its article, such as "a web page".
        remedy: what to do; {official} stands for SAM's own file of the model asked for.
    """

    name: str
    remedy: str


GIVE_SAM = "give {official}"
FETCH = "the file itself is not there: "
SERVES_BESIDE = "a detector runs beside SAM and publishes its boxes as detections; here, give {official}"
OTHER_MODEL = "its layers are others than SAM's, and it cannot be loaded here; give {official}"
MERGE = "merge its extra layers into SAM's weights with the tool that made them, or give {official}"

LFS = b"version https://git-lfs.github.com/spec/"
MCAP, SQLITE = b"\x89MCAP0", b"SQLite format 3\0"
BY_START: tuple[tuple[bytes, Kind], ...] = (
    (LFS, Kind("a pointer of Git LFS", FETCH + "run `git lfs pull` in its repository")),
    (b"ftrt", Kind("a TensorRT engine", "the engine builds its own plans from a checkpoint; give {official}")),
    (b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file (Keras)", OTHER_MODEL)),
    (b"GGUF", Kind("a GGUF file", OTHER_MODEL)),
    (b"\x93NUMPY", Kind("a NumPy array", GIVE_SAM)),
    (b"\x1f\x8b", Kind("a gzip archive", "unpack it: gunzip, or tar -xzf")),
    (b"BZh", Kind("a bzip2 archive", "unpack it: bunzip2, or tar -xjf")),
    (b"\xfd7zXZ", Kind("an xz archive", "unpack it: unxz, or tar -xJf")),
    (b"\x28\xb5\x2f\xfd", Kind("a zstd archive", "unpack it: zstd -d")),
    (b"7z\xbc\xaf", Kind("a 7z archive", "unpack it")),
    (b"Rar!", Kind("a RAR archive", "unpack it")),
    (b"\x89PNG", Kind("an image", GIVE_SAM)),
    (b"\xff\xd8\xff", Kind("an image", GIVE_SAM)),
    (b"%PDF", Kind("a PDF document", GIVE_SAM)),
    (b"#ROSBAG", Kind("a recording", GIVE_SAM)),
    (MCAP, Kind("a recording", GIVE_SAM)),
    (SQLITE, Kind("a recording", GIVE_SAM)),
)
PAGE = Kind("a web page", FETCH + "the address gave a page (a log-in, a licence, a viewer); fetch it by the file's own link")
ANSWER = Kind("a server's answer in JSON or XML", FETCH + "read the answer, and fetch the file by its own link")
MODEL_TEXT = Kind("a configuration, not weights", GIVE_SAM)
OPENVINO = Kind("an OpenVINO model", "the engine makes its own from a checkpoint; give {official}")
ONNX = Kind("an ONNX file", "`wesam export` makes such files from a checkpoint; give {official}")
TFLITE = Kind("a TensorFlow Lite file", OTHER_MODEL)
TAR = Kind("a tar archive", "unpack it: tar -xf")
ZIP = Kind("a zip archive", "unpack it, and give the file in it")
TORCHSCRIPT = Kind("a TorchScript program", "it holds code beside its tensors; give {official}, or save the model's state_dict()")

SAFETENSORS, TORCH_ZIP, TORCH_OLD, CUT_SHORT = "safetensors", "torch", "torch before 1.6", "cut short"
OLD_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""torch.serialization.MAGIC_NUMBER as its pickle writes it, behind the two bytes of the protocol."""


def kind_of_file(path: Path) -> str | Kind:
    """The format of a checkpoint file (one of the four words above), or the kind of thing that it is instead."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if not head:
            return CUT_SHORT
        for start, kind in BY_START:
            if head.startswith(start):
                return kind
        if (found := _of_text(head)) is not None:
            return found
        if head.startswith(b"PK"):
            return _of_zip(path)
        if head[2:].startswith(OLD_MAGIC):
            return TORCH_OLD
        if head[257:262] == b"ustar":
            return TAR
        if head[4:8] == b"TFL3":
            return TFLITE
        if len(head) > 9 and head[8:9] == b"{":
            return _of_safetensors(head, file)
    if _is_onnx(head):
        return ONNX
    return TORCH_OLD if head[:1] == b"\x80" else Kind("no checkpoint", "its first bytes are of no known format; " + GIVE_SAM)


def _of_text(head: bytes) -> Kind | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<script", b"<!--")):
        return PAGE
    if text.startswith(b"<?xml"):
        return OPENVINO if b"<net " in text else PAGE if b"<html" in text else ANSWER
    if text.startswith((b'{"', b"{\n", b"{ ")) and b"\0" not in head:
        return MODEL_TEXT if b"model_type" in text or b"architectures" in text else ANSWER
    return None


def _of_zip(path: Path) -> str | Kind:
    if not zipfile.is_zipfile(path):  # its list of contents, which stands at the end, is missing
        return CUT_SHORT
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names) and any("/code/" in name for name in names):
        return TORCHSCRIPT
    return TORCH_ZIP if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names) else ZIP


def _of_safetensors(head: bytes, file: BinaryIO) -> str | Kind:
    (length,) = struct.unpack("<Q", head[:8])
    size = file.seek(0, 2)
    if length > size:
        return CUT_SHORT
    file.seek(8)
    try:
        entries = json.loads(file.read(length))
        ends = [each["data_offsets"][1] for name, each in entries.items() if name != "__metadata__"]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return SAFETENSORS  # the library says what is wrong
    return CUT_SHORT if ends and 8 + length + max(ends) > size else SAFETENSORS


def _is_onnx(head: bytes) -> bool:
    """True for bytes that begin as onnx.ModelProto does: ir_version (a small number), then a text's length and its letters."""
    if len(head) < 8 or head[0] != 0x08 or not 1 <= head[1] <= 30 or head[2] not in (0x12, 0x1A, 0x22, 0x32, 0x3A, 0x42):
        return False
    return head[2] != 0x12 or all(32 <= letter < 127 for letter in head[4 : 4 + min(head[3], 8)])


_SAM2 = "of SAM 2, official files of version 2.1 are loaded, by their own names, such as sam2.1_hiera_tiny; here, give {official}"
BY_TENSORS: tuple[tuple[tuple[str, ...], Kind], ...] = (
    (
        (r"^mask_decoder\.hf_token\.",),
        Kind("a SAM-HQ checkpoint", "it has a token and layers more than SAM, which cannot be loaded here; give {official}"),
    ),
    ((r"^(detector\.)?backbone\.vision_backbone\.",), Kind("a SAM 3 checkpoint", OTHER_MODEL)),
    (
        (r"^image_encoder\.trunk\.", r"^(no_obj_embed_spatial|obj_ptr_tpos_proj\.)"),
        Kind("a SAM 2.1 checkpoint of no official size", "layers were added or taken away; give {official}"),
    ),
    (
        (r"^(image_encoder\.trunk\.(pos_embed|patch_embed|blocks)|sam_mask_decoder|sam_prompt_encoder)\b",),
        Kind("a SAM 2.0 checkpoint, or one of no official size", _SAM2),
    ),
    ((r"^(vision_encoder\.backbone|memory_attention)\.",), Kind("a SAM 2 checkpoint of Hugging Face transformers", _SAM2)),
    (
        (r"^vision_encoder\.(layers|patch_embed|pos_embed)", r"^(shared_image_embedding|mask_decoder|prompt_encoder)\."),
        Kind(
            "a checkpoint of Hugging Face transformers' SamModel",
            "it names its tensors otherwise; the same weights under SAM's names are {official}: give that",
        ),
    ),
    ((r"^prompt_encoder\.(bbox_top_left_embeddings|invalid_points)\.",), Kind("an EfficientSAM checkpoint", OTHER_MODEL)),
    ((r"^image_encoder\.backbone\.(input_stem|stages)\.",), Kind("an EfficientViT-SAM checkpoint", OTHER_MODEL)),
    (
        (r"^image_encoder\..*\b(token_mixer|channel_mixer)\.", r"^(mask_decoder|prompt_encoder)\."),
        Kind("a checkpoint of EdgeSAM or RepViT-SAM", OTHER_MODEL),
    ),
    ((r"(^|\.)bert\.(embeddings|encoder)\.|^language_model\.language_backbone\.",), Kind("a Grounding DINO checkpoint", SERVES_BESIDE)),
    ((r"(^|\.)lora_[ABab]\b|linear_[ab]_[qv]\.", r"^image_encoder\.|lora"), Kind("SAM with LoRA layers, or these alone", MERGE)),
    ((r"^image_encoder\..*(?i:adapter)", r"^mask_decoder\."), Kind("SAM with adapter layers (SAM-Med2D, MSA and others)", MERGE)),
    ((r"^(model\.)*model\.\d+\.(conv|bn|cv\d|m|c|attn|upsample)\b",), Kind("a YOLO or FastSAM checkpoint", SERVES_BESIDE)),
    ((r"^(rpn|roi_heads)\.",), Kind("a detector's checkpoint (torchvision's R-CNN)", SERVES_BESIDE)),
    ((r"^(proposal_generator|backbone\.bottom_up|sem_seg_head)\.",), Kind("a Detectron2 checkpoint", SERVES_BESIDE)),
    ((r"^(bbox_head|rpn_head|roi_head|mask_head)\.",), Kind("an MMDetection checkpoint", SERVES_BESIDE)),
    (
        (r"^(class_embed|bbox_embed|transformer\.decoder|model\.decoder)\b",),
        Kind("a DETR checkpoint", SERVES_BESIDE),
    ),
    ((r"^(visual|text_model|vision_model)\.|^logit_scale$",), Kind("a CLIP checkpoint", OTHER_MODEL)),
    (
        (r"^(encoder\.)?(patch_embed|blocks\.\d+|cls_token)\b",),
        Kind("an image encoder alone (MAE, DINO, timm)", "SAM's decoder is missing in it; give {official}"),
    ),
    ((r"^(backbone\.)?layer\d\.\d+\.conv\d\.",), Kind("a ResNet", OTHER_MODEL)),
)
OWN_ADAPTER = Kind("an adapter of wesam_ros", "an adapter goes on top of a checkpoint: give it as the adapter")


def kind_of_tensors(names: Collection[str]) -> Kind | None:
    """The kind of model that has tensors of these names; None where it is SAM, or nothing that is known."""
    if set(names) == {"a", "b"}:
        return OWN_ADAPTER
    for patterns, kind in BY_TENSORS:
        if all(any(re.search(pattern, name) for name in names) for pattern in patterns):
            return kind
    return None


BY_CLASS: tuple[tuple[str, Kind], ...] = (
    ("ultralytics.", Kind("a YOLO or FastSAM checkpoint (a whole model of Ultralytics)", SERVES_BESIDE)),
    ("models.yolo.", Kind("a YOLO checkpoint (a whole model)", SERVES_BESIDE)),
    ("models.common.", Kind("a YOLO checkpoint (a whole model)", SERVES_BESIDE)),
    ("detectron2.", Kind("a Detectron2 checkpoint", SERVES_BESIDE)),
    ("mmdet.", Kind("an MMDetection checkpoint", SERVES_BESIDE)),
    ("groundingdino.", Kind("a Grounding DINO checkpoint", SERVES_BESIDE)),
    ("sam2.", Kind("a SAM 2 checkpoint", _SAM2)),
)


def kind_of_class(name: str) -> Kind:
    """The kind of a pickled object, by the full name of its class."""
    found = next((kind for start, kind in BY_CLASS if name.startswith(start)), None)
    return found or Kind(
        f"a pickled object ({name})",
        "only tensors are taken from a file, since a pickle can run any code; where it was made, save its tensors alone: "
        "torch.save(model.state_dict(), file)",
    )

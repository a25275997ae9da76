"""Messages that come in, as values. Pixels are decoded by wesam_ros.data.codecs; a refusal is a CodecError with a reason to count by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from wesam_ros.data import codecs, messages
from wesam_ros.data.codecs import CodecError
from wesam_ros.data.frames import Detections
from wesam_ros.msg import Mask as MaskMessage
from wesam_ros.msg import Prompts as PromptsMessage
from wesam_ros.sam.prompts import Prompt, PromptError, Prompts


def stamp_of(header: Header) -> int:
    """A header's stamp in nanoseconds."""
    return int(header.stamp.sec * 10**9 + header.stamp.nanosec)


def image_of(message: Image | CompressedImage) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of a raw or compressed colour image. Raises CodecError as wesam_ros.data.codecs does."""
    if isinstance(message, CompressedImage):
        return codecs.decode_compressed_image(message.data)
    return codecs.decode_image(message)


def depth_of(message: Image | CompressedImage, size: tuple[int, int]) -> npt.NDArray[np.float32]:
    """(H, W) float32 metres, 0 = none, of a depth image that must have the colour image's size.

    Raises:
        CodecError: as wesam_ros.data.codecs; "wrong_size" where it is not registered to an image of `size` (H, W).
    """
    if isinstance(message, CompressedImage):
        depth = codecs.decode_compressed_depth(message.data, message.format)
    else:
        depth = codecs.decode_depth(message)
    if depth.shape != size:
        raise CodecError("wrong_size", f"depth must have the image's size {size}, but got {depth.shape}; register it to the colour camera")
    return depth


def camera_of(message: CameraInfo, size: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(3, 3) intrinsic matrix K in pixels of an image of `size` (H, W).

    Raises:
        CodecError: "uncalibrated" for a K of zeros (sensor_msgs: K[0] = 0), "not_finite", or "wrong_size".
    """
    camera = np.array(message.k, np.float64).reshape(3, 3)
    if not np.isfinite(camera).all():
        raise CodecError("not_finite", f"K of camera_info must be finite, but got {camera.ravel().tolist()}; calibrate the camera")
    if camera[0, 0] <= 0 or camera[1, 1] <= 0:
        raise CodecError(
            "uncalibrated", f"K of camera_info must have focal lengths above 0, but got {camera.ravel().tolist()}; calibrate the camera"
        )
    if message.height and message.width and (message.height, message.width) != size:
        raise CodecError("wrong_size", f"camera_info must be for the image's size {size}, but is for {(message.height, message.width)}")
    return camera


@dataclass(frozen=True, eq=False)
class Request:
    """What to segment in one image: the valid objects of a message, and why the others are not.

    Attributes:
        prompts: of n objects.
        detections: the n objects' ids, classes and scores; their boxes as far as they have one, else the image's.
        rejected: (reason, sentence) for each object left out.
    """

    prompts: Prompts
    detections: Detections
    rejected: tuple[tuple[str, str], ...]


def request_of(message: Detection2DArray | PromptsMessage, size: tuple[int, int], limit: int) -> Request:
    """The valid objects of a detections or prompts message for an image of `size` (H, W), the best scored `limit` of them.

    Never raises for bad values: each bad object is rejected alone, with the reason "nan", "inverted", "outside", "empty", "prompt" (points
    or a coarse mask that cannot be used) or "over_limit".
    """
    if isinstance(message, PromptsMessage):
        return _request_of_prompts(message, size, limit)
    return request_of_detections(messages.detections_of(message), size, limit)


def request_of_detections(found: Detections, size: tuple[int, int], limit: int) -> Request:
    """As `request_of`, of detections that are values already."""
    keep, reasons = Prompts.checked_boxes(found.boxes, size)
    rejected = [
        (reason, f"box {found.ids[i]} is refused ({reason}): {found.boxes[i].tolist()} in an image of {size[1]} x {size[0]} pixels")
        for i, reason in enumerate(reasons)
        if reason is not None
    ]
    kept, over = _best(np.flatnonzero(keep), found.scores, limit)
    chosen = _select(found, kept)
    return Request(Prompts.from_boxes(chosen.boxes, size), chosen, (*rejected, *over))


def _request_of_prompts(message: PromptsMessage, size: tuple[int, int], limit: int) -> Request:
    prompts: list[Prompt] = []
    rows: list[int] = []
    rejected: list[tuple[str, str]] = []
    for row, each in enumerate(message.prompts):
        box = np.array(each.box, np.float32) if each.has_box else None
        if box is not None:
            (reason,) = Prompts.checked_boxes(box[None], size)[1]
            if reason is not None:
                rejected.append((reason, f"box of prompt {row} is refused ({reason}): {box.tolist()}"))
                continue
        try:
            prompt = Prompt(box, _points(each.points), np.array(each.point_labels, np.int64), _coarse_mask(each.mask, size))
            prompts.append(Prompts(size, (prompt,)).objects[0])
            rows.append(row)
        except PromptError as error:
            rejected.append(("prompt", f"prompt {row} is refused: {error}"))
    whole = (0, 0, size[1], size[0])
    found = Detections(
        np.array([whole if each.box is None else each.box for each in prompts], np.float32),
        tuple(message.prompts[row].id or f"#{row}" for row in rows),
        tuple(message.prompts[row].class_id for row in rows),
        np.array([message.prompts[row].score for row in rows], np.float32),
    )
    kept, over = _best(np.arange(len(prompts)), found.scores, limit)
    return Request(Prompts(size, tuple(prompts[i] for i in kept)), _select(found, kept), (*rejected, *over))


def _points(flat: Sequence[float]) -> npt.NDArray[np.float32]:
    if len(flat) % 2:
        raise PromptError(f"points must be x y pairs, but got {len(flat)} numbers")
    return np.array(flat, np.float32).reshape(-1, 2)


def _coarse_mask(crop: MaskMessage, size: tuple[int, int]) -> npt.NDArray[np.bool_] | None:
    """The crop as a mask of the whole image; None where it has no pixels."""
    if crop.width == 0 or crop.height == 0:
        return None
    if crop.x + crop.width > size[1] or crop.y + crop.height > size[0]:
        raise PromptError(f"the mask's crop {crop.x, crop.y, crop.width, crop.height} (x, y, width, height) reaches over the image {size}")
    if len(crop.data) != crop.width * crop.height:
        raise PromptError(f"the mask's data must have {crop.width} x {crop.height} bytes, but got {len(crop.data)}")
    mask = np.zeros(size, bool)
    mask[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width] = (
        np.frombuffer(crop.data, np.uint8).reshape(crop.height, crop.width) > 0
    )
    return mask


def _best(rows: npt.NDArray[Any], scores: npt.NDArray[np.float32], limit: int) -> tuple[npt.NDArray[Any], list[tuple[str, str]]]:
    """At most `limit` of `rows`, the best scored, in their old order; and a rejection for each of the others."""
    over = len(rows) - limit
    if over <= 0:
        return rows, []
    ranked = rows[np.argsort(-np.nan_to_num(scores[rows]), kind="stable")]
    sentence = f"{len(rows)} objects in one image, but max_boxes is {limit}: only the best scored are segmented; raise max_boxes"
    return np.sort(ranked[:limit]), [("over_limit", sentence)] * over


def _select(found: Detections, rows: npt.NDArray[Any]) -> Detections:
    return Detections(found.boxes[rows], tuple(found.ids[i] for i in rows), tuple(found.classes[i] for i in rows), found.scores[rows])

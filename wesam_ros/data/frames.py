"""What a camera and a detector give at one moment, as plain arrays: the unit that readers, bags and the simulator produce."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from wesam_ros.data.requests import Request


@dataclass(frozen=True)
class Detections:
    """Boxes from a detector.

    Attributes:
        boxes: (n, 4) float32, x0 y0 x1 y1 in pixels of the image; x1 and y1 are exclusive, so a box of one pixel is 1 wide.
        ids: n strings, unique within an image; the detector's own track ids where it has them.
        classes: n class names; "" where unknown.
        scores: (n,) float32 in [0, 1], the detector's confidence.
    """

    boxes: npt.NDArray[np.float32]
    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    scores: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float32).reshape(-1, 4) if np.size(self.boxes) == 0 else np.asarray(self.boxes, np.float32)
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes must be (n, 4), but got shape {boxes.shape}; give x0 y0 x1 y1 per detection")
        n = len(boxes)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "ids", tuple(self.ids) or tuple(str(i) for i in range(n)))
        object.__setattr__(self, "classes", tuple(self.classes) or ("",) * n)
        scores = np.asarray(self.scores, np.float32)
        object.__setattr__(self, "scores", scores if scores.size else np.ones(n, np.float32))
        for name in ("ids", "classes", "scores"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"{name} must have one entry per box: {n} boxes, but {len(getattr(self, name))} {name}")

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Frame:
    """One RGB-D image with what belongs to it; all pixel arrays share one size and one pixel grid (depth registered to colour).

    Attributes:
        image: (H, W, 3) uint8, RGB.
        depth: (H, W) float32 in metres along the optical axis, 0 where there is no measurement; None without a depth camera.
        camera: (3, 3) float64 intrinsic matrix K of the colour camera in pixels; None where unknown.
        detections: the boxes that a detector gave for this image; None where no detector ran.
        labels: (H, W) uint16 true instance ids, 0 = background. For scoring only: nothing that learns may read it.
        stamp_ns: time of the image in nanoseconds.
        sequence: the name of the recording that the frame is from; data is split by it.
        prompted: what a wesam_ros/Prompts message asked for in this image: points, coarse masks, boxes; None where there was none.
        void: (H, W) bool, pixels of which nobody knows what they are; labels are 0 there, and scoring leaves them out. None = no pixel.
    """

    image: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32] | None = None
    camera: npt.NDArray[np.float64] | None = None
    detections: Detections | None = None
    labels: npt.NDArray[np.uint16] | None = None
    stamp_ns: int = 0
    sequence: str = ""
    prompted: Request | None = None
    void: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, but got {self.image.shape} {self.image.dtype}")
        for name in ("depth", "labels", "void"):
            plane = getattr(self, name)
            if plane is not None and plane.shape != self.image.shape[:2]:
                raise ValueError(f"{name} must have the image's size {self.image.shape[:2]}, but got shape {plane.shape}")
        if self.prompted is not None and self.prompted.prompts.size != self.size:
            raise ValueError(f"prompts must be for the image's size {self.size}, but are for {self.prompted.prompts.size}")
        if self.void is not None and self.void.dtype != np.bool_:
            raise ValueError(f"void must be bool, but got {self.void.dtype}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[0], self.image.shape[1]


def boxes_of_labels(labels: npt.NDArray[np.uint16]) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """Tight boxes of the instances in an id mask.

    Args:
        labels: (H, W) integer ids, 0 = background.

    Returns:
        ids (n,) in ascending order, and their boxes (n, 4) float32 as x0 y0 x1 y1 with exclusive x1, y1.
    """
    ids = np.unique(labels)
    ids = ids[ids > 0]
    boxes = np.zeros((len(ids), 4), np.float32)
    for row, instance in enumerate(ids):
        mask = labels == instance
        ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        boxes[row] = xs[0], ys[0], xs[-1] + 1, ys[-1] + 1
    return ids.astype(np.uint16), boxes

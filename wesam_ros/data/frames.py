"""A camera's and a detector's data of one moment, as plain arrays: the unit that readers, bags and the simulator produce."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from wesam_ros.data.detections import Detections
    from wesam_ros.data.requests import Request


@dataclass(frozen=True)
class Frame:
    """One RGB-D image with what belongs to it; all pixel arrays share one size and one pixel grid (depth registered to colour).

    Attributes:
        image: (H, W, 3) uint8, RGB.
        depth: (H, W) float32 in metres along the optical axis, 0 where there is no measurement; None without a depth camera.
        camera: of the colour camera, the (3, 3) float64 intrinsic matrix in pixels, or, where the image is distorted, (H, W, 2) float32 x
            and y at z = 1 m of each pixel's ray; None where unknown.
        detections: the boxes that a detector gave for this image; None where no detector ran.
        labels: (H, W) uint16 true instance ids, 0 = background. For scoring only: nothing that learns may read it.
        stamp_ns: time of the image in nanoseconds.
        sequence: the name of the recording that the frame is from; data is split by it.
        prompted: what a wesam_ros/Prompts message asked for in this image: points, coarse masks, boxes; None where there was none.
        void: (H, W) bool, pixels of which nobody knows what they are; labels are 0 there, and scoring leaves them out. None = no pixel.
        pose: (4, 4) float64 from the camera's optical frame to one that does not move, metres; None where unknown.
    """

    image: npt.NDArray[np.uint8]
    depth: npt.NDArray[np.float32] | None = None
    camera: npt.NDArray[np.float64] | npt.NDArray[np.float32] | None = None
    detections: Detections | None = None
    labels: npt.NDArray[np.uint16] | None = None
    stamp_ns: int = 0
    sequence: str = ""
    prompted: Request | None = None
    void: npt.NDArray[np.bool_] | None = None
    pose: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, but got {self.image.shape} {self.image.dtype}")
        for name in ("depth", "labels", "void"):
            plane = getattr(self, name)
            if plane is not None and plane.shape != self.image.shape[:2]:
                raise ValueError(f"{name} must have the image's size {self.image.shape[:2]}, but got shape {plane.shape}")
        if self.prompted is not None and self.prompted.prompts.size != self.size:
            raise ValueError(f"prompts must be for the image's size {self.size}, but are for {self.prompted.prompts.size}")
        if self.pose is not None and self.pose.shape != (4, 4):
            raise ValueError(f"pose must be (4, 4), but got shape {self.pose.shape}")
        if self.void is not None and self.void.dtype != np.bool_:
            raise ValueError(f"void must be bool, but got {self.void.dtype}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[0], self.image.shape[1]

"""A detector's boxes in one image, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


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

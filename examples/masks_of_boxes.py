"""Masks of boxes in one image, with the model that the package ships. Needs no ROS.

python examples/masks_of_boxes.py
python examples/masks_of_boxes.py --image photo.jpg --box 27 275 124 433 --box 343 164 411 230 --out overlay.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from wesam_ros.data.frames import Frame
from wesam_ros.drawing.overlay import draw_overlay
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.sam import Prompts, load_sam
from wesam_ros.scene.refiner import Refiner

TABLE = Path(__file__).parent / "table.jpg"
BOTTLE_AND_CUP = [[27, 275, 124, 433], [343, 164, 411, 230]]


def main() -> None:
    """Segments the boxes and draws the masks."""
    parser = argparse.ArgumentParser(description="Draws the masks of boxes over their image.")
    parser.add_argument("--image", type=Path, default=TABLE, help="colour image (default: table.jpg beside this file)")
    parser.add_argument("--box", type=float, nargs=4, action="append", metavar=("X0", "Y0", "X1", "Y1"), help="in pixels; may be repeated")
    parser.add_argument("--out", type=Path, default=Path("overlay.png"), help="file of the drawing (default: overlay.png)")
    args = parser.parse_args()

    image = np.asarray(Image.open(args.image).convert("RGB"))
    prompts = Prompts.from_boxes(args.box or BOTTLE_AND_CUP, image.shape[:2])
    engine = TorchEngine(load_sam("tiny"))
    found = Refiner().refine(Frame(image), prompts, engine.segment(image, prompts))  # with depth and camera in the Frame: more exact

    for number, (mask, score) in enumerate(zip(found.masks, found.scores, strict=True), 1):
        print(f"object {number}: {np.count_nonzero(mask)} pixels, predicted IoU {score:.2f}")
    Image.fromarray(draw_overlay(image, found.masks)).save(args.out)
    print(args.out)


if __name__ == "__main__":
    main()

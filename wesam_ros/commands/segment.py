"""`wesam segment`: everything in one picture, without a prompt and without ROS: label image, COCO JSON and overlay."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.commands import common
from wesam_ros.data.codecs.files import encode_png
from wesam_ros.data.datasets.files import read_image, read_millimetres
from wesam_ros.data.frames import Frame
from wesam_ros.drawing.overlay import draw_labels
from wesam_ros.files import write_atomically
from wesam_ros.scene import REFINE_CHOICES
from wesam_ros.scene.proposals_limits import Limits, region_of

DEPTH_LAYOUT = "expected a 16-bit picture of millimetres, 0 = none, registered to the image"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options to `parser`."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="picture")
    parser.add_argument("depth", type=Path, nargs="?", metavar="DEPTH", help="16-bit picture of millimetres, 0 = none, registered to it")
    parser.add_argument(
        "--camera", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"), help="intrinsics of the image in pixels; DEPTH needs them"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for NAME_labels.png, NAME.json and NAME_overlay.png")
    parser.add_argument("--adapter", type=Path, metavar="FILE", help="adapter to segment with (default: the frozen model)")
    parser.add_argument(
        "--region", default="", metavar="POINTS", help="only things mostly within: x0 y0 x1 y1 of a box, or x y of three corners or more"
    )
    parser.add_argument("--least-pixels", type=int, default=80, metavar="N", help="pixels of the smallest thing (default: %(default)s)")
    parser.add_argument(
        "--heights", type=float, nargs=2, default=(0.0, 1.0), metavar=("LOW", "HIGH"), help="metres above the surface of a thing's top"
    )
    parser.add_argument("--refine", choices=REFINE_CHOICES, default="all", help="witnesses of the masks (default: %(default)s)")
    common.add_model_options(parser)
    common.add_threads(parser)


def run(args: argparse.Namespace) -> int:
    """Segments the picture and writes the three files; returns the exit status.

    Raises:
        ValueError: a bad argument, picture or adapter; the message says which.
    """
    from wesam_ros.engines.torch_engine import TorchEngine
    from wesam_ros.sam.adapter import Adapter
    from wesam_ros.sam.checkpoints import load_sam
    from wesam_ros.scene.proposals import GRID, Proposer
    from wesam_ros.scene.proposals_serving import segment_everything
    from wesam_ros.scene.refiner import Refiner

    if args.depth is not None and args.camera is None:
        raise ValueError("DEPTH needs the camera's intrinsics; give --camera FX FY CX CY in pixels of the image")
    limits = Limits(args.least_pixels, region_of(args.region), tuple(args.heights))
    frame = _frame(args)
    common.use_threads(args)
    sam = load_sam(args.model, args.checkpoint, common.device_of(args))
    adapter = Adapter.load(args.adapter, for_sam=sam) if args.adapter else None
    engine = TorchEngine(sam)
    decode = partial(engine.decode, engine.encode(frame.image, adapter))
    found, masks = segment_everything(frame, decode, Proposer(limits), Refiner(stream=False), args.refine)
    if found.way == GRID:
        why = "there is no DEPTH" if args.depth is None else "DEPTH shows no surface that things stand on"
        print(f"{why}: things are looked for with a grid of points, which is slower and finds less", file=sys.stderr)
    labels = masks.label_image()
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.image.stem
    files = {
        f"{stem}_labels.png": encode_png(labels),
        f"{stem}.json": (json.dumps(coco(args.image.name, labels, masks.scores)) + "\n").encode(),
        f"{stem}_overlay.png": encode_png(draw_labels(frame.image, labels)),
    }
    for name, data in files.items():
        write_atomically(args.out / name, data)
        print(args.out / name)
    print(f"{len(masks)} things")
    return 0


def _frame(args: argparse.Namespace) -> Frame:
    image = read_image(args.image)
    if args.depth is None:
        return Frame(image)
    depth = read_millimetres(args.depth, DEPTH_LAYOUT)
    if depth.shape != image.shape[:2]:
        raise ValueError(
            f"{args.depth} has {depth.shape[1]} x {depth.shape[0]} pixels, but the image has {image.shape[1]} x {image.shape[0]}"
        )
    fx, fy, cx, cy = args.camera
    if min(fx, fy) <= 0:
        raise ValueError(f"--camera must have positive focal lengths, but got {fx} and {fy}")
    return Frame(image, depth, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]))


def coco(name: str, labels: npt.NDArray[np.uint16], scores: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Things of a label image (H, W) as COCO's "data format" has them: run lengths down the columns, boxes x y width height.

    Args:
        name: of the picture's file.
        labels: 0 = none, i + 1 = thing i.
        scores: (n,) of all things; those without a pixel are left out.
    """
    height, width = labels.shape
    annotations = []
    for index, score in enumerate(scores):
        mask = labels == index + 1
        if not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        segmentation = {"size": [height, width], "counts": _runs(mask)}
        one = {"id": index + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": int(mask.sum()), "bbox": box}
        annotations.append(one | {"segmentation": segmentation, "score": round(float(score), 4)})
    return {
        "images": [{"id": 1, "file_name": name, "width": width, "height": height}],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": annotations,
    }


def _runs(mask: npt.NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of a mask down its columns, beginning with one of pixels that are not set."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat.view(np.int8), prepend=np.int8(0)))
    return [int(each) for each in np.diff(changes, prepend=0, append=flat.size)]

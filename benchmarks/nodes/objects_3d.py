"""3D boxes of objects against the simulator's true ones, beside the boxes of yolo_ros.

    source scripts/env.sh
    python benchmarks/nodes/objects_3d.py --json out/objects_3d.json

A true box is the smallest rectangle about the table's normal that holds the corners of an object's meshes where it lies, from its lowest to
its highest corner. Both ways get the same masks: the true ones, and those of the frozen `tiny` model for boxes of the true masks.

- centre error: distance of the centres, metres.
- size error: mean difference of longer side, shorter side and height, metres.
- yaw error: angle between the longer sides, 0 to 90 degrees, of objects whose true sides differ by a fifth or more. Others are left out:
  their yaw is not theirs to have.

yolo_ros gives boxes along the axes of its target frame, here the table's. Its way is written anew from its published detect_3d_node, as it
was read for this comparison; other versions may differ. It takes bounds of weighted points along each axis of the optical frame, then turns
the size with its `transform_3d_box`. Turned like that, a size is no box's any more, so the sizes before it are counted as well
(`size_unturned_m`: both boxes' sides sorted).

The thresholds were chosen on other tables of the domain (--seed 700).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.boxes import boxes_of_labels
from wesam_ros.data.frames import Frame
from wesam_ros.data.simulator import simulate_scenes
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.files import write_json
from wesam_ros.machine import processor
from wesam_ros.sam import Prompts, load_sam
from wesam_ros.sam.masks import Masks
from wesam_ros.scene.geometry import locate

Float = npt.NDArray[np.float64]
LONGER = 1.2
"""Ratio of the sides of a true box from which on its yaw counts."""


@dataclass(frozen=True, eq=False)
class Box:
    """A box on the table: centre (3,) in metres, yaw of the longer side in radians, and longer side, shorter side, height in metres.

    `unturned` is yolo_ros's size in the optical frame.
    """

    center: Float
    yaw: float
    size: Float
    unturned: Float | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A frame, its camera's pose (4, 4), and the true boxes by instance."""

    frame: Frame
    pose: Float
    true: dict[int, Box]


def true_box(corners: Float) -> Box:
    """The box of mesh corners (n, 3) in the world, z up."""
    (x, y), (width, length), degrees = cv2.minAreaRect(corners[:, :2].astype(np.float32))
    low, high = corners[:, 2].min(), corners[:, 2].max()
    yaw = np.radians(degrees if width >= length else degrees + 90)
    return Box(np.array([x, y, (low + high) / 2]), float(yaw), np.array([max(width, length), min(width, length), high - low]))


def cases(domain: str, seed: int, frames: int) -> Iterator[Case]:
    """The last of the frames of a table, when most objects are on it."""
    kept = []
    for frame, world in simulate_scenes(domain, seed, objects=12, views=1):
        true = {int(k): true_box(world.vertices(int(k) - 1)) for k in np.unique(frame.labels)[1:]}  # type: ignore[arg-type]
        kept.append(Case(frame, world.camera_pose(), true))
    yield from kept[-frames:]


def _weighted_share(values: Float, weights: Float, shares: tuple[float, float]) -> tuple[float, float]:
    """The values at two shares of the summed weight."""
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    low, high = np.searchsorted(total / total[-1], shares)
    return float(values[order[min(low, len(order) - 1)]]), float(values[order[min(high, len(order) - 1)]])


def _bounds(values: Float, weights: Float, trim: float, ends: float) -> tuple[float, float, float]:
    """Trimmed weighted mean, and the bounds between two shares of weight, at least 2 cm apart."""
    cut = _weighted_share(values, weights, (trim, 1 - trim))
    inner = (values >= cut[0]) & (values <= cut[1])
    middle = float(np.average(values[inner], weights=weights[inner]))
    low, high = _weighted_share(values, weights, (ends, 1 - ends))
    return (middle, low, high) if high - low >= 0.02 else (middle, middle - 0.01, middle + 0.01)


def _near_median(values: Float, weights: Float, factor: float, limits: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """True for values within a number of MADs of the weighted median."""
    away = np.abs(values - _weighted_share(values, weights, (0.5, 0.5))[0])
    kept = away <= np.clip(factor * np.median(away), *limits)
    return kept if np.count_nonzero(kept) >= max(4, 0.12 * len(values)) else np.ones(len(values), bool)


def _of_the_mode(depths: Float, weights: Float) -> npt.NDArray[np.bool_]:
    """True for depths around the highest place of the smoothed, weighted histogram."""
    bins = max(20, min(60, int(np.ptp(depths) / 0.01))) if np.ptp(depths) > 0 else 30
    counts, edges = np.histogram(depths, bins=bins, weights=weights)
    width = min(5, len(counts) // 4)
    peak = int(np.argmax(np.convolve(counts, np.ones(width) / width, mode="same")))
    away = np.abs(depths - (edges[peak] + edges[peak + 1]) / 2)
    spread = np.subtract(*np.percentile(depths, (75, 25)))
    factor, low, high = (3.5, 0.08, 0.3) if spread < 0.03 else (4.0, 0.12, 0.4) if spread < 0.1 else (5.0, 0.15, 0.6)
    kept = away <= np.clip(factor * np.median(away), low, high)
    if np.count_nonzero(kept) >= max(6, int(0.15 * len(depths))):
        return np.asarray(kept)
    ends = _weighted_share(depths, weights, (0.02, 0.85))
    return np.asarray((depths >= ends[0]) & (depths <= ends[1]))


def yolo_box(mask: npt.NDArray[np.bool_], crop: tuple[slice, slice], depth: npt.NDArray[np.float32], camera: Float, pose: Float) -> Box:
    """The box of yolo_ros's detect_3d_node for a mask, in the table's frame."""
    v, u = np.nonzero(mask & (depth > 0))
    z = depth[v, u].astype(np.float64)
    (top, bottom), (left, right) = ((each.start, each.stop) for each in crop)
    dx, dy = (u - (left + right) // 2) / ((right - left) / 2 + 1e-6), (v - (top + bottom) // 2) / ((bottom - top) / 2 + 1e-6)
    weights = np.maximum(np.exp(-0.5 * (dx**2 + dy**2) / 0.8**2), 0.3)
    kept = _of_the_mode(z, weights)
    bounds = []
    for pixels, focal, middle, limits in ((u, camera[0, 0], camera[0, 2], (0.08, 0.5)), (v, camera[1, 1], camera[1, 2], (0.06, 0.5))):
        values = z * (pixels - middle) / focal
        inner = _near_median(values, weights, 4.5, limits)
        bounds.append(_bounds(values[inner], weights[inner], 0.05, 0.03))
    bounds.append(_bounds(z[kept], weights[kept], 0.02, 0.01))
    center, size = np.array([each[0] for each in bounds]), np.array([each[2] - each[1] for each in bounds])
    turned = np.abs(pose[:3, :3] @ size)
    flat = sorted(turned[:2], reverse=True)
    yaw = 0.0 if turned[0] >= turned[1] else np.pi / 2
    return Box(pose[:3, :3] @ center + pose[:3, 3], yaw, np.array([*flat, turned[2]]), size)


def our_boxes(labels: npt.NDArray[np.uint16], case: Case, crops: Any) -> list[Box | None]:
    """The oriented boxes of this project, in the table's frame."""
    assert case.frame.depth is not None
    assert case.frame.camera is not None
    found: list[Box | None] = []
    for place in locate(labels, case.frame.depth, case.frame.camera, crops, case.pose):
        box = None if place is None else place.box
        found.append(None if box is None else Box(box.center, float(np.arctan2(box.axes[1, 0], box.axes[0, 0])), box.size))
    return found


def errors(box: Box, true: Box) -> dict[str, float]:
    """The errors of a box, by name."""
    result = {"center_m": float(np.linalg.norm(box.center - true.center)), "size_m": float(np.abs(box.size - true.size).mean())}
    if box.unturned is not None:
        result["size_unturned_m"] = float(np.abs(np.sort(box.unturned) - np.sort(true.size)).mean())
    if true.size[0] >= LONGER * true.size[1]:
        turn = abs(np.degrees(box.yaw - true.yaw)) % 180
        result["yaw_deg"] = float(min(turn, 180 - turn))
    return result


def masks_of_labels(frame: Frame) -> Masks:
    """The true masks, in order of instance."""
    assert frame.labels is not None
    masks = np.stack([frame.labels == k for k in np.unique(frame.labels)[1:]])
    return Masks(masks, np.ones(len(masks), np.float32), np.zeros((len(masks), 1, 1), np.float32))


def compare(cases_: list[Case], masks: list[Masks]) -> dict[str, Any]:
    """Median errors of both ways on the same masks, and their quotient."""
    rows: dict[str, dict[str, list[float]]] = {"ours": {}, "yolo_ros": {}}
    objects = 0
    for case, found in zip(cases_, masks, strict=True):
        frame = case.frame
        assert frame.depth is not None
        assert frame.camera is not None
        for k, (instance, ours) in enumerate(zip(sorted(case.true), our_boxes(found.label_image(), case, found.crops), strict=True)):
            if ours is None:
                continue
            objects += 1
            theirs = yolo_box(found.masks[k], found.crops[k], frame.depth, frame.camera, case.pose)
            for name, box in (("ours", ours), ("yolo_ros", theirs)):
                for measure, value in errors(box, case.true[instance]).items():
                    rows[name].setdefault(measure, []).append(value)
    result: dict[str, Any] = {"objects": objects, "objects_with_yaw": len(rows["ours"]["yaw_deg"])}
    for name, by_measure in rows.items():
        result[name] = {measure: round(float(np.median(values)), 5) for measure, values in by_measure.items()}
        result[name] |= {f"{measure}_p90": round(float(np.percentile(values, 90)), 5) for measure, values in by_measure.items()}
    result["quotient"] = {measure: round(result["ours"][measure] / result["yolo_ros"][measure], 3) for measure in rows["ours"]}
    return result


def cost(cases_: list[Case], masks: list[Masks]) -> dict[str, float]:
    """Processor time in milliseconds of the places of a frame, oriented boxes among them: median, and 99 %."""
    spent, counts = [], []
    for _ in range(5):
        for case, found in zip(cases_, masks, strict=True):
            frame, labels = case.frame, found.label_image()
            began = time.thread_time()
            locate(labels, frame.depth, frame.camera, found.crops, case.pose)  # type: ignore[arg-type]
            spent.append((time.thread_time() - began) * 1e3)
            counts.append(len(found))
    median, most = np.percentile(spent, (50, 99))
    return {
        "objects_mean": float(np.mean(counts)),
        "places_median_ms": round(float(median), 2),
        "places_p99_ms": round(float(most), 2),
    }


def main() -> int:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--tables", type=int, default=3, help="tables of the domain, default 3")
    parser.add_argument("--seed", type=int, default=800, help="the first table, default 800")
    parser.add_argument("--frames", type=int, default=8, help="the last frames of each, default 8")
    parser.add_argument("--domain", default="source", help="domain of the simulator, default source")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    found = [case for seed in range(args.tables) for case in cases(args.domain, args.seed + seed, args.frames)]
    true = [masks_of_labels(case.frame) for case in found]
    engine = TorchEngine(load_sam("tiny"))
    served = []
    for case in found:
        boxes = boxes_of_labels(case.frame.labels)[1]  # type: ignore[arg-type]
        served.append(engine.segment(case.frame.image, Prompts.from_boxes(boxes, case.frame.size), None))
    result = {
        "processor": processor(),
        "domain": args.domain,
        "tables": args.tables,
        "seed": args.seed,
        "frames": len(found),
        "true_masks": compare(found, true),
        "served_masks": compare(found, served),
        "cost": cost(found, true),
    }
    print(json.dumps(result, indent=1))
    if args.json:
        write_json(args.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

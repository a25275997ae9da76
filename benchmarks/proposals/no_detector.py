"""Segmentation that nobody asked for, scored (benchmarks/results/no_detector.json), and false objects where there is nothing.

    python benchmarks/proposals/no_detector.py sim:dim sim:clutter sim:gloss sim:camera osd:FOLDER

Rows: all frames of a data set that has no split to adapt to, such as OSD, and the frames to score on of the others; frozen model, each way
of wesam_ros/evaluation/no_detector.py. `ms` is the median processor time of one thread for a frame beside the model. Rows that are in the
file are not made again. The empty scenes are made here: of each, 20 frames, and how many objects are found in all of them together.
`heap:DOMAIN` is things in bins of a simulated domain: HEAPS of 20, 30 and 40 things each, of which some fall beside it and are taken away.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from wesam_ros.data.frames import Frame
from wesam_ros.data.simulator import DOMAINS, backend, scene, sensor
from wesam_ros.data.simulator.heaps import simulate_heap
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.comparison import Setting, source_of
from wesam_ros.evaluation.no_detector import WAYS, score_way, segment_all
from wesam_ros.evaluation.splits import OTHER_FRAMES, OTHER_TABLES, STREAM_TABLES, Source, tables
from wesam_ros.files import write_json
from wesam_ros.machine import processor
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.scene.proposals import Proposer

RESULTS = Path(__file__).parent.parent / "results" / "no_detector.json"
SIZE, FOCAL, EMPTY = (480, 640), 525.0, 20
CAMERA = np.array([[FOCAL, 0, 319.5], [0, FOCAL, 239.5], [0, 0, 1]])
HEAPS = ((800, 20), (801, 20), (802, 30), (803, 30), (804, 40), (805, 40))
"""Seeds and numbers of things."""
Rng = np.random.Generator


def simulated_table(domain: str) -> Callable[[Rng], Frame]:
    """A simulated table without anything on it."""

    def make(rng: Rng) -> Frame:
        look = DOMAINS[domain]
        world = scene.build(look, 1, SIZE, rng)
        low, high = look.elevation[int(rng.integers(len(look.elevation)))]
        world.look([0, 0, 0.03], rng.uniform(*look.distance), rng.uniform(low, high), rng.normal(-90, 35), rng.normal(0, 3), FOCAL, SIZE[0])
        with backend.Renderer(world.model, *SIZE) as renderer:
            colour, depth, _ = renderer.render(world.data)
        picture = look.develop(colour.astype(np.float32) / np.float32(255), rng, rng)
        return Frame(np.clip(255 * picture, 0, 255).astype(np.uint8), sensor.measure(depth, FOCAL, np.zeros(SIZE, np.float32), rng), CAMERA)

    return make


def tilted_plane(rng: Rng) -> Frame:
    """A grey plane before the camera, tilted by up to 60 degrees about both axes."""
    a, b = np.tan(np.radians(rng.uniform(-60, 60))), np.tan(np.radians(rng.uniform(-20, 60)))
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    depth = rng.uniform(0.6, 1.2) / np.maximum(1 + a * (x - 319.5) / FOCAL + b * (y - 239.5) / FOCAL, 0.2)
    grey = cv2.GaussianBlur(rng.normal(128, 40, SIZE).astype(np.float32), (0, 0), 3) + rng.normal(0, 3, SIZE)
    image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)
    return Frame(image, sensor.measure(depth.astype(np.float32), FOCAL, np.zeros(SIZE, np.float32), rng), CAMERA)


def wall_of_books(rng: Rng) -> Frame:
    """Rows of coloured spines, which stand out by some millimetres from each other."""
    image, depth = np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, rng.uniform(0.7, 1.1), np.float32)
    for top in range(0, SIZE[0], 120):
        left = 0
        while left < SIZE[1]:
            width = int(rng.integers(12, 45))
            part = slice(top, top + 118), slice(left, left + width - 1)
            image[part], left = rng.integers(30, 230, 3), left + width
            depth[part] += np.float32(rng.normal(0, 0.003))
            image[top + 20 : top + 90 : 8, left - width // 2 - 2 : left - width // 2 + 2] = 255
    return Frame(cv2.GaussianBlur(image, (0, 0), 0.8), sensor.measure(depth, FOCAL, np.zeros(SIZE, np.float32), rng), CAMERA)


NOTHING = {
    "empty table": simulated_table("source"),
    "table-cloth with prints": simulated_table("clutter"),
    "tilted plane": tilted_plane,
    "wall of books": wall_of_books,
}


def rows_of(text: str, args: argparse.Namespace, engine: TorchEngine, done: set[tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    """The rows of a data set that are not done, one for each way."""
    if text.startswith("heap:"):
        source = Source("heaps in bins", text.removeprefix("heap:"), 1, list)
    else:
        source = source_of(text, Setting(args.model, None, 1, False, args.limit))
    todo = [way for way in args.ways if (source.dataset, source.domain, way) not in done]
    if not todo:
        return
    if source.dataset == "heaps in bins":
        frames = [each for seed, count in HEAPS for each in simulate_heap(source.domain, seed, objects=count)]
    elif source.dataset == "simulator":  # the tables that `wesam evaluate` scores on, without simulating those to adapt to
        frames = list(tables(source.domain, range(500 + STREAM_TABLES, 500 + STREAM_TABLES + OTHER_TABLES), OTHER_FRAMES))
    else:
        frames = [frame for fold in source.load() for frame in fold.test]
    for way in todo:
        found, milliseconds = score_way(way, frames, engine)
        figures = {name: round(value, 4) for name, value in vars(found).items()}
        named = {"dataset": source.dataset, "domain": source.domain, "way": way, "adapted": False, "seed": 0, "frames": len(frames)}
        yield named | figures | {"ms": round(milliseconds, 1), "model": args.model, "machine": processor()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="*", help="sim:DOMAIN, heap:DOMAIN, NAME:FOLDER of a data set, or a labelled recording")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--limit", type=int, default=128, help="most frames of a split (default: %(default)s)")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file of the rows (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    engine = TorchEngine(load_sam(args.model))
    rows: list[dict[str, Any]] = json.loads(args.json.read_text()) if args.json.exists() else []
    key = ("dataset", "domain", "way")

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print(" ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        write_json(args.json, rows)

    for text in args.sources:
        for row in rows_of(text, args, engine, {tuple(row[name] for name in key) for row in rows}):
            add(row)
    for name, make in NOTHING.items():
        if ("nothing", name, "proposals") in {tuple(row[each] for each in key) for row in rows}:
            continue
        rng, found = np.random.default_rng(0), 0
        for _ in range(EMPTY):
            labels, _ = segment_all(make(rng), engine, None, Proposer())
            found += len(np.unique(labels[labels > 0]))
        add(
            {"dataset": "nothing", "domain": name, "way": "proposals", "adapted": False, "seed": 0, "frames": EMPTY, "false_objects": found}
        )


if __name__ == "__main__":
    main()

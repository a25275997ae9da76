"""Ids over frames, scored by TrackEval (benchmarks/results/no_detector.json, rows with `idf1`).

    pip install --no-deps -r requirements-tracks.txt
    python benchmarks/proposals/identities.py

Simulated streams of 10 frames a second: still tables before a still camera, and tables at which a hand takes, moves and puts things before
a moving camera. What is tuned was tuned on seeds 700, 701 and 800; 810 was not looked at. The detector is simulated: it misses
10 % of the objects, its boxes are off by 5 % of their sides, and 5 % are false. Ways: `detector`, as the segmenter serves it;
`detector, nothing carried`, with carry_frames 0; `proposals`, no detector. `ms` is the median processor time of one thread for a frame's
tracks. A row is one stream. Rows that are in the file are not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wesam_ros.data.detector import with_detections
from wesam_ros.data.simulator.handling import simulate_handling
from wesam_ros.engines.torch_engine import TorchEngine
from wesam_ros.evaluation.identities import from_detections, from_proposals, score_identities, serve_stream
from wesam_ros.files import write_json
from wesam_ros.machine import processor
from wesam_ros.sam.checkpoints import load_sam
from wesam_ros.scene import CARRY_FRAMES
from wesam_ros.scene.tracks import Tracker

RESULTS = Path(__file__).parent.parent / "results" / "no_detector.json"
STREAMS: dict[str, dict[str, Any]] = {
    "still table": {"frames": 30, "moving_camera": False, "hand": False},
    "moving camera and hand": {"frames": 75, "moving_camera": True, "hand": True},
}
DETECTOR = {"jitter": 0.05, "miss": 0.1, "false_boxes": 0.05}
CARRIED = {"detector": CARRY_FRAMES, "detector, nothing carried": 0, "proposals": CARRY_FRAMES}
KEY = ("dataset", "domain", "way", "seed")


def time_tracker(spent: list[float]) -> None:
    """Adds the seconds of processor time that trackers take to the last entry of a list, from now on."""

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            began = time.thread_time()
            result = method(*args, **options)
            spent[-1] += time.thread_time() - began
            return result

        return run

    for name in ("lost", "match", "average", "keep"):
        setattr(Tracker, name, timed(getattr(Tracker, name)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", default=["source", "camera"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[810])
    parser.add_argument("--streams", nargs="+", default=list(STREAMS), choices=STREAMS)
    parser.add_argument("--ways", nargs="+", default=list(CARRIED), choices=CARRIED)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--json", type=Path, default=RESULTS, help="file of the rows (default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    engine = TorchEngine(load_sam(args.model))
    rows: list[dict[str, Any]] = json.loads(args.json.read_text()) if args.json.exists() else []
    spent: list[float] = []
    time_tracker(spent)
    for seed in args.seeds:
        for domain in args.domains:
            for stream in args.streams:
                done = {tuple(row[name] for name in KEY) for row in rows}
                todo = [way for way in args.ways if (stream, domain, way, seed) not in done]
                frames = list(simulate_handling(domain, seed, **STREAMS[stream])) if todo else []
                for way in todo:
                    spent.clear()

                    def next_frame(each: Any) -> Any:
                        spent.append(0.0)
                        return each

                    seen = map(next_frame, with_detections(frames, seed, **DETECTOR))
                    ask = from_proposals() if way == "proposals" else from_detections
                    moments = serve_stream(seen, ask, engine, CARRIED[way])
                    found = score_identities(moments)
                    named = {"dataset": stream, "domain": domain, "way": way, "adapted": False, "seed": seed, "frames": len(frames)}
                    figures = {"idf1": round(found.idf1, 4), "hota": round(found.hota, 4), "switches": found.switches}
                    figures |= {"objects": found.truths, "ms": round(1e3 * float(np.median(spent)), 1)}
                    rows.append(named | figures | {"model": args.model, "machine": processor()})
                    print(" ".join(f"{name} {value}" for name, value in rows[-1].items()), flush=True)
                    write_json(args.json, rows)


if __name__ == "__main__":
    main()

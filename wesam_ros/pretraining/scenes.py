"""Simulated scenes kept on disk as flat arrays, and the training samples cut from them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.data.simulator import simulate
from wesam_ros.machine import worker_pool

SIZE = (480, 640)
OBJECTS = 12
FRAMES = 8
"""Of a sequence, its last, fuller frames are kept: the first ones, with an object or two, teach little."""
CHUNK = 20
"""Sequences a file."""


@dataclass(frozen=True, eq=False)
class Scenes:
    """Frames of many sequences, mapped from disk in chunks.

    Attributes:
        images: arrays (n, 480, 640, 3) uint8 RGB.
        labels: arrays (n, 480, 640) uint8 of instance ids, 0 = background.
    """

    images: tuple[npt.NDArray[np.uint8], ...]
    labels: tuple[npt.NDArray[np.uint8], ...]

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self.images)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Image and labels of one frame."""
        for images, labels in zip(self.images, self.labels, strict=True):
            if index < len(images):
                return images[index], labels[index]
            index -= len(images)
        raise IndexError(index)


def _simulate_chunk(path: Path, domain: str, seeds: range) -> None:
    frames = [frame for seed in seeds for frame in list(simulate(domain, seed, objects=OBJECTS, size=SIZE))[-FRAMES:]]
    arrays = {
        "images": np.stack([frame.image for frame in frames]),
        "labels": np.stack([frame.labels for frame in frames if frame.labels is not None]).astype(np.uint8),
    }
    for name, array in arrays.items():
        np.save(path / f"{name}.part.npy", array)
    for name in arrays:  # labels last: a chunk is whole once they are there
        (path / f"{name}.part.npy").rename(path / f"{name}.npy")


def load_scenes(folder: Path, domain: str, seeds: range, *, workers: int = 1) -> Scenes:
    """The frames of one sequence per seed, simulated once and kept in `folder`; what is there already is not made again."""
    chunks = [range(start, min(start + CHUNK, seeds.stop)) for start in range(seeds.start, seeds.stop, CHUNK)]
    paths = [folder / f"{domain}-{chunk.start}-{chunk.stop}" for chunk in chunks]
    missing = [(path, chunk) for path, chunk in zip(paths, chunks, strict=True) if not (path / "labels.npy").is_file()]
    if missing:
        for path, _ in missing:
            path.mkdir(parents=True, exist_ok=True)
        with worker_pool(workers) as pool:
            running = [pool.submit(_simulate_chunk, path, domain, chunk) for path, chunk in missing]
            for done, future in enumerate(as_completed(running)):
                future.result()
                print(f"simulated {min((done + 1) * CHUNK, len(missing) * CHUNK)}/{len(missing) * CHUNK} sequences of {domain}", flush=True)
    opened = [(np.load(path / "images.npy", mmap_mode="r"), np.load(path / "labels.npy", mmap_mode="r")) for path in paths]
    return Scenes(tuple(images for images, _ in opened), tuple(labels for _, labels in opened))


def cut(
    scenes: Scenes, rng: np.random.Generator, width: int, height: int, scale: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """A random window of a random frame at the model's scale, augmented: (height, width, 3) image and (height, width) ids.

    Args:
        scenes: where it is cut from.
        rng: the source of randomness.
        width: of the sample, in pixels of the model's input.
        height: likewise.
        scale: how much larger than in SAM's preprocessing things appear (there, 640 pixels become 512).
    """
    whole, ids = scenes[int(rng.integers(len(scenes)))]
    source_height, source_width = ids.shape
    factor = source_width / 512 / scale
    w, h = min(source_width, round(width * factor)), min(source_height, round(height * factor))
    x, y = rng.integers(source_width - w + 1), rng.integers(source_height - h + 1)
    image = cv2.resize(whole[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR)
    # INTER_NEAREST takes the upper left of the pixels that it could: labels were half a pixel off the image, and so were all masks.
    labels = cv2.resize(ids[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    if rng.random() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    # Mild exposure and white balance, as between two days in one room. The target domains differ by far more than this.
    gain = rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3)
    image = np.clip(image * gain + rng.uniform(-8, 8), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def instances(labels: npt.NDArray[np.uint8], rng: np.random.Generator, most: int, least_pixels: int) -> Iterator[npt.NDArray[np.bool_]]:
    """Masks of up to `most` random instances with at least `least_pixels`."""
    counts = np.bincount(labels.ravel(), minlength=2)
    ids = np.flatnonzero(counts[1:] >= least_pixels) + 1
    for instance in rng.permutation(ids)[:most]:
        yield labels == instance

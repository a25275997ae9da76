"""COCO-C (Michaelis et al., arXiv 1907.07484): the images of COCO 2017 with the 15 kinds of corruption of `imagecorruptions`.

Nothing is stored: a frame is corrupted when it is read. The masks are COCO's, unmoved, as in WeSAM's protocol.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt

from wesam_ros.data.datasets.coco import Annotated, annotated_images, read_annotated
from wesam_ros.data.datasets.files import DatasetError, Frames, check_split
from wesam_ros.data.frames import Frame

KINDS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
SEVERITIES = ("1", "2", "3", "4", "5")


def read_coco_c(folder: Path, split: str = "gaussian_noise", *, seed: int = 0) -> Frames[Annotated]:
    """Frames of COCO's val2017 with one kind of corruption; layout and labels as for `read_coco`.

    Args:
        folder: COCO's.
        split: KIND or KIND@SEVERITY, such as "snow@3": of `KINDS`, and 1 to 5; WeSAM's protocol takes 5, as does this by itself.
        seed: the same seed gives an image the same corruption, whatever was read before it.

    Raises:
        DatasetError: as for `read_coco`; the package `imagecorruptions` is missing or fails; a kind, severity or seed that cannot be.
    """
    kind, at, severity = split.partition("@")
    check_split(kind, KINDS)
    if at and severity not in SEVERITIES:
        raise DatasetError(f"severity must be one of {', '.join(SEVERITIES)}, but got {split!r}; give it as in snow@3")
    strength = int(severity or 5)
    if seed < 0:
        raise DatasetError(f"seed must not be negative, but got {seed}")
    corrupt = _corrupt()

    def read(part: Annotated) -> Frame:
        frame = read_annotated(part)
        with _seeded((seed, zlib.crc32(f"{kind}/{part.name}".encode()))):
            try:
                image = corrupt(frame.image, severity=strength, corruption_name=kind)
            except Exception as error:  # releases that do not fit the installed NumPy or scikit-image raise many kinds
                raise DatasetError(
                    f"imagecorruptions failed at {kind} for {part.name} ({type(error).__name__}: {error}); "
                    "a release of it that fits NumPy 2: pip install imagecorruptions-imaug"
                ) from error
        return replace(frame, image=np.asarray(image, np.uint8))

    return Frames(annotated_images(folder, "val2017"), read)


def _corrupt() -> Callable[..., npt.NDArray[np.uint8]]:
    try:
        corrupt: Callable[..., npt.NDArray[np.uint8]] = import_module("imagecorruptions").corrupt
    except ImportError as error:
        raise DatasetError(
            f"COCO-C needs the package imagecorruptions ({error}): pip install imagecorruptions-imaug, a release of it that fits NumPy 2"
        ) from error
    return corrupt


@contextmanager
def _seeded(entropy: tuple[int, int]) -> Iterator[None]:
    """Seeds every source of randomness that the corruptions draw from, and leaves NumPy's global one as it was. Not for several threads.

    These are NumPy's global state, generators that scikit-image makes for impulse noise, and Numba's own state for glass blur.
    """
    word = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    make, before = np.random.default_rng, np.random.get_state()  # noqa: NPY002  the global state is what they use
    generator = make(entropy)

    def default_rng(seed: Any = None) -> np.random.Generator:
        return generator if seed is None else make(seed)

    np.random.seed(word)  # noqa: NPY002
    _seed_numba()(word)
    try:
        with mock.patch.object(np.random, "default_rng", default_rng):
            yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


@cache
def _seed_numba() -> Callable[[int], None]:
    """A function that seeds the random state of compiled functions; without Numba it does nothing."""
    try:
        njit = import_module("numba").njit
    except ImportError:
        return lambda _word: None

    def seed(word: int) -> None:
        np.random.seed(word)  # noqa: NPY002  compiled, this is Numba's own state

    compiled: Callable[[int], None] = njit(seed)
    return compiled

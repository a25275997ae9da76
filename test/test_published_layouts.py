"""Labelled pictures written into the published layouts come back from their readers as they were, in the halves that are scored."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from published_layouts import SETS

from wesam_ros.evaluation.comparison import Setting, source_of

SIZE = (48, 64)
COUNT = 4
SETTING = Setting(model="tiny", checkpoint=None, steps=1, forgetting=False, limit=COUNT)
# name: data set and domain in the tables, the halves, by the numbers of their pictures
EXPECTED = {
    "kvasir_seg": ("kvasir-seg", "all", [0, 2], [1, 3]),
    "ecssd": ("ecssd", "ecssd", [0, 2], [1, 3]),
    "coco2017": ("coco", "val2017", [0, 2], [1, 3]),
    "vcod_cd": ("folder", "camouflaged", [0, 2], [1, 3]),
    "food_trays": ("folder", "food_trays", [0, 1], [2, 3]),
}


def ids_of(number: int, objects: int) -> np.ndarray:
    ids = np.zeros(SIZE, np.uint8)
    for each in range(objects):
        ids[4 + 3 * number : 30, 4 + 30 * each : 24 + 30 * each] = each + 1
    return ids


@pytest.mark.parametrize("name", SETS)
def test_a_set_in_its_published_layout(name: str, tmp_path: Path) -> None:
    objects = 2 if name in ("coco2017", "food_trays") else 1
    folder, out = tmp_path / name, tmp_path / "published"
    for number in range(COUNT):
        for part, pixels, suffix in (
            ("images", np.full((*SIZE, 3), 40 * number, np.uint8), "jpg"),
            ("masks", ids_of(number, objects), "png"),
        ):
            (folder / part).mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(folder / part / f"{number:04d}.{suffix}"), pixels)
    data = SETS[name](folder, out)
    dataset, domain, first, second = EXPECTED[name]
    source = source_of(data, SETTING)
    assert (source.dataset, source.domain) == (dataset, domain)
    folds = source.load()
    assert len(folds) == source.folds == 2
    for fold, (adapt, test) in zip(folds, ((first, second), (second, first)), strict=True):
        for frames, numbers in ((fold.adapt, adapt), (fold.test, test)):
            for frame, number in zip(frames, numbers, strict=True):
                np.testing.assert_allclose(frame.image, 40 * number, atol=2)
                np.testing.assert_array_equal(frame.labels, ids_of(number, objects))

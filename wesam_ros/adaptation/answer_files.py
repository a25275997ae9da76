"""The folder of a person's answers: images, and a COCO file (cocodataset.org, "data format") that any tool for labels reads.

    images/STAMP.png         lossless
    annotations.json         images, annotations with masks as run lengths, categories; and "refused": masks that are no thing

Annotations have three fields of our own: `prompt`, the box x0 y0 x1 y1 that the mask was asked for with; `answer`; `robot`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from wesam_ros.adaptation.answers import NO, Answered
from wesam_ros.data.boxes import box_of_mask
from wesam_ros.data.datasets.coco_masks import mask_runs, runs_mask
from wesam_ros.files import write_atomically

NO_CLASS = "object"
"""Category of a thing whose detector gave no class."""


class AnswerFolder:
    """Keeps answers. Each change is on the disk when the method returns, and the COCO file is whole at any time.

    Args:
        path: the folder; it is made with the first answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[int, dict[str, Any]] = {}  # of each answer by its number, without an image's pixels

    @property
    def file(self) -> Path:
        """The COCO file."""
        return self.path / "annotations.json"

    def load(self, most: int) -> list[Answered]:
        """The newest answers, oldest first; an answer whose image is gone is left out.

        Raises:
            ValueError: the COCO file is damaged, or another program's.
            OSError: it cannot be read.
        """
        self._rows = {}
        if not self.file.exists():
            return []
        try:
            content = json.loads(self.file.read_text())
            images = {each["id"]: each for each in content["images"]}
            classes = {each["id"]: each["name"] for each in content["categories"]}
            for each in sorted([*content["annotations"], *content["refused"]], key=lambda row: int(row["id"])):
                image = images[each["image_id"]]
                if Path(str(image["file_name"])).parts[:-1] != ("images",):
                    raise ValueError(f"an image must lie in images/, but is {image['file_name']!r}")
                self._rows[int(each["id"])] = {
                    "file": str(image["file_name"]),
                    "size": [int(image["height"]), int(image["width"])],
                    "stamp_ns": int(image["stamp_ns"]),
                    "robot": str(each["robot"]),
                    "kind": str(each["answer"]),
                    "class": "" if classes[each["category_id"]] == NO_CLASS else str(classes[each["category_id"]]),
                    "prompt": [float(value) for value in each["prompt"]],
                    "counts": [int(value) for value in each["segmentation"]["counts"]],
                }
            found = [self._answered(number, row) for number, row in list(self._rows.items())[-most:]]
        except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
            self._rows = {}
            raise ValueError(f"{self.file} is no file of answers ({type(error).__name__}: {error})") from error
        return [each for each in found if each is not None]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def next_number(self) -> int:
        """The number of the next answer."""
        return max(self._rows, default=0) + 1

    def add(self, answered: Answered) -> None:
        """Keeps an answer. OSError: it cannot be written; it is kept with the next one that can."""
        robot = answered.robot.strip("/").replace("/", "_")
        name, pixels = f"images/{robot}{'_' if robot else ''}{answered.stamp_ns}.png", _png(answered.image)
        there = self.path / name
        if there.exists() and there.read_bytes() != pixels:  # a camera without stamps, or a simulation that began again
            name = f"{name.removesuffix('.png')}_{answered.number}.png"
        self._rows[answered.number] = {
            "file": name,
            "size": list(answered.mask.shape),
            "stamp_ns": answered.stamp_ns,
            "robot": answered.robot,
            "kind": answered.kind,
            "class": answered.class_id,
            "prompt": answered.box.tolist(),
            "counts": mask_runs(answered.mask),
        }
        if not (self.path / name).exists():
            write_atomically(self.path / name, pixels)
        self._write()

    def remove(self, number: int) -> None:
        """Takes an answer back, and its image where no other answer is of it. OSError: it cannot be written."""
        row = self._rows.pop(number, None)
        if row is None:
            return
        self._write()
        if all(each["file"] != row["file"] for each in self._rows.values()):
            (self.path / row["file"]).unlink(missing_ok=True)

    def put_aside(self) -> Path:
        """Renames a COCO file that cannot be used, and never deletes it; its new path."""
        names = (self.file.with_name(f"{self.file.name}.refused{number or ''}") for number in range(10_000))
        return self.file.rename(next(each for each in names if not each.exists()))

    def _answered(self, number: int, row: dict[str, Any]) -> Answered | None:
        pixels = cv2.imread(str(self.path / row["file"]), cv2.IMREAD_COLOR)
        height, width = row["size"]
        if pixels is None or pixels.shape[:2] != (height, width):
            return None
        return Answered(
            number=number,
            kind=row["kind"],
            image=np.ascontiguousarray(pixels[..., ::-1], np.uint8),
            box=np.array(row["prompt"], np.float32).reshape(4),
            mask=runs_mask(row["counts"], (height, width)),
            stamp_ns=row["stamp_ns"],
            robot=row["robot"],
            class_id=row["class"],
        )

    def _write(self) -> None:
        write_atomically(self.file, json.dumps(_coco(self._rows)).encode())


def _coco(rows: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """The content of the COCO file."""
    files = list(dict.fromkeys(row["file"] for row in rows.values()))
    classes = sorted({row["class"] or NO_CLASS for row in rows.values()})
    of_file = {row["file"]: row for row in rows.values()}
    images = [
        {
            "id": number,
            "file_name": name,
            "height": of_file[name]["size"][0],
            "width": of_file[name]["size"][1],
            "stamp_ns": of_file[name]["stamp_ns"],
        }
        for number, name in enumerate(files, 1)
    ]
    content: dict[str, Any] = {
        "info": {"description": "answers of a person to questions of wesam_ros"},
        "images": images,
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, 1)],
        "annotations": [],
        "refused": [],
    }
    for number, row in rows.items():
        x0, y0, x1, y1 = (int(value) for value in box_of_mask(runs_mask(row["counts"], tuple(row["size"]))))
        content["refused" if row["kind"] == NO else "annotations"].append(
            {
                "id": number,
                "image_id": files.index(row["file"]) + 1,
                "category_id": classes.index(row["class"] or NO_CLASS) + 1,
                "iscrowd": 0,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": sum(row["counts"][1::2]),
                "segmentation": {"size": row["size"], "counts": row["counts"]},
                "prompt": row["prompt"],
                "answer": row["kind"],
                "robot": row["robot"],
            }
        )
    return content


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    done, data = cv2.imencode(".png", image[..., ::-1])
    if not done:
        raise ValueError(f"an image of shape {image.shape} could not be made a PNG")
    return data.tobytes()

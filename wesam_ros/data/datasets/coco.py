"""Reader of COCO 2017 (Lin et al., ECCV 2014) in its published layout.

Layout (cocodataset.org, as val2017.zip or train2017.zip and annotations_trainval2017.zip unpack):

    val2017/000000000139.jpg ...   train2017/...   annotations/instances_val2017.json, instances_train2017.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from wesam_ros.data.datasets.coco_files import annotated_size, outline_of
from wesam_ros.data.datasets.coco_masks import decode_segmentation
from wesam_ros.data.datasets.files import DatasetError, Frames, check_files, check_split, find_root, read_image
from wesam_ros.data.datasets.outlines import UPRIGHT, Picture, fit, frame_of, labels_of_masks
from wesam_ros.data.frames import Frame

SPLITS = ("val2017", "train2017")
LAYOUT = "expected layout: SPLIT/NAME.jpg and annotations/instances_SPLIT.json, where SPLIT is val2017 or train2017"


class Annotated(NamedTuple):
    """An image of COCO and its annotations, without crowds, as the JSON file has them; `size` (H, W) is the one that was annotated."""

    name: str
    image: Path
    annotations: list[dict[str, Any]]
    size: tuple[int, int] | None = None


def read_coco(folder: Path, split: str = "val2017") -> Frames[Annotated]:
    """Frames of COCO in the order of the JSON file, each a sequence of its own; ids count an image's annotations from 1.

    Annotations of crowds (`iscrowd`) are left out: they are regions, not instances. Images without annotations are there.

    COCO's masks may overlap, labels cannot: where they do, the smaller object is on top, as what overlaps a large object mostly lies on
    it or is a part of it. A large object so lacks the pixels of the smaller ones; one that is covered altogether has no label.

    Raises:
        DatasetError: at once, for a missing folder or file, or JSON of another kind; while reading, for images that cannot be decoded,
            and segmentations that do not fit.
    """
    return Frames(annotated_images(folder, split), read_annotated)


def annotated_images(folder: Path, split: str) -> list[Annotated]:
    """The images of a split, all there; DatasetError as for `read_coco`."""
    check_split(split, SPLITS)
    root = find_root(folder, ("coco", "coco2017", "COCO"), (split, f"annotations/instances_{split}.json"), LAYOUT)
    path = root / "annotations" / f"instances_{split}.json"
    try:
        with path.open(encoding="utf-8") as file:
            content = json.load(file)
        images = {
            each["id"]: Annotated(Path(each["file_name"]).stem, root / split / each["file_name"], [], annotated_size(each))
            for each in content["images"]
        }
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd", 0):
                images[annotation["image_id"]].annotations.append(annotation)
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:  # what JSON of another kind leads to
        raise DatasetError(f"{path} is not a COCO file of instances ({type(error).__name__}: {error}); {LAYOUT}") from error
    if not images:
        raise DatasetError(f"there is no image in {path}; {LAYOUT}")
    check_files([image.image for image in images.values()], LAYOUT)
    return list(images.values())


def read_annotated(part: Annotated) -> Frame:
    """The frame of an image. Where the JSON file has another size for it, annotations are drawn as `outlines.frame_of` does."""
    if fit(part.image, part.size) != UPRIGHT:
        outlines = tuple(outline for each in part.annotations if (outline := outline_of(each)) is not None)
        return frame_of(Picture(part.name, part.image, outlines, part.size))
    image = read_image(part.image)
    size = (image.shape[0], image.shape[1])
    masks = [decode_segmentation(annotation.get("segmentation"), size) for annotation in part.annotations]
    return Frame(image=image, labels=labels_of_masks(masks, size), sequence=part.name)

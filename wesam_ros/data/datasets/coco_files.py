"""Reader of COCO files of one's own, in the layouts of CVAT, Label Studio, Roboflow and labelme2coco, or any other.

CVAT            annotations/instances_default.json   images/NAME.jpg (or images/default/)
Label Studio    result.json                          images/HASH-NAME.jpg
Roboflow        train/_annotations.coco.json         train/NAME.jpg            (and valid/, test/)
labelme2coco    annotations.json                     JPEGImages/NAME.jpg
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from wesam_ros.data.datasets.coco_masks import run_lengths
from wesam_ros.data.datasets.files import DatasetError, Frames, check_split
from wesam_ros.data.datasets.image_finder import ImageFinder
from wesam_ros.data.datasets.outlines import Account, Outline, Picture, frame_of, usable

SPLITS = ("all", "train", "val", "test")
LAYOUT = (
    "expected layout: a COCO file with images and annotations (*.json, annotations/*.json, or SPLIT/*.json), and the images that it names, "
    "anywhere in the folder"
)
MANY = 5
"""So many objects are no rectangles by chance."""
OTHER_JSON = (
    ("shapes", "labelme", "make a COCO file of them, with labelme2coco"),
    ("_via_img_metadata", "VIA", "export them as COCO"),
    ("completions", "Label Studio", "export them as COCO"),
    ("data", "Label Studio", "export them as COCO"),
    ("items", "Datumaro", "export them as COCO"),
)
"""Keys that tell the JSON files of annotators' tools, the tools, and the remedy."""
PERCENT = 100
CROWD_SHARE = 0.2
"""Share of crowds among the annotations above which they are objects: CVAT marks every brushed mask so."""


def read_coco_file(folder: Path, split: str = "all") -> Frames[Picture]:
    """Frames of the COCO files of a folder, each a sequence of its own, with labels as for `read_coco`, and `void` where an object has a
    box and no outline.

    Annotations are drawn as their file's width and height have it: upright or as stored where EXIF turns an image, scaled where the size
    differs. What cannot be is left out, counted and logged (`notes` of the result).

    Args:
        folder: or a COCO file.
        split: "all", or those files whose name or folder says train, val or test.

    Raises:
        DatasetError: no COCO file, no image that can be used, or no outline at all; while reading, for images that cannot be decoded.
    """
    check_split(split, SPLITS)
    root = folder if folder.is_dir() else folder.parent.parent if folder.parent.name == "annotations" else folder.parent
    account, finder = Account(), ImageFinder(root)
    files = [file for file in annotation_files(folder, account) if split in ("all", _split_of(file, root))]
    if not files:
        told = f" ({'; '.join(account.sentences())})" if account.counts else ""
        raise DatasetError(f"annotations (a COCO file{'' if split == 'all' else f' for {split}'}) are missing in {folder}{told}; {LAYOUT}")
    pictures = [picture for file in files for picture in _pictures(file, root, finder, account)]
    kept = usable(pictures, account, LAYOUT)
    _check_outlines(kept, account)
    return Frames(kept, frame_of, notes=account.tell(folder))


def annotation_files(folder: Path, account: Account) -> list[Path]:
    """The COCO files of a folder; in a folder of several kinds (keypoints, captions) only those of instances. Others are counted."""
    if folder.is_file():
        return [folder] if _is_coco(folder, account) else []
    found = []
    for place in (
        folder,
        folder / "annotations",
        *sorted(each for each in folder.glob("*") if each.is_dir() and each.name != "annotations"),
    ):
        files = sorted(place.glob("*.json"))
        found += [each for each in files if each.name.startswith("instances")] or files
    return [each for each in found if _is_coco(each, account)]


def _is_coco(path: Path, account: Account) -> bool:
    content = _content(path)
    if isinstance(content, dict) and isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        return True
    if content is None:
        account.add("files are no JSON, or cut short, and left out", path)
        return False
    parts = content[0] if isinstance(content, list) and content else content
    kinds = (f"files are of {tool}, and left out: {remedy}" for key, tool, remedy in OTHER_JSON if isinstance(parts, dict) and key in parts)
    account.add(next(kinds, "files are JSON of another kind, and left out"), path)
    return False


def _content(path: Path) -> Any:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return json.load(file)
    except (OSError, ValueError, RecursionError):
        return None


def _split_of(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix().lower()
    return next((split for split in SPLITS[1:] if split in name), "")


def _pictures(path: Path, root: Path, finder: ImageFinder, account: Account) -> list[Picture]:
    content = _content(path)
    images = _images(content["images"], account)
    by_image: dict[str, list[Mapping[str, Any]]] = {key: [] for key in images}
    for each in content["annotations"]:
        key = _id_of(each, "image_id")
        if key is None or key not in by_image:
            account.add("annotations are of images that are not listed, and left out", key)
            continue
        by_image[key].append(each)
    crowds = _crowds_are_objects([each for rows in by_image.values() for each in rows], account)
    folders = (path.parent, path.parent / "images", root / "images", root / "images" / _stem(path), root / _stem(path), root)
    pictures = []
    for key, image in images.items():
        name = str(image["file_name"])
        outlines = _outlines(by_image[key], crowds, name, account)
        pictures.append(Picture(Path(name.replace("\\", "/")).stem, finder.find(name, *folders), outlines, annotated_size(image)))
    return pictures


def _stem(path: Path) -> str:
    return path.stem.removeprefix("instances_")


def _id_of(row: Any, name: str) -> str | None:
    """An id as a text: tools write 7, 7.0 and "7" of one image. None where there is none."""
    value = row.get(name) if isinstance(row, Mapping) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | str) else None


def _images(rows: list[Any], account: Account) -> dict[str, Mapping[str, Any]]:
    """Images by id. One that is listed twice counts once; an id that two images have is that of neither."""
    found: dict[str, Mapping[str, Any]] = {}
    shared = set()
    for row in rows:
        key = _id_of(row, "id")
        if key is None or not isinstance(row.get("file_name"), str):
            account.add("images have no id or no file name, and are left out", str(row)[:60])
            continue
        known = found.setdefault(key, row)
        if known["file_name"] != row["file_name"]:
            shared.add(key)
            account.add("images share an id with another one, so that nobody knows whose the annotations are; both are left out", key)
    return {key: row for key, row in found.items() if key not in shared}


def annotated_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """(H, W) that an entry of a COCO file has for its image; None where it has none."""
    height, width = (each if isinstance(each := image.get(name), int | float) and 0 < each < 2**31 else 0 for name in ("height", "width"))
    return (int(height), int(width)) if height and width else None


def _is_crowd(annotation: Mapping[str, Any]) -> bool:
    return str(annotation.get("iscrowd") or 0).lower() not in ("0", "false")


def _crowds_are_objects(annotations: list[Mapping[str, Any]], account: Account) -> bool:
    crowds = [each for each in annotations if _is_crowd(each)]
    for each in crowds:
        if len(crowds) > CROWD_SHARE * len(annotations):
            account.add("annotations are marked as crowds, and taken as objects, as CVAT marks brushed masks so", each.get("id"))
        else:
            account.add("annotations are crowds, and left out", each.get("id"))
    return len(crowds) > CROWD_SHARE * len(annotations)


def _outlines(rows: list[Mapping[str, Any]], crowds: bool, name: str, account: Account) -> tuple[Outline, ...]:
    found: list[Outline] = []
    seen: set[str] = set()
    for each in rows:
        if _is_crowd(each) and not crowds:
            continue
        content = json.dumps([each.get("segmentation"), each.get("bbox"), each.get("category_id")], sort_keys=True)
        if content in seen:
            account.add("annotations stand there twice, and count once", f"{each.get('id')} of {name}")
            continue
        seen.add(content)
        outline = outline_of(each)
        if outline is None:
            account.add("annotations have neither an outline nor a box, and are left out", f"{each.get('id')} of {name}")
            continue
        if outline.runs is None and not outline.polygons:
            account.add("annotations have a box and no outline; their pixels are not scored", f"{each.get('id')} of {name}")
        elif outline.runs is None and len(outline.polygons) < _parts_of(each["segmentation"]):
            account.add("annotations have parts that are no polygons, which are left out", f"{each.get('id')} of {name}")
        found.append(outline)
    return tuple(found)


def outline_of(annotation: Mapping[str, Any]) -> Outline | None:
    """The outline of an annotation; None where it has none and no box either. Polygons of less than three corners are none."""
    segmentation, box = annotation.get("segmentation"), _box(annotation.get("bbox"))
    if isinstance(segmentation, dict) and {"size", "counts"} <= segmentation.keys():
        outline = Outline(runs=segmentation, box=box)
        try:
            _check_runs(segmentation)
        except (ValueError, LookupError, TypeError, OverflowError):
            return Outline(box=box) if box else None
        return outline
    polygons = tuple(polygons_of(segmentation))
    return Outline(polygons, box=box) if polygons or box else None


def _parts_of(segmentation: list[Any]) -> int:
    """Lists in a segmentation that are not empty; one of numbers or points is a part itself."""
    return sum(bool(each) for each in segmentation) if all(isinstance(each, list) and len(each) != 2 for each in segmentation) else 0


def _check_runs(segmentation: Mapping[str, Any]) -> None:
    height, width = (int(each) for each in segmentation["size"])
    counts = segmentation["counts"]
    lengths = run_lengths(counts) if isinstance(counts, str) else counts
    total = sum(lengths)
    if min(lengths, default=0) < 0:
        raise ValueError("run lengths must not be negative")
    if total != height * width:
        raise ValueError(f"run lengths add up to {total}, not to {height} x {width}")


def _box(value: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4 or not all(isinstance(each, int | float) and abs(each) < 2**31 for each in value):
        return None
    x, y, width, height = map(float, value)
    return (x, y, x + width, y + height) if width > 0 and height > 0 else None


def polygons_of(segmentation: Any) -> list[Any]:
    """(k, 2) corners of each polygon: of lists of x, y, x, y, of one such list, or of one list of points, as some tools write it."""
    if not isinstance(segmentation, list) or not segmentation:
        return []
    if all(isinstance(each, int | float) for each in segmentation):
        segmentation = [segmentation]
    elif all(isinstance(each, list) and len(each) == 2 for each in segmentation):
        segmentation = [[value for point in segmentation for value in point]]
    found = []
    for each in segmentation:
        try:
            flat = np.asarray(each, np.float64).ravel()
        except (ValueError, TypeError, OverflowError):
            continue
        if flat.size >= 6 and flat.size % 2 == 0 and np.isfinite(flat).all() and np.abs(flat).max() < 2**31:
            found.append(flat.reshape(-1, 2))
    return found


def _check_outlines(pictures: list[Picture], account: Account) -> None:
    """Raises DatasetError where no object has an outline: boxes alone cannot be scored."""
    outlines = [outline for picture in pictures for outline in picture.outlines]
    if not any(each.polygons or each.runs is not None for each in outlines):
        what = f"all {len(outlines)} annotations are boxes" if outlines else "no image has an annotation"
        told = "; ".join(account.sentences())
        raise DatasetError(f"outlines are missing: {what}; export them with polygons or masks ({told or 'nothing was left out'}); {LAYOUT}")
    drawn = [(picture.size, each) for picture in pictures for each in picture.outlines if each.polygons]
    if len(drawn) >= MANY and all(size and min(size) > 2 * PERCENT and max(map(np.max, each.polygons)) <= PERCENT for size, each in drawn):
        account.add("files have all outlines within the first 100 pixels of larger images: they may be in percent", pictures[0].image)
    boxes = [each for each in outlines if each.polygons and each.box is not None and _is_its_box(each)]
    for each in boxes if len(boxes) >= MANY and len(boxes) * 2 > len(outlines) else ():
        account.add("outlines are just the rectangles of their boxes", each.box)


def _is_its_box(outline: Outline) -> bool:
    corners = np.concatenate(outline.polygons)
    x0, y0, x1, y1 = outline.box or (0, 0, 0, 0)
    on_x = np.minimum(np.abs(corners[:, 0] - x0), np.abs(corners[:, 0] - x1))
    on_y = np.minimum(np.abs(corners[:, 1] - y0), np.abs(corners[:, 1] - y1))
    return len(corners) <= 5 and bool((np.maximum(on_x, on_y) < 0.5).all())

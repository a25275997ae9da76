"""Reader of Pascal VOC XML data sets of one's own, with masks or polygons.

    Annotations/NAME.xml   JPEGImages/NAME.jpg   SegmentationObject/NAME.png   ImageSets/{Segmentation,Main}/SPLIT.txt

Masks of objects come from SegmentationObject (palette indices as in VOC, or a colour for each object as CVAT writes them), else from the
XML's polygons: Roboflow's <polygon><x1>..<y1>.., or <polygon><pt><x><y> of LabelMe's web tool. Roboflow's export has SPLIT/NAME.xml beside
SPLIT/NAME.jpg.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import numpy.typing as npt
from PIL import Image

from wesam_ros.data.datasets.files import (
    DatasetError,
    Frames,
    check_split,
    image_size,
    natural,
    read_colours,
    read_ids,
    read_image,
    read_names,
)
from wesam_ros.data.datasets.id_masks import check_flat
from wesam_ros.data.datasets.image_finder import ImageFinder
from wesam_ros.data.datasets.outlines import Account, Outline, Picture, frame_of, usable
from wesam_ros.data.frames import Frame

log = logging.getLogger(__name__)

SPLITS = ("all", "train", "val", "test")
LAYOUT = (
    "expected layout: Annotations/NAME.xml (or SPLIT/NAME.xml), JPEGImages/NAME.jpg, and SegmentationObject/NAME.png or polygons in the XML"
)
VOID, VOID_COLOUR = 255, (224, 224, 192)
"""VOC's index for pixels of which nobody knows, and its colour in VOC's palette."""


class Masked(NamedTuple):
    """A picture, and the file of its objects' masks; None where the outlines are in the XML."""

    picture: Picture
    mask: Path | None

    @property
    def name(self) -> str:
        """The picture's."""
        return self.picture.name


def read_voc_xml(folder: Path, split: str = "all") -> Frames[Masked]:
    """Frames of a Pascal VOC data set in natural order of the XML files, each a sequence of its own, with labels and `void`.

    What cannot be is left out, counted and logged (`notes` of the result).

    Raises:
        DatasetError: no XML file, no image that can be used, or neither masks nor polygons; while reading, for files that
            cannot be decoded.
    """
    check_split(split, SPLITS)
    places = (folder, folder / "VOCdevkit" / "VOC2012", folder / "VOC2012")
    root = next((each for each in places if (each / "Annotations").is_dir()), folder)
    files = _files(root, split)
    if not files:
        raise DatasetError(f"XML files{'' if split == 'all' else f' of {split}'} are missing in {root / 'Annotations'}; {LAYOUT}")
    account, finder = Account(), ImageFinder(root)
    read = [each for file in files if (each := _read_xml(file, root, finder, account)) is not None]
    there = {(each.name, each.image): each for each in usable([each.picture for each in read], account, LAYOUT)}
    kept = [each._replace(picture=there[key]) for each in read if (key := (each.picture.name, each.picture.image)) in there]
    kept = [each for each in kept if each.mask is None or _fits(each, account)]
    if not any(each.mask is not None or any(outline.polygons for outline in each.picture.outlines) for each in kept):
        told = "; ".join(account.sentences()) or "the XML files have no object"
        raise DatasetError(f"masks and polygons are missing: {told}; {LAYOUT}")
    return Frames(kept, _frame, notes=account.tell(folder))


def _files(root: Path, split: str) -> list[Path]:
    """The XML files of a split: those in a folder of its name, else those on its list in ImageSets."""
    inside = [each for each in root.rglob("*.xml") if not each.name.startswith(".")]
    names = {"val": ("val", "valid", "validation")}.get(split, (split,))
    lists = [path for name in names for path in root.glob(f"ImageSets/*/{name}.txt")]
    if split == "all":
        chosen = inside
    elif folders := [each for each in inside if set(names) & set(each.relative_to(root).parts[:-1])]:
        chosen = folders
    elif lists:
        listed = {Path(word).stem for path in lists for word in read_names(path, LAYOUT)}
        chosen = [each for each in inside if each.stem in listed]
    else:
        chosen = []
    return sorted(chosen, key=lambda path: natural(path.as_posix()))


def _read_xml(path: Path, root: Path, finder: ImageFinder, account: Account) -> Masked | None:
    try:
        data = path.read_bytes()
        if b"<!ENTITY" in data:
            raise ValueError("it defines entities")
        tree = ElementTree.fromstring(data)
    except (OSError, ValueError, ElementTree.ParseError, RecursionError) as error:
        account.add("XML files cannot be read, and are left out", f"{path} ({error})")
        return None
    if tree.tag != "annotation":
        account.add("XML files are no annotations of an image, and are left out", path)
        return None
    named = (tree.findtext("filename") or "").strip() or f"{path.stem}.jpg"
    image = finder.find(named, path.parent, root / "JPEGImages", root / "images", root)
    if not image.is_file():  # tools keep the old name where the image was renamed
        others = [finder.find(f"{path.stem}{end}", path.parent) for end in (".jpg", ".jpeg", ".png")]
        image = next((each for each in others if each.is_file()), image)
    masks = [root / "SegmentationObject" / f"{path.stem}.png", root / "SegmentationObject" / f"{Path(named).stem}.png"]
    mask = next((each for each in masks if each.is_file()), None)
    outlines = [] if mask is not None else [_outline(each, path, account) for each in tree.iter("object")]
    kept = tuple(each for each in outlines if each is not None)
    return Masked(Picture(path.stem, image, kept, _size(tree)), mask)


def _size(tree: Element) -> tuple[int, int] | None:
    height = _number(tree.findtext("size/height") or tree.findtext("imagesize/nrows"))
    width = _number(tree.findtext("size/width") or tree.findtext("imagesize/ncols"))
    return (int(height), int(width)) if height is not None and width is not None and min(height, width) > 0 else None


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) and abs(value) < 2**31 else None


def _outline(each: Element, path: Path, account: Account) -> Outline | None:
    if (each.findtext("deleted") or "0").strip() == "1":
        return None
    edges = [_number(each.findtext(f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")]
    box = None if any(edge is None for edge in edges) else (edges[0], edges[1], edges[2], edges[3])
    polygons = tuple(found for polygon in each.iter("polygon") if (found := _polygon(polygon)) is not None)
    if not polygons and box is None:
        account.add("objects have neither an outline nor a box, and are left out", path)
        return None
    if not polygons:
        account.add("objects have a box and no outline; their pixels are not scored", path)
    return Outline(polygons, box=box)  # type: ignore[arg-type]


def _polygon(polygon: Element) -> npt.NDArray[np.float64] | None:
    """(k, 2) corners of <x1>, <y1>, <x2>, ..., or of <pt><x><y>; None where there are less than three."""
    points = [(_number(each.findtext("x")), _number(each.findtext("y"))) for each in polygon.iter("pt")]
    if not points:
        values = {each.tag: _number(each.text) for each in polygon}
        numbers = sorted(int(tag[1:]) for tag in values if re.fullmatch(r"x\d+", tag))
        points = [(values[f"x{number}"], values.get(f"y{number}")) for number in numbers]
    if len(points) < 3 or any(value is None for point in points for value in point):
        return None
    return np.array(points, np.float64)


def _fits(each: Masked, account: Account) -> bool:
    assert each.mask is not None
    if image_size(each.picture.image) == image_size(each.mask):
        return True
    account.add("images are left out, as their masks have another size", each.picture.image)
    return False


def _frame(part: Masked) -> Frame:
    if part.mask is None:
        return frame_of(part.picture)
    labels, void = read_objects(part.mask)
    check_flat(labels, part.mask)
    if void.any() and not labels.any():
        log.warning("%s has no object, but pixels of which nobody knows (%d); objects are numbered from 1", part.mask, VOID)
    return Frame(image=read_image(part.picture.image), labels=labels, void=void if void.any() else None, sequence=part.picture.name)


def read_objects(path: Path) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_]]:
    """(H, W) ids and void pixels of a mask of objects: indices, or a colour for each object; `DatasetError` for other files."""
    try:
        with Image.open(path) as image:
            colours: Sequence[str] = image.getbands()
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise DatasetError(f"{path} cannot be decoded as an image; download it again") from error
    if len(colours) == 1:
        ids = read_ids(path, LAYOUT)
        void = ids == VOID
        return np.where(void, 0, ids).astype(np.uint16), void
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    void = (rgb == np.array(VOID_COLOUR, np.uint8)).all(2)
    return np.where(void, 0, read_colours(path)).astype(np.uint16), void

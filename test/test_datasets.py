"""Readers of data sets, on tiny trees in the true layouts: labels, splits, and the sentences for folders that are something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_trees import SEARCHED, SIZE, coco_file, photo, plain, put, square, voc_xml, yolo_seg
from PIL import Image

from wesam_ros.data.datasets.files import DatasetError, read_colours
from wesam_ros.data.datasets.folder import read_folder
from wesam_ros.data.datasets.medical import SMALLEST_POLYP, read_kvasir_seg
from wesam_ros.data.datasets.ocid import read_ocid
from wesam_ros.data.datasets.registry import DATASETS
from wesam_ros.data.datasets.voc import read_voc2012
from wesam_ros.data.frames import Frame


def palette(path: Path, ids: np.ndarray) -> None:
    """Writes a PNG with a palette in which no index is like its colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(ids, "P")
    image.putpalette([value for index in range(256) for value in (255 - index, index // 2, 7)])
    image.save(path)


OCID_SEQUENCES = [f"ARID20/table/{side}/seq{n:02d}" for side in ("bottom", "top") for n in range(1, 14)]


def ocid(root: Path) -> Path:
    for sequence in [*OCID_SEQUENCES, "ARID10/floor/top/box/seq05", "YCB10/floor/bottom/mixed/seq21"]:
        ids = square(3, dtype=np.uint16)
        ids[0, :], ids[1, :], ids[2, :] = 1, 2, 300
        folder = root / "OCID-dataset" / sequence
        photo(folder / "rgb" / "result_2018-08-21-12-15-27.png")
        put(folder / "depth" / "result_2018-08-21-12-15-27.png", np.full(SIZE, 1500, np.uint16))
        put(folder / "label" / "result_2018-08-21-12-15-27.png", ids)
    return root


def osd(root: Path) -> Path:
    photo(root / "image_color" / "learn0.png")
    put(root / "disparity" / "learn0.png", np.full(SIZE, 1500, np.uint16))
    put(root / "annotation" / "learn0.png", square(1))
    return root


def coco(root: Path) -> Path:
    photo(root / "val2017" / "000000000139.jpg")
    annotation = {"id": 1, "image_id": 139, "iscrowd": 0, "segmentation": [[20, 10, 40, 10, 40, 30, 20, 30]]}
    content = {"images": [{"id": 139, "file_name": "000000000139.jpg"}], "annotations": [annotation]}
    for split in ("val2017", "train2017"):
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    photo(root / "train2017" / "000000000139.jpg")
    return root


def voc(root: Path) -> Path:
    lists = {"train": ["2007_000032"], "val": ["2007_000033", "2007_000042"]}
    for split, names in {**lists, "trainval": [*lists["train"], *lists["val"]]}.items():
        listed = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / f"{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{name}\n" for name in names))
        for name in names:
            ids = square(2)
            ids[30:35, 20:40] = 255
            photo(root / "VOCdevkit" / "VOC2012" / "JPEGImages" / f"{name}.jpg")
            palette(root / "VOCdevkit" / "VOC2012" / "SegmentationObject" / f"{name}.png", ids)
    return root


def kvasir(root: Path) -> Path:
    for name in ("cju1", "cju2"):
        photo(root / "Kvasir-SEG" / "images" / f"{name}.jpg")
        put(root / "Kvasir-SEG" / "masks" / f"{name}.jpg", square(255))
    (root / "Kvasir-SEG" / "train.txt").write_text("cju2\n")
    (root / "Kvasir-SEG" / "val.txt").write_text("cju1.jpg\n")
    return root


def ecssd(root: Path) -> Path:
    photo(root / "ECSSD" / "images" / "0001.jpg")
    put(root / "ECSSD" / "ground_truth_mask" / "0001.png", square(255))
    return root


def isic(root: Path) -> Path:
    for part, name in (("Training", "ISIC_0000000"), ("Test", "ISIC_0000003")):
        photo(root / f"ISBI2016_ISIC_Part1_{part}_Data" / f"{name}.jpg")
        put(root / f"ISBI2016_ISIC_Part1_{part}_GroundTruth" / f"{name}_Segmentation.png", square(255))
    return root


def chameleon(root: Path) -> Path:
    photo(root / "CHAMELEON" / "Imgs" / "animal-1.jpg")
    put(root / "CHAMELEON" / "GT" / "animal-1.png", square(255))
    return root


def camo(root: Path) -> Path:
    for part, name in (("Train", "camourflage_00001"), ("Test", "camourflage_00012")):
        photo(root / "CAMO-V.1.0-CVIU2019" / "Images" / part / f"{name}.jpg")
        put(root / "CAMO-V.1.0-CVIU2019" / "GT" / f"{name}.png", square(255))
    return root


def cod10k(root: Path) -> Path:
    for part, number in (("Train", 1), ("Test", 2)):
        for name in (f"COD10K-CAM-1-Aquatic-1-BatFish-{number}", f"COD10K-NonCAM-1-Aquatic-1-BatFish-{number}"):
            photo(root / "COD10K-v3" / part / "Image" / f"{name}.jpg")
            put(root / "COD10K-v3" / part / "GT_Object" / f"{name}.png", square(255))
            two = np.dstack([square(128), square(0), square(0)])
            two[10:30, 30:40] = 0, 128, 0
            put(root / "COD10K-v3" / part / "GT_Instance" / f"{name}.png", two)
    return root


# name: (tree, an image of the usual split, its mask or whatever tells objects apart)
TREES: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "ocid": (ocid, f"OCID-dataset/{OCID_SEQUENCES[0]}/rgb", f"OCID-dataset/{OCID_SEQUENCES[0]}/label"),
    "osd": (osd, "image_color", "annotation"),
    "coco": (coco, "val2017", "annotations"),
    "coco-c": (coco, "val2017", "annotations"),
    "voc2012": (voc, "VOCdevkit/VOC2012/JPEGImages", "VOCdevkit/VOC2012/SegmentationObject"),
    "kvasir-seg": (kvasir, "Kvasir-SEG/images", "Kvasir-SEG/masks"),
    "ecssd": (ecssd, "ECSSD/images", "ECSSD/ground_truth_mask"),
    "isic2016": (isic, "ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth"),
    "chameleon": (chameleon, "CHAMELEON/Imgs", "CHAMELEON/GT"),
    "camo": (camo, "CAMO-V.1.0-CVIU2019/Images/Test", "CAMO-V.1.0-CVIU2019/GT"),
    "cod10k": (cod10k, "COD10K-v3/Test/Image", "COD10K-v3/Test/GT_Object"),
    "cod10k-instances": (cod10k, "COD10K-v3/Test/Image", "COD10K-v3/Test/GT_Instance"),
    "folder": (plain, "images", "masks"),
    "coco-file": (coco_file, "images", "annotations"),
    "yolo-seg": (yolo_seg, "images/train", "labels"),
    "voc-xml": (voc_xml, "JPEGImages", "Annotations"),
}
READABLE = [name for name in TREES if name != "coco-c"]  # that one needs a package, see test_coco.py


def test_every_data_set_has_a_tree_here() -> None:
    assert TREES.keys() == DATASETS.keys()


@pytest.mark.parametrize("name", READABLE)
def test_each_split_gives_labelled_frames_in_order(name: str, tmp_path: Path) -> None:
    root = TREES[name][0](tmp_path)
    dataset = DATASETS[name]
    assert dataset.default in dataset.splits
    for split in dataset.splits:
        frames = dataset.read(root, split)
        read = list(frames)
        assert len(frames) == len(read) > 0
        assert [frame.stamp_ns for frame in read] == [(i + 1) * 10**9 for i in range(len(read))]
        assert frames[-1].stamp_ns == read[-1].stamp_ns
        assert all(frame.sequence for frame in read)
        for frame in read:
            np.testing.assert_allclose(frame.image[0, 0], (200, 100, 50), atol=3)  # JPEG
            assert frame.labels.dtype == np.uint16
            assert (frame.labels[11:29, 21:39] > 0).all()
            assert frame.labels[5:9].max() == 0


@pytest.mark.parametrize("name", [name for name in READABLE if name not in SEARCHED])
def test_a_missing_folder_is_named_with_the_layout(name: str, tmp_path: Path) -> None:
    tree, _, truth = TREES[name]
    root = tree(tmp_path)
    (root / truth).rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=rf"(?=.*{Path(truth).name})(?=.*missing).*; expected layout: "):
        DATASETS[name].read(root, DATASETS[name].default)


@pytest.mark.parametrize("name", [name for name in READABLE if not name.startswith("coco")])
def test_a_missing_mask_is_named(name: str, tmp_path: Path) -> None:
    tree, _, truth = TREES[name]
    root = tree(tmp_path)
    for file in (root / truth).rglob("*.*"):
        file.unlink()
    with pytest.raises(DatasetError, match=rf"missing.*{Path(truth).name}.*; expected layout: "):
        DATASETS[name].read(root, DATASETS[name].default)


@pytest.mark.parametrize("name", READABLE)
def test_no_image(name: str, tmp_path: Path) -> None:
    tree, images, _ = TREES[name]
    root = tree(tmp_path)
    for file in [*(root / images).rglob("*.jpg"), *(root / images).rglob("*.png")]:
        file.unlink()
    if name == "ocid":  # a sequence without frames is none; a folder without any sequence is another data set
        assert all(frame.sequence != OCID_SEQUENCES[0] for frame in DATASETS[name].read(root, "all"))
        return
    with pytest.raises(DatasetError, match=r"(there is no|missing).*; expected layout: "):
        DATASETS[name].read(root, DATASETS[name].default)


@pytest.mark.parametrize("name", READABLE)
def test_an_image_that_cannot_be_decoded(name: str, tmp_path: Path) -> None:
    tree, images, _ = TREES[name]
    root = tree(tmp_path)
    for file in [*(root / images).rglob("*.jpg"), *(root / images).rglob("*.png")]:
        file.write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="cannot be decoded as an image; download it again"):
        list(DATASETS[name].read(root, DATASETS[name].default))


@pytest.mark.parametrize("name", DATASETS)
def test_an_unknown_split(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"split must be one of {', '.join(DATASETS[name].splits)}, but got 'valid'"):
        DATASETS[name].read(tmp_path, "valid")


def test_ocid_knows_background_and_depth(tmp_path: Path) -> None:
    frames = {frame.sequence: frame for frame in read_ocid(ocid(tmp_path), "all")}
    table, floor = frames["ARID20/table/top/seq01"], frames["ARID10/floor/top/box/seq05"]
    assert table.labels[:3, 0].tolist() == [0, 0, 300]
    assert floor.labels[:3, 0].tolist() == [0, 2, 300]
    np.testing.assert_allclose(table.depth, 1.5)


def test_ocid_splits_by_scene_and_keeps_both_cameras_together(tmp_path: Path) -> None:
    root = ocid(tmp_path)
    train, test = ({frame.sequence for frame in read_ocid(root, split)} for split in ("train", "test"))
    assert not train & test
    assert len(train | test) == len(OCID_SEQUENCES) + 2
    assert test == {f"ARID20/table/{side}/seq{n:02d}" for side in ("bottom", "top") for n in (6, 13)}


def test_ocid_needs_all_its_subsets(tmp_path: Path) -> None:
    (ocid(tmp_path) / "OCID-dataset" / "YCB10").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match="OCID-dataset/YCB10 is missing; expected layout"):
        read_ocid(tmp_path)


def test_ocid_depth_of_8_bits(tmp_path: Path) -> None:
    root = ocid(tmp_path)
    for file in (root / "OCID-dataset").rglob("depth/*.png"):
        put(file, np.zeros(SIZE, np.uint8))
    with pytest.raises(DatasetError, match="must be one channel of 16 bits"):
        read_ocid(root)[0]


def test_voc_has_palette_indices_as_ids_and_void(tmp_path: Path) -> None:
    frames = read_voc2012(voc(tmp_path), "trainval")
    assert [frame.sequence for frame in frames] == ["2007_000032", "2007_000033", "2007_000042"]
    assert np.unique(frames[0].labels).tolist() == [0, 2]
    assert frames[0].void[30:35, 20:40].all()
    assert frames[0].void.sum() == 5 * 20
    assert not (frames[0].labels[frames[0].void]).any()


def test_voc_without_its_list(tmp_path: Path) -> None:
    root = voc(tmp_path)
    listed = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    listed.write_text("\n")
    with pytest.raises(DatasetError, match=r"val\.txt is empty; expected layout"):
        read_voc2012(root)
    listed.unlink()
    with pytest.raises(DatasetError, match=r"Segmentation/val\.txt is missing; expected layout"):
        read_voc2012(root)


def test_kvasir_masks_are_thresholded_and_polyps_told_apart(tmp_path: Path) -> None:
    root = kvasir(tmp_path)
    mask = np.zeros(SIZE, np.uint8)
    mask[5:25, 30:55], mask[20:38, 2:12], mask[0:4, 0:4] = 255, 255, 255  # two polyps, and a speck
    mask[4, 30:55], mask[25, 30:55] = 127, 128
    assert 4 * 4 < SMALLEST_POLYP < 10 * 18
    put(root / "Kvasir-SEG" / "masks" / "cju1.png", mask)
    (root / "Kvasir-SEG" / "masks" / "cju1.png").rename(root / "Kvasir-SEG" / "masks" / "cju1.jpg")  # without JPEG's own noise
    labels = read_kvasir_seg(root, "val")[0].labels
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert (labels == 1).sum() == 18 * 10
    assert (labels == 2).sum() == 21 * 25
    assert labels[25, 30] == 2


def test_kvasir_splits_by_the_authors_lists(tmp_path: Path) -> None:
    root = kvasir(tmp_path)
    assert [[f.sequence for f in read_kvasir_seg(root, split)] for split in ("train", "val", "all")] == [
        ["cju2"],
        ["cju1"],
        ["cju1", "cju2"],
    ]
    (root / "Kvasir-SEG" / "val.txt").unlink()
    with pytest.raises(DatasetError, match=r"Kvasir-SEG/val\.txt is missing; expected layout"):
        read_kvasir_seg(root, "val")


@pytest.mark.parametrize(("name", "train", "test"), [("isic2016", "ISIC_0000000", "ISIC_0000003"), ("camo", "00001", "00012")])
def test_train_and_test_have_their_own_images(name: str, train: str, test: str, tmp_path: Path) -> None:
    root = TREES[name][0](tmp_path)
    assert [[f.sequence.removeprefix("camourflage_") for f in DATASETS[name].read(root, s)] for s in ("train", "test")] == [[train], [test]]


def test_cod10k_leaves_out_images_without_a_camouflaged_object(tmp_path: Path) -> None:
    root = cod10k(tmp_path)
    for split, number in (("train", 1), ("test", 2)):
        assert [frame.sequence for frame in DATASETS["cod10k"].read(root, split)] == [f"COD10K-CAM-1-Aquatic-1-BatFish-{number}"]
    for file in (root / "COD10K-v3" / "Test" / "Image").glob("COD10K-CAM-*"):
        file.unlink()
    with pytest.raises(DatasetError, match=r"no image named COD10K-CAM-\*"):
        DATASETS["cod10k"].read(root, "test")


@pytest.mark.parametrize(("name", "ids"), [("cod10k", [0, 1]), ("cod10k-instances", [0, 1, 2])])
def test_cod10k_as_one_object_or_as_instances(name: str, ids: list[int], tmp_path: Path) -> None:
    assert np.unique(DATASETS[name].read(cod10k(tmp_path), "test")[0].labels).tolist() == ids


def test_colours_become_ids_in_their_order(tmp_path: Path) -> None:
    put(tmp_path / "a.png", np.array([[[0, 0, 0], [0, 0, 9], [255, 0, 0]], [[0, 0, 9], [0, 1, 0], [0, 0, 0]]], np.uint8))
    assert read_colours(tmp_path / "a.png").tolist() == [[0, 1, 3], [1, 2, 0]]
    put(tmp_path / "white.png", np.full((1, 2), 255, np.uint8))
    assert read_colours(tmp_path / "white.png").tolist() == [[1, 1]]


@pytest.mark.parametrize("name", ["camo", "cod10k"])
def test_masks_of_another_size_are_left_out_with_a_warning(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree, images, _ = TREES[name]
    root = tree(tmp_path)
    first = next(path for path in (root / images).iterdir() if "NonCAM" not in path.name)
    photo(first.with_stem(f"{first.stem}0"), (SIZE[0] + 1, SIZE[1]))
    mask = next(path for path in root.rglob(f"{first.stem}.png") if "Instance" not in str(path))
    put(mask.with_stem(f"{first.stem}0"), square(255))
    assert [frame.sequence for frame in DATASETS[name].read(root, "test")] == [first.stem]
    assert f"1 of 2 images are left out, as their masks have another size; the first is {first.with_stem(first.stem + '0')}" in caplog.text


def test_an_image_turned_by_its_exif_fits_its_mask(tmp_path: Path) -> None:
    root = camo(tmp_path)
    path = root / "CAMO-V.1.0-CVIU2019" / "Images" / "Test" / "camourflage_00012.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE, (200, 100, 50)).save(path, exif=exif)  # Pillow's sizes are (W, H): stored upright, meant lying
    assert DATASETS["camo"].read(root, "test")[0].size == SIZE


def test_chameleon_as_the_older_archive_names_it(tmp_path: Path) -> None:
    root = chameleon(tmp_path)
    (root / "CHAMELEON" / "Imgs").rename(root / "CHAMELEON" / "Image")
    assert len(DATASETS["chameleon"].read(root / "CHAMELEON", "test")) == 1


def test_a_plain_folder_has_sequences_natural_order_and_void(tmp_path: Path) -> None:
    root = plain(tmp_path)
    assert [frame.sequence for frame in read_folder(root)] == ["frame9", "frame10", "kitchen"]
    assert read_folder(root)[0].labels.max() == 1000
    assert read_folder(root)[0].void is None
    frame = read_folder(root, void=1000)[0]
    assert frame.void.sum() == 400
    assert frame.labels.max() == 0


@pytest.mark.parametrize(
    ("void", "message"),
    [(np.zeros(SIZE, np.uint8), "void must be bool, but got uint8"), (np.zeros((5, 5), bool), "void must have the image's size")],
)
def test_void_of_another_kind(void: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frame(np.zeros((*SIZE, 3), np.uint8), void=void)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((*SIZE, 3), np.uint8), "must have one channel, but has shape"),
        (np.zeros((5, 5), np.uint8), "do not belong together: labels must have the image's size"),
        (None, "cannot be decoded as an image"),
    ],
)
def test_id_masks_of_another_kind(pixels: Any, message: str, tmp_path: Path) -> None:
    mask = plain(tmp_path) / "masks" / "frame9.png"
    if pixels is None:
        mask.write_bytes(mask.read_bytes()[:60])
    else:
        put(mask, pixels)
    with pytest.raises(DatasetError, match=message):
        read_folder(tmp_path)[0]

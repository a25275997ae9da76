"""The data sets that can be read from their folders as downloaded, by name: those of WeSAM's paper, and plain folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wesam_ros.data.datasets import camouflage, coco, coco_c, coco_files, folder, medical, ocid, osd, salient, voc, voc_xml, yolo
from wesam_ros.data.datasets.files import Frames


@dataclass(frozen=True)
class Dataset:
    """A data set that can be read.

    Attributes:
        read: frames of a folder's split, labelled; the reader's own documentation says what the layout is, and what its options are.
        splits: names of the splits.
        default: the split that is read unless another one is asked for.
        description: one line.
        own: whether it reads data of one's own, which only their place tells apart.
    """

    read: Callable[[Path, str], Frames[Any]]
    splits: tuple[str, ...]
    default: str
    description: str
    own: bool = False


DATASETS: dict[str, Dataset] = {
    "ocid": Dataset(ocid.read_ocid, ocid.SPLITS, "all", "Object Clutter Indoor Dataset: RGB-D, tables and floors (OCID-dataset)"),
    "osd": Dataset(osd.read_osd, osd.SPLITS, "all", "Object Segmentation Database 0.2: RGB-D, tables"),
    "coco": Dataset(coco.read_coco, coco.SPLITS, "val2017", "COCO 2017, instances without crowds"),
    "coco-c": Dataset(
        coco_c.read_coco_c,
        coco_c.KINDS,
        "gaussian_noise",
        "COCO val2017, corrupted; its splits are the 15 kinds, such as snow or snow@3 (severity 1 to 5)",
    ),
    "voc2012": Dataset(voc.read_voc2012, voc.SPLITS, "val", "PASCAL VOC 2012, segmented objects, with void pixels (VOCdevkit)"),
    "kvasir-seg": Dataset(medical.read_kvasir_seg, medical.KVASIR_SPLITS, "all", "Kvasir-SEG: polyps in colonoscopy"),
    "ecssd": Dataset(salient.read_ecssd, salient.SPLITS, "all", "ECSSD: salient objects"),
    "isic2016": Dataset(medical.read_isic2016, medical.ISIC_SPLITS, "test", "ISIC 2016 task 1: skin lesions (ISBI2016_ISIC_Part1_*)"),
    "chameleon": Dataset(camouflage.read_chameleon, camouflage.CHAMELEON_SPLITS, "test", "CHAMELEON: camouflaged animals"),
    "camo": Dataset(camouflage.read_camo, camouflage.CAMO_SPLITS, "test", "CAMO: camouflaged objects (CAMO-V.1.0-CVIU2019)"),
    "cod10k": Dataset(
        camouflage.read_cod10k, camouflage.COD10K_SPLITS, "test", "COD10K: camouflaged objects, one mask an image (COD10K-v3)"
    ),
    "cod10k-instances": Dataset(
        camouflage.read_cod10k_instances, camouflage.COD10K_SPLITS, "test", "COD10K: camouflaged objects, each its own mask (COD10K-v3)"
    ),
    "coco-file": Dataset(
        coco_files.read_coco_file,
        coco_files.SPLITS,
        "all",
        "COCO files of one's own: CVAT, Label Studio, Roboflow, labelme2coco, in any layout",
        own=True,
    ),
    "yolo-seg": Dataset(yolo.read_yolo_seg, yolo.SPLITS, "all", "YOLO segmentation: data.yaml, images/, labels/ with polygons", own=True),
    "voc-xml": Dataset(voc_xml.read_voc_xml, voc_xml.SPLITS, "all", "Pascal VOC XML with masks or polygons", own=True),
    "folder": Dataset(folder.read_folder, folder.SPLITS, "all", "a folder of one's own: images/ and masks/ with ids", own=True),
}

"""The files that each release's reader looks for under its root, for `place preprocess --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig

_PATTERNS: Final[Mapping[str, tuple[str, ...]]] = {
    "mimic-cxr": (
        "files/p1?/p1*/s5*",
        "cxr-record-list.csv*",
        "cxr-study-list.csv*",
        "mimic-cxr-*-metadata.csv*",
        "mimic-cxr-*-split.csv*",
        "mimic-cxr-*-chexpert.csv*",
        "mimic-cxr-2.1.0-test-set-labeled.csv*",
        "mimic-cxr-reports/files/p1?",
        "mimic_cxr_sectioned.csv*",
    ),
    "openi": (
        "indiana_reports.csv",
        "indiana_projections.csv",
        "images/images_normalized",
        "NLMCXR_reports.tgz",
        "ecgen-radiology/*.xml",
        "NLMCXR_png",
        "annotation.json",
        "images",
    ),
    "chexpert": ("train.csv*", "valid.csv*", "train/patient*", "valid/patient*"),
    "nih": (
        "Data_Entry_2017*.csv",
        "BBox_List_2017.csv",
        "train_val_list.txt",
        "test_list.txt",
        "images_0*/images/*.png",
        "images/*.png",
    ),
    "vindr": (
        "annotations/image_labels_train.csv*",
        "annotations/annotations_train.csv*",
        "annotations/image_labels_test.csv*",
        "annotations/annotations_test.csv*",
        "train.csv*",
        "train/*.dicom",
        "test/*.dicom",
    ),
    "covidx": ("train*.txt", "test*.txt", "val.txt", "train/*", "test/*", "val/*"),
    "iu-xray": ("annotation.json", "images/CXR*"),
    "mimic-r2gen": ("annotation.json", "images/p1?", "files/p1?", "p1?"),
    "rsna": (
        "stage_2_train_labels.csv*",
        "stage_2_detailed_class_info.csv*",
        "pneumonia-challenge-dataset-mappings_2018.json",
        "stage_2_train_images/*.dcm",
    ),
    "siim": ("train-rle.csv*", "dicom-images-train/*/*/*.dcm"),
    "object-cxr": ("train.csv*", "dev.csv*", "test.csv*", "train/*", "dev/*", "test/*"),
    "ms-cxr": ("MS_CXR_Local_Alignment_v1.?.0.csv*", "files/p1?"),
    "lung-masks": (
        "**/CXR_png/*.png",
        "**/mask*/*.png",
        "**/ManualMask/leftMask/*.png",
        "**/ManualMask/rightMask/*.png",
    ),
    "covid-chestxray": (
        "metadata.csv*",
        "images/*",
        "annotations/lungVAE-masks/*_mask.png*",
        "annotations/imageannotation_ai_lung_bounding_boxes.json",
    ),
    "folder": ("**/*",),
    "demo": ("*",),
}


def looked_for(config: PreprocessConfig, root: Path) -> Mapping[str, bool]:
    """Path or pattern -> whether something matches it. Of a release with several layouts one has to be complete."""
    found = {str(root / pattern): any(True for _ in root.glob(pattern)) for pattern in _PATTERNS[config.release]}
    for table in (config.reports, config.labels):
        if table is not None:
            found[str(table)] = table.is_file()
    return found

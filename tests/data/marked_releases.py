"""Made-up releases with boxes and masks, five studies each, in the exact published forms; small copies of the images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from small_dicom import make_dicom
from small_pictures import write_picture

from placecli.config import PreprocessConfig, load_preset
from placecli.data.preprocess import preprocess
from placecli.data.releases import read_studies
from placecli.data.store import Store, open_store
from placecli.records import Reject, Study

SIDE = 64
"""Side of the copies of images that have 1024 x 1024 in the release: a sixteenth."""


def write_table(path: Path, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def write_dicom(path: Path, seed: int, **values: Any) -> None:
    """A radiograph of noise, 64 x 64, with ids made from the seed."""
    stored = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    ids = {"PatientID": f"person-{seed}", "SOPInstanceUID": f"2.25.1{seed}1", "StudyInstanceUID": f"2.25.1{seed}2"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(make_dicom(stored, bits=8, values={**ids, **values}))


def write_mask(path: Path, left: int, top: int, right: int, bottom: int, width: int = 40, height: int = 40) -> None:
    pixels = np.zeros((height, width), np.uint8)
    pixels[top:bottom, left:right] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


RSNA_IDS = tuple(f"0000000{i}-aaaa-bbbb-cccc-dddddddddddd" for i in range(5))


def write_rsna(root: Path) -> None:
    """Image 0 has two boxes, 1 one; 2 is normal, 3 abnormal without pneumonia, 4 normal."""
    a, b, c, d, e = RSNA_IDS
    boxes = [(a, 256.0, 128.0, 128.0, 512.0, 1), (b, 0.0, 0.0, 1024.0, 64.0, 1), (a, 640.0, 128.0, 256.0, 256.0, 1)]
    negatives = [(name, "", "", "", "", 0) for name in (e, c, d)]
    header = ("patientId", "x", "y", "width", "height", "Target")
    write_table(root / "stage_2_train_labels.csv", [header, *boxes, *negatives])
    classes = {a: "Lung Opacity", b: "Lung Opacity", c: "Normal", d: "No Lung Opacity / Not Normal", e: "Normal"}
    rows = [("patientId", "class"), *((name, classes[name]) for name in (a, a, b, c, d, e))]
    write_table(root / "stage_2_detailed_class_info.csv", rows)
    for seed, name in enumerate(RSNA_IDS):
        write_dicom(root / "stage_2_train_images" / f"{name}.dcm", seed, PatientID=name)


def siim_id(number: int) -> str:
    return f"1.2.276.0.7230010.3.1.4.8323329.{number}.1517875201.850819"


def column_run(left: int, top: int, right: int, bottom: int) -> str:
    """A rectangle in pixels of 1024 x 1024 as the release writes masks: gaps and lengths down the columns."""
    gap = 1024 - (bottom - top)
    return " ".join(f"{left * 1024 + top if i == left else gap} {bottom - top}" for i in range(left, right))


def write_siim(root: Path, rows: Sequence[tuple[int, str]], numbers: Sequence[int] = range(5)) -> None:
    """The table with those (number, run lengths), and a DICOM file for each of `numbers`."""
    lines = "".join(f"{siim_id(number)},{runs}\n" for number, runs in rows)
    root.mkdir(parents=True, exist_ok=True)
    (root / "train-rle.csv").write_text(f"ImageId, EncodedPixels\n{lines}", encoding="utf-8")
    for number in numbers:
        folder = root / "dicom-images-train" / f"1.2.{number}" / f"1.3.{number}"
        write_dicom(folder / f"{siim_id(number)}.dcm", number, SOPInstanceUID=siim_id(number))


OBJECT_ROWS = {
    "train": [
        ("00001.jpg", "0 10 20 30 60"),
        ("00002.jpg", ""),
        ("00003.jpg", "1 40 40 80 60;2 8 8 24 8 24 40 8 40"),
    ],
    "dev": [("09001.jpg", "2 0 0 30 0 0 30;"), ("09002.jpg", "")],
}


def write_object_cxr(root: Path) -> None:
    """JPEG files of 120 x 80 in train and dev."""
    for part, rows in OBJECT_ROWS.items():
        write_table(root / f"{part}.csv", [("image_name", "annotation"), *rows])
        for number, (name, _) in enumerate(rows):
            write_picture(root / part / name, number + len(part), 80, 120)


MS_HEADER = (
    *("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height", "split"),
)


def ms_id(number: int) -> str:
    return f"0000000{number}-0000000a-0000000b-0000000c-0000000d"


def ms_row(number: int, category: str, text: str, box: tuple[int, ...], split: str = "test") -> list[object]:
    patient = f"p1000000{number}"
    path = f"files/p10/{patient}/s5000000{number}/{ms_id(number)}.jpg"
    return [ms_id(number), category, text, path, *box, 2544, 3056, split]


MS_ROWS = [
    ms_row(2, "Pneumothorax", "Small left apical pneumothorax.", (1272, 0, 318, 382)),
    ms_row(1, "Pneumonia", "Right lower lobe opacity, concerning for pneumonia", (0, 1528, 636, 764), "val"),
    ms_row(1, "Pneumonia", "Right lower lobe opacity, concerning for pneumonia", (636, 1528, 636, 764), "val"),
    ms_row(1, "Cardiomegaly", "cardiomegaly", (636, 1528, 1272, 764), "val"),
    ms_row(3, "Edema", "Mild edema. It is 1.5 cm, new.", (0, 0, 2544, 3056), "train"),
]


def write_ms_cxr(root: Path, rows: Sequence[Sequence[object]] = MS_ROWS) -> None:
    """The table, and the images of patients 1 to 3 at an eighth of their size: 318 x 382."""
    write_table(root / "MS_CXR_Local_Alignment_v1.1.0.csv", [MS_HEADER, *rows])
    for number in (1, 2, 3):
        write_picture(root / str(ms_row(number, "", "", ())[3]), number, 382, 318)


def read(root: Path, release: str, **rules: Any) -> tuple[dict[str, Study], list[Reject]]:
    """Studies by image id, and rejects in their order."""
    config = PreprocessConfig(release=release, **rules)
    entries = list(read_studies(config, root))
    studies = [entry for entry in entries if isinstance(entry, Study)]
    found = {study.images[0].image_id: study for study in studies}
    assert len(found) == len(studies)
    return found, [entry for entry in entries if isinstance(entry, Reject)]


def make_store(root: Path, out: Path, preset: str, size: int, **rules: object) -> Store:
    """The store of that preset, by the function behind `place preprocess`."""
    overrides = [f"preprocess.size={size}", *(f"preprocess.{key}={value}" for key, value in rules.items())]
    preprocess(load_preset(preset, overrides), root, out, workers=1)
    return open_store(out)


def rectangle(size: int, left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
    """A mask as the store has it."""
    mask = np.zeros((size, size), np.uint8)
    mask[top:bottom, left:right] = 255
    return mask

"""The COVID-19 image data collection with five made-up studies, in the exact forms of June and of November 2020."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from marked_releases import write_mask
from small_pictures import write_picture

JUNE = (
    "patientid,offset,sex,age,finding,survival,intubated,intubation_present,went_icu,in_icu,needed_supplemental_O2,"
    "extubated,temperature,pO2_saturation,leukocyte_count,neutrophil_count,lymphocyte_count,view,modality,date,"
    "location,folder,filename,doi,url,license,clinical_notes,other_notes,"
)
"""Ends in a comma: there is a column without a name."""
NOVEMBER = JUNE.replace("finding,survival", "finding,RT_PCR_positive,survival")
APRIL = (
    "patientid,offset,sex,age,finding,survival,intubated,went_icu,needed_supplemental_O2,extubated,temperature,"
    "pO2 saturation,leukocyte count,neutrophil count,lymphocyte count,view,modality,date,location,folder,filename,doi,"
    " url,license,clinical notes,other notes,"
)

NOTE = "Fever for three days, SpO2 93%. Patchy opacity in the right lower lobe. No pleural effusion."
LATER = "Worse. Consolidation in both lower lobes, tube 2 cm above the carina."
ACCENT = "Pneumonía of the left base; afebrile."

Row = Mapping[str, str]


def row(name: str, patient: str, day: str, finding: str, view: str, note: str, **others: str) -> dict[str, str]:
    return {
        "patientid": patient,
        "offset": day,
        "sex": "M",
        "age": "65",
        "finding": finding,
        "view": view,
        "modality": "X-ray",
        "date": "January 22, 2020",
        "location": "Town, Country",
        "folder": "images",
        "filename": name,
        "license": "CC BY-NC-SA",
        "clinical_notes": note,
        "clinical notes": note,
        "other_notes": "Case courtesy of nobody, positive; normal.",
        **others,
    }


ROWS = (
    row("a-day0-PA.png", "2", "0", "COVID-19", "PA", NOTE),
    row("a-day0-L.png", "2", "0", "COVID-19", "L", NOTE),
    row("a-day3.jpg", "2", "3", "COVID-19, ARDS", "AP Supine", LATER),
    row("000004.jpg", "331b", "", "Pneumonia", "PA", ACCENT),
    row("000005.png", "5", "0", "No Finding", "AP erect", ""),
    row("slice.jpg", "5", "0", "COVID-19", "Axial", NOTE, modality="CT"),
    row("volume.nii.gz", "5", "", "COVID-19", "Coronal", "", modality="CT", folder="volumes"),
    row("6.jpeg", "6", "", "todo", "", NOTE),
)
"""Five studies of four patients and two rows of CT."""

PATHS = {
    "COVID-19": "Pneumonia/Viral/COVID-19",
    "COVID-19, ARDS": "Pneumonia/Viral/COVID-19",
    "Pneumonia": "Pneumonia",
    "No Finding": "No Finding",
    "todo": "todo",
}
BOXES = {"a-day0-PA.png": ((2, 4, 12, 30), (20, 4, 12.5, 28)), "a-day3.jpg": ((0, 0, 16, 40),)}
"""Of the right lung, then of the left, on 36 x 40."""


def write_table(root: Path, rows: Sequence[Row] = ROWS, header: str = JUNE, encoding: str = "latin-1") -> None:
    """metadata.csv; what the header does not name is left out, what a row does not have is blank."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, header.split(","), restval="", extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    root.mkdir(parents=True, exist_ok=True)
    (root / "metadata.csv").write_bytes(stream.getvalue().encode(encoding))


def write_boxes(root: Path, boxes: Mapping[str, Sequence[Sequence[float]]] = BOXES, category: int = 1) -> None:
    images, annotations = [], []
    for number, (name, drawn) in enumerate(boxes.items(), start=31):
        images.append({"license": 1, "file_name": name, "height": 40, "width": 36, "id": number, "metadata": {}})
        for side, box in enumerate(drawn):
            place = {"image_id": number, "id": 61 + len(annotations), "category_id": category + side}
            annotations.append({"segmentation": [], "area": 1, "bbox": list(box), **place, "attributes": {}})
    categories = [
        {"supercategory": "Lungs", "id": id_, "name": f"{side} Lung"} for id_, side in ((1, "Right"), (2, "Left"))
    ]
    content = {"info": {}, "categories": categories, "images": images, "annotations": annotations, "licenses": []}
    path = root / "annotations" / "imageannotation_ai_lung_bounding_boxes.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def write_covid_chestxray(root: Path) -> None:
    """All of it. a-day3.jpg is a PNG with alpha; masks of a-day0-PA.png and, under the odd ending, of 000004.jpg."""
    write_table(root)
    for seed, name in enumerate(("a-day0-PA.png", "a-day0-L.png", "000004.jpg", "000005.png", "slice.jpg", "6.jpeg")):
        write_picture(root / "images" / name, seed)
    pixels = np.random.default_rng(9).integers(0, 256, (40, 36, 4), dtype=np.uint8)
    (root / "images" / "a-day3.jpg").write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    masks = root / "annotations" / "lungVAE-masks"
    write_mask(masks / "a-day0-PA_mask.png", 4, 4, 32, 30, width=36)
    write_mask(masks / "000004_mask.png.png", 8, 8, 28, 32, width=36)
    (masks / "README.md").write_text("how the masks were made", encoding="utf-8")
    write_boxes(root)

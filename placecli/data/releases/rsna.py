"""RSNA Pneumonia Detection Challenge (Kaggle, stage 2): DICOM files, a label an image, boxes where it is positive."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.releases.published_splits import draw_three
from placecli.data.releases.tables import find_table, read_table
from placecli.records import Box, ImageFile, PlaceError, Reject, Shape, ShapeMask, Study

LABELS: Final = "stage_2_train_labels.csv"
CLASSES: Final = "stage_2_detailed_class_info.csv"
IMAGES: Final = "stage_2_train_images"
MAPPING: Final = "pneumonia-challenge-dataset-mappings_2018.json"
"""RSNA's list of the NIH images that the challenge's images are; with it, patients with several images are known."""

FRAME: Final = (1024, 1024)
"""Size that the boxes are for; files of the release have it, copies may be smaller."""

PNEUMONIA: Final = "Pneumonia"
CLASS_NAMES: Final = ("Lung Opacity", "No Lung Opacity / Not Normal", "Normal")

COMPAT_HELD_OUT: Final[Mapping[str, float | int]] = {"compat": 0.15 * 2, "compat-detection": 5337 * 2}
"""What MGCA holds out for validation and test, as it writes it: for classification, and for segmentation and detection."""

_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")
_NIH_IMAGE: Final = re.compile(r"([0-9]{8})_[0-9]{3}\.png")


@dataclass(frozen=True, slots=True)
class _Annotation:
    target: int
    boxes: tuple[Box, ...]


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """A study an image, sorted by id. Labels: Pneumonia and the three detailed classes; the mask is the filled boxes.

    Rejects: `row_invalid`, `image_missing`, `image_unannotated`. Raises PlaceError for a missing or unreadable table.
    """
    table = find_table(root, (LABELS,))
    if table is None:
        raise PlaceError(f"{root / LABELS}: not found; give the folder of the stage 2 data as --root")
    annotations, bad = _read_annotations(table)
    yield from bad.values()
    classes, patients = _read_classes(root), _read_patients(root)
    splits = _published_splits(sorted({*annotations, *bad}), config.splits)
    folder = root / IMAGES
    present = {path.stem: path for path in folder.glob("*.dcm")} if folder.is_dir() else {}
    for name in sorted(annotations):
        path = present.get(name)
        if path is None:
            yield Reject(f"{IMAGES}/{name}.dcm", "image_missing", "The table names this image; the file is not here.")
            continue
        patient = name if config.splits != "clean" else patients.get(name, name)
        yield _study(name, patient, path, annotations[name], classes.get(name, ""), splits.get(name, ""))
    for name in sorted(present.keys() - annotations.keys() - bad.keys()):
        yield Reject(f"{IMAGES}/{name}.dcm", "image_unannotated", f"{LABELS} has no row for this image.")


def _study(name: str, patient: str, path: Path, annotation: _Annotation, class_name: str, split: str) -> Study:
    corners = (((box.x, box.y), (box.x + box.width, box.y + box.height)) for box in annotation.boxes)
    image = ImageFile(
        image_id=name,
        path=path,
        boxes=annotation.boxes,
        mask=ShapeMask(tuple(Shape("rectangle", pair) for pair in corners)),
        frame=FRAME,
    )
    labels = {PNEUMONIA: float(annotation.target)}
    if class_name:
        labels |= {known: float(known == class_name) for known in CLASS_NAMES}
    return Study(name, patient, (image,), split, labels=labels)


def _read_annotations(table: Path) -> tuple[dict[str, _Annotation], dict[str, Reject]]:
    """Annotations by image, and a Reject for each image of which a row does not hold: half of its boxes are no use."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    bad: dict[str, Reject] = {}
    for line, row in read_table(table, ("patientId", "x", "y", "width", "height", "Target")):
        name = row["patientId"]
        box = _parse_row(row)
        if not _ID.fullmatch(name) or isinstance(box, str):
            problem = box if isinstance(box, str) else "patientId is not an id"
            bad.setdefault(name, Reject(f"{LABELS}:{line}", "row_invalid", f"{problem}; its image is left out."))
        elif box is not None:
            boxes[name].append(box)
        else:
            boxes[name] += ()
    good = {name: _Annotation(int(bool(found)), tuple(found)) for name, found in boxes.items() if name not in bad}
    return good, bad


def _parse_row(row: Mapping[str, str]) -> Box | str | None:
    """The box of a row, None for a negative one, or what is wrong."""
    texts = [row[name] for name in ("x", "y", "width", "height")]
    if row["Target"] == "0":
        return "Target is 0 and there is a box" if any(texts) else None
    if row["Target"] != "1":
        return "Target is neither 0 nor 1"
    try:
        x, y, width, height = map(float, texts)
    except ValueError:
        return "Target is 1 and the box is not four numbers"
    # Comparisons with NaN are false.
    if not (0 <= x < x + width <= FRAME[0] and 0 <= y < y + height <= FRAME[1]):
        return f"the box is not inside {FRAME[0]} x {FRAME[1]}"
    return Box(PNEUMONIA, x, y, width, height)


def _read_classes(root: Path) -> dict[str, str]:
    table = find_table(root, (CLASSES,))
    classes: dict[str, str] = {}
    for line, row in read_table(table, ("patientId", "class")) if table else ():
        if row["class"] not in CLASS_NAMES:
            raise PlaceError(f"{table}, line {line}: class {row['class']!r} is none of {', '.join(CLASS_NAMES)}")
        classes[row["patientId"]] = row["class"]
    return classes


def _read_patients(root: Path) -> dict[str, str]:
    """Image -> patient of the NIH collection, where RSNA's mapping lies beside the tables."""
    path = root / MAPPING
    if not path.is_file():
        return {}
    try:
        pairs = [(str(item["subset_img_id"]), str(item["img_id"])) for item in json.loads(path.read_text("utf-8"))]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise PlaceError(
            f"{path}: not RSNA's mapping ({type(error).__name__}); it is a list of objects with img_id and subset_img_id"
        ) from None
    found = {name: _NIH_IMAGE.fullmatch(image) for name, image in pairs}
    return {name: match[1] for name, match in found.items() if match}


def _published_splits(names: list[str], splits: str) -> dict[str, str]:
    """Image -> split as MGCA draws it over the images in order of their ids; {} for the clean split."""
    if splits == "clean":
        return {}
    drawn = draw_three(len(names), COMPAT_HELD_OUT[splits])
    return {names[number]: split for split, numbers in drawn.items() for number in numbers}

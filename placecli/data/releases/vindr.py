"""VinDr-CXR: PhysioNet's release, with an official test set, and Kaggle's competition, of which only train is labelled.

Every training image was read by several radiologists (three), whose answers are merged here: see `merge_labels` and
`fuse_boxes`. Neither release says whose images they are, so each image counts as a patient of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.identity import split_of
from placecli.data.releases.tables import LABEL_VALUES, find_table, read_table
from placecli.records import Box, ImageFile, PlaceError, Reject, Study

KAGGLE: Final = "train.csv"
KAGGLE_COLUMNS: Final = ("image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max")
BOX_COLUMNS: Final = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
NO_FINDING: Final = "No finding"
"""Stands in the tables of boxes with blank coordinates for a reader who saw nothing; Kaggle's class 14."""

LABEL_ALIASES: Final[Mapping[str, str]] = {"Other disease": "Other diseases"}
"""The test set's table writes one label otherwise than the training set's."""

MATCHING_OVERLAP: Final = 0.5
"""Intersection over union from which on boxes of two readers are one."""

_IMAGE: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class ReadBox:
    """A box as corners in pixels of the DICOM file, with the reader who drew it; "" for the test set's consensus."""

    reader: str
    label: str
    corners: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Reading:
    """What the tables of one part say: image -> reader -> labels that are present, and image -> boxes of all readers."""

    present: Mapping[str, Mapping[str, frozenset[str]]]
    boxes: Mapping[str, Sequence[ReadBox]]
    names: Sequence[str]
    """All labels of the part."""


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """One Study an image, sorted by id, with labels 1.0 or 0.0 by majority and fused boxes; PhysioNet's test set is kept
    and the rest divided by the hash of the id, Kaggle's images all by that hash.

    Rejects: `row_invalid`. Raises PlaceError where `root` holds neither layout and for a table that is not readable.
    """
    annotations = root / "annotations"
    rejects: list[Reject] = []
    parts: dict[str, Reading] = {}
    if annotations.is_dir():
        for part in ("train", "test"):
            if (reading := _read_physionet(annotations, part, rejects)) is not None:
                parts[part] = reading
    elif (table := find_table(root, (KAGGLE,))) is not None:
        parts["train"] = _read_kaggle(table, rejects)
    if not parts:
        raise PlaceError(
            f"{root}: neither annotations/image_labels_train.csv (PhysioNet) nor {KAGGLE} (Kaggle), plain or .gz; give "
            "the folder that holds one of them and train/ as --root"
        )
    yield from rejects
    for part, reading in parts.items():
        for image_id in sorted(reading.present):
            labels = merge_labels(reading.present[image_id].values(), reading.names)
            drawn = reading.boxes.get(image_id, ())
            boxes = [box for box in fuse_boxes(drawn) if labels.get(box.label) == 1.0]
            split = part if part == "test" else ""
            if not split and annotations.is_dir():
                split = split_of(image_id, config.split_seed, config.validate_fraction, 0.0)
            path = root / part / f"{image_id}.dicom"
            yield Study(image_id, image_id, (ImageFile(image_id, path, boxes=tuple(boxes)),), split, labels=labels)


def merge_labels(readings: Iterable[frozenset[str]], names: Sequence[str]) -> dict[str, float]:
    """Name -> 1.0 where more than half of the readers of the image say so, else 0.0.

    Where the readers agree on nothing, "No finding" may be 0.0 beside all findings, as it is in the votes.
    """
    voters = list(readings)
    return {name: float(2 * sum(name in found for found in voters) > len(voters)) for name in names}


def fuse_boxes(boxes: Sequence[ReadBox]) -> tuple[Box, ...]:
    """One Box for each thing that readers marked, in an order that does not depend on theirs.

    Boxes of a label are taken in order of reader and place. Each joins the group whose mean box it overlaps most, from
    MATCHING_OVERLAP on, unless its reader is in that group already; else it begins one. A group becomes the mean of its
    corners. A box that one reader alone drew stays: the label's majority decides whether it is kept.
    """
    fused = []
    for label in sorted({box.label for box in boxes}):
        groups: list[list[ReadBox]] = []
        for box in sorted((box for box in boxes if box.label == label), key=lambda box: (box.reader, box.corners)):
            free = [group for group in groups if not box.reader or all(box.reader != other.reader for other in group)]
            best = max(free, key=lambda group: overlap(_mean(group), box.corners), default=None)
            if box.reader and best is not None and overlap(_mean(best), box.corners) >= MATCHING_OVERLAP:
                best.append(box)
            else:
                groups.append([box])
        for left, top, right, bottom in map(_mean, groups):
            fused.append(Box(label, left, top, right - left, bottom - top))
    return tuple(fused)


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes given as corners (left, top, right, bottom), in [0, 1]."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return shared / (areas - shared) if areas > shared else 0.0


def _mean(group: Sequence[ReadBox]) -> tuple[float, ...]:
    return tuple(sum(values) / len(group) for values in zip(*(box.corners for box in group), strict=True))


def _read_kaggle(table: Path, rejects: list[Reject]) -> Reading:
    present: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    boxes: dict[str, list[ReadBox]] = defaultdict(list)
    names: set[str] = set()
    for line, row in read_table(table, KAGGLE_COLUMNS):
        box = _parse_box(row, row["rad_id"])
        if not _IMAGE.fullmatch(row["image_id"]) or not row["class_name"] or isinstance(box, str):
            rejects.append(_invalid(table, line))
            continue
        names.add(row["class_name"])
        present[row["image_id"]][row["rad_id"]].add(row["class_name"])
        if box is not None:
            boxes[row["image_id"]].append(box)
    frozen = {
        image: {reader: frozenset(found) for reader, found in readers.items()} for image, readers in present.items()
    }
    return Reading(frozen, boxes, sorted(names))


def _read_physionet(folder: Path, part: str, rejects: list[Reject]) -> Reading | None:
    table = find_table(folder, (f"image_labels_{part}.csv",))
    if table is None:
        return None
    present: dict[str, dict[str, frozenset[str]]] = defaultdict(dict)
    names: list[str] = []
    for line, row in read_table(table, ("image_id", NO_FINDING)):
        columns = [name for name in row if name not in ("image_id", "rad_id", "")]
        names = names or [LABEL_ALIASES.get(name, name) for name in columns]
        values = [LABEL_VALUES.get(row[name] or "0", -1.0) for name in columns]
        if not _IMAGE.fullmatch(row["image_id"]) or any(value < 0.0 for value in values):
            rejects.append(_invalid(table, line))
            continue
        found = frozenset(name for name, value in zip(names, values, strict=True) if value == 1.0)
        present[row["image_id"]][row.get("rad_id", "")] = found
    boxes: dict[str, list[ReadBox]] = defaultdict(list)
    drawn = find_table(folder, (f"annotations_{part}.csv",))
    for line, row in read_table(drawn, BOX_COLUMNS) if drawn else ():
        box = _parse_box(row, row.get("rad_id", ""))
        if drawn is not None and isinstance(box, str):
            rejects.append(_invalid(drawn, line))
        elif isinstance(box, ReadBox):
            boxes[row["image_id"]].append(box)
    return Reading(present, boxes, names)


def _parse_box(row: Mapping[str, str], reader: str) -> ReadBox | str | None:
    """The box of a row; None where it is "No finding" or has no coordinates; what is wrong with it otherwise."""
    texts = [row[name] for name in ("x_min", "y_min", "x_max", "y_max")]
    if row["class_name"] == NO_FINDING or not any(texts):
        return None
    try:
        left, top, right, bottom = map(float, texts)
    except ValueError:
        return "not four numbers"
    if not (-1e5 < left < right < 1e5 and -1e5 < top < bottom < 1e5):
        return "no area"
    return ReadBox(reader, LABEL_ALIASES.get(row["class_name"], row["class_name"]), (left, top, right, bottom))


def _invalid(table: Path, line: int) -> Reject:
    return Reject(f"{table.name}:{line}", "row_invalid", "Its id, label or box is none that the release can have.")

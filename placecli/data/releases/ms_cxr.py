"""MS-CXR: phrases and the boxes that they describe, over images of MIMIC-CXR."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.releases.tables import find_table, read_table
from placecli.records import Box, ImageFile, PlaceError, Reject, Study

TABLES: Final = ("MS_CXR_Local_Alignment_v1.1.0.csv", "MS_CXR_Local_Alignment_v1.0.0.csv")
COLUMNS: Final = (
    *("dicom_id", "category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height"),
)
SPLITS: Final[Mapping[str, str]] = {"train": "train", "val": "validate", "validate": "validate", "test": "test"}
SUFFIXES: Final = (".jpg", ".dcm")
"""Images are those of MIMIC-CXR-JPG, or of the DICOM release in the same tree: the boxes are in the pixels of both."""

_PATH: Final = re.compile(r"files/p1[0-9]/p(1[0-9]{7})/s5[0-9]{7}/([0-9a-f]{8}(?:-[0-9a-f]{8}){4})\.(?:jpg|dcm)")


@dataclass(frozen=True, slots=True)
class _Pair:
    """An image and one phrase about it, as (dicom id, category, text)."""

    dicom_id: str
    category: str
    text: str


@dataclass(frozen=True, slots=True)
class _Row:
    pair: _Pair
    patient: str
    stem: str
    box: Box
    frame: tuple[int, int]
    split: str


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """A study an image and phrase, sorted by image, the phrases of an image in the table's order.

    The phrase is the study's findings, its category the one label and the label of its boxes. Image and study are
    called by the dicom id; further phrases of an image by `<dicom id>#2`, `#3` ... `root` is that of MIMIC-CXR, with the
    table in it or named by `preprocess.labels`. Rejects: `row_invalid`, `image_missing`. Raises PlaceError for a
    missing or unreadable table, an unknown split or an image in two splits.
    """
    table = config.labels or find_table(root, TABLES)
    if table is None:
        raise PlaceError(f"{root / TABLES[0]}: not found; put it there or name it: --set preprocess.labels=FILE")
    rejects: list[Reject] = []
    rows_of_pair: dict[_Pair, list[_Row]] = defaultdict(list)
    for row in _read_rows(table, rejects):
        rows_of_pair[row.pair].append(row)
    yield from rejects
    pairs_of_image: dict[str, list[_Pair]] = defaultdict(list)
    for pair in rows_of_pair:
        pairs_of_image[pair.dicom_id].append(pair)
    for dicom_id in sorted(pairs_of_image):
        pairs = pairs_of_image[dicom_id]
        rows = [row for pair in pairs for row in rows_of_pair[pair]]
        _check_one_image(table, rows)
        path = _find_image(root, rows[0].stem)
        if path is None:
            yield Reject(
                f"{rows[0].stem}.jpg", "image_missing", f"The table has {len(pairs)} phrase(s) for this image."
            )
            continue
        for number, pair in enumerate(pairs, start=1):
            yield _study(rows_of_pair[pair], path, dicom_id if number == 1 else f"{dicom_id}#{number}")


def _study(rows: list[_Row], path: Path, name: str) -> Study:
    first = rows[0]
    boxes = tuple(dict.fromkeys(row.box for row in rows))
    image = ImageFile(image_id=name, path=path, boxes=boxes, frame=first.frame)
    sections, labels = {"findings": first.pair.text}, {first.pair.category: 1.0}
    return Study(name, first.patient, (image,), first.split, sections, labels=labels)


def _read_rows(table: Path, rejects: list[Reject]) -> Iterator[_Row]:
    for line, cells in read_table(table, COLUMNS):
        found = _PATH.fullmatch(cells["path"])
        box, frame = _parse_box(cells), _parse_frame(cells)
        if found is None or found[2] != cells["dicom_id"]:
            problem = "path and dicom_id are not those of an image of MIMIC-CXR"
        elif not cells["category_name"] or not cells["label_text"]:
            problem = "there is no category or no phrase"
        elif box is None or frame is None or box.x + box.width > frame[0] or box.y + box.height > frame[1]:
            problem = "the box is not inside the image"
        else:
            # Before 1.1.0 there is no column of splits: the whole set was published to test on.
            split = cells.get("split", "test")
            if split not in SPLITS:
                raise PlaceError(f"{table}, line {line}: split {split!r} is none of train, val, test")
            pair = _Pair(cells["dicom_id"], cells["category_name"], cells["label_text"])
            yield _Row(pair, found[1], cells["path"].rpartition(".")[0], box, frame, SPLITS[split])
            continue
        rejects.append(Reject(f"{table.name}:{line}", "row_invalid", f"{problem}."))


def _parse_box(cells: Mapping[str, str]) -> Box | None:
    try:
        x, y, width, height = (float(cells[name]) for name in ("x", "y", "w", "h"))
    except ValueError:
        return None
    # Comparisons with NaN are false.
    return Box(cells["category_name"], x, y, width, height) if x >= 0 and y >= 0 and width > 0 and height > 0 else None


def _parse_frame(cells: Mapping[str, str]) -> tuple[int, int] | None:
    try:
        width, height = int(float(cells["image_width"])), int(float(cells["image_height"]))
    except (ValueError, OverflowError):
        return None
    return (width, height) if 0 < width < 1 << 16 and 0 < height < 1 << 16 else None


def _check_one_image(table: Path, rows: list[_Row]) -> None:
    """Raises PlaceError where the rows of an image disagree on its patient, size or split."""
    if len({(row.stem, row.frame, row.split) for row in rows}) > 1:
        raise PlaceError(
            f"{table}: image {rows[0].pair.dicom_id} is there with two paths, sizes or splits; fetch the table again"
        )


def _find_image(root: Path, stem: str) -> Path | None:
    return next((path for suffix in SUFFIXES if (path := root / f"{stem}{suffix}").is_file()), None)

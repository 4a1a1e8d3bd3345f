"""NIH ChestX-ray14: the table of 2017 or of 2020, the two lists of the official split, and the table of boxes.

Bracketed names in the headers hold commas, so a header has more fields than names, and some copies end header or rows
in commas. Columns are therefore taken by place, after the start of the header has been checked.
"""

from __future__ import annotations

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.identity import split_of
from placecli.records import Box, ImageFile, PlaceError, Reject, Study

ENTRIES: Final = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
ENTRY_COLUMNS: Final = (
    *("Image Index", "Finding Labels", "Follow-up #", "Patient ID", "Patient Age", "Patient Gender", "View Position"),
    *("OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"),
)
BOXES: Final = "BBox_List_2017.csv"
BOX_COLUMNS: Final = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
TRAIN_LIST: Final = "train_val_list.txt"
TEST_LIST: Final = "test_list.txt"

FINDINGS: Final = (
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"),
    *("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
NO_FINDING: Final = "No Finding"
BOX_ALIASES: Final[Mapping[str, str]] = {"Infiltrate": "Infiltration"}
"""What the table of boxes calls otherwise than the table of entries."""
BOX_FRAME: Final = (1024, 1024)
"""Size of every published image, and so the pixels in which boxes are given."""

_IMAGE: Final = re.compile(r"[0-9]{8}_[0-9]{3}\.png")
_NUMBER: Final = re.compile(r"[0-9]{1,8}")
_FOLDERS: Final = re.compile(r"images(?:_[0-9]{1,3})?")


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """One Study an image, in the order of the table: labels 1.0 or 0.0 of the 14 findings and "No Finding", boxes.

    The official test list is kept and the other patients are divided by their hash; without the lists the hash decides
    for all. Rejects: `row_invalid`, `image_missing`. Raises PlaceError without a table of entries, for a table or list
    that is not readable, and for lists that put a patient into both parts.
    """
    table = next((root / name for name in ENTRIES if (root / name).is_file()), None)
    if table is None:
        raise PlaceError(
            f"{root}: neither {' nor '.join(ENTRIES)}; give the folder that holds one of them and the images as --root"
        )
    rejects: list[Reject] = []
    boxes = _read_boxes(root / BOXES, rejects)
    yield from rejects
    files, is_test = _list_images(root), _read_lists(root)
    seen: set[str] = set()
    for line, row in _read_rows(table, ENTRY_COLUMNS):
        name, labels = row[0], _labels(row[1])
        is_whole = _IMAGE.fullmatch(name) and _NUMBER.fullmatch(row[3]) and int(row[3]) == int(name[:8])
        if not is_whole or labels is None or name in seen:
            message = "Its name, patient or finding is none of the release, or the image was there before."
            yield Reject(f"{table.name}:{line}", "row_invalid", message)
            continue
        seen.add(name)
        if name not in files:
            yield Reject(name, "image_missing", "The table names this image; the file is not here.")
            continue
        patient, found = name[:8], boxes.get(name, ())
        yield Study(
            study_id=name.removesuffix(".png"),
            patient_id=patient,
            images=(
                ImageFile(
                    image_id=name.removesuffix(".png"),
                    path=files[name],
                    view=row[6] if row[6] in ("PA", "AP") else "",
                    boxes=found,
                    frame=BOX_FRAME if found else None,
                ),
            ),
            split=_split(patient, is_test, config),
            labels=labels,
        )


def _split(patient: str, is_test: Mapping[str, bool], config: PreprocessConfig) -> str:
    """ "" without lists: the store decides. A patient that neither list has is not added to the official test set."""
    if is_test.get(patient, False):
        return "test"
    return split_of(patient, config.split_seed, config.validate_fraction, 0.0) if is_test else ""


def _labels(text: str) -> dict[str, float] | None:
    """All 15 labels of "Effusion|Mass"; None where a name is not one of them or "No Finding" has company."""
    names = text.split("|")
    if any(name not in FINDINGS for name in names) and names != [NO_FINDING]:
        return None
    return {name: float(name in names) for name in (*FINDINGS, NO_FINDING)}


def _read_boxes(path: Path, rejects: list[Reject]) -> dict[str, tuple[Box, ...]]:
    """Image -> its boxes; {} without the table, which the release publishes apart."""
    boxes: dict[str, list[Box]] = defaultdict(list)
    for line, row in _read_rows(path, BOX_COLUMNS) if path.is_file() else ():
        label = BOX_ALIASES.get(row[1], row[1])
        try:
            x, y, width, height = map(float, row[2:6])
        except ValueError:
            width = height = 0.0
        # Comparisons that NaN fails.
        if label not in FINDINGS or not (0.0 < width < 1e5 and 0.0 < height < 1e5 and abs(x) < 1e5 and abs(y) < 1e5):
            rejects.append(Reject(f"{path.name}:{line}", "row_invalid", "Its finding or its numbers make no box."))
            continue
        boxes[row[0]].append(Box(label, x, y, width, height))
    return {name: tuple(found) for name, found in boxes.items()}


def _read_lists(root: Path) -> dict[str, bool]:
    """Patient (the first eight digits of a name) -> whether the official test set has it; {} where no list is there."""
    is_test: dict[str, bool] = {}
    for name, other, value in ((TRAIN_LIST, TEST_LIST, False), (TEST_LIST, TRAIN_LIST, True)):
        path = root / name
        if not path.is_file():
            if (root / other).is_file():
                raise PlaceError(f"{path}: not there, and {other} is; the official split needs both lists, or none")
            continue
        try:
            images = path.read_text("utf-8-sig").split()
        except (OSError, UnicodeDecodeError) as error:
            raise PlaceError(f"{path}: not readable as a list of image names ({error}); fetch it again") from None
        for number, image in enumerate(images, start=1):
            if is_test.setdefault(image[:8], value) != value:
                raise PlaceError(f"{path}: the patient of name {number} is in {other} too; fetch both lists again")
    return is_test


def _list_images(root: Path) -> dict[str, Path]:
    """File name -> path, of images_001/images/ to images_012/images/, and of images/ into which many unpack them all."""
    files: dict[str, Path] = {}
    for folder in sorted(path for path in root.iterdir() if _FOLDERS.fullmatch(path.name) and path.is_dir()):
        for place in (folder / "images", folder):
            if place.is_dir():
                files |= {path.name: path for path in sorted(place.iterdir()) if path.suffix == ".png"}
    return files


def _read_rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Rows as (line in the file, stripped fields, one a column); empty fields behind the last column do not count."""
    width = len(columns)
    try:
        with path.open("r", encoding="utf-8-sig", newline="") as stream:
            rows = csv.reader(stream)
            header = [name.strip() for name in next(rows, [])]
            if tuple(header[:width]) != columns or any(header[width:]):
                raise PlaceError(
                    f"{path}: its first line is not the published header ({', '.join(columns[:3])}, ...); use the "
                    "table as it was published"
                )
            for fields in rows:
                if not fields:
                    continue
                if len(fields) < width or any(field.strip() for field in fields[width:]):
                    raise PlaceError(
                        f"{path}, line {rows.line_num}: {len(fields)} fields where the header has {width}; fetch the "
                        "table again"
                    )
                yield rows.line_num, [field.strip() for field in fields[:width]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PlaceError(f"{path}: not readable as CSV ({error}); fetch the table again or save it as UTF-8") from None

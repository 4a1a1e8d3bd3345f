"""CheXpert v1.0 and v1.0-small: two tables that name the images, their views and 14 labels.

`clean` takes valid.csv as the test set and divides the patients of train.csv by their hash. `compat` is MGCA's split,
with its defect: the 5,000 rows of the validation part are taken by position in the table without the 5x200 images and
taken out of the training part by label, so that most of them stay there as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from placecli.config import PreprocessConfig
from placecli.data.exclusive_sets import draw, exclusive_sets
from placecli.data.identity import split_of
from placecli.data.releases.tables import find_table, parse_labels, read_table
from placecli.records import ImageFile, PlaceError, Reject, Study

TRAIN: Final = "train.csv"
VALID: Final = "valid.csv"
LABELS: Final = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    "Support Devices",
)
"""CheXpert's own order, which is not MIMIC-CXR's; columns are read by name."""
COLUMNS: Final = ("Path", "Frontal/Lateral", "AP/PA", *LABELS)

COMPAT_VALIDATE: Final = 5000
COMPAT_SEED: Final = 0
COPY: Final = "@validate"
"""Ending of the id of the second row of an image that MGCA has in both parts."""

_PATH: Final = re.compile(r"[^/]+/(train|valid)/(patient[0-9]+)/(study[0-9]+)/(view[0-9]+_(?:frontal|lateral)\.jpg)")


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table: the parts of its path, its view and its labels."""

    folder: str
    patient: str
    study: str
    name: str
    view: str
    labels: Mapping[str, float]


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """One Study for each study and part, in the order of the tables; `root` holds train.csv, valid.csv and the folders
    that they name without the first part of the path, which is the name of the release.

    Rejects: `row_invalid`, `not_in_split` (compat: in no part of the published split). Raises PlaceError for a missing
    or unreadable table, and where compat is asked of a train.csv that is not whole enough for it.
    """
    rejects: list[Reject] = []
    train, test = _read(root, TRAIN, rejects), _read(root, VALID, rejects)
    parts: list[tuple[Line, tuple[str, ...]]] = [(line, ("test",)) for line in test]
    if config.splits != "clean":
        if rejects:
            raise PlaceError(
                f"{root / rejects[0].source}: this row is not one of the release, and the published split counts rows; "
                "use the table as it was published, or preprocess.splits=clean"
            )
        parts = [*zip(train, compat_parts(train), strict=True), *parts]
    else:
        parts = [*((line, (_hashed(line.patient, config),)) for line in train), *parts]
    yield from rejects
    grouped: dict[tuple[Any, ...], list[ImageFile]] = {}
    for line, splits in parts:
        source = f"{line.folder}/{line.patient}/{line.study}/{line.name}"
        image_id = f"{line.patient}_{line.study}_{line.name.removesuffix('.jpg')}"
        if not splits:
            yield Reject(source, "not_in_split", "The published split has this image in none of its parts.")
        for split in splits:
            is_second = len(splits) > 1 and split == "validate"
            # A study's rows have one set of labels; were they to differ, each keeps its own.
            key = (line.patient, line.study, split, *line.labels.items())
            image = ImageFile(image_id + COPY if is_second else image_id, root / source, line.view)
            grouped.setdefault(key, []).append(image)
    for (patient, study, split, *labels), images in grouped.items():
        yield Study(f"{patient}_{study}", patient, tuple(images), split, labels=dict(labels))


def compat_parts(lines: list[Line]) -> list[tuple[str, ...]]:
    """For each row of train.csv, in the order of the file, the parts of MGCA's split that have it.

    () for the 1,000 images of its 5x200 and for those that its error loses, ("train", "validate") for those that its
    error has in both. On the published table: 217,433 rows of train, 5,000 of validate, 4,907 in both, 4,888 lost.
    Raises PlaceError for a table that has too few rows.
    """
    frontal = [position for position, line in enumerate(lines) if line.view != "LATERAL"]
    drawn = exclusive_sets([lines[position].labels for position in frontal], seed=COMPAT_SEED)
    queries = {frontal[at] for positions in drawn.values() for at in positions}
    left = [position for position in range(len(lines)) if position not in queries]
    if len(left) < COMPAT_VALIDATE:
        raise PlaceError(
            f"{TRAIN}: {len(left)} rows are too few for the published split, which validates on {COMPAT_VALIDATE}; use "
            "the whole table, or preprocess.splits=clean"
        )
    numbers = draw(len(left), COMPAT_VALIDATE, COMPAT_SEED)
    validate = {left[number] for number in numbers}
    # The error: the same numbers, meant as positions in `left`, are looked up among the labels of the whole table.
    dropped = set(numbers)
    train = {position for position in left if position not in dropped}
    return [
        (*(("train",) if position in train else ()), *(("validate",) if position in validate else ()))
        for position in range(len(lines))
    ]


def _hashed(patient: str, config: PreprocessConfig) -> str:
    return split_of(patient, config.split_seed, config.validate_fraction, 0.0)


def _read(root: Path, name: str, rejects: list[Reject]) -> list[Line]:
    table = find_table(root, (name,))
    if table is None:
        raise PlaceError(
            f"{root / name}: not there; give the folder of CheXpert-v1.0 or -small that holds it as --root"
        )
    lines = []
    for number, row in read_table(table, COLUMNS):
        path = _PATH.fullmatch(row["Path"])
        if path is None:
            rejects.append(
                Reject(f"{table.name}:{number}", "row_invalid", "Its path has not the shape of the release.")
            )
            continue
        view = row["AP/PA"] if row["AP/PA"] in ("AP", "PA") else "FRONTAL"
        # 17 frontal rows are LL or RL in AP/PA; the other column, by which the field selects, names all of them frontal.
        view = "LATERAL" if row["Frontal/Lateral"] == "Lateral" else view
        lines.append(Line(path[1], path[2], path[3], path[4], view, parse_labels(table, number, row, LABELS)))
    return lines

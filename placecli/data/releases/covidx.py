"""COVIDx: versions 2 to 9 and CXR-3 (lists of COVID-Net's repository) and CXR-4 (train, val and test as released).

A line is `patient file class`, from version 4 on mostly with the source behind. Some patients have spaces in their
ids, so a line is read from the right, where the class is one of five words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.identity import split_of
from placecli.data.releases.published_splits import draw_two
from placecli.records import ImageFile, PlaceError, Reject, Study

THREE_CLASSES: Final = ("normal", "pneumonia", "COVID-19")
"""Classes of the A lists; each is a label, 1.0 for one of them."""
TWO_CLASSES: Final[Mapping[str, float]] = {"negative": 0.0, "positive": 1.0}
"""Classes of the B lists and of CXR-4: the label COVID-19."""

COMPAT_TRAIN: Final = 0.8
COMPAT_SEED: Final = 0

_TRAIN_LIST: Final = re.compile(r"train(?:_COVIDx_?([A-Za-z0-9-]+))?\.txt")
_IMAGE: Final = re.compile(r"[^/\\\0]+\.(?:png|jpe?g)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list. `patient` may hold spaces; `source` is "" where the list has none."""

    patient: str
    name: str
    category: str
    source: str


@dataclass(frozen=True, slots=True)
class Version:
    """A version that a folder holds: its name ("9A", "CXR-4", "" for not known) and lists; few have a third one."""

    name: str
    train: Path
    test: Path
    validate: Path | None


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """One Study an image, in the order of the lists; images are in train/, val/ and test/ under `root`.

    `clean` keeps the official test set (and validation set, where there is one), leaves out images of its patients
    elsewhere, and divides the other patients by their hash. `compat` divides the rows of the training list 80 to 20
    as scikit-learn does with seed 0, which puts patients into both parts. Rejects: `line_invalid`, `patient_elsewhere`.
    Raises PlaceError where no version, or more than one, is found and for a list that cannot be read.
    """
    version = find_version(root, config)
    rejects: list[Reject] = []
    lists = {"test": _read_list(version.test, rejects), "train": _read_list(version.train, rejects)}
    if version.validate is not None:
        lists["validate"] = _read_list(version.validate, rejects)
    if config.splits != "clean" and rejects:
        raise PlaceError(
            f"{root / rejects[0].source}: this line is not one of the release, and the published split counts lines; use "
            "the list as it was published, or preprocess.splits=clean"
        )
    yield from rejects
    folders = {"train": "train", "validate": "val", "test": "test"}
    taken: dict[str, str] = {}
    for part in ("test", "validate", "train"):
        lines = lists.get(part, [])
        splits = _compat_splits(len(lines)) if config.splits != "clean" and len(lists) == 2 else []
        for number, line in enumerate(lines):
            source = f"{folders[part]}/{line.name}"
            if config.splits == "clean" and taken.setdefault(line.patient, part) != part:
                message = f"Its patient is in the {taken[line.patient]} set of the release too."
                yield Reject(source, "patient_elsewhere", message)
                continue
            split = part
            if part == "train" and len(lists) == 2:
                split = splits[number] if splits else _hashed(line.patient, config)
            image = ImageFile(line.name, root / source)
            yield Study(line.name, line.patient, (image,), split, labels=labels_of(line.category))


def find_version(root: Path, config: PreprocessConfig) -> Version:
    """The version under `root`, or that of the training list `config.labels` where the folder holds several.

    Raises PlaceError where there is none, where there are several and none is named, or where the test list is missing.
    """
    lists = [config.labels] if config.labels else sorted(p for p in root.iterdir() if _TRAIN_LIST.fullmatch(p.name))
    if len(lists) != 1 or not (named := _TRAIN_LIST.fullmatch(lists[0].name)):
        found = ", ".join(path.name for path in lists) or "none"
        raise PlaceError(
            f"{root}: one training list of COVIDx is needed (train_COVIDx9A.txt, or train.txt of CXR-4), found {found}; "
            "put it there, or name it with --set preprocess.labels=PATH"
        )
    train = lists[0]
    test, validate = (train.with_name(part + train.name.removeprefix("train")) for part in ("test", "val"))
    if not test.is_file():
        raise PlaceError(f"{test}: not there; COVIDx publishes it beside {train.name}: put it there")
    name = named[1] or ("CXR-4" if validate.is_file() else "")
    return Version(name, train, test, validate if validate.is_file() else None)


def parse_line(text: str) -> Line | None:
    """A line read from the right, or None if it is none: no class where it has to be, no image file, no patient."""
    fields = text.split()
    for at in (-1, -2):
        if len(fields) >= 2 - at and _is_class(fields[at]) and _IMAGE.fullmatch(fields[at - 1]):
            patient = " ".join(fields[: at - 1])
            return Line(patient, fields[at - 1], fields[at], "" if at == -1 else fields[-1])
    return None


def labels_of(category: str) -> dict[str, float]:
    """Labels of one of the five classes: three, of which one is 1.0, or COVID-19 alone."""
    if category in TWO_CLASSES:
        return {"COVID-19": TWO_CLASSES[category]}
    return {name: float(name == category) for name in THREE_CLASSES}


def _is_class(word: str) -> bool:
    return word in THREE_CLASSES or word in TWO_CLASSES


def _compat_splits(count: int) -> list[str]:
    """The part of each row of the training list: floor(0.8 n) train, the rest validate, from scikit-learn's shuffle.

    `train_test_split(rows, train_size=0.8, random_state=0)` permutes the rows and takes the second part from the front.
    """
    _, validate = draw_two(count, count - floor(COMPAT_TRAIN * count), COMPAT_SEED)
    splits = ["train"] * count
    for position in validate:
        splits[position] = "validate"
    return splits


def _hashed(patient: str, config: PreprocessConfig) -> str:
    return split_of(patient, config.split_seed, config.validate_fraction, 0.0)


def _read_list(path: Path, rejects: list[Reject]) -> list[Line]:
    try:
        texts = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PlaceError(f"{path}: not readable as a list ({error}); fetch it again") from None
    lines = []
    for number, text in enumerate(texts, start=1):
        line = parse_line(text)
        if line is not None:
            lines.append(line)
        elif text.strip():
            rejects.append(Reject(f"{path.name}:{number}", "line_invalid", "It is not patient, image, class, source."))
    return lines

"""SIIM-ACR Pneumothorax Segmentation (stage 1): DICOM files and masks as relative run lengths."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from placecli.config import PreprocessConfig
from placecli.data.releases.published_splits import draw_three
from placecli.data.releases.tables import find_table, read_table
from placecli.records import SPLITS, ImageFile, PlaceError, Reject, RunMask, Study

TABLE: Final = "train-rle.csv"
IMAGES: Final = "dicom-images-train"
FRAME: Final = (1024, 1024)
PNEUMOTHORAX: Final = "Pneumothorax"

COMPAT_HELD_OUT: Final = 0.15 * 2
"""Share of rows that MGCA holds out for validation and test, as it writes it."""
COMPAT_NEGATIVES_SEED: Final = 42
"""Seed of NumPy when MGCA draws the negative images of the training split."""

Run = tuple[int, int]
_ID: Final = re.compile(r"[0-9A-Za-z._-]{1,128}")


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the table. `runs` are (start, length); none for a negative line."""

    name: str
    runs: tuple[Run, ...]


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """A study an image, sorted by id, with the union of its rows as mask (an empty one for a negative image).

    In the clean split patient and study come from the DICOM header. In the compat split an image is its own patient,
    and one whose rows are in several parts is in each of them, as `<ImageId>@<split>`, with the mask of those rows.
    Rejects: `row_invalid`, `image_missing`, `image_repeated`, `image_unannotated`, `not_sampled`. Raises PlaceError
    for a missing or unreadable table.
    """
    table = find_table(root, (TABLE,))
    if table is None:
        raise PlaceError(
            f"{root / TABLE}: not found; give the folder that holds it and {IMAGES}/ as --root (stage 1, not a repack)"
        )
    rows, bad = _read_rows(table)
    yield from bad.values()
    files, repeated = _find_images(root)
    yield from repeated
    yield from _clean_studies(rows, bad, files) if config.splits == "clean" else _compat_studies(rows, bad, files)
    named = {row.name for row in rows}
    for name in sorted(files.keys() - named - bad.keys()):
        source = files[name].relative_to(root).as_posix()
        yield Reject(source, "image_unannotated", f"{TABLE} has no row for this image.")


def parse_runs(text: str) -> tuple[Run, ...]:
    """Relative run lengths -> (start, length) in the flat column-major frame of 1024 x 1024; () for "-1".

    The text is pairs of (gap, length); a gap counts from the end of the run before. Raises ValueError for anything
    else and for runs that leave the frame.
    """
    if text.strip() == "-1":
        return ()
    numbers = [int(number) for number in text.split()]
    if not numbers or len(numbers) % 2:
        raise ValueError("the run lengths are not pairs of numbers")
    runs, place = [], 0
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        if gap < 0 or length < 0:
            raise ValueError("a run length is negative")
        runs.append((place + gap, length))
        place += gap + length
    if place > FRAME[0] * FRAME[1]:
        raise ValueError("the runs leave the frame")
    return tuple(runs)


def _read_rows(table: Path) -> tuple[list[_Row], dict[str, Reject]]:
    """All rows, and a Reject for each image with a row that does not hold; the row stays, as one without runs."""
    rows: list[_Row] = []
    bad: dict[str, Reject] = {}
    # The second column's name and the value -1 begin with a space in some copies; the table is read stripped.
    for line, row in read_table(table, ("ImageId", "EncodedPixels")):
        name = row["ImageId"]
        try:
            if not _ID.fullmatch(name):
                raise ValueError("ImageId is not an id")
            runs = parse_runs(row["EncodedPixels"])
        except ValueError as error:
            problem = str(error) if "literal" not in str(error) else "the run lengths are not numbers"
            bad.setdefault(name, Reject(f"{TABLE}:{line}", "row_invalid", f"{problem}; the image is left out."))
            runs = ()
        rows.append(_Row(name, runs))
    return rows, bad


def _find_images(root: Path) -> tuple[dict[str, Path], list[Reject]]:
    """`<StudyUID>/<SeriesUID>/<ImageId>.dcm` by ImageId, and a Reject for each further file of the same name."""
    files: dict[str, Path] = {}
    repeated = []
    for path in sorted((root / IMAGES).glob("*/*/*.dcm")):
        if files.setdefault(path.stem, path) is not path:
            source = path.relative_to(root).as_posix()
            repeated.append(Reject(source, "image_repeated", "A file with this name is in another folder."))
    return files, repeated


def _clean_studies(
    rows: Sequence[_Row], bad: Mapping[str, Reject], files: Mapping[str, Path]
) -> Iterator[Study | Reject]:
    runs = _union(rows)
    for name in sorted(runs.keys() - bad.keys()):
        yield _study(name, runs[name], files, "") if name in files else _missing(name)


def _compat_studies(
    rows: Sequence[_Row], bad: Mapping[str, Reject], files: Mapping[str, Path]
) -> Iterator[Study | Reject]:
    """Rows drawn as MGCA draws them; of the training part all positive images and as many negative ones."""
    parts = {split: [rows[i] for i in numbers] for split, numbers in draw_three(len(rows), COMPAT_HELD_OUT).items()}
    runs = {split: _union(parts[split]) for split in SPLITS}
    sampled = _sample_negatives(parts["train"])
    for name in sorted({row.name for row in rows} - bad.keys()):
        if name not in files:
            yield _missing(name)
            continue
        found = [split for split in SPLITS if name in runs[split]]
        for split in found:
            if split == "train" and not runs[split][name] and name not in sampled:
                yield Reject(name, "not_sampled", "The published training split leaves this negative image out.")
                continue
            yield _study(name, runs[split][name], files, split, f"{name}@{split}" if len(found) > 1 else name)


def _union(rows: Sequence[_Row]) -> dict[str, tuple[Run, ...]]:
    runs: dict[str, tuple[Run, ...]] = defaultdict(tuple)
    for row in rows:
        runs[row.name] += row.runs
    return runs


def _sample_negatives(train: Sequence[_Row]) -> set[str]:
    """As many negative images as there are positive ones, in the order of the drawn rows."""
    negatives = list(dict.fromkeys(row.name for row in train if not row.runs))
    num_positives = len({row.name for row in train if row.runs})
    random = np.random.RandomState(COMPAT_NEGATIVES_SEED)
    numbers = random.choice(len(negatives), size=min(num_positives, len(negatives)), replace=False)
    return {negatives[number] for number in numbers}


def _study(name: str, runs: tuple[Run, ...], files: Mapping[str, Path], split: str, compat_id: str = "") -> Study:
    image = ImageFile(image_id=compat_id or name, path=files[name], mask=RunMask(FRAME, runs), frame=FRAME)
    patient = name if split else ""
    return Study(compat_id, patient, (image,), split, labels={PNEUMOTHORAX: float(bool(runs))})


def _missing(name: str) -> Reject:
    return Reject(f"{IMAGES}/{name}", "image_missing", "The table names this image; no file of that name is here.")

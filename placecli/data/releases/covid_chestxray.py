"""COVID-19 image data collection (Cohen et al., ieee8023/covid-chestxray-dataset): pictures cut from papers and case
collections, with clinical notes, findings, masks of the lungs made by a machine and boxes of the lungs.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.releases.covid_findings import known_paths, labels_of, parse_finding
from placecli.data.releases.covid_lung_boxes import BOXES, LungBoxes, read_lung_boxes
from placecli.data.releases.lung_masks import LUNGS
from placecli.data.releases.tables import find_encoding, find_table, read_table
from placecli.records import ImageFile, PlaceError, Reject, Study

TABLE: Final = "metadata.csv"
COLUMNS: Final = ("patientid", "offset", "finding", "view", "modality", "date", "folder", "filename")
NOTES: Final = ("clinical_notes", "clinical notes")
"""The column of the text, as the versions from May 2020 on and those before call it."""
MASKS: Final = "annotations/lungVAE-masks"
RADIOGRAPH: Final = "X-ray"

VIEWS: Final[Mapping[str, str]] = {
    "": "",
    "pa": "PA",
    "l": "LATERAL",
    **dict.fromkeys(("ap", "ap supine", "aps", "ap erect", "ap semi erect"), "AP"),
}
"""Views as the table writes them, in lower case; any other is OTHER."""

_NAME: Final = re.compile(r"[^/\\\0]+")
_FOLDER: Final = re.compile(r"[A-Za-z0-9_-]+")
_MASK: Final = re.compile(r"(.+)_mask\.png(?:\.png)?")
_PICTURE: Final = re.compile(r".+\.(?:png|jpe?g)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Line:
    """One radiograph of the table. `day` is the offset in days, "" for not told."""

    name: str
    folder: str
    patient: str
    day: str
    date: str
    view: str
    paths: tuple[tuple[str, ...], ...]
    notes: str

    @property
    def source(self) -> str:
        return f"{self.folder}/{self.name}"


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """Studies in the order of the table: the pictures of one patient with one day, date, finding and text, which are the
    views of one examination; a picture without a day is its own study. All are called by file names.

    The text is the "full report". Labels: the names of the findings, and Lungs for a labelled study with a mask. No
    split is published, so a hash of the patient decides. Rejects: `modality_excluded`, `row_invalid`, `image_missing`,
    `image_unannotated`, `mask_ambiguous`, `mask_unused`, `boxes_unused`. Raises PlaceError for a table or a file of boxes
    that is missing or not readable.
    """
    table = find_table(root, (TABLE,))
    if table is None:
        raise PlaceError(f"{root / TABLE}: not there; give the folder of the collection that holds it as --root")
    rejects: list[Reject] = []
    named: set[str] = set()
    lines = _read_lines(table, rejects, named)
    boxes = read_lung_boxes(root / BOXES, rejects)
    masks = _read_masks(root / MASKS, lines, rejects)
    rejects += [
        Reject(f"{BOXES}:{name}", "boxes_unused", "The table has no radiograph of this name.")
        for name in sorted(boxes.keys() - {line.name for line in lines})
    ]
    yield from rejects
    known = known_paths(line.paths for line in lines)
    for group in _group(lines):
        present = []
        for line in group:
            if (root / line.source).is_file():
                present.append(line)
            else:
                yield Reject(line.source, "image_missing", "The table names this image; the file is not here.")
        if present:
            yield _make_study(root, present, labels_of(present[0].paths, known), masks, boxes)
    for folder in sorted({line.folder for line in lines}):
        for path in sorted((root / folder).glob("*")):
            if _PICTURE.fullmatch(path.name) and path.name not in named:
                yield Reject(f"{folder}/{path.name}", "image_unannotated", f"{TABLE} has no row for this image.")


def _make_study(
    root: Path,
    group: Sequence[_Line],
    labels: Mapping[str, float],
    masks: Mapping[str, Path],
    boxes: Mapping[str, LungBoxes],
) -> Study:
    images = []
    for line in group:
        found = boxes.get(line.name)
        images.append(
            ImageFile(
                image_id=line.name,
                path=root / line.source,
                view=line.view,
                boxes=found.boxes if found else (),
                mask=masks.get(line.name),
                frame=found.frame if found else None,
            )
        )
    has_mask = any(line.name in masks for line in group)
    return Study(
        study_id=group[0].name,
        patient_id=group[0].patient,
        images=tuple(images),
        sections={"full report": group[0].notes} if group[0].notes else {},
        labels={**labels, LUNGS: 1.0} if labels and has_mask else labels,
    )


def _group(lines: Sequence[_Line]) -> list[list[_Line]]:
    """Lines of one examination, each group where its first line is."""
    groups: dict[tuple[object, ...], list[_Line]] = defaultdict(list)
    for line in lines:
        # A blank day is not known, so two of them are not one.
        key = (line.patient, line.day, line.date, line.paths, line.notes) if line.day else (line.name,)
        groups[key].append(line)
    return list(groups.values())


def _read_lines(table: Path, rejects: list[Reject], named: set[str]) -> list[_Line]:
    """The radiographs of the table; `named` gets every file name of it, so that no file counts as unknown twice."""
    lines: list[_Line] = []
    for number, row in read_table(table, COLUMNS, find_encoding(table)):
        source, name, paths = f"{table.name}:{number}", row["filename"], parse_finding(row["finding"])
        is_second = name in named
        named.add(name)
        if row["modality"] != RADIOGRAPH:
            message = f"The modality of this row is not {RADIOGRAPH}; slices and volumes of CT are not read."
            rejects.append(Reject(source, "modality_excluded", message))
            continue
        notes = next((row[column] for column in NOTES if column in row), None)
        if notes is None:
            raise PlaceError(f"{table}: no column {' or '.join(NOTES)}; use the table of a version from April 2020 on")
        problem = "Its file was named before." if is_second else ""
        if not _NAME.fullmatch(name) or not _FOLDER.fullmatch(row["folder"]) or name in (".", ".."):
            problem = "Its folder or file has no plain name."
        elif not row["patientid"]:
            problem = "It has no patientid."
        elif paths is None:
            problem = "Its finding is not a list of names."
        if problem:
            rejects.append(Reject(source, "row_invalid", problem))
            continue
        view = VIEWS.get(" ".join(row["view"].casefold().split()), "OTHER")
        day, date = row["offset"], row["date"]
        lines.append(_Line(name, row["folder"], row["patientid"], day, date, view, paths or (), notes))
    return lines


def _read_masks(folder: Path, lines: Sequence[_Line], rejects: list[Reject]) -> dict[str, Path]:
    """File name of an image -> its mask, which is called by the stem and so belongs to nobody where two images share it."""
    names: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        names[line.name.rpartition(".")[0] or line.name].append(line.name)
    masks: dict[str, Path] = {}
    paths = sorted(folder.glob("*.png"))
    stems = {path: match[1] for path in paths if (match := _MASK.fullmatch(path.name))}
    twice = {stem for stem, count in Counter(stems.values()).items() if count > 1}
    for path in paths:
        stem = stems.get(path, "")
        images = names.get(stem, [])
        if len(images) > 1 or (images and stem in twice):
            message = "Its name belongs to several images or masks, so it is used for none."
            rejects.append(Reject(f"{MASKS}/{path.name}", "mask_ambiguous", message))
        elif images:
            masks[images[0]] = path
        else:
            rejects.append(Reject(f"{MASKS}/{path.name}", "mask_unused", "No radiograph has this mask's name."))
    return masks

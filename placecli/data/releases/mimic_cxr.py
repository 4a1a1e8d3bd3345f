"""MIMIC-CXR: the DICOM release 2.0.0 and the JPG releases 2.0.0 and 2.1.0, with the report archive beside them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.releases.mimic_cxr_rules import sections_by_hand
from placecli.data.releases.tables import find_table, parse_labels, read_table
from placecli.records import SPLITS, ImageFile, PlaceError, Reject, Study

RECORD_LIST: Final = ("cxr-record-list.csv",)
METADATA: Final = ("mimic-cxr-2.0.0-metadata.csv", "mimic-cxr-2.1.0-metadata.csv")
SPLIT: Final = ("mimic-cxr-2.0.0-split.csv", "mimic-cxr-2.1.0-split.csv")
LABELS: Final = (
    *("mimic-cxr-2.0.0-chexpert.csv", "mimic-cxr-2.1.0-chexpert.csv"),
    *("mimic-cxr-2.0.0-negbio.csv", "mimic-cxr-2.1.0-negbio.csv"),
)
TEST_LABELS: Final = ("mimic-cxr-2.1.0-test-set-labeled.csv",)
SECTIONED: Final = ("mimic_cxr_sectioned.csv",)
SECTION_COLUMNS: Final = ("impression", "findings", "last_paragraph", "comparison")
REPORT_FOLDERS: Final = ("mimic-cxr-reports/files", "mimic-cxr-reports", "files")
"""Where reports are looked for, in this order: the archive unpacked beside the images, or into their tree."""

LABEL_ALIASES: Final[Mapping[str, str]] = {"Airspace Opacity": "Lung Opacity"}
"""The radiologists' table of the test set may call a label by another name than the automatic ones do."""

VIEWS: Final[Mapping[str, str]] = {
    **{view: view for view in ("PA", "AP", "LATERAL", "")},
    **dict.fromkeys(("LL", "RL", "XTABLE LATERAL"), "LATERAL"),
}
"""ViewPosition -> view; any other, such as an oblique or a decubitus view, is OTHER."""

_SUBJECT: Final = re.compile(r"1[0-9]{7}")
_STUDY: Final = re.compile(r"5[0-9]{7}")
_IMAGE: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}")


@dataclass(frozen=True, slots=True)
class Tables:
    """What the tables of the release say of a study, by study id, and of an image, by dicom id."""

    images: Mapping[tuple[str, str], tuple[str, ...]]
    """(subject, study) -> dicom ids, sorted."""
    suffix: str
    views: Mapping[str, str] = field(default_factory=dict)
    splits: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """Studies sorted by subject and study; `root` holds the tables and `files/p10/p10000032/s50414267/...`.

    Rejects: `row_invalid`, `group_missing` (one for a whole absent folder such as files/p11), `image_missing`,
    `report_missing`. Raises PlaceError for a missing table, an unreadable one, or a root without any report.
    """
    rejects: list[Reject] = []
    tables = _read_tables(root, rejects)
    yield from rejects
    reports = _report_folder(root)
    if config.require_report and reports is None and not tables.sections:
        raise PlaceError(
            f"{root}: no reports (p10/p10000032/s50414267.txt) under {', '.join(REPORT_FOLDERS)}; unpack "
            "mimic-cxr-reports.zip there or set preprocess.require_report=false"
        )
    absent = _absent_groups(root, tables)
    yield from absent.values()
    for (subject, study), dicom_ids in tables.images.items():
        if f"p{subject[:2]}" in absent:
            continue
        images: list[ImageFile] = []
        for image in _image_files(root, tables, subject, study, dicom_ids):
            if isinstance(image, Reject):
                yield image
            else:
                images.append(image)
        if images:
            yield _study(tables, reports, subject, study, tuple(images), config.require_report)


def _study(
    tables: Tables, reports: Path | None, subject: str, study: str, images: tuple[ImageFile, ...], require_report: bool
) -> Study | Reject:
    sections: Mapping[str, str] | None = tables.sections.get(study)
    report_path = None
    if sections is None:
        place = f"p{subject[:2]}/p{subject}/s{study}.txt"
        if reports is not None and (reports / place).is_file():
            report_path = reports / place
        elif require_report:
            return Reject(f"files/{place}", "report_missing", "The study has images; its report is not here.")
        if report_path is not None and (sections := sections_by_hand(f"s{study}", report_path)) is not None:
            report_path = None
    return Study(
        study_id=study,
        patient_id=subject,
        images=images,
        split=_study_split(tables, study, images),
        sections=sections or {},
        report_path=report_path,
        labels=tables.labels.get(study, {}),
    )


def _study_split(tables: Tables, study: str, images: tuple[ImageFile, ...]) -> str:
    splits = {tables.splits.get(image.image_id, "") for image in images} - {""}
    if len(splits) > 1:
        raise PlaceError(
            f"study {study}: its images are in the splits {', '.join(sorted(splits))}; fetch the split table again"
        )
    return next(iter(splits), "")


def _image_files(
    root: Path, tables: Tables, subject: str, study: str, dicom_ids: tuple[str, ...]
) -> Iterator[ImageFile | Reject]:
    folder = root / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}"
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for dicom_id in dicom_ids:
        path = folder / f"{dicom_id}{tables.suffix}"
        if path.name in present:
            yield ImageFile(image_id=dicom_id, path=path, view=tables.views.get(dicom_id, ""))
        else:
            yield Reject(
                str(path.relative_to(root)), "image_missing", "The table names this image; the file is not here."
            )


def _absent_groups(root: Path, tables: Tables) -> dict[str, Reject]:
    """One Reject for each whole group folder that the tables name and that was not downloaded."""
    listed: dict[str, int] = defaultdict(int)
    for (subject, _), dicom_ids in tables.images.items():
        listed[f"p{subject[:2]}"] += len(dicom_ids)
    return {
        group: Reject(f"files/{group}", "group_missing", f"The folder is not here; {count} listed images are left out.")
        for group, count in sorted(listed.items())
        if not (root / "files" / group).is_dir()
    }


def _read_tables(root: Path, rejects: list[Reject]) -> Tables:
    metadata, record_list = find_table(root, METADATA), find_table(root, RECORD_LIST)
    if metadata is None and record_list is None:
        raise PlaceError(
            f"{root}: neither {METADATA[0]} (JPG release) nor {RECORD_LIST[0]} (DICOM release), plain or .gz; "
            "put the table there or give the folder that holds it and files/ as --root"
        )
    views: dict[str, str] = {}
    listed: dict[str, dict[tuple[str, str], tuple[str, ...]]] = {}
    if metadata is not None:
        listed[".jpg"] = _read_images(metadata, ("dicom_id", "subject_id", "study_id", "ViewPosition"), rejects, views)
    if record_list is not None and (metadata is None or _holds_dicom(root)):
        listed = {".dcm": _read_images(record_list, ("subject_id", "study_id", "dicom_id", "path"), rejects, {})}
    ((suffix, images),) = listed.items()
    return Tables(images, suffix, views, _read_splits(root), _read_labels(root), _read_sections(root))


def _holds_dicom(root: Path) -> bool:
    """Whether the first images found are DICOM: a root may hold the tables of both releases and the images of one."""
    for folder in islice((root / "files").glob("p*/p*/s*/"), 200):
        suffixes = {path.suffix for path in folder.iterdir()} if folder.is_dir() else set()
        if suffixes & {".dcm", ".jpg"}:
            return ".dcm" in suffixes
    return False


def _read_images(
    table: Path, columns: tuple[str, ...], rejects: list[Reject], views: dict[str, str]
) -> dict[tuple[str, str], tuple[str, ...]]:
    images: dict[tuple[str, str], set[str]] = defaultdict(set)
    for line, row in read_table(table, columns):
        subject, study, dicom_id = row["subject_id"], row["study_id"], row["dicom_id"]
        # Paths are made of these three, so only the shapes that the release publishes are let through.
        if not (_SUBJECT.fullmatch(subject) and _STUDY.fullmatch(study) and _IMAGE.fullmatch(dicom_id)):
            rejects.append(
                Reject(f"{table.name}:{line}", "row_invalid", "An id has not the shape that the release uses.")
            )
            continue
        images[subject, study].add(dicom_id)
        view = row.get("ViewPosition", "").upper()
        views[dicom_id] = VIEWS.get(view, "OTHER")
    return {key: tuple(sorted(images[key])) for key in sorted(images)}


def _read_splits(root: Path) -> dict[str, str]:
    table = find_table(root, SPLIT)
    splits: dict[str, str] = {}
    for line, row in read_table(table, ("dicom_id", "split")) if table else ():
        if row["split"] not in SPLITS:
            raise PlaceError(f"{table}, line {line}: split {row['split']!r} is none of {', '.join(SPLITS)}")
        splits[row["dicom_id"]] = row["split"]
    return splits


def _read_labels(root: Path) -> dict[str, dict[str, float]]:
    """Labels by study: CheXpert's (else NegBio's), replaced by the radiologists' for the studies that they read."""
    labels: dict[str, dict[str, float]] = {}
    for table in (find_table(root, LABELS), find_table(root, TEST_LABELS)):
        for line, row in read_table(table, ("study_id",)) if table else ():
            names = [name for name in row if name not in ("subject_id", "study_id", "")]
            values = parse_labels(table, line, row, names) if table else {}
            labels[row["study_id"]] = {LABEL_ALIASES.get(name, name): value for name, value in values.items()}
    return labels


def _read_sections(root: Path) -> dict[str, dict[str, str]]:
    table = find_table(root, SECTIONED)
    return {
        row["study"].removeprefix("s"): {name: row[name] for name in SECTION_COLUMNS if row[name]}
        for _, row in (read_table(table, ("study", *SECTION_COLUMNS)) if table else ())
    }


def _report_folder(root: Path) -> Path | None:
    """The first folder with a report below it; the images' tree comes last, since to find none there is a long walk."""
    for name in REPORT_FOLDERS:
        if next((root / name).glob("p[0-9][0-9]/p*/s*.txt"), None) is not None:
            return root / name
    return None

"""Open-i (Indiana University): one collection in three layouts, told apart by what the folder holds.

NLM: `ecgen-radiology/*.xml` or `NLMCXR_reports.tgz`, with `NLMCXR_png/`. Kaggle: `indiana_reports.csv` and
`indiana_projections.csv`, with `images/images_normalized/`. R2Gen: `annotation.json`, with `images/`.
A patient has one study; both are called `CXR<uid>` in every layout, so the layouts never count as different people.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.releases.openi_xml import XmlReport, has_xml_reports, read_xml_reports
from placecli.data.releases.r2gen import IU_NAME
from placecli.data.releases.r2gen_annotation import ANNOTATION, read_annotation
from placecli.data.releases.tables import parse_labels, read_table
from placecli.records import ImageFile, PlaceError, Reject, Study

REPORTS: Final = "indiana_reports.csv"
PROJECTIONS: Final = "indiana_projections.csv"
SECTIONS: Final = ("indication", "comparison", "findings", "impression")

NLM_FOLDERS: Final = ("NLMCXR_png", "images", ".")
KAGGLE_FOLDERS: Final = ("images/images_normalized", "images_normalized", "images")

VIEWS: Final[Mapping[str, str]] = {"Frontal": "FRONTAL", "Lateral": "LATERAL"}

_UID: Final = re.compile(r"[0-9]{1,8}")
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+")
_IMAGE_SUFFIX: Final = re.compile(r"(?:\.dcm)?(?:\.png|\.jpe?g)?$")
_LINE_BREAK: Final = re.compile(r"</?br\s*/?>", re.IGNORECASE)


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """Studies sorted by uid, with gold labels joined by name where `config.labels` names their table.

    Rejects: `xml_malformed`, `report_too_large`, `report_without_image`, `image_without_report`, `image_missing`,
    `row_invalid`. Raises PlaceError if `root` holds none of the layouts or more than one, for an unreadable table,
    and for gold labels of which none belongs to a study.
    """
    labels = _read_gold_labels(config.labels) if config.labels else {}
    entries: Iterator[Study | Reject]
    match _find_layout(root):
        case "kaggle":
            entries = _kaggle_studies(root, labels)
        case "nlm":
            entries = _nlm_studies(root, labels)
        case _:
            entries = _r2gen_studies(root, labels)
    num_studies, num_labelled = 0, 0
    for entry in entries:
        num_studies += isinstance(entry, Study)
        num_labelled += isinstance(entry, Study) and entry.study_id in labels
        yield entry
    if labels and num_studies and not num_labelled:
        raise PlaceError(
            f"{config.labels}: none of its reports is a study of {root}; its filename column has to hold CXR<uid>"
        )


def _find_layout(root: Path) -> str:
    found = {
        "kaggle": (root / REPORTS).is_file(),
        "nlm": has_xml_reports(root),
        "r2gen": (root / ANNOTATION).is_file(),
    }
    layouts = [name for name, is_there in found.items() if is_there]
    if len(layouts) == 1:
        return layouts[0]
    known = f"{REPORTS} (Kaggle), ecgen-radiology or NLMCXR_reports.tgz (NLM), {ANNOTATION} (R2Gen)"
    if layouts:
        raise PlaceError(
            f"{root}: more than one layout of Open-i ({', '.join(layouts)}); give each its own folder: {known}"
        )
    raise PlaceError(
        f"{root}: no layout of Open-i; looked for {known}; give the folder that holds one of them as --root"
    )


def _kaggle_studies(root: Path, labels: Mapping[str, Mapping[str, float]]) -> Iterator[Study | Reject]:
    if not (root / PROJECTIONS).is_file():
        raise PlaceError(
            f"{root / PROJECTIONS}: not there; it names the images of {REPORTS}: put both tables into {root}"
        )
    reports: dict[int, dict[str, str]] = {}
    for line, row in read_table(root / REPORTS, ("uid", "findings", "impression")):
        if not _UID.fullmatch(row["uid"]):
            yield Reject(f"{REPORTS}:{line}", "row_invalid", "The uid of this row is not a number.")
        elif int(row["uid"]) in reports:
            yield Reject(f"{REPORTS}:{line}", "row_invalid", "The uid of this row was there before.")
        else:
            reports[int(row["uid"])] = row
    images: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for line, row in read_table(root / PROJECTIONS, ("uid", "filename", "projection")):
        if not _UID.fullmatch(row["uid"]) or not _NAME.fullmatch(row["filename"]):
            yield Reject(f"{PROJECTIONS}:{line}", "row_invalid", "This row has no number as uid or no plain file name.")
        elif int(row["uid"]) not in reports:
            yield Reject(row["filename"], "image_without_report", f"Its uid is not in {REPORTS}.")
        else:
            images[int(row["uid"])].append((row["filename"], VIEWS.get(row["projection"], "")))
    files = _list_images(root, KAGGLE_FOLDERS)
    for uid in sorted(reports):
        named = [(_image_id(f"CXR{name}"), name, view) for name, view in sorted(images[uid])]
        yield from _make_study(f"CXR{uid}", reports[uid], named, files, labels)


def _nlm_studies(root: Path, labels: Mapping[str, Mapping[str, float]]) -> Iterator[Study | Reject]:
    files = _list_images(root, NLM_FOLDERS)
    views = _read_projections(root / PROJECTIONS)
    for report in read_xml_reports(root):
        if not isinstance(report, XmlReport):
            yield report
            continue
        ids = [_image_id(name) for name in report.image_names]
        named = [(id_, name, views.get(id_, "")) for id_, name in sorted(zip(ids, report.image_names, strict=True))]
        yield from _make_study(report.study_id, report.sections, named, files, labels)


def _r2gen_studies(root: Path, labels: Mapping[str, Mapping[str, float]]) -> Iterator[Study | Reject]:
    path = root / ANNOTATION
    for entry in read_annotation(path):
        name = entry.name
        uid = IU_NAME.fullmatch(name)
        if uid is None:
            raise PlaceError(
                f"{path}: an id is not one of Open-i (CXR2384_IM-0942); for MIMIC-CXR use --preset mimic-r2gen"
            )
        parts = [item.split("/") for item in entry.image_paths]
        if any(len(part) != 2 or part[0] != name or not _NAME.fullmatch(part[1]) or part[1] == ".." for part in parts):
            yield Reject(f"{ANNOTATION}:{name}", "row_invalid", "An image path is not <id>/<file name>.")
            continue
        files = {file: root / "images" / name / file for _, file in parts}
        named = [(f"{_image_id(name)}_{_IMAGE_SUFFIX.sub('', file)}", file, "") for _, file in parts]
        present = {_IMAGE_SUFFIX.sub("", file): path for file, path in files.items() if path.is_file()}
        yield from _make_study(uid[1], {"findings": entry.report}, named, present, labels, entry.split, f"{name}/")


def _make_study(
    study_id: str,
    texts: Mapping[str, str],
    named: list[tuple[str, str, str]],
    files: Mapping[str, Path],
    labels: Mapping[str, Mapping[str, float]],
    split: str = "",
    prefix: str = "",
) -> Iterator[Study | Reject]:
    """The study of the images (id, file name, view) that are in `files`; a Reject for each that is not."""
    if not named:
        yield Reject(study_id, "report_without_image", "The release names no image for this report.")
        return
    images = []
    for image_id, name, view in named:
        path = files.get(_IMAGE_SUFFIX.sub("", name))
        if path is None:
            yield Reject(
                f"{prefix}{name}", "image_missing", "The release names this image; no file of that name is here."
            )
        else:
            images.append(ImageFile(image_id=image_id, path=path, view=view))
    if images:
        sections = {name: _clean(texts[name]) for name in SECTIONS if texts.get(name, "").strip()}
        yield Study(study_id, study_id, tuple(images), split, sections, None, labels.get(study_id, {}))


def _list_images(root: Path, folders: tuple[str, ...]) -> dict[str, Path]:
    """File name without `.dcm.png`, `.png`, `.dcm.jpg` or `.jpg` -> path, of the first folder that is there.

    The collection goes round under all of these endings, whatever its tables say.
    """
    for name in folders:
        if (root / name).is_dir():
            files = sorted(path for path in (root / name).iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
            return {_IMAGE_SUFFIX.sub("", path.name): path for path in files}
    raise PlaceError(
        f"{root}: none of the image folders {', '.join(folders)} is there; unpack the images into one of them"
    )


def _image_id(name: str) -> str:
    """One id in all layouts: `CXR1000_IM-0003-1001`, which Kaggle calls `1000_IM-0003-1001.dcm.png`.

    For its first report NLM writes `CXR1_1_IM-...`.
    """
    return re.sub(r"^CXR([0-9]+)_\1_", r"CXR\1_", _IMAGE_SUFFIX.sub("", name))


def _read_projections(path: Path) -> dict[str, str]:
    """Image id -> view from Kaggle's table, where it lies beside NLM's files: these say nothing of the view."""
    if not path.is_file():
        return {}
    rows = (row for _, row in read_table(path, ("filename", "projection")))
    return {_image_id(f"CXR{row['filename']}"): VIEWS.get(row["projection"], "") for row in rows}


def _read_gold_labels(path: Path) -> dict[str, dict[str, float]]:
    if not path.is_file():
        raise PlaceError(f"{path}: no such file; give the CSV of gold labels as preprocess.labels, or leave it out")
    labels: dict[str, dict[str, float]] = {}
    for line, row in read_table(path, ("filename",)):
        names = [name for name in row if name != "filename"]
        values = parse_labels(path, line, row, names)
        bad = [name for name in names if values.get(name) not in (0.0, 1.0)]
        if bad:
            raise PlaceError(f"{path}, line {line}: column {bad[0]} holds {row[bad[0]]!r}; a gold label is 0 or 1")
        labels[row["filename"]] = values
    return labels


def _clean(text: str) -> str:
    """Text without the HTML that slipped into some reports (`&lt;`, `<BR>`); `XXXX` stays as it is."""
    return " ".join(_LINE_BREAK.sub(" ", html.unescape(text)).split())

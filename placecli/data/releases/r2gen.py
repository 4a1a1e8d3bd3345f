"""R2Gen's two sets for report generation: IU X-Ray (both views of a study) and MIMIC-CXR (the first image of an entry).

Reports are the findings as R2Gen's authors took them; nothing of the text is changed, since the published cleaning is
part of the published scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.releases.r2gen_annotation import ANNOTATION, Entry, read_annotation
from placecli.records import ImageFile, PlaceError, Reject, Study

IU_IMAGES: Final = 2
"""Images of a study of IU X-Ray: R2Gen joins the features of two."""
MIMIC_FOLDERS: Final = ("images", "files", ".")
"""Where the images of MIMIC-CXR are looked for: R2Gen's own folder, the tree of the JPG release, the root itself."""

IU_NAME: Final = re.compile(r"(CXR([0-9]{1,8}))(?:_\2)?_IM-[0-9-]+")
"""An id of IU X-Ray, `CXR2384_IM-0942`; the first report is called `CXR1_1_IM-0001`."""
_FILE: Final = re.compile(r"[A-Za-z0-9_-]+\.(?:png|jpe?g)")
_MIMIC_PATH: Final = re.compile(r"p(1[0-9])/p(\1[0-9]{6})/s(5[0-9]{7})/([0-9a-f]{8}(?:-[0-9a-f]{8}){4})\.jpg")


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """Studies sorted by id, each with its report as "findings" and R2Gen's split (`val` is validate).

    IU X-Ray: `ROOT/images/<id>/0.png` and `1.png`, two images a study in that order; the patient is `CXR<uid>`.
    MIMIC-CXR: one Study an entry; where an entry names several images the first is taken. Rejects: `row_invalid`, and
    for IU X-Ray `image_missing` and `study_incomplete` (one of the two images is not here). Raises PlaceError for a missing or
    unreadable annotation, and for one of the other set.
    """
    entries = read_annotation(root / ANNOTATION)
    folders = (root / name for name in MIMIC_FOLDERS)
    images = next((folder for folder in folders if next(folder.glob("p1[0-9]"), None)), root / MIMIC_FOLDERS[0])
    for entry in entries:
        yield from _iu_study(root, entry) if config.release == "iu-xray" else [_mimic_study(root, images, entry)]


def _iu_study(root: Path, entry: Entry) -> Iterator[Study | Reject]:
    uid = IU_NAME.fullmatch(entry.name)
    if uid is None:
        raise PlaceError(
            f"{root / ANNOTATION}: {entry.name!r} is not an id of IU X-Ray (CXR2384_IM-0942); for MIMIC-CXR use --preset "
            "mimic-r2gen"
        )
    parts = [path.split("/") for path in entry.image_paths]
    if len(parts) != IU_IMAGES or any(
        len(part) != 2 or part[0] != entry.name or not _FILE.fullmatch(part[1]) for part in parts
    ):
        yield Reject(f"{ANNOTATION}:{entry.name}", "row_invalid", "It does not name two images as <id>/<file name>.")
        return
    folder = root / "images" / entry.name
    missing = [file for _, file in parts if not (folder / file).is_file()]
    for file in missing:
        yield Reject(f"{entry.name}/{file}", "image_missing", "The annotation names this image; the file is not here.")
    if missing:
        if len(missing) < len(parts):
            message = "One of its two images is not here; reports are written from both."
            yield Reject(f"{ANNOTATION}:{entry.name}", "study_incomplete", message)
        return
    name = entry.name.replace(f"CXR{uid[2]}_{uid[2]}_", f"CXR{uid[2]}_", 1)
    images = tuple(ImageFile(f"{name}_{file.rpartition('.')[0]}", folder / file) for _, file in parts)
    yield Study(uid[1], uid[1], images, entry.split, {"findings": entry.report})


def _mimic_study(root: Path, images: Path, entry: Entry) -> Study | Reject:
    if IU_NAME.fullmatch(entry.name):
        raise PlaceError(
            f"{root / ANNOTATION}: {entry.name!r} is an id of IU X-Ray, not of MIMIC-CXR; use --preset iu-xray"
        )
    path = _MIMIC_PATH.fullmatch(entry.image_paths[0]) if entry.image_paths else None
    # The annotation's own subject and study, where it has them, have to be those of the path.
    if path is None or entry.subject not in ("", path[2]) or entry.study not in ("", path[3]):
        message = "Its first image is not p10/p10000032/s50414267/<dicom_id>.jpg of that subject and study."
        return Reject(f"{ANNOTATION}:{entry.name}", "row_invalid", message)
    image = ImageFile(path[4], images / entry.image_paths[0])
    return Study(path[3], path[2], (image,), entry.split, {"findings": entry.report})

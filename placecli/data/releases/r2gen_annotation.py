"""R2Gen's annotation.json: reports with a split and paths of images, for IU X-Ray and for MIMIC-CXR."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from placecli.records import PlaceError

ANNOTATION: Final = "annotation.json"
SPLITS: Final[Mapping[str, str]] = {"train": "train", "val": "validate", "test": "test"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: `split` is that of the store, `subject` and `study` are "" where the annotation has none (IU X-Ray)."""

    split: str
    name: str
    report: str
    image_paths: tuple[str, ...]
    subject: str = ""
    study: str = ""


def read_annotation(path: Path) -> list[Entry]:
    """All entries, sorted by name. Raises PlaceError where the file is not there or not R2Gen's annotation."""
    if not path.is_file():
        raise PlaceError(f"{path}: not there; give the folder that holds it and images/ as --root")
    try:
        annotation: Any = json.loads(path.read_text(encoding="utf-8"))
        entries = [_entry(split, entry) for split in SPLITS for entry in annotation[split]]
    except (ValueError, KeyError, TypeError, RecursionError, AttributeError) as error:
        raise PlaceError(
            f"{path}: not R2Gen's annotation ({type(error).__name__}: {error}); it holds train, val and test, lists of "
            "objects with id, report and image_path"
        ) from None
    return sorted(entries, key=lambda entry: entry.name)


def _entry(split: str, entry: Mapping[str, Any]) -> Entry:
    paths = entry["image_path"]
    if not isinstance(paths, list):
        raise TypeError("image_path is not a list")
    return Entry(
        split=SPLITS[split],
        name=str(entry["id"]),
        report=str(entry["report"] or ""),
        image_paths=tuple(map(str, paths)),
        subject=str(entry.get("subject_id", "")),
        study=str(entry.get("study_id", "")),
    )

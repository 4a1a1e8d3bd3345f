"""The phantom's folder as studies: `phantom.jsonl` names every file and finding."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from placecli.config import PreprocessConfig
from placecli.records import Box, ImageFile, PlaceError, Reject, ShapeMask, Study

ANNOTATIONS = "phantom.jsonl"


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """Every synthetic study below `root` in the order of the file (by patient and study).

    Boxes are in pixels of the file, one for each finding; the mask is the union of the findings, an empty one for a
    normal study, of which it is known that nothing is there; labels are 1.0 or 0.0 for all findings. A line that does
    not hold is yielded as a Reject. Raises PlaceError without `phantom.jsonl`.
    """
    path = root / ANNOTATIONS
    if not path.is_file():
        raise PlaceError(f"{path}: not found; `place demo` makes the synthetic studies, or name their folder as --root")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _study(root, json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                problem = type(error).__name__
                yield Reject(f"{ANNOTATIONS}:{number}", "annotation_invalid", f"not a study's record ({problem}).")


def _study(root: Path, record: Mapping[str, Any]) -> Study:
    boxes = tuple(Box(finding["label"], *map(float, _four(finding["box"]))) for finding in record["findings"])
    mask = _inside(root, record["mask"]) if record["mask"] else None
    image = ImageFile(
        image_id=record["image_id"],
        path=_inside(root, record["image"]),
        view=record["view"],
        boxes=boxes,
        mask=mask if boxes else ShapeMask(()),
    )
    return Study(
        study_id=record["study_id"],
        patient_id=record["patient_id"],
        images=(image,),
        split=record["split"],
        report_path=_inside(root, record["report"]),
        labels={str(label): float(value) for label, value in record["labels"].items()},
    )


def _four(values: list[float]) -> list[float]:
    if len(values) != 4:
        raise ValueError("a box has four numbers")
    return values


def _inside(root: Path, relative: str) -> Path:
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("a path leads out of the folder")
    return root / path

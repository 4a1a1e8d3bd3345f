"""object-CXR (JF Healthcare): frontal JPEG files with foreign objects outlined as rectangles, ellipses and polygons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.identity import split_of
from placecli.data.releases.object_cxr_shapes import FOREIGN_OBJECT, box_around, compat_box_around, parse_annotation
from placecli.data.releases.published_splits import draw_two
from placecli.data.releases.tables import find_table, read_table
from placecli.records import ImageFile, PlaceError, Reject, Shape, ShapeMask, Study

PARTS: Final = ("train", "dev", "test")
"""Names of the tables and of the folders of images. The table of the test part went round in some copies only."""

COMPAT_HELD_OUT: Final = 0.1
"""Share of train.csv that MGCA holds out for validation; its test split is dev.csv."""

_NAME: Final = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}")


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    shapes: tuple[Shape, ...]
    is_valid: bool = True


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """A study an image, part by part, each sorted by name. Label: Foreign Object; boxes and mask of all its objects.

    The release names no patients, so an image is its own. In the compat split a polygon's box is MGCA's.
    Rejects: `row_invalid`, `image_missing`. Raises PlaceError if train.csv or dev.csv is not there or not readable.
    """
    tables = {part: find_table(root, (f"{part}.csv",)) for part in PARTS}
    missing = next((part for part in ("train", "dev") if tables[part] is None), None)
    if missing:
        raise PlaceError(f"{root / missing}.csv: not found; give the folder of object-CXR's tables as --root")
    box = box_around if config.splits == "clean" else compat_box_around
    for part, table in tables.items():
        if table is None or (part == "test" and config.splits != "clean"):
            continue
        rejects: list[Reject] = []
        rows = _read_rows(table, rejects)
        yield from rejects
        splits = _splits(part, rows, config, has_test=tables["test"] is not None)
        folder = root / part
        present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for row in sorted(rows, key=lambda row: row.name):
            if not row.is_valid:
                continue
            if row.name not in present:
                yield Reject(f"{part}/{row.name}", "image_missing", "The table names this image; the file is not here.")
                continue
            image_id = f"{part}-{row.name.rpartition('.')[0] or row.name}"
            image = ImageFile(
                image_id=image_id,
                path=folder / row.name,
                view="FRONTAL",
                boxes=tuple(map(box, row.shapes)),
                mask=ShapeMask(row.shapes),
            )
            labels = {FOREIGN_OBJECT: float(bool(row.shapes))}
            yield Study(image_id, image_id, (image,), splits[row.name], labels=labels)


def _read_rows(table: Path, rejects: list[Reject]) -> list[_Row]:
    """The rows in their order; one that does not hold is kept as not valid, so that the published draw stays the same."""
    rows: list[_Row] = []
    seen: set[str] = set()
    for line, cells in read_table(table, ("annotation",)):
        path = cells.get("image_name", cells.get("image_path"))
        if path is None:
            raise PlaceError(f"{table}: no column image_name or image_path: use the table as it was published")
        name = path.rpartition("/")[2]
        shapes: tuple[Shape, ...] = ()
        problem = "" if _NAME.fullmatch(name) else "the image's name is not a file's"
        problem = problem or ("the image was there before" if name in seen else "")
        try:
            shapes = parse_annotation(cells["annotation"])
        except ValueError as error:
            problem = problem or str(error)
        seen.add(name)
        rows.append(_Row(name, shapes, not problem))
        if problem:
            rejects.append(Reject(f"{table.name}:{line}", "row_invalid", f"{problem}."))
    return rows


def _splits(part: str, rows: list[_Row], config: PreprocessConfig, *, has_test: bool) -> dict[str, str]:
    """Split by image name. Clean: the official parts; without test.csv dev is test and a hash takes validate from train."""
    if part == "train" and config.splits != "clean":
        _, held = draw_two(len(rows), COMPAT_HELD_OUT)
        numbers = set(held.tolist())
        return {row.name: "validate" if number in numbers else "train" for number, row in enumerate(rows)}
    if part == "train" and not has_test:
        fraction = config.validate_fraction
        return {row.name: split_of(row.name, config.split_seed, fraction, 0.0) for row in rows}
    split = {"train": "train", "dev": "validate" if has_test and config.splits == "clean" else "test", "test": "test"}
    return {row.name: split[part] for row in rows}

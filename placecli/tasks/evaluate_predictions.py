"""Files of predictions as `place evaluate --predictions` reads them: what is wrong is said with the file and the line."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from placecli.records import PlaceError
from placecli.tasks.use import Prediction

KEYS: Final = {
    "classification": "scores",
    "segmentation": "counts",
    "detection": "boxes",
    "report-generation": "report",
}
"""By task the key that holds what a prediction says."""
_NAMES: Final = ("image_id", "study_id", "query")
"""Keys that may name what a report is of; for other tasks only the first."""


def read_checked(file: Path, task: str) -> list[Prediction]:
    """The predictions of a file of JSON lines, each with the keys of the task.

    Raises PlaceError for a file that cannot be read or holds none, and, with its line, for a prediction that is no object,
    lacks a key or has another kind of value there, or is of an image that an earlier line has too.
    """
    wanted = KEYS[task]
    docs = "docs/reports.md" if task == "report-generation" else "docs/finetune.md"
    found: list[Prediction] = []
    line_of: dict[str, int] = {}
    for number, record in _records(file, docs):
        place = f"{file}, line {number}"
        names = _NAMES if task == "report-generation" else _NAMES[:1]
        missing = wanted if wanted not in record else "" if any(name in record for name in names) else names[0]
        if missing:
            near = difflib.get_close_matches(missing, record, n=1, cutoff=0.7)
            hint = f' (it has "{near[0]}")' if near else ""
            raise PlaceError(f'{place}: no "{missing}"{hint}; {docs} shows the form')
        fault = _fault(record[wanted], task)
        if fault:
            raise PlaceError(f'{place}: "{wanted}" {fault}; {docs} shows the form')
        image = record.get("image_id")
        if image is not None and line_of.setdefault(str(image), number) != number:
            raise PlaceError(f"{place}: of the same image as line {line_of[str(image)]}; keep one")
        found.append(record)
    if not found:
        raise PlaceError(f"{file}: holds no prediction; write one JSON object a line, one for every image of the split")
    return found


def _records(file: Path, docs: str) -> list[tuple[int, dict[str, Any]]]:
    """(number of the line, object), all lines before any is looked into."""
    parsed = [(number, _parse(line)) for number, line in _lines(file)]
    for number, record in parsed:
        if record is None:
            raise PlaceError(f"{file}, line {number}: not a JSON object; {docs} shows the form")
    return [(number, record) for number, record in parsed if record is not None]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of the lines that are not blank."""
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise PlaceError(f"{file}: no such file; --predictions takes a file of JSON lines") from None
    except IsADirectoryError:
        raise PlaceError(f"{file}: a folder; --predictions takes a file of JSON lines") from None
    except UnicodeDecodeError:
        raise PlaceError(f"{file}: not UTF-8 text; --predictions takes a file of JSON lines") from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PlaceError(f"{file}: not readable ({reason}); --predictions takes a file of JSON lines") from None
    yield from ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _parse(line: str) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def _fault(value: Any, task: str) -> str:
    """What is wrong with the kind of a value; "" where nothing is. What the score itself looks at is left to it."""
    if task == "report-generation":
        return "" if isinstance(value, str) else "is no text"
    if task != "classification":
        return "" if isinstance(value, list) else "is no list"
    if not isinstance(value, dict):
        return "is no object of a probability for each label"
    for label, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            return f'has something for "{label}" that is no number'
        if not 0 <= number <= 1:
            return f'has {number:g} for "{label}", outside 0..1'
    return ""

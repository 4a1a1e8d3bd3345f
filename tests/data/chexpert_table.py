"""The published train.csv of CheXpert where the package torchxrayvision is installed, which carries it."""

from __future__ import annotations

import csv
import gzip
import importlib.util
from pathlib import Path

import pytest


def published_table() -> Path:
    """The gzipped table in the installed package, read without importing it; skips the test without the package."""
    found = importlib.util.find_spec("torchxrayvision")
    if found is None or found.origin is None:
        pytest.skip("the label tables of torchxrayvision are not installed (pip install torchxrayvision)")
    return Path(found.origin).parent / "data" / "chexpert_train.csv.gz"


def published_rows() -> list[tuple[str, dict[str, float]]]:
    """(Path, labels) of each row in the order of the file; blanks are left out."""
    with gzip.open(published_table(), "rt", encoding="utf-8", newline="") as stream:
        rows = csv.reader(stream)
        names = next(rows)[5:]
        return [
            (row[0], {name: float(text) for name, text in zip(names, row[5:], strict=True) if text}) for row in rows
        ]

"""Right calls, misses and false alarms of a classifier, each the clearest of the split, whatever its scores mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from placecli.data.store import Store
from placecli.records import Row
from placecli.tasks.html_report_content import Case, Cases

Floats = NDArray[np.float64]

NUM_SHOWN: Final = 4
PANEL: Final = 300
"""Longest side of a picture, pixels."""


@dataclass(frozen=True, slots=True)
class Calls:
    """What is so and what is said of n images and L labels: targets [n, L] 1, 0 or nan; strengths [n, L], comparable
    between labels, the larger the surer that the label is there."""

    targets: Floats
    strengths: Floats


def call_cases(calls: Calls, measure: str, draw: Callable[[int, int], Case]) -> tuple[Cases, ...]:
    """Present findings of the largest strengths, present ones of the smallest, absent ones of the largest.

    `measure` names the strengths; `draw` makes the case of an image and a label by their numbers. Each label and each
    image comes once in a group.
    """
    present, absent, strengths = calls.targets == 1, calls.targets == 0, calls.strengths
    groups = (
        ("Rightly called", f"Findings that are there, with the highest {measure}.", present, strengths),
        ("Missed", f"Findings that are there, with the lowest {measure}.", present, -strengths),
        ("False alarms", f"Findings that are not there, with the highest {measure}.", absent, strengths),
    )
    return tuple(
        Cases(title, f"{note} Each label and each image once.", tuple(draw(*place) for place in chosen))
        for title, note, kept, sureness in groups
        if (chosen := strongest(np.where(kept, sureness, -np.inf)))
    )


def strongest(sureness: Floats) -> list[tuple[int, int]]:
    """(row, column) of the largest finite values, in falling order, each row and column once."""
    rows: set[int] = set()
    columns: set[int] = set()
    chosen: list[tuple[int, int]] = []
    for flat in np.argsort(-sureness, axis=None, kind="stable").tolist():
        row, column = divmod(flat, sureness.shape[1])
        if not np.isfinite(sureness[row, column]) or len(chosen) == NUM_SHOWN:
            break
        if row not in rows and column not in columns:
            chosen.append((row, column))
            rows.add(row)
            columns.add(column)
    return chosen


def labels_in_words(row: Row) -> str:
    """The labels that are present, as a sentence."""
    present = sorted(name.replace("_", " ") for name, value in row.labels.items() if value == 1)
    return f"Labels: {', '.join(present) or 'none present'}."


def draw_plain(store: Store, row: Row) -> NDArray[np.uint8]:
    """uint8 [h, w]: the image without its padding, the longest side as long as that of the other pictures."""
    x0, y0, x1, y1 = row.content
    image = store.images([row])[0][y0:y1, x0:x1]
    scale = PANEL / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)


def ids_of(row: Row) -> str:
    """For who asked to see them."""
    return f"study {row.study_id}, image {row.image_id}"

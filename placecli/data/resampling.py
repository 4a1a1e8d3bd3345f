"""Large integer images -> small ones by area averaging, in integers and strip by strip until little is left.

A strip of rows is prepared (clipped or looked up) and halved while it is in the processor's cache, so that the
frame is read from memory once and never held in a wider type. Halving by two is exact but for rounding to one unit
of 16 bits; what remains, a ratio of at least two, is area-averaged in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

STRIP_ROWS: Final = 128

Prepare = Callable[[NDArray[Any], slice], NDArray[np.uint16]]
"""(rows of the image, their place in it) -> the same rows as uint16; the result may live in a buffer used again."""


def fit_size(width: int, height: int, row_to_column: float, size: int) -> tuple[int, int]:
    """(width, height) with square pixels whose longest side is `size`; no side below 1."""
    scale = size / max(width, height * row_to_column)
    return max(1, round(width * scale)), max(1, round(height * row_to_column * scale))


def as_uint16(rows: NDArray[Any], place: slice) -> NDArray[np.uint16]:
    """The plain `Prepare`."""
    return rows.astype(np.uint16, copy=False)


def reduce_area(values: NDArray[Any], width: int, height: int, prepare: Prepare = as_uint16) -> NDArray[np.float32]:
    """Area average of `prepare(values)`, [h, w] -> float32 [height, width]; a side that grows is interpolated."""
    rows, columns = values.shape
    down, across = _num_halvings(rows, height), _num_halvings(columns, width)
    if not down and not across:
        return resize_float(prepare(values, slice(0, rows)).astype(np.float32), width, height)
    reduced = np.empty((rows >> down, columns >> across), np.uint16)
    for top in range(0, rows, STRIP_ROWS):
        place = slice(top, min(top + STRIP_ROWS, rows))
        strip = _halve(prepare(values[place], place), down, across)
        reduced[top >> down : (top >> down) + strip.shape[0]] = strip
    return resize_float(reduced.astype(np.float32), width, height)


def resize_float(image: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """float32 [h, w] -> [height, width]: area average along sides that shrink, linear along sides that grow."""
    rows, columns = image.shape
    smaller = min(columns, width), min(rows, height)
    if smaller != (columns, rows):
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), dtype=np.float32)
    if smaller != (width, height):
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return image


def to_uint8(brightness: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Brightness 0 to 1 -> 0 to 255, rounded to the nearest; beyond is clipped."""
    return np.rint(np.clip(brightness, 0.0, 1.0) * np.float32(255.0)).astype(np.uint8)


def _num_halvings(length: int, wanted: int) -> int:
    """How often a side can be halved without remainder and stay twice as long as wanted; a strip stays whole."""
    count = 0
    while (length >> count) % 2 == 0 and (length >> (count + 1)) >= 2 * wanted and STRIP_ROWS >> (count + 1):
        count += 1
    return count


def _halve(strip: NDArray[np.uint16], down: int, across: int) -> NDArray[np.uint16]:
    for step in range(max(down, across)):
        rows = strip.shape[0] >> (step < down)
        columns = strip.shape[1] >> (step < across)
        strip = cv2.resize(strip, (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return strip

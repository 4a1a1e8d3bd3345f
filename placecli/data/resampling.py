"""Large integer images -> small ones by exact area averaging, reading the frame from memory once.

The frame is taken in strips that fit the processor's cache. A strip is prepared (clipped or looked up) and its rows
are added up cell by cell, whole rows in integers; what an edge of a cell cuts off a row is added in float32. Nothing
is rounded on the way, and the frame is never held in a wider type.
"""

from __future__ import annotations

import functools
import itertools
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

FULL: Final = 65535

STRIP_ROWS: Final = 384
"""About so many rows at once: less costs more calls, more leaves the cache."""

KEPT_BYTES: Final = 16 << 20
"""A larger scratch is given back; a frame of 3,000 x 2,500 needs 5 MB."""

_kept = threading.local()

Prepare = Callable[[NDArray[Any], slice], NDArray[Any]]
"""(rows of the image, their place in it) -> the same rows as uint16 or float32; they may be a `scratch`."""


@dataclass(frozen=True, slots=True)
class Halved:
    """An image that JPEG 2000 decoded `times` halvings below its full (width, height).

    Its low-pass filter is centred on the even samples, so that sample i of the halved image stands at sample
    `2**times * i` of the full one; a block average would stand in the middle of the block, half a sample aside.
    """

    full_size: tuple[int, int]
    times: int


def fit_size(width: int, height: int, row_to_column: float, size: int) -> tuple[int, int]:
    """(width, height) with square pixels whose longest side is `size`; no side below 1."""
    scale = size / max(width, height * row_to_column)
    return max(1, round(width * scale)), max(1, round(height * row_to_column * scale))


class Ends:
    """Smallest and largest of all values seen so far."""

    def __init__(self) -> None:
        self.low, self.high = FULL, 0

    def see(self, values: NDArray[Any]) -> None:
        self.low, self.high = min(self.low, int(values.min())), max(self.high, int(values.max()))


def find_ends(values: NDArray[Any]) -> Ends:
    """Those of [h, w], in one pass over memory."""
    ends = Ends()
    for top in range(0, len(values), STRIP_ROWS):
        ends.see(values[top : top + STRIP_ROWS])
    return ends


def scratch(name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Memory that this thread keeps for its next image: what it holds is lost when the name is asked for again.

    Fresh memory of this size costs more than what is computed in it, because the system clears it page by page.
    """
    length, key = math.prod(shape), f"{name} {np.dtype(dtype)}"
    kept: NDArray[Any] | None = getattr(_kept, key, None)
    if kept is None or kept.size < length:
        kept = np.empty(length, dtype)
        if kept.nbytes <= KEPT_BYTES:
            setattr(_kept, key, kept)
    return kept[:length].reshape(shape)


def as_uint16(rows: NDArray[Any], place: slice) -> NDArray[Any]:
    """The plain `Prepare`."""
    return rows.astype(np.uint16, copy=False)


def reduce_area(
    values: NDArray[Any],
    width: int,
    height: int,
    prepare: Prepare = as_uint16,
    highest: int = FULL,
    halved: Halved | None = None,
) -> NDArray[np.float32]:
    """Area average of `prepare(values)`, [h, w] -> float32 [height, width]; a side that grows is interpolated.

    `highest` is the largest value that `prepare` gives; a small one is added up faster.
    """
    rows, columns = values.shape
    full_columns, full_rows = halved.full_size if halved else (columns, rows)
    times = halved.times if halved else 0
    shorter, narrower = min(rows, height), min(columns, width)
    reduced = np.empty((shorter, narrower), np.float32)
    across = _plan(columns, narrower, full_columns, times, columns)[0]
    for strip in _plan(rows, shorter, full_rows, times, STRIP_ROWS):
        averages = _average_rows(prepare(values[strip.rows], strip.rows), strip, highest, "down")
        if narrower < columns:
            turned = scratch("turned", averages.shape[::-1], np.float32)
            cv2.transpose(averages, turned)
            averages = _average_rows(turned, across, highest, "across").T
        reduced[strip.cells] = averages
    if reduced.shape != (height, width):
        return np.asarray(cv2.resize(reduced, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    return reduced


def to_uint8(values: NDArray[np.float32], start: float, stop: float) -> NDArray[np.uint8]:
    """0 at `start` to 255 at `stop`, straight between and clipped beyond, rounded. Overwrites `values`."""
    values -= start
    values *= 255.0 / (stop - start)
    np.clip(values, 0.0, 255.0, out=values)
    np.rint(values, out=values)
    return values.astype(np.uint8)


@dataclass(frozen=True, slots=True)
class _Strip:
    """Some cells and the rows under them, the row that the last edge cuts included.

    `runs`: (i, j, n) for cells i to j that begin n rows apart, `edges[i]`: the row in which cell i begins, both
    counted from the strip's first. `parts[i]`, float32 [cells + 1, 1]: how much of that row (0 to 1) is above the
    edge; None where no edge cuts a row. `shares`, float32 [cells, 1]: what a whole row counts in the average.
    """

    cells: slice
    rows: slice
    runs: tuple[tuple[int, int, int], ...]
    edges: NDArray[np.int64]
    parts: NDArray[np.float32] | None
    shares: NDArray[np.float32]


@functools.lru_cache(maxsize=64)
def _plan(length: int, count: int, full_length: int, halvings: int, rows_at_once: int) -> tuple[_Strip, ...]:
    """Strips of `count` equal cells over `full_length` samples, of which `length` are left after the halvings."""
    factor = 1 << halvings
    edges = np.arange(count + 1) * (full_length / count)
    edges = np.clip((edges + (factor - 1) / 2) / factor, 0, length)
    starts = edges.astype(np.int64)
    parts, shares = (edges - starts).astype(np.float32)[:, None], (1 / np.diff(edges)).astype(np.float32)[:, None]
    strips = []
    step = max(1, rows_at_once * count // length)
    for first in range(0, count, step):
        last = min(first + step, count)
        top, bottom = int(starts[first]), min(int(starts[last]) + 1, length)
        lengths = np.diff(starts[first : last + 1])
        changes = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), last - first]
        strips.append(
            _Strip(
                cells=slice(first, last),
                rows=slice(top, bottom),
                runs=tuple((i, j, int(lengths[i])) for i, j in itertools.pairwise(changes)),
                edges=np.minimum(starts[first : last + 1], bottom - 1) - top,
                parts=parts[first : last + 1] if parts.any() else None,
                shares=shares[first:last],
            )
        )
    return tuple(strips)


def _average_rows(rows: NDArray[Any], strip: _Strip, highest: int, name: str) -> NDArray[np.float32]:
    """The average of the rows in each cell of the strip, [n, m] -> float32 [cells, m] in the scratch of that name."""
    if highest * max(n + 1 for _, _, n in strip.runs) > FULL:
        rows = _widen("strip", rows)  # whole numbers of 24 bits are exact in float32 too
    averages = scratch(name, (len(strip.shares), rows.shape[1]), np.float32)
    _add_whole_rows(rows, strip, averages)
    if strip.parts is not None:
        cut = scratch("cut", (len(strip.edges), rows.shape[1]), rows.dtype)
        cut = _widen("wide cut", np.take(rows, strip.edges, axis=0, out=cut, mode="clip"))
        cut *= strip.parts
        averages -= cut[:-1]
        averages += cut[1:]
    averages *= strip.shares
    return averages


def _add_whole_rows(rows: NDArray[Any], strip: _Strip, target: NDArray[np.float32]) -> None:
    """`target` [cells, m]: the sum of the rows that begin in each cell, the one that its upper edge cuts among them."""
    # Whole numbers are added up as such, which is faster.
    sums = target if rows.dtype == np.float32 else scratch("sums", target.shape, rows.dtype)
    top = 0
    for i, j, n in strip.runs:
        bottom = top + (j - i) * n
        np.add.reduce(rows[top:bottom].reshape(j - i, n, -1), axis=1, dtype=rows.dtype, out=sums[i:j])
        top = bottom
    if sums is not target:
        np.copyto(target, sums)


def _widen(name: str, values: NDArray[Any]) -> NDArray[np.float32]:
    """The values as float32, in a scratch unless they are."""
    if values.dtype == np.float32:
        return values
    wide = scratch(name, values.shape, np.float32)
    np.copyto(wide, values)
    return wide

"""Masks as releases give them (files, run lengths, shapes) -> the store's square frame. Runs in the workers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from placecli.data.images import read_inside
from placecli.data.resampling import reduce_area
from placecli.records import FileMask, InputRefused, Mask, RunMask, Shape, ShapeMask

Pixels = NDArray[np.uint8]


def draw_mask(mask: Mask, frame: tuple[int, int], content: tuple[int, int, int, int], size: int) -> Pixels:
    """uint8 [size, size], 255 inside and 0 outside, over the image that fills `content` of that frame.

    `frame` is the (width, height) that the image's annotations are for. A pixel of the result is inside when half of
    it is; a mask too thin for that keeps every pixel it touches. Raises InputRefused for a file that cannot be read
    and, with `frame_differs`, for a mask of other proportions than the image.
    """
    match mask:
        case Path():
            inside = read_inside(mask)
        case FileMask(paths=paths):
            inside = unite_files(paths)
        case RunMask(frame=own_frame, runs=runs):
            inside = draw_runs(runs, own_frame)
        case ShapeMask(shapes=shapes):
            inside = draw_shapes(shapes, frame)
    height, width = inside.shape
    if not agrees((width, height), frame):
        sizes = "{} x {}, its image {} x {}".format(width, height, *frame)
        raise InputRefused("frame_differs", f"the mask is {sizes}")
    left, top, right, bottom = content
    covered = reduce_area(inside, right - left, bottom - top)
    threshold = 127.5 if covered.max() >= 127.5 else 0.0
    square = np.zeros((size, size), np.uint8)
    square[top:bottom, left:right] = (covered > threshold) * np.uint8(255)
    return square


def agrees(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two (width, height) have the same proportions, up to one pixel of the smaller."""
    return abs(first[0] * second[1] - first[1] * second[0]) <= max(*first, *second)


def unite_files(paths: Sequence[Path]) -> Pixels:
    """uint8 [h, w], 255 where any of the image files is inside. Raises InputRefused, also for files of two sizes."""
    inside = read_inside(paths[0])
    for path in paths[1:]:
        other = read_inside(path)
        if other.shape != inside.shape:
            raise InputRefused("frame_differs", "the mask is in several files of different sizes")
        np.maximum(inside, other, out=inside)
    return inside


def draw_runs(runs: Sequence[tuple[int, int]], frame: tuple[int, int]) -> Pixels:
    """uint8 [h, w], 255 in the runs (start, length), which go down the columns of `frame` (width, height)."""
    width, height = frame
    flat = np.zeros(width * height, np.uint8)
    for start, length in runs:
        flat[start : start + length] = 255
    return flat.reshape(width, height).T


def draw_shapes(shapes: Sequence[Shape], frame: tuple[int, int]) -> Pixels:
    """uint8 [h, w], 255 in the pixels whose centre is in one of the shapes; `frame` is (width, height).

    A shape without any such pixel marks the pixels that its points lie in.
    """
    width, height = frame
    inside = np.zeros((height, width), np.uint8)
    for shape in shapes:
        points = np.asarray(shape.points, np.float64)
        # The pixels whose centres the shape can hold: centres are at half numbers.
        low = np.clip(np.ceil(points.min(axis=0) - 0.5), 0, frame).astype(int)
        high = np.clip(np.ceil(points.max(axis=0) - 0.5), 0, frame).astype(int)
        window = inside[low[1] : high[1], low[0] : high[0]]
        held = _held_centres(shape.kind, points - low - 0.5, window.shape)
        window[held] = 255
        if not held.any():
            seen = points[((points >= 0) & (points < frame)).all(axis=1)].astype(int)
            inside[seen[:, 1], seen[:, 0]] = 255
    return inside


def _held_centres(kind: str, points: NDArray[np.float64], extent: tuple[int, ...]) -> NDArray[np.bool_]:
    """bool of that extent [h, w]: the whole numbers (column, row) that are in the shape."""
    if kind == "rectangle":
        return np.ones(extent, bool)
    if kind == "ellipse":
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        down, across = np.ogrid[: extent[0], : extent[1]]
        x = (2 * across - left - right) / max(right - left, 1e-9)
        y = (2 * down - top - bottom) / max(bottom - top, 1e-9)
        return np.asarray(x * x + y * y <= 1)
    return _wind(points, extent) != 0


def _wind(points: NDArray[np.float64], extent: tuple[int, ...]) -> NDArray[np.int32]:
    """int32 of that extent: how often the closed polygon winds around each whole number (column, row).

    Each edge turns everything to the right of it in the rows that it passes; sums along the rows add the turns up.
    """
    height, width = extent
    turns = np.zeros((height, width + 1), np.int32)
    corners = points.tolist()
    for (x0, y0), (x1, y1) in itertools.pairwise([*corners, corners[0]]):
        first, last = max(0, math.ceil(min(y0, y1))), min(height, math.ceil(max(y0, y1)))
        if first < last:
            rows = np.arange(first, last)
            columns = np.ceil(x0 + (rows - y0) * ((x1 - x0) / (y1 - y0)))
            turns[rows, np.clip(columns, 0, width).astype(int)] += 1 if y1 > y0 else -1
    return np.cumsum(turns[:, :-1], axis=1, dtype=np.int32)

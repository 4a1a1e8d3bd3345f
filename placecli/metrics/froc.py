"""FROC: the share of marked objects found at given numbers of false marks per image (free-response ROC).

As the object-CXR challenge counts: a prediction is a point with a score. An object is found when a point lies in its
shape; further points in it neither help nor harm. A point outside every shape is a false positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

OBJECT_CXR_GRID: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per image in the challenge's own description; LUNA16 and others take the same."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Scores of F false points, falling, with their images, and of G objects the best point inside (-inf: none)."""

    num_images: int
    false_score: Floats
    false_image: NDArray[np.int64]
    object_score: Floats
    object_image: NDArray[np.int64]


def collect_marks(scores: Sequence[ArrayLike], inside: Sequence[ArrayLike]) -> Marks:
    """The marks of n images: for each the scores [p] of its points and bool [p, g], which point lies in which object.

    `points_in_boxes` and its kin make the latter; boxes judged by overlap do too: `box_iou(found, true) >= 0.5`.
    """
    if len(scores) != len(inside) or not len(scores):
        raise ValueError(f"{len(scores)} images with scores and {len(inside)} with hits; one each is wanted")
    false_score, false_image, object_score, object_image = [], [], [], []
    for i, (given, hits) in enumerate(zip(scores, inside, strict=True)):
        values, table = np.asarray(given, dtype=np.float64).reshape(-1), np.asarray(hits, dtype=bool)
        if table.ndim != 2 or len(table) != len(values) or np.isnan(values).any():
            raise ValueError(f"image {i}: scores {values.shape} and hits {table.shape} do not fit [p] and [p, g]")
        false_score.append(values[~table.any(axis=1)])
        object_score.append(np.where(table, values[:, None], -np.inf).max(axis=0, initial=-np.inf))
        false_image.append(np.full(len(false_score[-1]), i))
        object_image.append(np.full(table.shape[1], i))
    falling = np.argsort(-np.concatenate(false_score), kind="stable")
    return Marks(
        len(scores),
        np.concatenate(false_score)[falling],
        np.concatenate(false_image)[falling],
        np.concatenate(object_score),
        np.concatenate(object_image),
    )


def sensitivity_at(marks: Marks, false_positives: float, weights: ArrayLike | None = None) -> Any:
    """Share of objects found when the number of false points per image reaches `false_positives`, in 0..1.

    Points are taken in falling order of score; of equal scores the false ones come first. When the number is never
    reached every point counts. float, or float64 [R] with weights [R, n] of the images; nan without objects.
    """
    return froc(marks, (false_positives,), weights)


def froc(marks: Marks, grid: Sequence[float] = OBJECT_CXR_GRID, weights: ArrayLike | None = None) -> Any:
    """Mean of `sensitivity_at` over a grid of false positives per image, in 0..1; float or float64 [R]."""
    if not len(grid):
        raise ValueError("the grid of false positives per image is empty")
    if not all(rate > 0 for rate in grid):
        raise ValueError(f"false positives per image are numbers above 0, not {min(grid)}")
    table = np.ones((1, marks.num_images)) if weights is None else np.asarray(weights, dtype=np.float64)
    rows = np.atleast_2d(table)
    shown = np.cumsum(rows[:, marks.false_image], axis=-1)
    allowed = np.asarray(grid, dtype=np.float64) * rows.sum(axis=-1, keepdims=True)
    reached = np.array([np.searchsorted(one, most) for one, most in zip(shown, allowed, strict=True)])
    limits = np.append(marks.false_score, -np.inf)[reached]
    counts = rows[:, marks.object_image]
    with np.errstate(invalid="ignore"):
        each = [
            (counts * (marks.object_score > limit[:, None])).sum(axis=-1) / counts.sum(axis=-1) for limit in limits.T
        ]
    mean = np.mean(each, axis=0)
    return mean if weights is not None and table.ndim == 2 else float(mean[0])


def points_in_boxes(points: ArrayLike, boxes: ArrayLike) -> Flags:
    """bool [p, g]: which point (x, y) lies in which box (x1, y1, x2, y2), edges included."""
    place, corners = _table(points, 2)[:, None], _table(boxes, 4)[None]
    return np.asarray(((place >= corners[..., :2]) & (place <= corners[..., 2:])).all(axis=-1))


def points_in_ellipses(points: ArrayLike, boxes: ArrayLike) -> Flags:
    """bool [p, g]: which point lies in the ellipse that fills which box, edge included."""
    place, corners = _table(points, 2)[:, None], _table(boxes, 4)[None]
    centre, radius = (corners[..., :2] + corners[..., 2:]) / 2, (corners[..., 2:] - corners[..., :2]) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((((place - centre) / radius) ** 2).sum(axis=-1) <= 1)


def points_in_polygon(points: ArrayLike, corners: ArrayLike) -> Flags:
    """bool [p]: which point lies in the polygon with corners [c, 2], by the even-odd rule; its edge is not defined."""
    (x, y), outline = _table(points, 2).T, _table(corners, 2)
    inside = np.zeros(len(x), dtype=bool)
    for (x1, y1), (x2, y2) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if y1 != y2:
            inside ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


def _table(values: ArrayLike, width: int) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    table = table.reshape(-1, width) if table.size == 0 else table
    if table.ndim != 2 or table.shape[1] != width:
        raise ValueError(f"a table [n, {width}] is wanted, not {table.shape}")
    return table

"""Classification by decision: counts, accuracy, F1, sensitivity and specificity of cases called positive or not.

`labels` and `predicted` bool [n]. `weights` [n] or [R, n] says how often each case counts; with [R, n] every result is
float64 [R]. A value is nan where its denominator is 0: it is undefined, neither 0 nor 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Weighted numbers of true and false positives and negatives, each a float or float64 [R]."""

    true_positive: Any
    false_positive: Any
    false_negative: Any
    true_negative: Any


def count(labels: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> Counts:
    """The confusion counts. Raises ValueError when the two lists differ in length or hold other than true and false."""
    truth, called = _flags(labels, "labels"), _flags(predicted, "predicted")
    if truth.ndim != 1 or truth.shape != called.shape or not len(truth):
        raise ValueError(f"labels {truth.shape} and predicted {called.shape} must be one-dimensional and of one length")
    counts = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)
    cells = (truth & called, ~truth & called, truth & ~called, ~truth & ~called)
    return Counts(*(_plain((counts * cell).sum(axis=-1)) for cell in cells))


def accuracy(labels: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """(TP + TN) / all, in 0..1."""
    c = count(labels, predicted, weights)
    right = c.true_positive + c.true_negative
    return _ratio(right, right + c.false_positive + c.false_negative)


def f1(labels: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """2 TP / (2 TP + FP + FN), in 0..1; nan when nothing is positive and nothing is called so."""
    c = count(labels, predicted, weights)
    return _ratio(2 * c.true_positive, 2 * c.true_positive + c.false_positive + c.false_negative)


def precision(labels: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """TP / (TP + FP), in 0..1; nan when nothing is called positive."""
    c = count(labels, predicted, weights)
    return _ratio(c.true_positive, c.true_positive + c.false_positive)


def sensitivity(labels: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """TP / (TP + FN), in 0..1 (recall); nan without positive cases."""
    c = count(labels, predicted, weights)
    return _ratio(c.true_positive, c.true_positive + c.false_negative)


def specificity(labels: ArrayLike, predicted: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """TN / (TN + FP), in 0..1; nan without negative cases."""
    c = count(labels, predicted, weights)
    return _ratio(c.true_negative, c.true_negative + c.false_positive)


def multiclass_accuracy(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Share of cases whose class has the largest score, in 0..1.

    `labels` int [n] in 0..C-1, negative: left out; `scores` [n, C]. A class that shares the largest score with another
    counts as wrong: a tie is no decision.
    """
    truth, table = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if table.ndim != 2 or truth.shape != table.shape[:1] or np.isnan(table).any():
        raise ValueError(f"labels [n] and scores [n, C] without nan are wanted, not {truth.shape} and {table.shape}")
    kept = truth >= 0
    if not kept.any() or truth.max() >= table.shape[1]:
        raise ValueError(f"labels are classes 0..{table.shape[1] - 1}, at least one of them given")
    own = np.take_along_axis(table[kept], truth[kept, None].astype(np.int64), axis=1)
    right = (table[kept] >= own).sum(axis=1) == 1
    counts = np.ones(len(right)) if weights is None else np.asarray(weights, dtype=np.float64)[..., kept]
    return _ratio((counts * right).sum(axis=-1), counts.sum(axis=-1))


def _flags(values: ArrayLike, name: str) -> NDArray[np.bool_]:
    table = np.asarray(values)
    if table.dtype != np.bool_ and not np.isin(table, (0, 1)).all():
        raise ValueError(f"{name} holds a value that is neither true nor false; compare scores with a threshold first")
    return table.astype(bool)


def _ratio(top: Any, bottom: Any) -> Any:
    with np.errstate(invalid="ignore", divide="ignore"):
        return _plain(np.asarray(top, dtype=np.float64) / np.asarray(bottom, dtype=np.float64))


def _plain(values: Floats) -> Any:
    return float(values) if np.ndim(values) == 0 else values

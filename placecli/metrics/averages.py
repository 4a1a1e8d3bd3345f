"""Many findings or classes: a metric of one, label by label, averaged over labels (macro) or over all cells (micro).

`labels` [n, L] holds 1 (present), 0 (absent) and nan (not known: left out); `scores` [n, L] is whatever the metric
takes beside labels: scores, probabilities or decisions. `weights` [n] or [R, n] counts each case (bootstrap). For
classes that exclude each other make the labels with `one_hot`: each class against all others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Metric = Callable[[Any, Any, Any], Any]
"""(labels bool [n], scores [n], weights None, [n] or [R, n]) -> float or float64 [R], as `auroc` or `f1`."""

# Weights of single cells held at once by the micro average: 4 M floats, 32 MiB.
_BLOCK = 4_000_000


def per_label(metric: Metric, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The metric of each label over the cases that have it: float64 [L], or [L, R] with weights [R, n].

    nan where the metric is undefined or no case has the label.
    """
    truth, values = _checked(labels, scores)
    counts = None if weights is None else np.asarray(weights, dtype=np.float64)
    undefined = np.nan if counts is None or counts.ndim == 1 else np.full(len(counts), np.nan)
    found = []
    for column, value in zip(truth.T, values.T, strict=True):
        known = ~np.isnan(column)
        part = None if counts is None else counts[..., known]
        found.append(metric(column[known] == 1, value[known], part) if known.any() else undefined)
    return np.asarray(found, dtype=np.float64)


def macro(metric: Metric, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean over the labels for which the metric is defined, all counted alike: float or float64 [R]; nan if none is."""
    values = per_label(metric, labels, scores, weights)
    is_number = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        mean = np.where(is_number, values, 0.0).sum(axis=0) / is_number.sum(axis=0)
    return float(mean) if np.ndim(mean) == 0 else mean


def micro(metric: Metric, labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """The metric over all known cells (case, label) as if they were cases of one label: float or float64 [R]."""
    truth, values = _checked(labels, scores)
    known = ~np.isnan(truth)
    if not known.any():
        raise ValueError("no label is known for any case")
    case = np.nonzero(known)[0]
    flags, shown = truth[known] == 1, values[known]
    if weights is None:
        return metric(flags, shown, None)
    counts = np.asarray(weights, dtype=np.float64)
    if counts.ndim == 1:
        return metric(flags, shown, counts[case])
    step = max(1, _BLOCK // len(case))
    blocks = [metric(flags, shown, counts[i : i + step, case]) for i in range(0, len(counts), step)]
    return np.concatenate(blocks) if blocks else np.empty(0)


def one_hot(labels: ArrayLike, num_classes: int) -> Floats:
    """Classes int [n] in 0..C-1 as labels float64 [n, C]; a negative class is not known: a row of nan."""
    classes = np.asarray(labels)
    if classes.ndim != 1 or not np.issubdtype(classes.dtype, np.integer) or (classes >= num_classes).any():
        raise ValueError(f"labels are a list of whole numbers below {num_classes}, negative where not known")
    table: Floats = (classes[:, None] == np.arange(num_classes)).astype(np.float64)
    table[classes < 0] = np.nan
    return table


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, NDArray[Any]]:
    truth, values = np.asarray(labels, dtype=np.float64), np.asarray(scores)
    if truth.ndim != 2 or truth.shape != values.shape or not truth.size:
        raise ValueError(f"labels {truth.shape} and scores {values.shape} must be of one shape [cases, labels]")
    if not (np.isnan(truth) | (truth == 0) | (truth == 1)).all():
        raise ValueError("a label is neither 0, 1 nor nan; decide first what an uncertain one counts as")
    return truth, values

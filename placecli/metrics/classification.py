"""Classification by rank: AUROC, average precision and curves of one finding, ties handled, cases weighted or not.

`labels` bool [n] (True: the finding is present), `scores` [n] (higher: more likely present). `weights` [n] or
[R, n] says how often each case counts; with [R, n] the result is float64 [R], one per bootstrap replicate, at the
cost of one sort. A value is nan where there are only positives or only negatives: it is undefined, not 0.5.
For several findings or classes see `averages`, for thresholds `decisions`, for probabilities `calibration`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Points of a ROC curve, one for each distinct score and the origin; each float64 [G + 1].

    At `threshold[i]` every case with at least that score is called positive. The first threshold is inf: nothing is.
    """

    false_positive_rate: Floats
    true_positive_rate: Floats
    threshold: Floats


@dataclass(frozen=True, slots=True)
class PrecisionRecallCurve:
    """Points of a precision-recall curve, one for each distinct score in falling order; each float64 [G].

    There is no point at recall 0: with nothing called positive precision is undefined.
    """

    recall: Floats
    precision: Floats
    threshold: Floats


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Area under the ROC curve: P(score of a positive > score of a negative) + 1/2 P(equal), in 0..1.

    Hanley and McNeil 1982. float, or float64 [R] with weights [R, n]; nan with one class only.
    """
    positive, negative = _grouped(labels, scores, weights)
    num_positive, num_negative = positive.sum(axis=-1), negative.sum(axis=-1)
    # Groups are in falling order of score: negatives below a group are all but those up to it.
    below = num_negative[..., None] - np.cumsum(negative, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        area = (positive * (below + 0.5 * negative)).sum(axis=-1) / (num_positive * num_negative)
    return _plain(area)


def average_precision(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Average precision: sum over falling thresholds of (recall gained) x (precision there), in 0..1.

    No interpolation; equal scores are one threshold. float, or float64 [R]; nan with one class only.
    """
    positive, negative = _grouped(labels, scores, weights)
    hits, shown = np.cumsum(positive, axis=-1), np.cumsum(positive + negative, axis=-1)
    num_positive = hits[..., -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(shown > 0, hits / shown, 0.0)
        area = (positive * precision).sum(axis=-1) / num_positive
        area = np.where(negative.sum(axis=-1) > 0, area, np.nan)
    return _plain(area)


def roc_curve(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> RocCurve:
    """The ROC curve, rates in 0..1; its area by trapezoids is `auroc`. `weights` [n]; nan rates with one class only."""
    positive, negative = (np.concatenate([[0.0], np.cumsum(part)]) for part in _single(labels, scores, weights))
    with np.errstate(invalid="ignore"):
        return RocCurve(negative / negative[-1], positive / positive[-1], np.append(np.inf, _thresholds(scores)))


def precision_recall_curve(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> PrecisionRecallCurve:
    """The precision-recall curve, values in 0..1; its step area is `average_precision`. `weights` [n]."""
    positive, negative = (np.cumsum(part) for part in _single(labels, scores, weights))
    with np.errstate(invalid="ignore"):
        return PrecisionRecallCurve(positive / positive[-1], positive / (positive + negative), _thresholds(scores))


def best_f1_threshold(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """The score from which on to call a case positive so that F1 is largest; the highest such score when several are.

    For the validation split: a threshold that is chosen on the cases that are then scored flatters. Raises ValueError
    when no case is positive.
    """
    positive, negative = _single(labels, scores, weights)
    if not positive.sum():
        raise ValueError("a threshold needs at least one positive case")
    shown = np.cumsum(positive + negative)
    return float(_thresholds(scores)[np.argmax(2 * np.cumsum(positive) / (shown + positive.sum()))])


def _single(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    """As `_grouped`, for a curve: one weighting only."""
    if weights is not None and np.ndim(weights) != 1:
        raise ValueError("a curve takes one weight for each case")
    return _grouped(labels, scores, weights)


def _thresholds(scores: ArrayLike) -> Floats:
    """The distinct scores, falling."""
    return np.unique(np.asarray(scores, dtype=np.float64))[::-1]


def _grouped(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats]:
    """Weight of the positives and of the negatives at each distinct score, falling: [..., G] each."""
    truth, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape or not len(truth):
        raise ValueError(f"labels {truth.shape} and scores {values.shape} must be one-dimensional and of one length")
    if np.isnan(values).any():
        raise ValueError("a score is not a number")
    order = np.argsort(-values, kind="stable")
    truth, values = truth[order], values[order]
    counts = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)[..., order]
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    positive = np.add.reduceat(counts * truth, starts, axis=-1)
    negative = np.add.reduceat(counts * ~truth, starts, axis=-1)
    return positive, negative


def _plain(values: Floats) -> Any:
    return float(values) if np.ndim(values) == 0 else values

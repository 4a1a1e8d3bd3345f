"""Calibration: does a probability mean what it says? Reliability bins and the expected calibration error.

`labels` bool [n], `probabilities` [n] in 0..1. Bins are (lower, upper], the first with its lower edge too. Binning
"width" cuts 0..1 into equal widths; "count" cuts at quantiles of the given probabilities, so that each bin holds about
as many cases (fewer bins where quantiles coincide). The bins are those of all cases given, whatever their weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Binning = Literal["width", "count"]


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """A reliability diagram: `edges` [M + 1]; for each bin its weight, mean probability and share of positives [M].

    The last two are nan in an empty bin.
    """

    edges: Floats
    count: Floats
    mean_probability: Floats
    frequency: Floats


def reliability(
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 15,
    binning: Binning = "width",
) -> ReliabilityBins:
    """The reliability diagram; `weights` [n]."""
    if weights is not None and np.ndim(weights) != 1:
        raise ValueError("a reliability diagram takes one weight for each case")
    edges, count, probability, positive = _sums(labels, probabilities, weights, bins, binning)
    with np.errstate(invalid="ignore"):
        return ReliabilityBins(edges, count, probability / count, positive / count)


def expected_calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 15,
    binning: Binning = "width",
) -> Any:
    """sum over bins of (share of cases) |mean probability - share of positives|, in 0..1.

    Naeini et al. 2015. float, or float64 [R] with weights [R, n]. It depends on the bins: name them with the number.
    """
    _, count, probability, positive = _sums(labels, probabilities, weights, bins, binning)
    with np.errstate(invalid="ignore"):
        error = np.abs(probability - positive).sum(axis=-1) / count.sum(axis=-1)
    return float(error) if np.ndim(error) == 0 else error


def multiclass_calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 15,
    binning: Binning = "width",
) -> Any:
    """Calibration error of the largest probability as that of being right (Guo et al. 2017), in 0..1.

    `labels` int [n], negative: left out; `probabilities` [n, C]. Of equal largest ones the first class is the answer.
    """
    truth, table = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if table.ndim != 2 or truth.shape != table.shape[:1]:
        raise ValueError(f"labels [n] and probabilities [n, C] are wanted, not {truth.shape} and {table.shape}")
    kept = truth >= 0
    right = table[kept].argmax(axis=1) == truth[kept]
    counts = None if weights is None else np.asarray(weights, dtype=np.float64)[..., kept]
    return expected_calibration_error(right, table[kept].max(axis=1), counts, bins=bins, binning=binning)


def _sums(
    labels: ArrayLike, probabilities: ArrayLike, weights: ArrayLike | None, bins: int, binning: Binning
) -> tuple[Floats, Floats, Floats, Floats]:
    """Edges [M + 1] and per bin [..., M] the sums of weights, of probabilities and of positives."""
    truth, values = np.asarray(labels, dtype=bool), np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape or not len(truth):
        raise ValueError(
            f"labels {truth.shape} and probabilities {values.shape} must be one-dimensional, of one length"
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a probability lies outside 0..1; logits want a sigmoid or softmax first")
    edges = np.linspace(0.0, 1.0, bins + 1)
    if binning == "count":
        edges = np.unique(np.quantile(values, edges))
        edges = np.repeat(edges, 2) if len(edges) == 1 else edges
    inner = edges[1:-1]
    place = np.searchsorted(inner, values, side="left")
    order = np.argsort(place, kind="stable")
    counts = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)
    starts = np.searchsorted(place[order], np.arange(len(inner) + 1))

    def per_bin(cases: Floats) -> Floats:
        # A zero at the end lets the start of an empty last bin be an index; empty bins are set to 0 below.
        padded = np.concatenate([cases[..., order], np.zeros((*cases.shape[:-1], 1))], axis=-1)
        total: Floats = np.add.reduceat(padded, starts, axis=-1)
        empty = np.diff(np.append(starts, len(truth))) == 0
        return np.where(empty, 0.0, total)

    return edges, per_bin(counts), per_bin(counts * values), per_bin(counts * truth)

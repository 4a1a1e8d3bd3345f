"""Percentile bootstrap by patient: intervals of any metric that is a function of weighted cases.

Patients are drawn with replacement and all cases of a drawn patient come along, because the images of one patient
are not independent. A replicate is a weight per case (how often its patient was drawn), so that a metric that
takes weights [R, n] is computed for all replicates at once, without copying cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Case weights [R, n] -> one value per replicate [R]; nan where the metric is undefined."""

# Weights held at once: 4 M floats (32 MiB) keep a large test set within memory.
_BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval. `low` and `high` are nan when no replicate was defined.

    `num_undefined` replicates had no value (e.g. no positive case was drawn) and are left out.
    """

    low: float
    high: float
    num_replicates: int
    num_undefined: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its percentile interval: `n` cases of `num_patients` patients, and what the bootstrap drew."""

    value: float
    low: float
    high: float
    n: int
    num_patients: int
    num_replicates: int
    num_undefined: int


def estimate(
    statistic: Statistic, patients: ArrayLike, *, replicates: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Estimate:
    """The statistic of all cases with its interval under resampling of patients [n]; see `bootstrap`.

    Every metric of this package that takes `weights` makes a statistic: `lambda w: auroc(labels, scores, w)`; a mean
    of values per case is `lambda w: weighted_mean(values, w)`.
    """
    names = np.asarray(patients)
    interval = bootstrap(statistic, names, replicates=replicates, seed=seed, confidence=confidence)
    value = float(np.asarray(statistic(np.ones((1, len(names)))))[0])
    return Estimate(
        value,
        interval.low,
        interval.high,
        len(names),
        len(np.unique(names)),
        interval.num_replicates,
        interval.num_undefined,
    )


def estimate_difference(
    first: Statistic,
    second: Statistic,
    patients: ArrayLike,
    *,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Estimate:
    """first - second of two systems on the same cases, with the interval of the difference on the same resamples.

    Two systems can differ for certain although their own intervals overlap: hard patients are hard for both.
    """
    return estimate(lambda w: first(w) - second(w), patients, replicates=replicates, seed=seed, confidence=confidence)


def bootstrap(
    statistic: Statistic, patients: ArrayLike, *, replicates: int, seed: int, confidence: float = 0.95
) -> Interval:
    """Percentile interval of `statistic` under resampling of patients.

    `patients` [n] names the patient of each case; equal seeds give equal intervals. With replicates 0 the interval
    is nan.
    """
    values = _replicate_values(statistic, patients, replicates, seed)
    return _interval(values, confidence)


def paired_difference(
    first: Statistic, second: Statistic, patients: ArrayLike, *, replicates: int, seed: int, confidence: float = 0.95
) -> Interval:
    """Interval of first - second, both computed on the same resampled patients (two runs on the same cases)."""
    return bootstrap(lambda w: first(w) - second(w), patients, replicates=replicates, seed=seed, confidence=confidence)


def _replicate_values(statistic: Statistic, patients: ArrayLike, replicates: int, seed: int) -> NDArray[np.float64]:
    names = np.asarray(patients)
    if names.ndim != 1 or not len(names):
        raise ValueError("patients is a non-empty list, one name for each case")
    distinct, patient_of_case = np.unique(names, return_inverse=True)
    generator = np.random.default_rng(seed)
    num_patients = len(distinct)
    step = max(1, _BLOCK // max(len(names), num_patients))
    values = []
    for first in range(0, replicates, step):
        size = min(step, replicates - first)
        drawn = generator.integers(0, num_patients, size=(size, num_patients))
        offset = np.arange(size)[:, None] * num_patients
        counts = np.bincount((drawn + offset).ravel(), minlength=size * num_patients).reshape(size, num_patients)
        values.append(np.asarray(statistic(counts[:, patient_of_case].astype(np.float64)), dtype=np.float64))
    return np.concatenate(values) if values else np.empty(0)


def _interval(values: NDArray[np.float64], confidence: float) -> Interval:
    defined = values[~np.isnan(values)]
    missing = len(values) - len(defined)
    if not len(defined):
        return Interval(float("nan"), float("nan"), len(values), missing)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(defined, [tail, 100 - tail])
    return Interval(float(low), float(high), len(values), missing)

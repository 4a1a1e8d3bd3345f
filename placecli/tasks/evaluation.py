"""What an evaluation is made of: measures with intervals, and the object that `place evaluate` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.bootstrap import Statistic, bootstrap
from placecli.records import Row

Task = Literal[
    "retrieval",
    "zero-shot",
    "grounding",
    "class-retrieval",
    "classification",
    "segmentation",
    "detection",
    "report-generation",
]
Protocol = Literal["clean", "compat"]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a measure was computed from, so that two runs can be compared case by case: docs/evaluation.md, differences.

    `statistic` takes case weights [R, n] and gives float64 [R]; `patients` [n] names each case's patient.
    """

    statistic: Statistic
    patients: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Measure:
    """One number with its 95 % interval and the number of cases it is taken over; nan where it is undefined.

    A measure without a sample has no interval of its difference to that of another run.
    """

    value: float
    low: float
    high: float
    n: int
    positives: int | None = None
    sample: Sample | None = field(default=None, compare=False, repr=False)

    def to_record(self) -> dict[str, Any]:
        """{"value", "ci95": [low, high] or null, "n"} and "positives" where it means something; null for nan."""
        ends = [plain_number(self.low), plain_number(self.high)]
        record: dict[str, Any] = {
            "value": plain_number(self.value),
            "ci95": None if None in ends else ends,
            "n": self.n,
        }
        return record if self.positives is None else {**record, "positives": self.positives}


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made: number of bootstrap replicates (0: none) and seed."""

    replicates: int
    seed: int

    def measure(
        self, statistic: Statistic, patients: Sequence[str] | NDArray[Any], positives: int | None = None
    ) -> Measure:
        """The statistic of all cases, with its percentile interval over resampled patients.

        `statistic` takes case weights [R, n] and gives float64 [R]; `patients` [n] names each case's patient.
        """
        num_cases = len(patients)
        value = float(np.asarray(statistic(np.ones((1, num_cases))))[0])
        interval = bootstrap(statistic, patients, replicates=self.replicates, seed=self.seed)
        sample = Sample(statistic, np.asarray(patients))
        return Measure(value, interval.low, interval.high, num_cases, positives, sample)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a task found: `metrics` by stable name, what `chance` gives under the same names, and counts."""

    n: int
    metrics: Mapping[str, Measure]
    chance: Mapping[str, float]
    counts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One run on one task. docs/evaluation.md defines every key."""

    task: Task
    run: str
    data: str
    split: str
    protocol: Protocol
    score: str
    resampling: Resampling
    findings: Findings
    material: object = field(default=None, compare=False, repr=False)
    """What a page of pictures needs of it (tasks/material.py); None where nobody asked."""

    def to_record(self) -> dict[str, Any]:
        """The object that is printed, plain values ready for JSON."""
        return {
            "task": self.task,
            "run": self.run,
            "data": self.data,
            "split": self.split,
            "protocol": self.protocol,
            "n": self.findings.n,
            "metrics": {name: measure.to_record() for name, measure in self.findings.metrics.items()},
            "chance": {name: plain_number(value) for name, value in self.findings.chance.items()},
            "counts": dict(self.findings.counts),
            "score": self.score,
            "bootstrap": {"replicates": self.resampling.replicates, "seed": self.resampling.seed, "by": "patient"},
        }


def label_values(rows: Sequence[Row], label: str) -> NDArray[np.float64]:
    """float64 [n]: 1 present, 0 absent, nan not to be used.

    A label that a row does not mention is absent, an uncertain one (-1) is not used, and a row without any label was
    not labelled and is not used.
    """
    values = np.full(len(rows), np.nan)
    for i, row in enumerate(rows):
        if row.labels:
            value = row.labels.get(label, 0.0)
            values[i] = value if value in (0.0, 1.0) else np.nan
    return values


def nan_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the first axis of what is a number; nan where nothing is. [L, R] -> [R]."""
    is_number = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(is_number, values, 0.0).sum(axis=0) / is_number.sum(axis=0))


def plain_number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

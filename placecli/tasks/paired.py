"""Two runs on the same patients: the difference of each metric, with its interval on the same resamples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from placecli.metrics.bootstrap import Interval, bootstrap, paired_difference
from placecli.records import PlaceError
from placecli.tasks.evaluation import Evaluation, Measure, Protocol, Resampling, Sample, Task, plain_number


@dataclass(frozen=True, slots=True)
class Difference:
    """Value of a run minus that of another, its 95 % interval (nan: none) and the number of cases."""

    value: float
    low: float
    high: float
    n: int

    def to_record(self) -> dict[str, Any]:
        """{"difference", "ci95": [low, high] or null, "n"}."""
        ends = [plain_number(self.low), plain_number(self.high)]
        return {"difference": plain_number(self.value), "ci95": None if None in ends else ends, "n": self.n}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run beside another on one task; docs/evaluation.md defines every key."""

    task: Task
    run: str
    against: str
    data: str
    split: str
    protocol: Protocol
    resampling: Resampling
    metrics: Mapping[str, Difference]

    def to_record(self) -> dict[str, Any]:
        """The object that is printed, plain values ready for JSON."""
        return {
            "task": self.task,
            "run": self.run,
            "against": self.against,
            "data": self.data,
            "split": self.split,
            "protocol": self.protocol,
            "metrics": {name: difference.to_record() for name, difference in self.metrics.items()},
            "bootstrap": {"replicates": self.resampling.replicates, "seed": self.resampling.seed, "by": "patient"},
        }


def compare_with_first(evaluations: Sequence[Evaluation]) -> list[Comparison]:
    """Each evaluation beside the first of its task, in the order given."""
    first: dict[Task, Evaluation] = {}
    comparisons = []
    for each in evaluations:
        before = first.setdefault(each.task, each)
        if before is not each:
            comparisons.append(compare(each, before))
    return comparisons


def compare(run: Evaluation, against: Evaluation) -> Comparison:
    """The differences run - against of all metrics that both have, resampled as `against` was.

    A mean over labels is left out where the two runs do not have the same labels. Raises PlaceError where the two were
    not measured on one task, store, split and protocol.
    """
    for name in ("task", "data", "split", "protocol"):
        one, other = getattr(run, name), getattr(against, name)
        if one != other:
            raise PlaceError(f"{run.run} and {against.run}: {name} {one} and {other}; compare runs on the same cases")
    mine, theirs = run.findings.metrics, against.findings.metrics
    metrics = {
        name: difference(measure, theirs[name], against.resampling)
        for name, measure in mine.items()
        if name in theirs and _has_same_labels(name, mine, theirs)
    }
    return Comparison(run.task, run.run, against.run, run.data, run.split, run.protocol, against.resampling, metrics)


def difference(first: Measure, second: Measure, resampling: Resampling) -> Difference:
    """first - second. The interval is nan where a measure keeps no sample or the two are of different patients.

    Where both have the same cases this is `metrics.bootstrap.paired_difference`. Where the cases differ (each run has
    its own boxes, say) the patients are drawn, and each side counts its own cases of a drawn patient.
    """
    value = first.value - second.value
    interval = Interval(float("nan"), float("nan"), 0, 0)
    if first.sample is not None and second.sample is not None:
        interval = _interval(first.sample, second.sample, resampling)
    return Difference(value, interval.low, interval.high, first.n)


def _interval(first: Sample, second: Sample, resampling: Resampling) -> Interval:
    one, other = first.statistic, second.statistic
    if np.array_equal(first.patients, second.patients):
        return paired_difference(one, other, first.patients, replicates=resampling.replicates, seed=resampling.seed)
    if set(first.patients.tolist()) != set(second.patients.tolist()):
        return Interval(float("nan"), float("nan"), 0, 0)
    num = len(first.patients)
    return bootstrap(
        lambda w: one(w[:, :num]) - other(w[:, num:]),
        np.concatenate([first.patients, second.patients]),
        replicates=resampling.replicates,
        seed=resampling.seed,
    )


def _has_same_labels(name: str, mine: Mapping[str, Measure], theirs: Mapping[str, Measure]) -> bool:
    return "_macro" not in name or labels_of(mine) == labels_of(theirs)


def labels_of(metrics: Mapping[str, Measure]) -> set[str]:
    """The labels that have a metric of their own."""
    return {name.partition("[")[2].removesuffix("]") for name in metrics if "[" in name}

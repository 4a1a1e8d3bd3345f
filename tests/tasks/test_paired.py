"""Differences of two runs on the same resamples: closed forms, and what has no interval."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from placecli.metrics.bootstrap import paired_difference
from placecli.metrics.retrieval import weighted_mean
from placecli.records import PlaceError
from placecli.results import flatten
from placecli.tasks.evaluation import Evaluation, Findings, Measure, Resampling
from placecli.tasks.paired import compare, compare_with_first, difference

RESAMPLING = Resampling(200, 0)
PATIENTS = [f"p{i // 2}" for i in range(40)]


def mean_of(values: np.ndarray, patients: list[str] | None = None) -> Measure:
    names = PATIENTS[: len(values)] if patients is None else patients
    return RESAMPLING.measure(lambda w: np.asarray(weighted_mean(values, w)), names)


def evaluation(run: str, metrics: dict[str, Measure], **changes: Any) -> Evaluation:
    made = Evaluation("zero-shot", run, "store", "test", "clean", "global", RESAMPLING, Findings(40, metrics, {}))
    return dataclasses.replace(made, **changes)


def test_a_constant_lead_is_certain_although_both_intervals_are_wide() -> None:
    values = np.random.default_rng(0).normal(0, 5, 40)
    first, second = mean_of(values), mean_of(values + 0.25)
    assert first.high > second.low
    found = difference(second, first, RESAMPLING)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.n == 40


def test_difference_is_the_paired_bootstrap_of_the_metric() -> None:
    generator = np.random.default_rng(1)
    one, other = generator.normal(size=(2, 40))
    found = difference(mean_of(one), mean_of(other), RESAMPLING)
    expected = paired_difference(
        lambda w: np.asarray(weighted_mean(one, w)),
        lambda w: np.asarray(weighted_mean(other, w)),
        PATIENTS,
        replicates=200,
        seed=0,
    )
    assert (found.low, found.high) == (expected.low, expected.high)
    assert found.value == pytest.approx(one.mean() - other.mean())
    unpaired = mean_of(one).low - mean_of(other).high
    assert found.low > unpaired


def test_cases_that_differ_are_drawn_by_the_same_patients() -> None:
    values = np.random.default_rng(2).normal(0, 5, 20)
    single = mean_of(values, [f"p{i}" for i in range(20)])
    doubled = mean_of(np.repeat(values, 2))
    found = difference(doubled, single, RESAMPLING)
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_other_patients_or_no_sample_give_a_difference_without_an_interval() -> None:
    one = mean_of(np.arange(40.0))
    for other in (mean_of(np.arange(4.0), ["a", "b", "c", "d"]), Measure(1.0, 0.5, 1.5, 40)):
        found = difference(one, other, RESAMPLING)
        assert found.value == one.value - other.value
        assert math.isnan(found.low)
        assert found.to_record()["ci95"] is None


def test_later_runs_are_compared_with_the_first_of_their_task() -> None:
    metrics = [{"auroc_macro": mean_of(np.arange(40.0) + shift)} for shift in (0, 1, 3)]
    runs = [evaluation(name, each) for name, each in zip("abc", metrics, strict=True)]
    other = evaluation("a", metrics[0], task="retrieval")
    records = [each.to_record() for each in compare_with_first([runs[0], other, *runs[1:]])]
    assert [(each["run"], each["against"], each["task"]) for each in records] == [
        ("b", "a", "zero-shot"),
        ("c", "a", "zero-shot"),
    ]
    assert records[1]["metrics"]["auroc_macro"]["difference"] == pytest.approx(3)
    assert records[0]["metrics"]["auroc_macro"]["ci95"] == pytest.approx([1, 1])
    assert list(records[0]) == ["task", "run", "against", "data", "split", "protocol", "metrics", "bootstrap"]


def test_means_over_other_labels_are_not_compared() -> None:
    values = mean_of(np.arange(40.0))
    one = evaluation("a", {"auroc_macro": values, "auroc[Edema]": values, "recall@1": values})
    other = evaluation("b", {"auroc_macro": values, "auroc[Mass]": values, "recall@1": values})
    assert list(compare(one, other).metrics) == ["recall@1"]
    assert set(compare(one, one).metrics) == {"auroc_macro", "auroc[Edema]", "recall@1"}


def test_runs_on_other_cases_are_refused() -> None:
    one = evaluation("a", {})
    with pytest.raises(PlaceError, match="a and b: split test and validate"):
        compare(one, evaluation("b", {}, split="validate"))


def test_a_difference_is_one_line_of_the_table() -> None:
    record = {
        "metrics": {"auroc_macro": {"difference": 0.125, "ci95": [0.1, 0.15], "n": 3}, "map": {"difference": 1.0}}
    }
    assert list(flatten(record)) == [
        ("metrics.auroc_macro", "0.125 (95 % 0.1 to 0.15)"),
        ("metrics.map", "1"),
    ]

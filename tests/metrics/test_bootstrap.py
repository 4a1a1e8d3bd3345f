"""The bootstrap resamples patients, not cases, from a seed, and leaves undefined replicates out."""

from __future__ import annotations

import numpy as np
import pytest

from placecli.metrics import bootstrap as module
from placecli.metrics.bootstrap import bootstrap, estimate, estimate_difference, paired_difference
from placecli.metrics.classification import auroc
from placecli.metrics.retrieval import weighted_mean


def mean_of(values: np.ndarray):
    return lambda weights: weighted_mean(values, weights)


def test_same_seed_same_interval_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    values, patients = np.random.default_rng(0).random(40), np.arange(40) // 2
    first = bootstrap(mean_of(values), patients, replicates=200, seed=5)
    monkeypatch.setattr(module, "_BLOCK", 100)
    assert bootstrap(mean_of(values), patients, replicates=200, seed=5) == first
    assert bootstrap(mean_of(values), patients, replicates=200, seed=6) != first


def test_interval_of_a_mean_has_the_width_of_theory() -> None:
    values = np.random.default_rng(1).normal(size=400)
    found = bootstrap(mean_of(values), np.arange(400), replicates=4000, seed=0)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_cases_of_one_patient_stay_together() -> None:
    # Ten patients with a hundred equal cases each: the spread is that of ten values, not of a thousand.
    per_patient = np.arange(10.0)
    values, patients = np.repeat(per_patient, 100), np.repeat([f"p{i}" for i in range(10)], 100)
    grouped = bootstrap(mean_of(values), patients, replicates=2000, seed=0)
    single = bootstrap(mean_of(per_patient), np.arange(10), replicates=2000, seed=0)
    assert (grouped.low, grouped.high) == pytest.approx((single.low, single.high))
    split = bootstrap(mean_of(values), np.arange(1000), replicates=2000, seed=0)
    assert split.high - split.low < (grouped.high - grouped.low) / 5


def test_undefined_replicates_are_counted_and_left_out() -> None:
    labels, scores = np.array([True, False, False]), np.array([2.0, 1.0, 3.0])
    found = bootstrap(lambda w: auroc(labels, scores, w), np.arange(3), replicates=500, seed=0)
    # A replicate of three draws lacks the only positive with probability (2/3)^3, has nothing else with (1/3)^3.
    assert found.num_undefined / 500 == pytest.approx(8 / 27 + 1 / 27, abs=0.06)
    assert (found.low, found.high) == (0.0, 1.0)
    nothing = bootstrap(lambda w: auroc([True] * 3, scores, w), np.arange(3), replicates=10, seed=0)
    assert np.isnan(nothing.low)
    assert nothing.num_undefined == 10


def test_no_replicates_no_interval() -> None:
    assert np.isnan(bootstrap(mean_of(np.ones(3)), np.arange(3), replicates=0, seed=0).low)


def test_paired_difference_uses_the_same_patients() -> None:
    values = np.random.default_rng(2).normal(scale=10, size=50)
    found = paired_difference(mean_of(values + 1), mean_of(values), np.arange(50), replicates=300, seed=0)
    assert (found.low, found.high) == pytest.approx((1.0, 1.0))


def test_values_equal_a_plain_loop_over_the_same_draws() -> None:
    patients, values = np.array([0, 0, 1, 2]), np.array([1.0, 2.0, 4.0, 8.0])
    drawn = np.random.default_rng(9).integers(0, 3, (50, 3))
    means = [np.mean(np.concatenate([values[patients == p] for p in row])) for row in drawn]
    found = bootstrap(mean_of(values), patients, replicates=50, seed=9)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_an_estimate_has_value_interval_and_counts() -> None:
    values, patients = np.random.default_rng(4).random(30), np.arange(30) // 3
    found = estimate(mean_of(values), patients, replicates=200, seed=3)
    interval = bootstrap(mean_of(values), patients, replicates=200, seed=3)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == (interval.low, interval.high)
    assert (found.n, found.num_patients, found.num_replicates, found.num_undefined) == (30, 10, 200, 0)


def test_a_difference_is_clear_where_both_intervals_overlap() -> None:
    hard = np.random.default_rng(5).normal(scale=10, size=60)
    better = hard + np.random.default_rng(6).normal(loc=1.0, scale=0.5, size=60)
    first, second = (estimate(mean_of(v), np.arange(60), replicates=300) for v in (better, hard))
    found = estimate_difference(mean_of(better), mean_of(hard), np.arange(60), replicates=300)
    assert first.low < second.high
    assert found.low > 0
    assert found.value == pytest.approx(first.value - second.value)
    assert estimate_difference(mean_of(hard), mean_of(better), np.arange(60), replicates=300).high < 0

"""Reliability bins against scikit-learn and a plain loop; closed forms of the calibration error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from placecli.metrics.calibration import (
    expected_calibration_error,
    multiclass_calibration_error,
    reliability,
)


def case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    size = int(generator.integers(3, 60))
    probabilities = generator.integers(0, 21, size) / 20 if seed % 2 else generator.random(size)
    return generator.random(size) < probabilities, probabilities


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 10]), st.sampled_from(["width", "count"]))
@settings(max_examples=60, deadline=None)
def test_bins_equal_scikit_learn(seed: int, bins: int, binning: str) -> None:
    labels, probabilities = case(seed)
    strategy = {"width": "uniform", "count": "quantile"}[binning]
    positives, means = calibration_curve(labels, probabilities, n_bins=bins, strategy=strategy)
    found = reliability(labels, probabilities, bins=bins, binning=binning)
    filled = found.count > 0
    assert found.frequency[filled] == pytest.approx(positives)
    assert found.mean_probability[filled] == pytest.approx(means)
    assert found.count.sum() == len(labels)
    assert len(found.edges) == len(found.count) + 1


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_error_equals_a_plain_loop_over_repeated_cases(seed: int) -> None:
    labels, probabilities = case(seed)
    weights = np.random.default_rng(seed).integers(0, 3, (4, len(labels)))
    weights[:, 0] += 1
    for row, value in zip(weights, expected_calibration_error(labels, probabilities, weights, bins=5), strict=True):
        truth, shown = np.repeat(labels, row), np.repeat(probabilities, row)
        expected = 0.0
        for low, high in zip(np.linspace(0, 1, 6)[:-1], np.linspace(0, 1, 6)[1:], strict=True):
            inside = (shown > low) & (shown <= high) | (low == 0) & (shown == 0)
            if inside.any():
                expected += inside.mean() * abs(shown[inside].mean() - truth[inside].mean())
        assert value == pytest.approx(expected, abs=1e-12)


def test_closed_forms() -> None:
    assert expected_calibration_error([True, False], [1.0, 0.0]) == 0.0
    assert expected_calibration_error([True, False], [0.0, 1.0]) == 1.0
    assert expected_calibration_error([True, True, False, False], [0.75] * 4) == pytest.approx(0.25)
    # In one bin errors of both signs cancel; in two they do not.
    labels, shown = [False, True], [0.4, 0.6]
    assert expected_calibration_error(labels, shown, bins=1) == pytest.approx(0.0)
    assert expected_calibration_error(labels, shown, bins=2) == pytest.approx(0.4)


def test_multiclass_reads_the_largest_probability() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]])
    assert multiclass_calibration_error([0, 0, -1], probabilities) == pytest.approx(abs(0.8 - 0.5))
    assert multiclass_calibration_error([0, 0, 2], probabilities, [1, 0, 0]) == pytest.approx(0.2)


def test_equal_probabilities_make_one_bin() -> None:
    found = reliability([True, False], [0.5, 0.5], binning="count")
    assert (found.count.tolist(), found.edges.tolist()) == ([2.0], [0.5, 0.5])


def test_refuses_logits() -> None:
    with pytest.raises(ValueError, match="sigmoid"):
        expected_calibration_error([True], [1.2])
    with pytest.raises(ValueError, match="one length"):
        expected_calibration_error([True], [0.5, 0.5])

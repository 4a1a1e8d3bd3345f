"""AUROC, average precision and curves against scikit-learn, with ties and weights, and where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score, roc_curve

from placecli.metrics import classification


def case(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    size = int(generator.integers(2, 60))
    labels = generator.random(size) < generator.uniform(0.05, 0.95)
    labels[:2] = True, False
    return labels, generator.integers(0, levels, size) / 7


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 10_000]))
@settings(max_examples=80, deadline=None)
def test_equal_scikit_learn(seed: int, levels: int) -> None:
    labels, scores = case(seed, levels)
    assert classification.auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = average_precision_score(labels, scores)
    assert classification.average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 10_000]))
@settings(max_examples=40, deadline=None)
def test_weights_equal_repeated_cases(seed: int, levels: int) -> None:
    labels, scores = case(seed, levels)
    weights = np.random.default_rng(seed + 1).integers(0, 4, (6, len(labels)))
    weights[:, :2] += 1
    areas = classification.auroc(labels, scores, weights)
    precisions = classification.average_precision(labels, scores, weights)
    for row, area, precision in zip(weights, areas, precisions, strict=True):
        truth, values = np.repeat(labels, row), np.repeat(scores, row)
        assert area == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
        assert precision == pytest.approx(average_precision_score(truth, values), abs=1e-12)


def test_closed_forms() -> None:
    assert classification.auroc([False, False, True, True], [1, 2, 3, 4]) == 1.0
    assert classification.auroc([True, True, False], [1, 2, 3]) == 0.0
    assert classification.auroc([True, False, True, False], [3, 3, 3, 3]) == 0.5
    assert classification.average_precision([True, False, True], [3, 2, 1]) == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("labels", [[True, True], [False, False]])
def test_one_class_is_undefined(labels: list[bool]) -> None:
    assert np.isnan(classification.auroc(labels, [0.1, 0.2]))
    assert np.isnan(classification.average_precision(labels, [0.1, 0.2]))


def test_one_class_in_a_replicate_is_undefined_there_alone() -> None:
    areas = classification.auroc([True, False, False], [2, 1, 3], [[1, 1, 0], [0, 1, 1], [1, 0, 1]])
    assert areas[0] == 1.0
    assert np.isnan(areas[1])
    assert areas[2] == 0.0


def test_refuses_what_is_no_score() -> None:
    with pytest.raises(ValueError, match="not a number"):
        classification.auroc([True, False], [np.nan, 1.0])
    with pytest.raises(ValueError, match="one length"):
        classification.auroc([True, False], [1.0])


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 5, 10_000]))
@settings(max_examples=40, deadline=None)
def test_curves_equal_scikit_learn_and_have_the_area(seed: int, levels: int) -> None:
    labels, scores = case(seed, levels)
    weights = np.random.default_rng(seed + 1).integers(1, 4, len(labels))
    for given_weights in (None, weights):
        found = classification.roc_curve(labels, scores, given_weights)
        x, y, thresholds = roc_curve(labels, scores, sample_weight=given_weights, drop_intermediate=False)
        assert np.allclose(found.false_positive_rate, x, atol=1e-12)
        assert np.allclose(found.true_positive_rate, y, atol=1e-12)
        assert np.array_equal(found.threshold, thresholds)
        area = np.trapezoid(found.true_positive_rate, found.false_positive_rate)
        assert area == pytest.approx(classification.auroc(labels, scores, given_weights), abs=1e-12)
        curve = classification.precision_recall_curve(labels, scores, given_weights)
        precision, recall, thresholds = precision_recall_curve(labels, scores, sample_weight=given_weights)
        assert np.allclose(curve.precision[::-1], precision[:-1], atol=1e-12)
        assert np.allclose(curve.recall[::-1], recall[:-1], atol=1e-12)
        assert np.array_equal(curve.threshold[::-1], thresholds)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 10_000]))
@settings(max_examples=30, deadline=None)
def test_best_threshold_is_the_highest_of_the_best_of_all(seed: int, levels: int) -> None:
    labels, scores = case(seed, levels)
    values = {t: f1_score(labels, scores >= t) for t in np.unique(scores)}
    best = max(t for t, value in values.items() if value >= max(values.values()) - 1e-12)
    assert classification.best_f1_threshold(labels, scores) == best


def test_curves_of_one_class_and_of_many_weightings() -> None:
    curve = classification.roc_curve([True, True], [1, 2])
    assert np.isnan(curve.false_positive_rate).all()
    assert curve.true_positive_rate.tolist() == [0.0, 0.5, 1.0]
    with pytest.raises(ValueError, match="one weight"):
        classification.roc_curve([True, False], [1, 2], np.ones((3, 2)))
    with pytest.raises(ValueError, match="at least one positive"):
        classification.best_f1_threshold([False, False], [1, 2])

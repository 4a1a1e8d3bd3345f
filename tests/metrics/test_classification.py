"""AUROC and average precision against scikit-learn, with ties and weights, and where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

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

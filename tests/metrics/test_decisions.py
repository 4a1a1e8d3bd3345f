"""Counts, F1 and their kin against scikit-learn, weighted and not, and where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as peer
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.metrics import decisions


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_equal_scikit_learn_with_weights(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = int(generator.integers(2, 40))
    labels, predicted = generator.random((2, size)) < generator.uniform(0, 1, (2, 1))
    weights = generator.integers(0, 4, (3, size))
    weights[:, 0] += 1
    table = {
        decisions.accuracy: lambda w: peer.accuracy_score(labels, predicted, sample_weight=w),
        decisions.f1: lambda w: peer.f1_score(labels, predicted, sample_weight=w, zero_division=np.nan),
        decisions.precision: lambda w: peer.precision_score(labels, predicted, sample_weight=w, zero_division=np.nan),
        decisions.sensitivity: lambda w: peer.recall_score(labels, predicted, sample_weight=w, zero_division=np.nan),
        decisions.specificity: lambda w: peer.recall_score(~labels, ~predicted, sample_weight=w, zero_division=np.nan),
    }
    for own, other in table.items():
        assert own(labels, predicted) == pytest.approx(other(np.ones(size)), abs=1e-12, nan_ok=True)
        expected = [other(row) for row in weights]
        assert own(labels, predicted, weights) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_counts_and_closed_forms() -> None:
    found = decisions.count([1, 1, 0, 0, 0], [1, 0, 1, 0, 0], [5, 1, 2, 1, 1])
    assert found == decisions.Counts(5.0, 2.0, 1.0, 2.0)
    assert decisions.f1([1, 1, 0], [1, 0, 0]) == pytest.approx(2 / 3)
    assert np.isnan(decisions.f1([0, 0], [0, 0]))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_multiclass_accuracy_leaves_unknown_out(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores, labels = generator.random((20, 3)), generator.integers(-1, 3, 20)
    labels[0] = 2
    weights = generator.integers(0, 3, (4, 20))
    weights[:, 0] += 1
    known = labels >= 0
    expected = peer.accuracy_score(labels[known], scores[known].argmax(axis=1))
    assert decisions.multiclass_accuracy(labels, scores) == pytest.approx(expected)
    rows = [peer.accuracy_score(labels[known], scores[known].argmax(axis=1), sample_weight=w[known]) for w in weights]
    assert decisions.multiclass_accuracy(labels, scores, weights) == pytest.approx(rows)


def test_a_tie_between_classes_is_wrong() -> None:
    assert decisions.multiclass_accuracy([0, 0], [[1.0, 1.0], [1.0, 0.0]]) == 0.5


def test_refuses_scores_for_decisions() -> None:
    with pytest.raises(ValueError, match="threshold first"):
        decisions.f1([1, 0], [0.7, 0.1])
    with pytest.raises(ValueError, match="one length"):
        decisions.f1([1, 0], [1])
    with pytest.raises(ValueError, match=r"0\.\.1"):
        decisions.multiclass_accuracy([2], [[0.5, 0.5]])

"""Per label, macro and micro against scikit-learn; labels that are not known; classes that exclude each other."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.metrics as peer
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.metrics import averages, decisions
from placecli.metrics.bootstrap import bootstrap
from placecli.metrics.calibration import expected_calibration_error
from placecli.metrics.classification import auroc, average_precision


def table(seed: int, size: int = 40, num_labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = (generator.random((size, num_labels)) < 0.4).astype(float)
    labels[:2] = [[1.0] * num_labels, [0.0] * num_labels]
    return labels, generator.integers(0, 9, (size, num_labels)) / 8


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_equal_scikit_learn_where_all_is_known(seed: int) -> None:
    labels, scores = table(seed)
    for own, other in ((auroc, peer.roc_auc_score), (average_precision, peer.average_precision_score)):
        assert averages.per_label(own, labels, scores) == pytest.approx(other(labels, scores, average=None))
        assert averages.macro(own, labels, scores) == pytest.approx(other(labels, scores, average="macro"))
        assert averages.micro(own, labels, scores) == pytest.approx(other(labels, scores, average="micro"))
    called = scores > 0.5
    for average, own in (("macro", averages.macro), ("micro", averages.micro)):
        assert own(decisions.f1, labels, called) == pytest.approx(peer.f1_score(labels, called, average=average))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_unknown_cells_are_left_out_and_weights_are_repeats(seed: int) -> None:
    labels, scores = table(seed)
    generator = np.random.default_rng(seed + 1)
    labels[generator.random(labels.shape) < 0.3] = np.nan
    labels[:2] = [[1.0] * 3, [0.0] * 3]
    weights = generator.integers(0, 3, (4, len(labels)))
    weights[:, :2] += 1
    per_label = averages.per_label(auroc, labels, scores, weights)
    macro, micro = averages.macro(auroc, labels, scores, weights), averages.micro(auroc, labels, scores, weights)
    for r, row in enumerate(weights):
        truth, values = np.repeat(labels, row, axis=0), np.repeat(scores, row, axis=0)
        known = ~np.isnan(truth)
        expected = [peer.roc_auc_score(t[k], v[k]) for t, v, k in zip(truth.T, values.T, known.T, strict=True)]
        assert per_label[:, r] == pytest.approx(expected)
        assert macro[r] == pytest.approx(np.mean(expected))
        assert micro[r] == pytest.approx(peer.roc_auc_score(truth[known], values[known]))


def test_micro_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = table(1)
    weights = np.random.default_rng(0).integers(0, 3, (10, 40))
    whole = averages.micro(auroc, labels, scores, weights)
    monkeypatch.setattr(averages, "_BLOCK", 300)
    assert np.array_equal(averages.micro(auroc, labels, scores, weights), whole)


def test_a_label_that_is_undefined_is_in_no_mean() -> None:
    labels = [[1.0, 1.0, np.nan], [0.0, 1.0, np.nan], [1.0, 1.0, np.nan]]
    scores = [[0.9, 0.1, 0.2], [0.1, 0.2, 0.2], [0.8, 0.3, 0.2]]
    assert averages.per_label(auroc, labels, scores) == pytest.approx([1.0, np.nan, np.nan], nan_ok=True)
    assert averages.macro(auroc, labels, scores) == 1.0
    assert averages.per_label(auroc, labels, scores, np.ones((2, 3))).shape == (3, 2)
    assert np.isnan(averages.macro(auroc, [[1.0], [1.0]], [[0.1], [0.2]]))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_classes_that_exclude_each_other(seed: int) -> None:
    generator = np.random.default_rng(seed)
    classes = np.append([0, 1, 2], generator.integers(0, 3, 30))
    scores = generator.dirichlet(np.ones(3), len(classes))
    hot = averages.one_hot(classes, 3)
    assert averages.macro(auroc, hot, scores) == pytest.approx(peer.roc_auc_score(classes, scores, multi_class="ovr"))
    answer = scores.argmax(axis=1)
    called = averages.one_hot(answer, 3)
    assert averages.macro(decisions.f1, hot, called) == pytest.approx(peer.f1_score(classes, answer, average="macro"))
    assert averages.micro(decisions.f1, hot, called) == pytest.approx(peer.accuracy_score(classes, answer))


def test_one_hot_marks_what_is_not_known() -> None:
    assert np.array_equal(averages.one_hot([1, -1], 2), [[0, 1], [np.nan, np.nan]], equal_nan=True)
    with pytest.raises(ValueError, match="below 2"):
        averages.one_hot([2], 2)
    with pytest.raises(ValueError, match="whole numbers"):
        averages.one_hot([0.5], 2)


def test_other_metrics_and_the_bootstrap_fit() -> None:
    labels, scores = table(5)
    found = averages.per_label(expected_calibration_error, labels, scores)
    assert found[1] == expected_calibration_error(labels[:, 1] == 1, scores[:, 1])
    interval = bootstrap(lambda w: averages.macro(auroc, labels, scores, w), np.arange(40) // 2, replicates=200, seed=0)
    assert interval.low < averages.macro(auroc, labels, scores) < interval.high


def test_refuses_uncertain_labels_and_other_shapes() -> None:
    with pytest.raises(ValueError, match="uncertain"):
        averages.macro(auroc, [[-1.0]], [[0.5]])
    with pytest.raises(ValueError, match="one shape"):
        averages.macro(auroc, [[1.0]], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="no label is known"):
        averages.micro(auroc, [[np.nan]], [[0.5]])

"""The linear probe against scikit-learn and the conditions of its minimum."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from placecli.tasks.probe import Linear, fit_logistic, fit_path


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    generator = np.random.default_rng(0)
    return (generator.normal(size=(120, 6)) * [1, 5, 0.1, 1, 1, 0] + [0, 10, 3, 0, 0, 7]).astype(np.float32)


def labels_of(features: np.ndarray, seed: int = 1) -> np.ndarray:
    generator = np.random.default_rng(seed)
    logits = features[:, 0] + 0.3 * (features[:, 1] - 10) - 8 * (features[:, 2] - 3)
    return (generator.random(len(features)) < 1 / (1 + np.exp(-logits))).astype(float)


def standardise(features: np.ndarray) -> np.ndarray:
    values = features.astype(np.float64)[:, :5]
    return (values - values.mean(axis=0)) / values.std(axis=0)


@pytest.mark.parametrize("penalty", [0.01, 0.3, 10.0])
def test_it_is_scikit_learns_logistic_regression_on_standardised_features(features: np.ndarray, penalty: float) -> None:
    wanted = labels_of(features)
    ours = fit_logistic(features, wanted[:, None], penalty, is_exclusive=False)
    theirs = LogisticRegression(C=1 / (penalty * len(features)), tol=1e-10, max_iter=10_000)
    theirs.fit(standardise(features), wanted)
    expected = theirs.decision_function(standardise(features))
    assert np.abs(ours.logits(features)[:, 0] - expected).max() < 2e-3


def test_exclusive_classes_are_scikit_learns_multinomial_regression(features: np.ndarray) -> None:
    classes = np.digitize(features[:, 0], [-0.5, 0.5])
    ours = fit_logistic(features, np.eye(3)[classes], 0.1, is_exclusive=True)
    theirs = LogisticRegression(C=1 / (0.1 * len(features)), tol=1e-10, max_iter=10_000)
    theirs.fit(standardise(features), classes)
    exponents = np.exp(ours.logits(features))
    assert (
        np.abs(exponents / exponents.sum(axis=1, keepdims=True) - theirs.predict_proba(standardise(features))).max()
        < 1e-3
    )


def test_an_unknown_label_is_as_if_the_case_were_not_there(features: np.ndarray) -> None:
    wanted = np.stack([labels_of(features), labels_of(features, 2)], axis=1)
    wanted[:40, 0] = np.nan
    wanted[5, :] = np.nan
    joint = fit_logistic(features, wanted, 0.1, is_exclusive=False)
    # Standardisation is over the rows that have any label; with row 5 unlabelled that is the others.
    rest = np.delete(np.arange(120), 5)
    alone = fit_logistic(features[rest], wanted[rest, 1:], 0.1, is_exclusive=False)
    assert np.abs(joint.logits(features)[:, 1] - alone.logits(features)[:, 0]).max() < 2e-3
    assert not np.allclose(joint.logits(features)[:, 0], joint.logits(features)[:, 1], atol=0.1)


def test_scale_and_shift_of_a_feature_change_nothing(features: np.ndarray) -> None:
    wanted = labels_of(features)[:, None]
    moved = features.astype(np.float64) * [1, 10, 100, 1, 1, 1] + [0, -4, 9, 0, 0, 0]
    first = fit_logistic(features, wanted, 0.1, is_exclusive=False).logits(features)
    assert np.abs(first - fit_logistic(moved, wanted, 0.1, is_exclusive=False).logits(moved)).max() < 2e-3


def test_a_constant_feature_and_a_label_of_one_kind_give_finite_answers(features: np.ndarray) -> None:
    found = fit_logistic(features, np.stack([labels_of(features), np.ones(120)], axis=1), 0.1, is_exclusive=False)
    assert np.isfinite(found.weight).all()
    assert np.isfinite(found.bias).all()
    assert (found.weight[:, 5] == 0).all()
    assert (found.logits(features)[:, 1] > 2).all()


def test_a_path_ends_where_each_penalty_alone_would(features: np.ndarray) -> None:
    wanted = labels_of(features)[:, None]
    path = dict(fit_path(features, wanted, (0.01, 1.0, 0.1), is_exclusive=False))
    assert list(path) == [1.0, 0.1, 0.01]
    for penalty, linear in path.items():
        alone = fit_logistic(features, wanted, penalty, is_exclusive=False)
        assert np.abs(linear.logits(features) - alone.logits(features)).max() < 5e-3


def test_logits_are_the_linear_map() -> None:
    linear = Linear(np.array([[1.0, 2.0]]), np.array([0.5]))
    assert linear.logits(np.array([[3.0, -1.0]], np.float32)).tolist() == [[1.5]]

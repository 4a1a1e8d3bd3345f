"""Clinical F1 against naive loops, scikit-learn and closed forms, with weights and in a bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from placecli.metrics.bootstrap import bootstrap
from placecli.metrics.clinical import agreement
from placecli.metrics.clinical.findings import COMPETITION, FINDINGS

STATES = np.array([1.0, 0.0, -1.0, np.nan])


def tables(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two tables of labels that agree in two of three cells."""
    generator = np.random.default_rng(seed)
    shape = int(generator.integers(1, 40)), 14
    first, second = STATES[generator.integers(0, 4, shape)], STATES[generator.integers(0, 4, shape)]
    return first, np.where(generator.random(shape) < 2 / 3, first, second)


def naive_f1(predicted: np.ndarray, reference: np.ndarray, positive: tuple[int, ...]) -> list[float]:
    scores = []
    for column in range(predicted.shape[1]):
        hits = false = missed = 0
        for given_label, true_label in zip(predicted[:, column], reference[:, column], strict=True):
            hits += given_label in positive and true_label in positive
            false += given_label in positive and true_label not in positive
            missed += given_label not in positive and true_label in positive
        total = 2 * hits + false + missed
        scores.append(2 * hits / total if total else float("nan"))
    return scores


@given(st.integers(0, 2**32 - 1), st.sampled_from([("present", (1, -1)), ("absent", (1,))]))
@settings(max_examples=40)
def test_equals_naive_loops(seed: int, reading: tuple[agreement.Uncertain, tuple[int, ...]]) -> None:
    uncertain, positive = reading
    predicted, reference = tables(seed)
    outcomes = agreement.outcomes(predicted, reference, uncertain)
    expected = naive_f1(predicted, reference, positive)
    np.testing.assert_allclose(agreement.f1(outcomes), expected)
    assert agreement.macro_f1(outcomes) == pytest.approx(np.nanmean(expected)) or np.isnan(expected).all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_equals_scikit_learn(seed: int) -> None:
    predicted, reference = tables(seed)
    given_labels, truth = agreement.stated(predicted, "present"), agreement.stated(reference, "present")
    outcomes = agreement.outcomes(predicted, reference, "present")
    assert agreement.micro_f1(outcomes) == pytest.approx(
        f1_score(truth, given_labels, average="micro", zero_division=0)
    )
    for ours, theirs in (
        (agreement.precision, precision_score),
        (agreement.recall, recall_score),
        (agreement.f1, f1_score),
    ):
        values = np.nan_to_num(ours(outcomes))
        np.testing.assert_allclose(values, theirs(truth, given_labels, average=None, zero_division=0))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_weights_equal_repeated_reports(seed: int) -> None:
    predicted, reference = tables(seed)
    outcomes = agreement.outcomes(predicted, reference, "absent")
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(predicted)))
    weighted = agreement.clinical_f1(outcomes, weights)
    for replicate, counts in enumerate(weights):
        repeated = np.repeat(outcomes, counts, axis=0)
        for name, value in agreement.clinical_f1(repeated).items():
            np.testing.assert_array_equal(weighted[name][replicate], value)


def test_closed_forms() -> None:
    labels = label_rows("Edema", [1, 1, 0, np.nan])
    same = agreement.outcomes(labels, labels, "present")
    assert agreement.micro_f1(same) == agreement.macro_f1(same) == 1.0
    other = label_rows("Edema", [1, 0, 1, 1])
    outcomes = agreement.outcomes(labels, other, "present")  # 1 hit, 1 false, 2 missed
    assert agreement.micro_f1(outcomes) == pytest.approx(2 / 5)
    assert agreement.precision(outcomes)[FINDINGS.index("Edema")] == 0.5
    assert agreement.recall(outcomes)[FINDINGS.index("Edema")] == pytest.approx(1 / 3)
    assert np.isnan(agreement.f1(outcomes)[FINDINGS.index("Fracture")])


def test_uncertain_is_read_both_ways() -> None:
    uncertain, present = label_rows("Edema", [-1]), label_rows("Edema", [1])
    assert agreement.micro_f1(agreement.outcomes(uncertain, present, "present")) == 1.0
    assert agreement.micro_f1(agreement.outcomes(uncertain, present, "absent")) == 0.0


def test_nothing_stated_is_undefined() -> None:
    nothing = label_rows("Edema", [0, np.nan])
    outcomes = agreement.outcomes(nothing, nothing, "present")
    assert np.isnan(list(agreement.clinical_f1(outcomes).values())).all()


def test_five_are_of_the_competition_alone() -> None:
    reference = label_rows("Edema", [1, 1])
    predicted = reference.copy()
    predicted[:, FINDINGS.index("Fracture")] = 1
    scores = agreement.clinical_f1(agreement.outcomes(predicted, reference, "present"))
    assert scores["f1_micro_5"] == scores["f1_macro_5"] == 1.0
    assert scores["f1_micro_14"] == pytest.approx(4 / 6)
    assert scores["f1_macro_14"] == 0.5
    assert len(COMPETITION) == 5


def test_bootstrap_by_patient() -> None:
    predicted, reference = tables(3)
    outcomes = agreement.outcomes(predicted, reference, "present")
    patients = np.arange(len(predicted)) // 2
    interval = bootstrap(lambda w: agreement.micro_f1(outcomes, w), patients, replicates=200, seed=0)
    assert interval.low < agreement.micro_f1(outcomes) < interval.high
    assert interval.num_undefined == 0


def test_refuses_what_is_no_table_of_labels() -> None:
    with pytest.raises(ValueError, match="1, 0, -1 or nan"):
        agreement.stated([[2.0]], "present")
    with pytest.raises(ValueError, match="one shape"):
        agreement.outcomes(np.ones((2, 14)), np.ones((3, 14)), "present")
    with pytest.raises(ValueError, match="are wanted"):
        agreement.f1(np.ones((2, 14)))


def label_rows(finding: str, states: list[float]) -> np.ndarray:
    """[n, 14] with one finding's states, else not mentioned."""
    table = np.full((len(states), len(FINDINGS)), np.nan)
    table[:, FINDINGS.index(finding)] = states
    return table

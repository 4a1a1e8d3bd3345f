"""Clinical F1: do two reports of one study state the same findings?

Labels are those of `labeler.label_reports` or of any other labeler: float [n, F] with 1 present, 0 absent, -1 uncertain
and nan not mentioned. Only what is stated counts: absent and not mentioned are alike, and an uncertain finding is read as
present (`uncertain="present"`, as CheXbert's F1 has it) or as not present ("absent"). n reports, F findings, R replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from placecli.metrics.clinical.findings import COMPETITION, FINDINGS, PRESENT, UNCERTAIN

Floats = NDArray[np.float64]
Uncertain = Literal["present", "absent"]
Names = Sequence[str]


def stated(labels: ArrayLike, uncertain: Uncertain) -> NDArray[np.bool_]:
    """bool, shape of `labels`: whether each finding counts as stated. Raises ValueError for a value that is no label."""
    values = np.asarray(labels, dtype=np.float64)
    if not np.isin(values[~np.isnan(values)], (PRESENT, 0, UNCERTAIN)).all():
        raise ValueError("a label is 1, 0, -1 or nan")
    if uncertain == "present":
        return (values == PRESENT) | (values == UNCERTAIN)
    return np.asarray(values == PRESENT)


def outcomes(predicted: ArrayLike, reference: ArrayLike, uncertain: Uncertain) -> NDArray[np.int8]:
    """What each report adds to each finding: int8 [n, F, 3], 1 where it is a true positive, false positive, false negative.

    The sums over reports are all that precision, recall and F1 need, so that a bootstrap only weights them. Raises
    ValueError where the two tables differ in shape.
    """
    given, truth = stated(predicted, uncertain), stated(reference, uncertain)
    if given.shape != truth.shape or given.ndim != 2:
        raise ValueError(f"labels {given.shape} and {truth.shape} must be two tables [reports, findings] of one shape")
    return np.stack([given & truth, given & ~truth, ~given & truth], axis=-1).astype(np.int8)


def precision(outcomes: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """TP / (TP + FP) of each finding, float64 [F], or [R, F] with `weights` [R, n]; nan where nothing was predicted."""
    counts = _counts(outcomes, weights)
    return _ratio(counts[..., 0], counts[..., 0] + counts[..., 1])


def recall(outcomes: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """TP / (TP + FN) of each finding, float64 [F], or [R, F] with `weights` [R, n]; nan where the reference has none."""
    counts = _counts(outcomes, weights)
    return _ratio(counts[..., 0], counts[..., 0] + counts[..., 2])


def f1(outcomes: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """2 TP / (2 TP + FP + FN) of each finding, float64 [F], or [R, F] with `weights` [R, n].

    nan where neither side states the finding: there is nothing to agree on.
    """
    return _f1(_counts(outcomes, weights))


def micro_f1(outcomes: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """F1 of the sums over findings, so that frequent findings count most: a float, or float64 [R] with `weights` [R, n]."""
    return _plain(_f1(_counts(outcomes, weights).sum(axis=-2)))


def macro_f1(outcomes: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean of the findings' F1, each counting alike: a float, or float64 [R] with `weights` [R, n].

    A finding whose F1 is undefined is left out of the mean (scikit-learn, and so CheXbert's report, takes it as 0); nan
    where all are.
    """
    values = _f1(_counts(outcomes, weights))
    defined = ~np.isnan(values)
    return _plain(_ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64)))


def select(outcomes: ArrayLike, names: Names, findings: Names = FINDINGS) -> NDArray[np.int8]:
    """The outcomes [n, len(names), 3] of the named findings alone; `findings` names the columns."""
    return np.asarray(outcomes)[:, [list(findings).index(name) for name in names]]


def clinical_f1(outcomes: ArrayLike, weights: ArrayLike | None = None) -> dict[str, Any]:
    """`f1_micro_14`, `f1_macro_14` over `FINDINGS` and `f1_micro_5`, `f1_macro_5` over the five of CheXpert's competition.

    `outcomes` [n, 14, 3]; floats in 0..1, or float64 [R] with `weights` [R, n], nan where undefined.
    """
    five = select(outcomes, COMPETITION)
    return {
        "f1_micro_14": micro_f1(outcomes, weights),
        "f1_macro_14": macro_f1(outcomes, weights),
        "f1_micro_5": micro_f1(five, weights),
        "f1_macro_5": macro_f1(five, weights),
    }


def _counts(outcomes: ArrayLike, weights: ArrayLike | None) -> Floats:
    """Sums over reports, float64 [F, 3] or [R, F, 3]. Whole numbers: no rounding, whatever the order of the sum."""
    each = np.asarray(outcomes, dtype=np.float64)
    if each.ndim != 3 or each.shape[2] != 3:
        raise ValueError(f"outcomes [reports, findings, 3] are wanted, not {each.shape}")
    return each.sum(axis=0) if weights is None else np.tensordot(np.asarray(weights, dtype=np.float64), each, axes=1)


def _f1(counts: Floats) -> Floats:
    return _ratio(2 * counts[..., 0], 2 * counts[..., 0] + counts[..., 1] + counts[..., 2])


def _ratio(part: Floats, whole: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(whole > 0, part / whole, np.nan))


def _plain(values: Floats) -> Any:
    return float(values) if np.ndim(values) == 0 else values

"""How well probabilities of findings agree with labels, with intervals by patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placecli.config import ClassificationConfig
from placecli.metrics.averages import macro
from placecli.metrics.bootstrap import Statistic
from placecli.metrics.calibration import expected_calibration_error, multiclass_calibration_error
from placecli.metrics.classification import auroc, average_precision
from placecli.metrics.decisions import accuracy, f1, multiclass_accuracy
from placecli.records import PlaceError, Row
from placecli.tasks.evaluation import Findings, Measure, Resampling
from placecli.tasks.predictions import match_predictions
from placecli.tasks.targets import read_targets
from placecli.tasks.use import Prediction

Floats = NDArray[np.float64]

THRESHOLD = 0.5
"""From this probability on a finding counts as called, for accuracy and F1."""


def score_classification(
    predictions: Sequence[Prediction],
    rows: Sequence[Row],
    labels: Sequence[str],
    config: ClassificationConfig,
    resampling: Resampling,
) -> Findings:
    """AUROC, average precision, calibration error and, at probability 0.5, accuracy and F1: macro and per label.

    Raises PlaceError for a row without a prediction, a probability outside 0..1, or labels with one kind of case only.
    """
    scores = _read_scores(match_predictions(predictions, rows, "scores"), labels)
    targets = read_targets(rows, labels, config)
    defined = [j for j, column in enumerate(targets.T) if (column == 1).any() and (column == 0).any()]
    if not defined:
        raise PlaceError("no label has both present and absent cases in this split; choose another split or labels")
    patients = np.asarray([row.patient_id for row in rows])
    wanted, shown = targets[:, defined], scores[:, defined]
    metrics = {
        "auroc_macro": resampling.measure(_macro(auroc, wanted, shown), patients),
        "average_precision_macro": resampling.measure(_macro(average_precision, wanted, shown), patients),
        "ece_macro": resampling.measure(_macro(_calibration, wanted, shown), patients),
        "accuracy_macro": resampling.measure(_macro(accuracy, wanted, shown >= THRESHOLD), patients),
        "f1_macro": resampling.measure(_macro(f1, wanted, shown >= THRESHOLD), patients),
    }
    if config.kind == "multi-class":
        metrics |= _of_classes(targets, scores, patients, resampling)
    for j in defined:
        metrics |= _of_label(str(labels[j]), targets[:, j], scores[:, j], patients, resampling)
    prevalence = {str(labels[j]): float(np.nanmean(targets[:, j])) for j in defined}
    chance = {"auroc_macro": 0.5, "average_precision_macro": float(np.mean(list(prevalence.values())))}
    counts = {
        "patients": len(set(patients.tolist())),
        "labels": len(defined),
        "undefined": [str(label) for j, label in enumerate(labels) if j not in defined],
        "prevalence": prevalence,
    }
    return Findings(len(rows), metrics, chance, counts)


def _read_scores(predictions: Sequence[Prediction], labels: Sequence[str]) -> Floats:
    table = np.empty((len(predictions), len(labels)))
    for i, prediction in enumerate(predictions):
        scores = prediction["scores"]
        for j, label in enumerate(labels):
            if label not in scores:
                raise PlaceError(f'predictions: an image has no score for "{label}"; give one for every label')
            table[i, j] = scores[label]
    if not ((table >= 0) & (table <= 1)).all():
        raise PlaceError("predictions: a score is outside 0..1; scores are probabilities")
    return table


def _of_label(
    label: str, targets: Floats, scores: Floats, patients: NDArray[Any], resampling: Resampling
) -> dict[str, Measure]:
    used = ~np.isnan(targets)
    truth, shown, of_whom = targets[used] == 1, scores[used], patients[used]
    metrics: dict[str, Any] = {"auroc": auroc, "average_precision": average_precision, "ece": _calibration}
    return {
        f"{name}[{label}]": resampling.measure(_single(metric, truth, shown), of_whom, int(truth.sum()))
        for name, metric in metrics.items()
    }


def _of_classes(targets: Floats, scores: Floats, patients: NDArray[Any], resampling: Resampling) -> dict[str, Measure]:
    known = ~np.isnan(targets).all(axis=1)
    classes, shown = targets[known].argmax(axis=1), scores[known]
    metrics: dict[str, Any] = {"accuracy": multiclass_accuracy, "ece": multiclass_calibration_error}
    return {
        name: resampling.measure(_single(metric, classes, shown), patients[known]) for name, metric in metrics.items()
    }


def _calibration(truth: Any, scores: Any, weights: Any) -> Any:
    return expected_calibration_error(truth, scores, weights)


def _macro(metric: Any, targets: Floats, scores: NDArray[Any]) -> Statistic:
    return lambda weights: np.asarray(macro(metric, targets, scores, weights))


def _single(metric: Any, truth: NDArray[Any], scores: NDArray[Any]) -> Statistic:
    return lambda weights: np.asarray(metric(truth, scores, weights))

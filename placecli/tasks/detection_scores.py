"""How well predicted boxes agree with a store's, with intervals by patient."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.bootstrap import Statistic
from placecli.metrics.detection import (
    COCO_THRESHOLDS,
    Detections,
    Matches,
    Targets,
    compat_matches,
    match,
    mean_average_precision,
)
from placecli.metrics.froc import collect_marks, froc, points_in_boxes
from placecli.records import PlaceError, Row
from placecli.tasks.detection_baseline import constant_boxes
from placecli.tasks.detection_boxes import predicted_boxes, true_boxes
from placecli.tasks.evaluation import Findings, Measure, Resampling
from placecli.tasks.predictions import match_predictions
from placecli.tasks.use import Prediction

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_CELLS: Final = 4_000_000
"""Weights of detections held at once, replicates times detections: 32 MiB."""


def score_detection(
    predictions: Sequence[Prediction],
    rows: Sequence[Row],
    labels: Sequence[str],
    protocol: str,
    resampling: Resampling,
    learnt_from: Sequence[Row] = (),
) -> Findings:
    """COCO's mean average precision over all images, that at overlaps of 0.5 and 0.75, FROC, and AP at 0.5 by label.

    With protocol "compat" also "map_compat", the field's counting, which leaves out every image without a box or without
    a confident detection. `chance` is what `constant_boxes` of the rows `learnt_from` get. Raises PlaceError for a row
    without a prediction, boxes that are none, or a split without a box.
    """
    found = [predicted_boxes(made, labels) for made in match_predictions(predictions, rows, "boxes")]
    wanted = [true_boxes(row, labels) for row in rows]
    if not any(len(each.boxes) for each in wanted):
        raise PlaceError(
            f"no image of this split has a box of {', '.join(labels) or 'any label'}; choose another split"
        )
    if not any(len(each.boxes) for each in found):
        logger.warning("not one box was predicted in %d images, so every score is 0", len(rows))
    patients = np.asarray([row.patient_id for row in rows])
    positives = {f"ap_50[{label}]": int(sum((w.classes == i).sum() for w in wanted)) for i, label in enumerate(labels)}
    metrics = {
        name: resampling.measure(statistic, patients, positives.get(name))
        for name, statistic in _statistics(found, wanted, labels).items()
    }
    counts = _count(found, wanted, labels, patients)
    if protocol == "compat":
        metrics["map_compat"], counts["compat_images"] = _compat(found, wanted, patients, resampling)
    return Findings(len(rows), metrics, _chance(wanted, labels, learnt_from), counts)


def _statistics(found: Sequence[Detections], wanted: Sequence[Targets], labels: Sequence[str]) -> dict[str, Statistic]:
    """Every metric by name; of a label only where it has a box."""
    matches = match(found, wanted)
    halves = _at(matches, 0.5)
    named = {
        "map": _mean_precision(matches),
        "map_50": _mean_precision(halves),
        "map_75": _mean_precision(_at(matches, 0.75)),
        "froc": _froc(found, wanted),
    }
    present = set(matches.target_category.tolist())
    return named | {
        f"ap_50[{label}]": _mean_precision(_of(halves, i)) for i, label in enumerate(labels) if i in present
    }


def _chance(wanted: Sequence[Targets], labels: Sequence[str], learnt_from: Sequence[Row]) -> dict[str, float]:
    """What the same boxes get on every image; {} where there is nothing to learn them from."""
    if not learnt_from:
        return {}
    statistics = _statistics([constant_boxes(learnt_from, labels)] * len(wanted), wanted, labels)
    weights = np.ones((1, len(wanted)))
    return {name: float(statistic(weights)[0]) for name, statistic in statistics.items()}


def _at(matches: Matches, threshold: float) -> Matches:
    """The same at one of COCO's thresholds alone."""
    place = int(np.argmin(np.abs(np.asarray(COCO_THRESHOLDS) - threshold)))
    return dataclasses.replace(matches, hit=matches.hit[place : place + 1])


def _of(matches: Matches, number: int) -> Matches:
    """The same of one label alone."""
    own, true = matches.category == number, matches.target_category == number
    return dataclasses.replace(
        matches,
        hit=matches.hit[:, own],
        image=matches.image[own],
        category=matches.category[own],
        target_image=matches.target_image[true],
        target_category=matches.target_category[true],
    )


def _mean_precision(matches: Matches) -> Statistic:
    size = len(matches.image)
    return lambda weights: _in_blocks(lambda part: np.asarray(mean_average_precision(matches, part)), weights, size)


def _froc(found: Sequence[Detections], wanted: Sequence[Targets]) -> Statistic:
    """Marked objects found at 1/8 to 8 false marks an image, a mark being the centre of a box and of its label."""
    inside = [
        points_in_boxes((f.boxes[:, :2] + f.boxes[:, 2:]) / 2, w.boxes) & (f.classes[:, None] == w.classes)
        for f, w in zip(found, wanted, strict=True)
    ]
    marks = collect_marks([each.scores for each in found], inside)
    size = len(marks.false_score) + len(marks.object_score)
    return lambda weights: _in_blocks(lambda part: np.asarray(froc(marks, weights=part)), weights, size)


def _compat(
    found: Sequence[Detections], wanted: Sequence[Targets], patients: NDArray[Any], resampling: Resampling
) -> tuple[Measure, int]:
    try:
        matches, kept = compat_matches(found, wanted)
    except ValueError:  # nothing is left to count
        logger.warning(
            "map_compat has no value: no image has both a box and a detection of 0.5 or more; read map instead"
        )
        return Measure(float("nan"), float("nan"), float("nan"), 0), 0
    # The interval resamples the patients of the images that are counted.
    return resampling.measure(_mean_precision(matches), patients[kept]), len(kept)


def _in_blocks(statistic: Statistic, weights: Floats, size: int) -> Floats:
    """The statistic of weights [R, n] in blocks of rows: within, each detection has a number for each row."""
    rows = max(1, _CELLS // max(size, 1))
    return np.concatenate([statistic(weights[first : first + rows]) for first in range(0, len(weights), rows)])


def _count(
    found: Sequence[Detections], wanted: Sequence[Targets], labels: Sequence[str], patients: NDArray[Any]
) -> dict[str, Any]:
    numbers = np.concatenate([each.classes for each in wanted])
    return {
        "patients": len(set(patients.tolist())),
        "images_with_boxes": sum(len(each.boxes) > 0 for each in wanted),
        "boxes": {label: int((numbers == i).sum()) for i, label in enumerate(labels)},
        "undefined": [label for i, label in enumerate(labels) if not (numbers == i).any()],
        "detections": sum(len(each.boxes) for each in found),
    }

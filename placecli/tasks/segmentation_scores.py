"""How well masks agree with those of a store, with intervals by patient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placecli.config import SegmentationConfig
from placecli.data.store import Store
from placecli.metrics.bootstrap import Statistic
from placecli.metrics.segmentation import (
    Overlap,
    compat_dice,
    dice,
    intersection_over_union,
    join,
    mean_over_images,
    measure_overlap,
)
from placecli.records import PlaceError, Row
from placecli.tasks.evaluation import Findings, Resampling
from placecli.tasks.predictions import match_predictions
from placecli.tasks.segmentation_baseline import best_constant_mask
from placecli.tasks.segmentation_runs import decode_runs
from placecli.tasks.use import Prediction

Masks = NDArray[np.bool_]

BATCH = 64
"""Masks that are held at once."""


def score_segmentation(
    predictions: Sequence[Prediction],
    store: Store,
    rows: Sequence[Row],
    config: SegmentationConfig,
    about: dict[str, Any],
    protocol: str,
    resampling: Resampling,
) -> Findings:
    """Dice and intersection over union by image, over positives and all; what a constant mask gets is `chance`.

    Protocol compat counts the padding of the frame as well. Raises PlaceError for a row without a prediction, a mask
    of another size, or a split without anything marked.
    """
    matched = match_predictions(predictions, rows, "counts")
    is_clipped, parts = protocol != "compat", []
    for first in range(0, len(rows), BATCH):
        chosen = rows[first : first + BATCH]
        predicted = np.stack([decode_runs(one, store.size) for one in matched[first : first + BATCH]])
        parts.append(measure_rows(predicted, store, chosen, is_clipped=is_clipped))
    overlap = join(parts)
    positive = overlap.actual > 0
    if not positive.any():
        raise PlaceError("no image of this split has anything marked; choose another --split")
    patients = np.asarray([row.patient_id for row in rows])
    metrics = {
        name: resampling.measure(statistic, patients[used])
        for name, (used, statistic) in _statistics(overlap, config.batch_size).items()
    }
    constant = _constant_mask(store, about)
    chance: dict[str, float] = {}
    if constant is not None:
        chance = _values(_measure_constant(constant, store, rows, is_clipped=is_clipped), config.batch_size)
    nothing = Overlap(np.zeros_like(overlap.both), np.zeros_like(overlap.predicted), overlap.actual)
    counts = {
        "patients": len(set(patients.tolist())),
        "positives": int(positive.sum()),
        "empty": int((~positive).sum()),
        "compat_batch": config.batch_size,
        "of_empty_masks": _values(nothing, config.batch_size),
    }
    return Findings(len(rows), metrics, chance, counts)


def measure_rows(predicted: Masks, store: Store, rows: Sequence[Row], *, is_clipped: bool) -> Overlap:
    """Pixel numbers of masks bool [n, S, S] against those of the rows; `is_clipped`: of the image alone, not of the
    padding around it, where nothing can be."""
    if is_clipped:
        predicted = predicted & content_masks(rows, store.size)
    return measure_overlap(predicted, store.masks(rows) > 0)


def content_masks(rows: Sequence[Row], size: int) -> Masks:
    """bool [n, size, size]: the rectangle of the frame that holds the image."""
    inside = np.zeros((len(rows), size, size), bool)
    for i, row in enumerate(rows):
        left, top, right, bottom = row.content
        inside[i, top:bottom, left:right] = True
    return inside


def pooled_dice(overlap: Overlap, weights: NDArray[np.float64] | None = None) -> Any:
    """2 |both| / (|predicted| + |actual|) over the pixels of all images together; float, or float64 [R] with weights
    [R, n]. A false alarm in an image without anything costs as much as one elsewhere, and nothing is had for free."""
    counts = np.ones(len(overlap.both)) if weights is None else weights
    total = (counts * (overlap.predicted + overlap.actual)).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * (counts * overlap.both).sum(axis=-1) / total


def validation_values(overlap: Overlap) -> dict[str, float]:
    """What the validate split is told by: pooled Dice, which chooses the model, and Dice over positives and all."""
    values, positive = dice(overlap), overlap.actual > 0
    return {
        "dice_pooled": float(pooled_dice(overlap)),
        "dice_positives": float(mean_over_images(values[positive])),
        "dice_all": float(mean_over_images(values)),
    }


def _statistics(overlap: Overlap, batch: int) -> dict[str, tuple[NDArray[np.bool_], Statistic]]:
    """By name the images bool [n] that a metric is taken over and the statistic of those; none over no image."""
    positive = overlap.actual > 0
    everyone = np.ones_like(positive)
    overlaps, unions = dice(overlap), intersection_over_union(overlap)
    is_left_empty = (overlap.predicted == 0).astype(np.float64)
    statistics: dict[str, tuple[NDArray[np.bool_], Statistic]] = {
        "dice_positives": (positive, _mean(overlaps[positive])),
        "iou_positives": (positive, _mean(unions[positive])),
        "dice_all": (everyone, _mean(overlaps)),
        "iou_all": (everyone, _mean(unions)),
        "dice_pooled": (everyone, lambda weights: np.asarray(pooled_dice(overlap, weights))),
        "dice_compat": (everyone, lambda weights: np.asarray(compat_dice(overlap, batch, weights))),
        "specificity": (~positive, _mean(is_left_empty[~positive])),
    }
    return {name: (used, statistic) for name, (used, statistic) in statistics.items() if used.any()}


def _mean(values: NDArray[np.float64]) -> Statistic:
    return lambda weights: np.asarray(mean_over_images(values, weights))


def _values(overlap: Overlap, batch: int) -> dict[str, float]:
    """Each metric without an interval."""
    return {
        name: float(statistic(np.ones((1, int(used.sum()))))[0])
        for name, (used, statistic) in _statistics(overlap, batch).items()
    }


def _measure_constant(mask: Masks, store: Store, rows: Sequence[Row], *, is_clipped: bool) -> Overlap:
    parts = []
    for first in range(0, len(rows), BATCH):
        chosen = rows[first : first + BATCH]
        parts.append(measure_rows(np.stack([mask] * len(chosen)), store, chosen, is_clipped=is_clipped))
    return join(parts)


def _constant_mask(store: Store, about: dict[str, Any]) -> Masks | None:
    """The mask that a run found on what it learnt from; for predictions from elsewhere that of the store's train split."""
    kept = about.get("constant_mask")
    if kept is not None and kept["size"] == [store.size, store.size]:
        return decode_runs(kept, store.size)
    return best_constant_mask(store, [row for row in store.select("train") if row.mask_row >= 0])

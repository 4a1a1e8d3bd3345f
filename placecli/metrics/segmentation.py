"""Segmentation: Dice and intersection over union of each image, and their means over images, with or without negatives.

n images. Everything follows from three pixel numbers of each image, so that masks need not be held. An image where
both masks are empty is perfect and gets 1; one where only one of them is empty gets 0. A share of empty images
therefore lifts the mean over all images: give the mean over positives beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from placecli.metrics.retrieval import weighted_mean

Floats = NDArray[np.float64]

THRESHOLD: Final = 0.5


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pixels of each image in both masks, in the predicted and in the true one, int64 [n] each."""

    both: NDArray[np.int64]
    predicted: NDArray[np.int64]
    actual: NDArray[np.int64]


def measure_overlap(probabilities: ArrayLike, masks: ArrayLike, threshold: float = THRESHOLD) -> Overlap:
    """The pixel numbers of a batch: `probabilities` [n, ...] strictly above the threshold against `masks` [n, ...].

    Masks are true or false, or numbers of which those above 0.5 are inside. A predicted mask is given as true and false
    or as 0 and 1. Raises ValueError where the shapes differ or a probability is not a number.
    """
    shown, truth = np.asarray(probabilities), np.asarray(masks)
    if shown.shape != truth.shape or shown.ndim < 2:
        raise ValueError(f"probabilities {shown.shape} and masks {truth.shape} must be of one shape [images, ...]")
    if np.issubdtype(shown.dtype, np.floating) and np.isnan(shown).any():
        raise ValueError("a probability is not a number")
    called = (shown if shown.dtype == np.bool_ else shown > threshold).reshape(len(shown), -1)
    inside = (truth if truth.dtype == np.bool_ else truth > 0.5).reshape(len(truth), -1)
    return Overlap((called & inside).sum(axis=1), called.sum(axis=1), inside.sum(axis=1))


def join(parts: list[Overlap]) -> Overlap:
    """The images of several batches as one set, in order."""
    if not parts:
        raise ValueError("no image was measured")
    return Overlap(
        np.concatenate([part.both for part in parts]),
        np.concatenate([part.predicted for part in parts]),
        np.concatenate([part.actual for part in parts]),
    )


def dice(overlap: Overlap) -> Floats:
    """2 |both| / (|predicted| + |actual|) of each image, float64 [n] in 0..1; 1 where both are empty."""
    total = overlap.predicted + overlap.actual
    return np.where(total > 0, 2 * overlap.both / np.maximum(total, 1), 1.0)


def intersection_over_union(overlap: Overlap) -> Floats:
    """|both| / |either| of each image, float64 [n] in 0..1; 1 where both are empty."""
    union = overlap.predicted + overlap.actual - overlap.both
    return np.where(union > 0, overlap.both / np.maximum(union, 1), 1.0)


def mean_over_images(values: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean of `dice` or `intersection_over_union` over all images; float or float64 [R] with weights [R, n]."""
    return weighted_mean(values, weights)


def mean_over_positives(values: ArrayLike, overlap: Overlap, weights: ArrayLike | None = None) -> Any:
    """The same over the images whose true mask is not empty; nan where none is."""
    positive = (overlap.actual > 0).astype(np.float64)
    return weighted_mean(values, positive if weights is None else positive * np.asarray(weights, dtype=np.float64))


def compat_dice(overlap: Overlap, batch_size: int, weights: ArrayLike | None = None) -> Any:
    """Dice as the field's reference code prints it: the mean of the means of consecutive batches of `batch_size` images.

    It counts empty images as 1 and depends on the batch size, because the images of a short last batch count more.
    With weights every image keeps the share that its batch gives it. float or float64 [R].
    """
    if batch_size < 1:
        raise ValueError(f"a batch holds at least one image, not {batch_size}")
    number = len(overlap.actual)
    batch = np.arange(number) // batch_size
    share = 1.0 / np.bincount(batch)[batch]
    return weighted_mean(dice(overlap), share if weights is None else share * np.asarray(weights, dtype=np.float64))

"""What a mask costs nothing: the one mask, the same for every image, that fits those of the train split best."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from placecli.data.store import Store
from placecli.records import Row

LEVELS = 64
"""Thresholds on the mean mask that are tried."""
BATCH = 64


def best_constant_mask(store: Store, rows: Sequence[Row]) -> NDArray[np.bool_] | None:
    """bool [S, S]: the mean of the masks that are not empty, cut at the level whose Dice with them is the best on average.

    None where all masks are empty. Levels are spaced evenly from 0 to the largest mean.
    """
    total, count = np.zeros((store.size, store.size)), 0
    for masks in _positive_masks(store, rows):
        total += masks.sum(axis=0)
        count += len(masks)
    if count == 0:
        return None
    levels = np.ceil(total / total.max() * LEVELS).astype(np.int64)  # 0: never inside, LEVELS: most often
    return np.asarray(levels >= 1 + _mean_dice(store, rows, levels).argmax())


def _mean_dice(store: Store, rows: Sequence[Row], levels: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [LEVELS]: mean Dice of the mask `levels` >= i + 1 with each mask that is not empty."""
    sizes = _from_above(np.bincount(levels.ravel(), minlength=LEVELS + 1))
    dice, count = np.zeros(LEVELS), 0
    for masks in _positive_masks(store, rows):
        for mask in masks:
            both = _from_above(np.bincount(levels[mask], minlength=LEVELS + 1))
            dice += 2 * both / (sizes + mask.sum())
            count += 1
    return dice / count


def _from_above(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """int64 [LEVELS]: how many are at level i + 1 or higher."""
    return np.cumsum(counts[::-1])[::-1][1:]


def _positive_masks(store: Store, rows: Sequence[Row]) -> Iterator[NDArray[np.bool_]]:
    """bool [n, S, S], batch by batch."""
    for first in range(0, len(rows), BATCH):
        masks = store.masks(rows[first : first + BATCH]) > 0
        yield masks[masks.any(axis=(1, 2))]

"""The splits that published code drew with scikit-learn, drawn again with NumPy alone.

Source of the rule: sklearn.model_selection.train_test_split(shuffle=True), which is one permutation of
numpy.random.RandomState(seed), whose start is the test part (rounded up), in that order.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def draw_two(count: int, held_out: float | int, seed: int = 0) -> tuple[Indices, Indices]:
    """(kept, held out): numbers below `count`, each in one of the two, in the order in which scikit-learn gives them.

    `held_out` is a share (float) or a number (int), as `test_size` is. A number beyond `count` holds out all.
    """
    num_held = math.ceil(held_out * count) if isinstance(held_out, float) else min(held_out, count)
    order = np.random.RandomState(seed).permutation(count)
    return order[num_held:], order[:num_held]


def draw_three(count: int, held_out: float | int, seed: int = 0) -> dict[str, Indices]:
    """train, validate and test as MGCA draws them: `held_out` for the last two, whose first half is *test*."""
    train, held = draw_two(count, held_out, seed)
    test, validate = draw_two(len(held), 0.5, seed)
    return {"train": train, "validate": held[validate], "test": held[test]}

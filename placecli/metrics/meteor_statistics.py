"""METEOR 1.5 of a corpus from the statistics of its segments (Denkowski and Lavie 2014), English, ranking parameters.

The alignment itself needs the published program and its data (tasks/meteor_java.py). What it prints of each segment adds
up over segments, so that the score of any resampled corpus follows without running it again.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

ALPHA: Final = 0.85
BETA: Final = 0.2
GAMMA: Final = 0.6
DELTA: Final = 0.75
MODULE_WEIGHTS: Final = (1.0, 0.6, 0.8, 0.6)
"""Exact words, stems, synonyms, paraphrases."""
NUM_STATISTICS: Final = 23


def meteor(statistics: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """METEOR 1.5 of the corpus, in 0..1: float, or float64 [R] with weights [R, n]; nan without segments.

    `statistics` [n, 23] as the program prints them: lengths of candidate and reference, their function words, for each
    of four modules the matched content words of both and function words of both, chunks, matched words of both.
    P and R weigh content words 0.75 and function words 0.25 and each module as `MODULE_WEIGHTS`;
    score = P R / (0.85 P + 0.15 R) x (1 - 0.6 (chunks / matched)^0.2). The one chunk of two equal texts counts as none.
    """
    table = _checked(statistics)
    case = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=np.float64)
    sums = np.stack([(case * column).sum(axis=-1) for column in table.T])
    score = np.where(case.sum(axis=-1) > 0, _score(sums), np.nan)
    return float(score) if np.ndim(score) == 0 else score


def meteor_of_cases(statistics: ArrayLike) -> NDArray[np.float64]:
    """METEOR 1.5 of each segment, float64 [n]. Their mean is not the score of the corpus."""
    return np.asarray(_score(_checked(statistics).T))


def _checked(statistics: ArrayLike) -> NDArray[np.float64]:
    """The table, with 0 chunks where a segment's texts are equal, which is how the program adds them up."""
    table = np.array(statistics, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != NUM_STATISTICS or not np.isfinite(table).all():
        raise ValueError(f"statistics are [n, {NUM_STATISTICS}] numbers, not {table.shape}")
    is_equal = (table[:, 21] == table[:, 0]) & (table[:, 22] == table[:, 1]) & (table[:, 20] == 1)
    table[is_equal, 20] = 0
    return table


def _score(s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Score from sums [23, ...]."""
    length, function, chunks, matched = s[0:2], s[2:4], s[20], s[21:23]
    by_module = s[4:20].reshape(4, 2, 2, *s.shape[1:])  # module, content or function, candidate or reference
    found = sum(w * (DELTA * m[0] + (1 - DELTA) * m[1]) for w, m in zip(MODULE_WEIGHTS, by_module, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = found / (DELTA * (length - function) + (1 - DELTA) * function)
        mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
        fragmentation = chunks / (matched.sum(axis=0) / 2)
    return np.where(matched.sum(axis=0) > 0, np.nan_to_num(mean * (1 - GAMMA * fragmentation**BETA)), 0.0)

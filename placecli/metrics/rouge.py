"""ROUGE-L (Lin 2004) of each report, with the numbers of pycocoevalcap: F with beta 1.2 of the longest common run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.bleu import Words, check_cases

BETA: Final = 1.2


def rouge_l(
    candidates: Sequence[Words], references: Sequence[Sequence[Words]], beta: float = BETA
) -> NDArray[np.float64]:
    """ROUGE-L of each case, float64 [n] in 0..1; the corpus has their mean (`retrieval.weighted_mean`).

    With P = LCS / words of the candidate and R = LCS / words of a reference, the largest of each over the references:
    (1 + beta^2) P R / (R + beta^2 P), 0 where either is 0. An empty text is one empty word, so that it equals only
    another empty one.
    """
    check_cases(candidates, references)
    scores = np.zeros(len(candidates))
    for i, (candidate, own) in enumerate(zip(candidates, references, strict=True)):
        words = list(candidate) or [""]
        common = [(longest_common_subsequence(words, list(r) or [""]), len(r) or 1) for r in own]
        precision = max(length for length, _ in common) / len(words)
        recall = max(length / size for length, size in common)
        if precision and recall:
            scores[i] = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    return scores


def longest_common_subsequence(first: Words, second: Words) -> int:
    """Length of the longest list of words that occurs in both in this order, gaps allowed.

    Bit-parallel (Crochemore et al. 2001): one addition of a len(first)-bit number for each word of `second`.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    everything = (1 << len(first)) - 1
    free = everything
    for word in second:
        hit = free & places.get(word, 0)
        free = ((free + hit) | (free - hit)) & everything
    return len(first) - free.bit_count()

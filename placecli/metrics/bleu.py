"""BLEU-1 to BLEU-4 of a corpus (Papineni et al. 2002), with the numbers of pycocoevalcap.

n cases, each a candidate (a list of words) and one or more references. `count` does the work of reading once; any
weighting of the cases, such as a bootstrap replicate, is then a sum of rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Words = Sequence[str]

MAX_ORDER: Final = 4
# pycocoevalcap's guards against division by zero; they are part of its numbers.
_SMALL: Final = 1e-9
_TINY: Final = 1e-15


@dataclass(frozen=True, slots=True)
class BleuCounts:
    """What BLEU needs of each case: for n-grams of 1 to 4 words how many the candidate has and how many are right.

    `matched` and `total` float64 [n, 4]; `length` of the candidate and `reference_length`, that of the reference
    closest in length (the shorter of two equally close), float64 [n].
    """

    matched: Floats
    total: Floats
    length: Floats
    reference_length: Floats


def count(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> BleuCounts:
    """Counts of each case. A match is clipped to the most that any one reference of the case has."""
    check_cases(candidates, references)
    matched, total = np.zeros((len(candidates), MAX_ORDER)), np.zeros((len(candidates), MAX_ORDER))
    closest = np.zeros(len(candidates))
    for i, (candidate, own) in enumerate(zip(candidates, references, strict=True)):
        closest[i] = min((abs(len(r) - len(candidate)), len(r)) for r in own)[1]
        for k in range(MAX_ORDER):
            found = ngrams(candidate, k + 1)
            allowed = ngrams(own[0], k + 1)
            for other in own[1:]:
                allowed |= ngrams(other, k + 1)
            total[i, k] = found.total()
            matched[i, k] = (found & allowed).total()
    return BleuCounts(matched, total, np.array([len(c) for c in candidates], dtype=np.float64), closest)


def bleu(counts: BleuCounts, order: int = MAX_ORDER, weights: ArrayLike | None = None) -> Any:
    """BLEU-`order` of the corpus, in 0..1: brevity penalty x geometric mean of the precisions of 1 to `order` words.

    float, or float64 [R] with weights [R, n]. nan where the weights sum to 0.
    """
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order is 1 to {MAX_ORDER}, not {order}")
    case = np.ones(len(counts.length)) if weights is None else np.asarray(weights, dtype=np.float64)
    product = np.ones(case.shape[:-1])
    for k in range(order):
        matched, total = ((case * part[:, k]).sum(axis=-1) for part in (counts.matched, counts.total))
        product = product * (matched + _TINY) / (total + _SMALL)
    length, wanted = ((case * part).sum(axis=-1) for part in (counts.length, counts.reference_length))
    ratio = (length + _TINY) / (wanted + _SMALL)
    penalty = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    score = np.where(case.sum(axis=-1) > 0, product ** (1 / order) * penalty, np.nan)
    return float(score) if np.ndim(score) == 0 else score


def ngrams(words: Words, order: int) -> Counter[tuple[str, ...]]:
    """How often each run of `order` words occurs."""
    return Counter(zip(*(words[i:] for i in range(order)), strict=False))


def check_cases(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    """Raises ValueError unless there are cases, each with a list of words and at least one reference."""
    if len(candidates) != len(references) or not len(candidates):
        raise ValueError(
            f"{len(candidates)} candidates for {len(references)} sets of references, and at least one each"
        )
    if any(isinstance(words, str) for words in candidates) or any(
        isinstance(words, str) for own in references for words in own
    ):
        raise ValueError("a text is not split into words; tokenize it first")
    if not all(len(own) for own in references):
        raise ValueError("a case has no reference")

"""Which of several reports do the reports of like images agree with? Words alone decide; knows no model and no file.

N known reports, G n-grams, M candidates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Words = Sequence[str]
Gram = tuple[str, ...]
Floats = NDArray[np.float64]

MAX_ORDER: Final = 4


@dataclass(frozen=True, slots=True)
class Weighing:
    """The n-grams of 1 to 4 words that at least two of N known reports hold: number and rarity ln(N / reports with it)."""

    numbers: dict[Gram, int]
    rarity: Floats

    @classmethod
    def of_reports(cls, reports: Sequence[Words]) -> Weighing:
        """The weighing of these known reports; an n-gram that all or only one of them hold weighs nothing."""
        held = Counter(gram for words in reports for gram in set(_grams(words)))
        numbers = {gram: number for number, gram in enumerate(gram for gram, count in held.items() if count > 1)}
        return cls(numbers, np.array([np.log(len(reports) / held[gram]) for gram in numbers], dtype=np.float64))

    def weigh(self, reports: Sequence[Words]) -> Any:
        """Sparse float64 [M, G]: count x rarity, of unit length among the n-grams of each order, over the root of 4.

        The product of two rows is the mean over the orders of their cosine, 0..1.
        """
        rows: list[int] = []
        columns: list[int] = []
        values: list[float] = []
        for row, words in enumerate(reports):
            counts = Counter(gram for gram in _grams(words) if gram in self.numbers)
            weights = {gram: count * float(self.rarity[self.numbers[gram]]) for gram, count in counts.items()}
            squares = np.zeros(MAX_ORDER + 1)
            for gram, weight in weights.items():
                squares[len(gram)] += weight**2
            lengths = np.sqrt(squares * MAX_ORDER)
            for gram, weight in weights.items():
                if weight > 0:
                    rows.append(row)
                    columns.append(self.numbers[gram])
                    values.append(weight / lengths[len(gram)])
        return sparse.csr_matrix((values, (rows, columns)), (len(reports), len(self.numbers)), dtype=np.float64)


def share_out(likeness: NDArray[Any], temperature: float) -> Floats:
    """What the report of each known study counts for each image, float64 [n, N] with rows of sum 1.

    softmax(likeness / temperature) over the studies; likeness [n, N], -inf for one that must not count.
    """
    values = np.asarray(likeness, np.float64) / temperature
    weights = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def agreement(candidates: Any, shares: NDArray[Any], known: Any) -> Floats:
    """How much the known reports agree with each candidate, float64 [M], 0..1.

    Sum over known reports of share x mean cosine; candidates [M, G] and known [N, G] as `weigh` gives them, shares [N].
    """
    wanted = known.T @ np.asarray(shares, np.float64)
    return np.asarray(candidates @ wanted)


def _grams(words: Words) -> list[Gram]:
    return [
        tuple(words[first : first + order])
        for order in range(1, MAX_ORDER + 1)
        for first in range(len(words) - order + 1)
    ]

"""CIDEr and CIDEr-D of a set of reports (Vedantam et al. 2015), document frequencies from the set's own references.

n-grams of 1 to 4 words are weighted by their count x idf, idf = ln N - ln max(1, df): N cases, df of them with the
n-gram in a reference. A case scores 10 x the mean over orders and references of a cosine. What pycocoevalcap calls
CIDEr is CIDEr-D: counts of the candidate clipped to the reference's and a penalty for a length that differs.

A resampled set has other document frequencies, hence other weights of all words. They are recomputed for every
weighting, which stays cheap because n-grams that occur in the references of the same cases share one idf: `count`
sums over such groups once, and a weighting touches groups only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from placecli.metrics.bleu import MAX_ORDER, Words, check_cases, ngrams

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

_SIGMA: Final = 6.0
# Values held at once: few enough that the arrays of a block stay in the cache.
_BLOCK: Final = 700_000


@dataclass(frozen=True, slots=True)
class SparseRows:
    """A matrix [T', C] of which row t holds `value` at columns `group`, from `starts[t]` on; no row is empty."""

    starts: Whole
    group: Whole
    value: Floats

    def times(self, columns: Floats) -> Floats:
        """The product with each of R vectors [R, C], float64 [R, T']; a row's sum does not depend on the others."""
        sums: Floats = np.add.reduceat(columns[:, self.group] * self.value, self.starts, axis=-1)
        return sums


@dataclass(frozen=True, slots=True)
class CiderCounts:
    """What CIDEr needs of a set of n cases with T pairs of a candidate and a reference.

    Groups of n-grams: `members` lists, group after group from `group_starts` [C] on, the cases whose references have
    them. The first group is that of n-grams which no reference has; its list is empty. The sparse matrices [4 T, C],
    rows (pair, order), sum over a group's n-grams, c times in the candidate and r times in the reference: `clipped`
    min(c, r) r, `product` c r, `candidate` c^2, `reference` r^2. `penalty` [T] is exp(-(difference in length)^2 / (2
    sigma^2)); `case` [T] is the case of each pair.
    """

    num_cases: int
    members: Whole
    group_starts: Whole
    clipped: SparseRows
    product: SparseRows
    candidate: SparseRows
    reference: SparseRows
    penalty: Floats
    case: Whole


def count(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> CiderCounts:
    """Counts of a set of cases, each a candidate and one or more references (lists of words)."""
    check_cases(candidates, references)
    cases_with: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, own in enumerate(references):
        for gram in {g for words in own for k in range(MAX_ORDER) for g in ngrams(words, k + 1)}:
            cases_with[gram].append(i)
    groups: dict[tuple[int, ...], int] = {(): 0}
    group_of = {gram: groups.setdefault(tuple(cases), len(groups)) for gram, cases in cases_with.items()}
    pairs = [(i, candidates[i], words) for i, own in enumerate(references) for words in own]
    rows = [_row(found, wanted, k + 1, group_of) for _, found, wanted in pairs for k in range(MAX_ORDER)]
    difference = np.array([len(found) - len(wanted) for _, found, wanted in pairs])
    return CiderCounts(
        num_cases=len(candidates),
        members=np.array([i for cases in groups for i in cases], dtype=np.int64),
        group_starts=np.cumsum([0, *(len(cases) for cases in list(groups)[:-1])]),
        clipped=_sparse([row[0] for row in rows]),
        product=_sparse([row[1] for row in rows]),
        candidate=_sparse([row[2] for row in rows]),
        reference=_sparse([row[3] for row in rows]),
        penalty=np.exp(-(difference**2) / (2 * _SIGMA**2)),
        case=np.array([i for i, _, _ in pairs], dtype=np.int64),
    )


def cider_d(counts: CiderCounts, weights: ArrayLike | None = None) -> Any:
    """CIDEr-D of the set, in 0..10: the mean of its cases. float, or float64 [R] with weights [R, n]; nan without cases."""
    return _mean(counts, weights, clip=True)


def cider(counts: CiderCounts, weights: ArrayLike | None = None) -> Any:
    """CIDEr of the set, in 0..10: no clipping, no penalty for length, no stemming. As `cider_d` otherwise."""
    return _mean(counts, weights, clip=False)


def cider_d_of_cases(counts: CiderCounts) -> Floats:
    """CIDEr-D of each case, float64 [n]."""
    return _cases(counts, np.ones((1, counts.num_cases)), clip=True)[0]


def _row(
    candidate: Words, reference: Words, order: int, group_of: dict[tuple[str, ...], int]
) -> list[dict[int, float]]:
    """Per group the sums of min(c, r) r, c r, c^2 and r^2, where they are not 0."""
    found, wanted = ngrams(candidate, order), ngrams(reference, order)
    sums: list[dict[int, float]] = [{}, {}, {}, {}]
    for gram in found.keys() | wanted.keys():
        c, r, group = found[gram], wanted[gram], group_of.get(gram, 0)
        for own, value in zip(sums, (min(c, r) * r, c * r, c * c, r * r), strict=True):
            if value:
                own[group] = own.get(group, 0.0) + value
    return sums


def _sparse(rows: list[dict[int, float]]) -> SparseRows:
    full = [row or {0: 0.0} for row in rows]
    return SparseRows(
        np.cumsum([0, *(len(row) for row in full[:-1])]),
        np.array([group for row in full for group in row], dtype=np.int64),
        np.array([value for row in full for value in row.values()], dtype=np.float64),
    )


def _mean(counts: CiderCounts, weights: ArrayLike | None, clip: bool) -> Any:
    table = np.ones(counts.num_cases) if weights is None else np.asarray(weights, dtype=np.float64)
    rows = np.atleast_2d(table)
    step = max(1, _BLOCK // max(1, len(counts.candidate.group), len(counts.members)))
    found = np.empty(len(rows))
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        with np.errstate(invalid="ignore", divide="ignore"):
            found[first : first + step] = (part * _cases(counts, part, clip)).sum(axis=-1) / part.sum(axis=-1)
    return float(found[0]) if table.ndim == 1 else found


def _cases(counts: CiderCounts, weights: Floats, clip: bool) -> Floats:
    """Score of each case [R, n] with the document frequencies of the set weighted by [R, n]."""
    frequency = np.zeros((len(weights), len(counts.group_starts)))
    if len(counts.members):
        frequency[:, 1:] = np.add.reduceat(weights[:, counts.members], counts.group_starts[1:], axis=-1)
    with np.errstate(divide="ignore"):
        idf = np.log(weights.sum(axis=-1, keepdims=True)) - np.log(np.maximum(1.0, frequency))
    squared = idf**2
    matrices = (counts.clipped if clip else counts.product, counts.candidate, counts.reference)
    shared, candidate, reference = (matrix.times(squared) for matrix in matrices)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = np.where((candidate > 0) & (reference > 0), shared / np.sqrt(candidate * reference), 0.0)
    pair = 10 * cosine.reshape(len(weights), -1, MAX_ORDER).mean(axis=-1)
    if clip:
        pair = pair * counts.penalty
    first = np.flatnonzero(np.concatenate([[True], counts.case[1:] != counts.case[:-1]]))
    return np.add.reduceat(pair, first, axis=-1) / np.diff(np.append(first, len(counts.case)))

"""Retrieval: rank of the first correct item, Recall@k, median rank, Precision@k, and what chance gives.

M queries, N gallery items, R weightings. Two texts are equal when their keys are equal; an item is correct for a
query when their keys are equal. Ties are read against the model: a wrong item with the score of the best
correct item stands before it, so a model that gives every item one score gets no credit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def ranks(scores: ArrayLike, query_keys: ArrayLike, gallery_keys: ArrayLike) -> NDArray[np.int64]:
    """Rank (from 1) of the best-scored correct item of each query, int64 [M].

    `scores` [M, N], higher is better. rank = 1 + number of wrong items whose score is at least that of the best
    correct item. Raises ValueError when a query has no correct item or a score is not a number.
    """
    return ranks_of_blocks([np.asarray(scores)], query_keys, gallery_keys)


def ranks_of_blocks(
    blocks: Iterable[NDArray[Any]], query_keys: ArrayLike, gallery_keys: ArrayLike
) -> NDArray[np.int64]:
    """As `ranks`, of score rows that arrive in consecutive blocks [m, N], so that [M, N] is never held whole."""
    queries, gallery = _codes(query_keys, gallery_keys)
    result = np.zeros(len(queries), dtype=np.int64)
    first = 0
    for block in blocks:
        if block.ndim != 2 or block.shape[1] != len(gallery) or first + len(block) > len(queries):
            raise ValueError(f"score block {block.shape} does not fit {len(queries)} queries x {len(gallery)} items")
        if np.isnan(block).any():
            raise ValueError("a score is not a number")
        is_correct = queries[first : first + len(block), None] == gallery[None, :]
        if not is_correct.any(axis=1).all():
            raise ValueError("a query has no correct item in the gallery")
        best = np.where(is_correct, block, -np.inf).max(axis=1, keepdims=True)
        result[first : first + len(block)] = 1 + ((block >= best) & ~is_correct).sum(axis=1)
        first += len(block)
    if first != len(queries):
        raise ValueError(f"{first} score rows for {len(queries)} queries")
    return result


def recall_at_k(ranks: ArrayLike, k: int, weights: ArrayLike | None = None) -> Any:
    """Share of queries whose rank is at most k, in 0..1.

    `ranks` [M]; `weights` [M] or [R, M] counts each query (bootstrap). Returns a float, or float64 [R].
    """
    return weighted_mean(np.asarray(ranks) <= k, weights)


def median_rank(ranks: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Median of the ranks (mean of the two middle ones when their number is even); `weights` as in `recall_at_k`."""
    values = np.asarray(ranks, dtype=np.float64)
    if values.size == 0:
        raise ValueError("no ranks")
    order = np.argsort(values, kind="stable")
    values = values[order]
    counts = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)[..., order]
    below = np.cumsum(counts, axis=-1)
    half = below[..., -1:] / 2
    # First position where the cumulated weight reaches half, and the first where it passes half.
    lower = (below < half).sum(axis=-1)
    upper = np.minimum((below <= half).sum(axis=-1), len(values) - 1)
    return _plain((values[lower] + values[upper]) / 2)


def weighted_mean(values: ArrayLike, weights: ArrayLike | None = None) -> Any:
    """Mean of `values` [M] under `weights` [M] or [R, M]; float or float64 [R]; nan where the weights sum to 0."""
    array = np.asarray(values, dtype=np.float64)
    counts = np.ones(len(array)) if weights is None else np.asarray(weights, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        # Not counts @ array: how a matrix product rounds a row depends on the rows beside it.
        return _plain((counts * array).sum(axis=-1) / counts.sum(axis=-1))


def precision_at_k(scores: ArrayLike, query_positive: ArrayLike, gallery_positive: ArrayLike, k: int) -> Floats:
    """Precision@k of each query for one class: share of its first k items that carry the class, float64 [M].

    `query_positive` bool [M] and `gallery_positive` bool [N] say who carries the class; queries that do not get
    nan. Among equal scores, items without the class come first. k is cut to N.
    """
    table = np.asarray(scores, dtype=np.float64)
    relevant = np.asarray(gallery_positive, dtype=bool)
    asked = np.asarray(query_positive, dtype=bool)
    if table.shape != (len(asked), len(relevant)):
        raise ValueError(f"scores {table.shape} do not fit {len(asked)} queries x {len(relevant)} items")
    depth = min(k, len(relevant))
    result = np.full(len(asked), np.nan)
    chosen = table[asked]
    # The score at place k; entries above it are in, and of those at it the ones without the class fill up first.
    edge = np.partition(chosen, len(relevant) - depth, axis=1)[:, len(relevant) - depth, None]
    above, at = chosen > edge, chosen == edge
    left = depth - above.sum(axis=1) - (at & ~relevant).sum(axis=1)
    result[asked] = ((above & relevant).sum(axis=1) + np.maximum(left, 0)) / depth
    return result


def chance_recall_at_k(query_keys: ArrayLike, gallery_keys: ArrayLike, k: int) -> float:
    """Expected Recall@k of a random order of the gallery, in 0..1.

    A query with m correct items among N is missed with probability C(N-m, k) / C(N, k); the mean over queries is
    returned.
    """
    queries, gallery = _codes(query_keys, gallery_keys)
    correct = np.bincount(gallery, minlength=int(max(queries.max(), gallery.max())) + 1)[queries]
    return float(np.mean([1.0 - _chance_of_miss(len(gallery), int(m), k) for m in correct]))


def chance_median_rank(query_keys: ArrayLike, gallery_keys: ArrayLike) -> float:
    """Median over queries of the median rank under a random order of the gallery.

    The rank of a query (1 + wrong items before its first correct one) is at most r with the probability that not
    all of its m correct items come after r wrong ones.
    """
    queries, gallery = _codes(query_keys, gallery_keys)
    correct = np.bincount(gallery, minlength=int(max(queries.max(), gallery.max())) + 1)[queries]
    medians = {int(m): _median_of_first(len(gallery), int(m)) for m in np.unique(correct)}
    return float(np.median([medians[int(m)] for m in correct]))


def _chance_of_miss(num_items: int, num_correct: int, k: int) -> float:
    depth = min(k, num_items)
    if depth > num_items - num_correct:
        return 0.0
    position = np.arange(depth)
    return float(np.prod((num_items - num_correct - position) / (num_items - position)))


def _median_of_first(num_items: int, num_correct: int) -> float:
    if num_correct == 0:
        raise ValueError("a query has no correct item in the gallery")
    position = np.arange(num_items - num_correct)
    # survival[i]: the first i + 1 items are all wrong, that is rank > i + 1.
    survival = np.cumprod((num_items - num_correct - position) / (num_items - position))
    return float(1 + (survival > 0.5).sum())


def _codes(query_keys: ArrayLike, gallery_keys: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both key lists as small integers; equal keys get equal integers."""
    queries, gallery = np.asarray(query_keys), np.asarray(gallery_keys)
    if queries.ndim != 1 or gallery.ndim != 1 or not len(queries) or not len(gallery):
        raise ValueError("keys are two non-empty lists")
    codes = np.unique(np.concatenate([queries, gallery]), return_inverse=True)[1].astype(np.int64)
    return codes[: len(queries)], codes[len(queries) :]


def _plain(values: Floats) -> Any:
    return float(values) if np.ndim(values) == 0 else values

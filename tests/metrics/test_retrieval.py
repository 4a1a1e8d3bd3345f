"""Ranks, Recall@k, Precision@k and their chance levels against plain loops and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from placecli.metrics import retrieval


def naive_rank(scores: list[float], query: int, gallery: list[int]) -> int:
    best = max(s for s, key in zip(scores, gallery, strict=True) if key == query)
    return 1 + sum(1 for s, key in zip(scores, gallery, strict=True) if key != query and s >= best)


def random_case(seed: int, queries: int = 23, items: int = 31, keys: int = 9) -> tuple[NDArray, NDArray, NDArray]:
    generator = np.random.default_rng(seed)
    gallery = np.concatenate([np.arange(keys), generator.integers(0, keys, items - keys)])
    return (
        generator.integers(-3, 4, (queries, items)) / 2,
        generator.integers(0, keys, queries),
        generator.permutation(gallery),
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_ranks_equal_a_plain_loop_with_many_ties(seed: int) -> None:
    scores, queries, gallery = random_case(seed)
    expected = [naive_rank(list(row), q, list(gallery)) for row, q in zip(scores, queries, strict=True)]
    assert retrieval.ranks(scores, queries, gallery).tolist() == expected


@pytest.mark.parametrize("size", [1, 4, 7, 23, 100])
def test_blocks_give_the_ranks_of_the_full_matrix(size: int) -> None:
    scores, queries, gallery = random_case(3)
    blocks = (scores[first : first + size] for first in range(0, len(scores), size))
    whole = retrieval.ranks(scores, queries, gallery)
    assert np.array_equal(retrieval.ranks_of_blocks(blocks, queries, gallery), whole)


def test_equal_texts_count_as_equal_and_wrong_ties_come_first() -> None:
    keys = np.array(["a", "b", "a", "c"])
    assert retrieval.ranks([[0.1, 0.5, 0.9, 0.2]], ["a"], keys).tolist() == [1]
    assert retrieval.ranks([[0.5, 0.5, 0.1, 0.5]], ["a"], keys).tolist() == [3]
    assert retrieval.ranks(np.zeros((1, 4)), ["c"], keys).tolist() == [4]


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="no correct item"):
        retrieval.ranks([[1.0, 2.0]], ["z"], ["a", "b"])
    with pytest.raises(ValueError, match="not a number"):
        retrieval.ranks([[1.0, np.nan]], ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="does not fit"):
        retrieval.ranks([[1.0]], ["a"], ["a", "b"])
    with pytest.raises(ValueError, match="1 score rows for 2"):
        retrieval.ranks([[1.0, 2.0]], ["a", "b"], ["a", "b"])


def test_recall_and_median_rank() -> None:
    ranks = np.array([1, 2, 5, 11])
    assert [retrieval.recall_at_k(ranks, k) for k in (1, 5, 10)] == [0.25, 0.75, 0.75]
    assert retrieval.median_rank(ranks) == 3.5
    assert retrieval.median_rank([7]) == 7.0


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_weights_equal_repeated_cases(ranks: list[int], seed: int) -> None:
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(ranks)))
    weights[:, 0] += 1
    medians, recalls = retrieval.median_rank(ranks, weights), retrieval.recall_at_k(ranks, 5, weights)
    for row, median, recall in zip(weights, medians, recalls, strict=True):
        repeated = np.repeat(ranks, row)
        assert median == np.median(repeated)
        assert recall == pytest.approx(np.mean(repeated <= 5))


def test_precision_counts_the_class_among_the_first_k_and_reads_ties_against_the_model() -> None:
    scores = np.array([[0.9, 0.8, 0.7, 0.1], [0.5, 0.5, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]])
    query, gallery = [True, True, False], [True, False, True, False]
    result = retrieval.precision_at_k(scores, query, gallery, 2)
    assert result[:2].tolist() == [0.5, 0.0]
    assert np.isnan(result[2])
    assert retrieval.precision_at_k(scores, query, gallery, 100)[:2].tolist() == [0.5, 0.5]


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 10, 31]))
@settings(max_examples=40, deadline=None)
def test_precision_equals_sorting_with_the_class_last_among_ties(seed: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    scores, relevant = generator.integers(0, 5, (6, 31)), generator.random(31) < 0.4
    found = retrieval.precision_at_k(scores, [True] * 6, relevant, k)
    for row, value in zip(scores, found, strict=True):
        order = sorted(range(31), key=lambda item: (-row[item], relevant[item]))[:k]
        assert value == pytest.approx(np.mean(relevant[order]))


@pytest.mark.parametrize("k", [1, 2, 4, 9])
def test_chance_equals_the_mean_over_all_orders(k: int) -> None:
    gallery = np.array([0, 0, 1, 2, 2, 2])
    queries = np.array([0, 1, 2, 2])
    recalls, medians = [], []
    for query in queries:
        ranks = [naive_rank(list(order), int(query), list(gallery)) for order in itertools.permutations(range(6))]
        recalls.append(np.mean(np.array(ranks) <= k))
        medians.append(np.sort(ranks)[(len(ranks) - 1) // 2])
    assert retrieval.chance_median_rank(queries, gallery) == np.median(medians)
    # A rank at most k here means at most k - 1 wrong items before the first correct one, as in a list of k.
    assert retrieval.chance_recall_at_k(queries, gallery, k) == pytest.approx(np.mean(recalls))


def test_chance_of_distinct_texts_is_k_over_their_number() -> None:
    keys = np.arange(812)
    assert retrieval.chance_recall_at_k(keys, keys, 10) == pytest.approx(10 / 812)
    assert retrieval.chance_median_rank(keys, keys) == 406

"""Which report the known ones agree with: weights of n-grams and agreement against naive versions and closed forms."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from placecli.tasks.report_consensus import Weighing, agreement, share_out

KNOWN = [text.split() for text in ("a b c", "a b c", "a b d e", "d e f a", "f a g")]


def grams(words: list[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(order)), strict=False))


def naive_cosine(one: list[str], other: list[str]) -> float:
    """Mean over orders 1 to 4 of the cosine of count x ln(N / reports with it), n-grams of one report alone left out."""
    total = 0.0
    for order in (1, 2, 3, 4):
        held = Counter(gram for words in KNOWN for gram in grams(words, order))
        weight = {gram: math.log(len(KNOWN) / count) for gram, count in held.items() if count > 1}
        first, second = (
            {gram: count * weight[gram] for gram, count in grams(words, order).items() if gram in weight}
            for words in (one, other)
        )
        dot = sum(value * second.get(gram, 0.0) for gram, value in first.items())
        lengths = math.sqrt(sum(v * v for v in first.values()) * sum(v * v for v in second.values()))
        total += dot / lengths if lengths else 0.0
    return total / 4


def test_agreement_is_the_shared_mean_of_naive_cosines() -> None:
    weighing = Weighing.of_reports(KNOWN)
    candidates = [*KNOWN, list("aab"), list("xy"), []]
    shares = np.array([0.4, 0.1, 0.2, 0.25, 0.05])
    found = agreement(weighing.weigh(candidates), shares, weighing.weigh(KNOWN))
    wanted = [
        sum(share * naive_cosine(each, known) for share, known in zip(shares, KNOWN, strict=True))
        for each in candidates
    ]
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert found[-2:].tolist() == [0, 0]
    assert found.max() < 1


def test_words_of_every_report_and_of_one_alone_weigh_nothing() -> None:
    weighing = Weighing.of_reports(KNOWN)
    assert weighing.rarity[weighing.numbers["a",]] == 0
    assert ("g",) not in weighing.numbers
    assert weighing.rarity[weighing.numbers["d", "e"]] == pytest.approx(math.log(5 / 2))


def test_a_report_agrees_with_itself_wholly_where_it_has_rare_words_of_every_order() -> None:
    known = [list("abcd"), list("abcd"), list("ef")]
    weighing = Weighing.of_reports(known)
    weights = weighing.weigh(known)
    assert agreement(weights, np.array([1.0, 0.0, 0.0]), weights).tolist() == pytest.approx([1.0, 1.0, 0.0])


def test_shares_are_a_softmax_and_what_must_not_count_has_none() -> None:
    likeness = np.array([[0.0, math.log(3.0), -np.inf], [5.0, 5.0, 5.0]])
    np.testing.assert_allclose(share_out(likeness, 1.0), [[0.25, 0.75, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(share_out(likeness, 0.5)[0], [0.1, 0.9, 0.0])

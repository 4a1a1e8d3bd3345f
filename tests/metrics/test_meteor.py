"""METEOR of exact and stem matches against nltk and brute force; the stemmer against nltk's and published examples."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.metrics.meteor import align, meteor_exact_stem
from placecli.metrics.porter import stem


class NoSynonyms:
    """Stands for a WordNet without entries."""

    def synsets(self, word: str) -> list[object]:
        return []


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *[("caresses", "caress"), ("ponies", "poni"), ("cats", "cat"), ("feed", "feed"), ("agreed", "agre")],
        *[("plastered", "plaster"), ("motoring", "motor"), ("sing", "sing"), ("hopping", "hop"), ("falling", "fall")],
        *[("filing", "file"), ("happy", "happi"), ("sky", "sky"), ("relational", "relat"), ("digitizer", "digit")],
        *[("hopefulness", "hope"), ("triplicate", "triplic"), ("electrical", "electr"), ("revival", "reviv")],
        *[("adoption", "adopt"), ("probate", "probat"), ("rate", "rate"), ("controll", "control"), ("roll", "roll")],
        *[
            ("effusions", "effus"),
            ("opacities", "opac"),
            ("atelectatic", "atelectat"),
            ("fizzed", "fizz"),
            ("is", "is"),
            ("", ""),
        ],
    ],
)
def test_published_examples_of_the_stemmer(word: str, expected: str) -> None:
    assert stem(word) == expected


SUFFIXES = (
    *("s", "es", "ies", "sses", "ed", "eed", "ing", "y", "ational", "tional", "enci", "anci", "izer", "abli", "alli"),
    *("entli", "eli", "ousli", "ization", "ation", "ator", "alism", "iveness", "fulness", "ousness", "aliti", "iviti"),
    *("biliti", "icate", "ative", "alize", "iciti", "ical", "ful", "ness", "al", "ance", "ence", "er", "ic", "able"),
    *("ible", "ant", "ement", "ment", "ent", "sion", "tion", "ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"),
    *("e", "ll", "", "at", "bl", "iz", "tt", "ss", "zz"),
)


@given(st.text("abeioutlyswxz", min_size=1, max_size=6), st.sampled_from(SUFFIXES), st.sampled_from(SUFFIXES))
@settings(max_examples=400, deadline=None)
def test_stemmer_equals_nltk(start: str, middle: str, end: str) -> None:
    porter = pytest.importorskip("nltk.stem.porter", reason="nltk is not installed")
    word = start + middle + end
    if len(word) > 2:
        assert stem(word) == porter.PorterStemmer(mode="ORIGINAL_ALGORITHM").stem(word)


WORDS = ("lung", "lungs", "heart", "hearts", "opacity", "opacities", "clear", "cleared", "the", "no", "is")


@given(st.permutations(WORDS), st.permutations(WORDS), st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=100, deadline=None)
def test_equals_nltk_where_no_stem_repeats(first: list[str], second: list[str], m: int, n: int) -> None:
    meteor_score = pytest.importorskip("nltk.translate.meteor_score", reason="nltk is not installed")
    from nltk.stem.porter import PorterStemmer

    candidate, reference = ({stem(w): w for w in words} for words in (first[:m], second[:n]))
    expected = meteor_score.single_meteor_score(
        list(reference.values()),
        list(candidate.values()),
        stemmer=PorterStemmer(mode="ORIGINAL_ALGORITHM"),
        wordnet=NoSynonyms(),
    )
    found = meteor_exact_stem([list(candidate.values())], [[list(reference.values())]])
    assert found[0] == pytest.approx(expected, abs=1e-12)


def fewest_chunks(candidate: list[str], reference: list[str]) -> tuple[int, int]:
    """(exact + stem matches, fewest chunks) over every alignment, by trying them all."""
    exact = (Counter(candidate) & Counter(reference)).total()
    best = (0, 0, 0)
    choices = [[None, *(j for j, other in enumerate(reference) if stem(other) == stem(word))] for word in candidate]
    for chosen in itertools.product(*choices):
        pairs = [(i, j) for i, j in enumerate(chosen) if j is not None]
        if len({j for _, j in pairs}) < len(pairs) or not pairs:
            continue
        same = sum(candidate[i] == reference[j] for i, j in pairs)
        chunks = 1 + sum(b != (a[0] + 1, a[1] + 1) for a, b in itertools.pairwise(pairs))
        best = max(best, (same, len(pairs), -chunks))
    assert best[0] == exact
    return best[1], -best[2]


@given(
    st.lists(st.sampled_from(["lung", "lungs", "lunging", "clear", "the"]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["lung", "lungs", "lunging", "clear", "the"]), min_size=1, max_size=6),
)
@settings(max_examples=150, deadline=None)
def test_alignment_equals_brute_force_where_words_repeat(candidate: list[str], reference: list[str]) -> None:
    assert align(candidate, reference) == fewest_chunks(candidate, reference)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_long_texts_have_no_more_chunks_than_nltk_finds(seed: int) -> None:
    meteor_score = pytest.importorskip("nltk.translate.meteor_score", reason="nltk is not installed")
    from nltk.stem.porter import PorterStemmer

    generator = np.random.default_rng(seed)
    candidate, reference = (list(generator.choice(WORDS, generator.integers(1, 40))) for _ in range(2))
    pairs, _, _ = meteor_score.align_words(
        candidate, reference, stemmer=PorterStemmer(mode="ORIGINAL_ALGORITHM"), wordnet=NoSynonyms()
    )
    matches, chunks = align(candidate, reference)
    assert matches == len(pairs)
    assert chunks <= meteor_score._count_chunks(pairs) or not pairs


def test_closed_forms() -> None:
    equal, shifted = ["the", "heart", "is", "normal"], ["is", "normal", "the", "heart"]
    found = meteor_exact_stem(
        [equal, shifted, ["heart"], ["xyz"], [], ["hearts"]], [[equal], [equal], [equal], [equal], [equal], [["heart"]]]
    )
    assert found[0] == pytest.approx(1 - 0.5 / 4**3)
    assert found[1] == pytest.approx(1 - 0.5 * (2 / 4) ** 3)
    assert found[2] == pytest.approx(0.25 / (0.9 + 0.1 * 0.25) * 0.5)
    assert found[3:5].tolist() == [0.0, 0.0]
    assert found[5] == pytest.approx(0.5)


def test_a_stem_match_does_not_take_the_place_of_an_exact_one() -> None:
    # "lung" of the reference is wanted by the same word; "lungs" must go to "lunging", out of order.
    assert align(["lungs", "lung"], ["lung", "lunging"]) == (2, 2)


def test_the_best_reference_counts() -> None:
    words = ["clear", "lungs"]
    both = meteor_exact_stem([words], [[["heart"], words]])
    assert both[0] == meteor_exact_stem([words], [[words]])[0]

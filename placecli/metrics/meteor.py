"""METEOR without data files: the exact and stem stages of Banerjee and Lavie 2005, named so as not to be taken for 1.5.

METEOR 1.5, which the field reports, also matches synonyms and paraphrases from data files, weighs function words less
and has other parameters: its numbers are not these. Where its Java program is installed, tasks/meteor_java.py runs it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.bleu import Words, check_cases
from placecli.metrics.porter import stem

ALPHA: Final = 0.9
BETA: Final = 3.0
GAMMA: Final = 0.5
# Alignments kept while words are read; only words that repeat give more than one.
_BEAM: Final = 32


class _Partial(NamedTuple):
    """An alignment of the first words: its chunks and summed shifts (less is better), the places in the reference taken
    by exact and by stem matches (bit sets), and the last pair."""

    chunks: int
    shift: int
    exact: int
    stem: int
    word: int
    place: int


class _Need(NamedTuple):
    """What the best alignment of two texts has: exact matches per word and further matches per stem, and where."""

    exact: Counter[str]
    stem: Counter[str]
    places: dict[str, int]
    stem_places: dict[str, int]
    words_of_stem: dict[str, list[str]]


def meteor_exact_stem(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> NDArray[np.float64]:
    """METEOR of each case from exact and stem matches, float64 [n] in 0..1; the best over the references.

    With m aligned words, P = m / words of the candidate and R = m / words of the reference:
    P R / (0.9 P + 0.1 R) x (1 - 0.5 (chunks / m)^3); 0 when nothing is aligned. A chunk is a run of words that are
    neighbours in both texts. The corpus has the mean.
    """
    check_cases(candidates, references)
    return np.array([max(_score(list(c), list(r)) for r in own) for c, own in zip(candidates, references, strict=True)])


def align(candidate: Words, reference: Words) -> tuple[int, int]:
    """(matches, chunks): as many exact matches as there can be, then as many of stems among the words left.

    Among the alignments with these matches one with few chunks is taken: the fewest of those that a beam over the
    candidate's words sees, which are all where no word repeats.
    """
    need = _needs(candidate, reference)
    later = Counter(candidate)
    beam = [_Partial(0, 0, 0, 0, -2, -2)]
    for i, word in enumerate(candidate):
        later[word] -= 1
        if need.exact[word] or need.stem[stem(word)]:
            reached = sorted({n for s in beam for n in _extend(s, i, word, need, later)})
            beam = reached[:_BEAM]
    return need.exact.total() + need.stem.total(), beam[0].chunks


def _needs(candidate: Words, reference: Words) -> _Need:
    exact = Counter(candidate) & Counter(reference)
    surplus: list[Counter[str]] = []
    for words in (candidate, reference):
        left: Counter[str] = Counter()
        for word, number in (Counter(words) - exact).items():
            left[stem(word)] += number
        surplus.append(left)
    places: dict[str, int] = {}
    stem_places: dict[str, int] = {}
    for place, word in enumerate(reference):
        places[word] = places.get(word, 0) | 1 << place
        stem_places[stem(word)] = stem_places.get(stem(word), 0) | 1 << place
    words_of_stem: dict[str, list[str]] = {}
    for word in sorted({*candidate, *reference}):
        words_of_stem.setdefault(stem(word), []).append(word)
    return _Need(exact, surplus[0] & surplus[1], places, stem_places, words_of_stem)


def _extend(state: _Partial, i: int, word: str, need: _Need, later: Counter[str]) -> list[_Partial]:
    """Every way to use word i that leaves the needed numbers of matches in reach: exact, by stem, or not at all."""
    used, own = state.exact | state.stem, stem(word)

    def exact_left(other: str) -> int:
        return need.exact[other] - (state.exact & need.places.get(other, 0)).bit_count()

    found = []
    if exact_left(word):
        for place in _bits(need.places[word] & ~used):
            found.append(_add(state, i, place, is_exact=True))
    if later[word] < exact_left(word):
        return found
    stem_left = need.stem[own] - (state.stem & need.stem_places.get(own, 0)).bit_count()
    family = need.words_of_stem[own]
    if stem_left:
        for other in family:
            free = need.places.get(other, 0) & ~used
            if other != word and free.bit_count() > exact_left(other):
                found.extend(_add(state, i, place, is_exact=False) for place in _bits(free))
    if sum(later[other] - exact_left(other) for other in family) >= stem_left:
        found.append(state)
    return found


def _add(state: _Partial, i: int, place: int, is_exact: bool) -> _Partial:
    follows = i == state.word + 1 and place == state.place + 1
    exact, stemmed = (1 << place, 0) if is_exact else (0, 1 << place)
    return _Partial(
        state.chunks + (not follows),
        state.shift + abs(place - i),
        state.exact | exact,
        state.stem | stemmed,
        i,
        place,
    )


def _bits(number: int) -> list[int]:
    """The places of the ones in a number, rising."""
    return [i for i in range(number.bit_length()) if number >> i & 1]


def _score(candidate: list[str], reference: list[str]) -> float:
    matches, chunks = align(candidate, reference)
    if not matches:
        return 0.0
    precision, recall = matches / len(candidate), matches / len(reference)
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    return mean * (1 - GAMMA * (chunks / matches) ** BETA)

"""How much each word of a report counts in training: words of rare sentences more than those of stock ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from placecli.tasks.report_text import Vocabulary

Numbers = Sequence[int]


@dataclass(frozen=True, slots=True)
class Rarity:
    """Weights of words by their sentence: (1 / reports that hold the sentence) ^ exponent, over its mean.

    Stock sentences of normality stand in most reports and would drown the rare ones, which say what is to be seen. The
    mean is over all words of the train reports' sentences, so that the weights of these have mean 1.
    """

    vocabulary: Vocabulary
    counts: dict[tuple[int, ...], int]
    exponent: float
    mean: float

    @classmethod
    def of_reports(cls, reports: Sequence[Numbers], vocabulary: Vocabulary, exponent: float) -> Rarity:
        """The rarity of sentences among these train reports, given as numbers."""
        held = [set(_sentences(vocabulary, numbers).values()) for numbers in reports]
        counts = Counter(sentence for sentences in held for sentence in sentences)
        raw = [
            counts[sentence] ** -exponent
            for numbers in reports
            for sentence in _sentences(vocabulary, numbers).values()
            for _ in sentence
        ]
        return cls(vocabulary, dict(counts), exponent, float(np.mean(raw)) if raw else 1.0)

    def weigh(self, numbers: Numbers) -> list[float]:
        """A weight for each number of a report; 1 for what is in no sentence (start, end, marks of sections).

        A sentence that no train report holds counts as one that a single report holds.
        """
        weights = [1.0] * len(numbers)
        for start, sentence in _sentences(self.vocabulary, numbers).items():
            weight = self.counts.get(sentence, 1) ** -self.exponent / self.mean
            weights[start : start + len(sentence)] = [weight] * len(sentence)
        return weights


def _sentences(vocabulary: Vocabulary, numbers: Numbers) -> dict[int, tuple[int, ...]]:
    """By its first place the numbers of each sentence."""
    found = vocabulary.sentences(numbers)
    return {each.start: tuple(numbers[each.start : each.stop]) for each in found}

"""How much words of rare sentences count, against a naive version."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_run import make_rows

from placecli.config import ReportGenerationConfig
from placecli.records import Row
from placecli.tasks.report_rarity import Rarity
from placecli.tasks.report_text import Vocabulary

ROW = make_rows({"train": 2}, 0)[0][0]
TEXTS = ("Clear. Clear. Large mass.", "Clear. Heart big today.", "Clear.", "Heart big today.")
SENTENCES = {"clear .": (3, 2), "large mass .": (1, 3), "heart big today .": (2, 4)}
"""Reports that hold each, and its words."""


def encoded(texts: tuple[str, ...]) -> tuple[Vocabulary, list[list[int]]]:
    rows: list[Row] = [dataclasses.replace(ROW, findings=text, impression="") for text in texts]
    words = Vocabulary.of_reports(rows, ReportGenerationConfig(min_count=1))
    return words, [words.encode(row, 64) for row in rows]


@pytest.mark.parametrize("exponent", [0.0, 0.3, 1.0])
def test_weights_are_those_of_a_naive_count(exponent: float) -> None:
    words, reports = encoded(TEXTS)
    rarity = Rarity.of_reports(reports, words, exponent)
    held = [
        ["clear .", "clear .", "large mass ."],
        ["clear .", "heart big today ."],
        ["clear ."],
        ["heart big today ."],
    ]
    raw = {text: count**-exponent for text, (count, _) in SENTENCES.items()}
    each = [raw[text] for report in held for text in report for _ in range(SENTENCES[text][1])]
    for numbers, report in zip(reports, held, strict=True):
        wanted = [raw[text] / np.mean(each) for text in report for _ in range(SENTENCES[text][1])]
        # The start, the mark of the section and the end are in no sentence.
        assert rarity.weigh(numbers) == pytest.approx([1.0, 1.0, *wanted, 1.0])
    inside = [weight for numbers in reports for weight in rarity.weigh(numbers)[2:-1]]
    assert np.mean(inside) == pytest.approx(1.0)


def test_a_sentence_that_no_train_report_holds_counts_as_the_rarest() -> None:
    words, reports = encoded(TEXTS)
    rarity = Rarity.of_reports(reports[:1] + reports[2:], words, 1.0)
    once = rarity.weigh(reports[0])[-2]
    unseen = [*reports[0][:2], *reports[0][-3:]]  # "mass ." alone is held by none
    assert rarity.weigh(unseen)[2:4] == pytest.approx([once, once])
    assert rarity.weigh(reports[2])[2] < once


def test_a_report_without_sentences_weighs_as_it_stands() -> None:
    words, _ = encoded(TEXTS)
    assert Rarity.of_reports([], words, 0.5).weigh([words.numbers["[START]"], words.numbers["[END]"]]) == [1.0, 1.0]

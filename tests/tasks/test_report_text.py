"""Reports to numbers and back; what is learnt, what is referred to, and which image stands for a study."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import make_rows

from placecli.config import ReportGenerationConfig
from placecli.records import PlaceError, Row
from placecli.tasks.report_text import (
    Vocabulary,
    learnt_sentences,
    one_per_study,
    order_views,
    reference_text,
    sentence_words,
    tell_words,
)

ROW = make_rows({"train": 2}, 0)[0][0]


def row(findings: str = "", impression: str = "", **other: object) -> Row:
    return dataclasses.replace(ROW, findings=findings, impression=impression, **other)  # type: ignore[arg-type]


def vocabulary(*rows: Row, **settings: object) -> Vocabulary:
    return Vocabulary.of_reports(list(rows), ReportGenerationConfig.model_validate({"min_count": 1, **settings}))


def test_a_report_comes_back_with_its_sections_sentences_and_tokens() -> None:
    report = row("Heart size is normal. On CT, a 5.5 cm mass (right).", "1. Mass. 2. Follow-up")
    words = vocabulary(report)
    numbers = words.encode(report, 100)
    assert words.tokens[numbers[0]] == "[START]"
    assert words.tokens[numbers[-1]] == "[END]"
    assert tuple(numbers[:2]) == words.prompt
    sentences = words.sentences(numbers)
    assert [(each.section, each.text) for each in sentences] == [
        ("findings", "Heart size is normal."),
        ("findings", "On CT, a 5.5 cm mass (right)."),
        ("impression", "Mass."),
        ("impression", "Follow-up."),
    ]
    for each in sentences:
        assert [words.tokens[n] for n in numbers[each.start : each.stop]] == sentence_words(each.text)
    assert Vocabulary.from_record(words.to_record()) == words
    assert words.spelling == {"ct": "CT"}


def test_a_report_that_is_cut_has_no_end_and_its_part_is_still_told() -> None:
    report = row("Heart size is normal. Lungs are clear.")
    words = vocabulary(report)
    numbers = words.encode(report, 9)
    assert len(numbers) == 9
    assert words.numbers["[END]"] not in numbers
    assert [each.text for each in words.sentences(numbers)] == ["Heart size is normal.", "Lungs are"]


def test_nothing_is_read_behind_the_end() -> None:
    report = row("Heart normal.")
    words = vocabulary(report)
    numbers = [*words.encode(report, 100), *words.encode(report, 100)]
    assert [each.text for each in words.sentences(numbers)] == ["Heart normal."]


def test_sentences_with_marks_of_deidentification_are_not_learnt_but_referred_to() -> None:
    text = "The XXXX are normal. Lungs clear. Seen by ___ today."
    assert learnt_sentences(text) == ("Lungs clear.",)
    assert learnt_sentences("XXXX normal.") == ("XXXX normal.",)
    assert reference_text(row(text), ("findings",)) == text
    assert "xxxx" not in vocabulary(row(text)).tokens


def test_a_row_without_findings_is_learnt_by_its_impression() -> None:
    both, alone = row("Heart normal.", "Clear."), row("", "Clear.")
    words = vocabulary(both)
    assert [words.tokens[n] for n in words.encode(alone, 50)] == ["[START]", "[IMPRESSION]", "clear", ".", "[END]"]


def test_compat_has_no_sections_and_writes_unknown_words() -> None:
    report = row("Heart size is normal. <New> mass.")
    words = vocabulary(report, cleaning="compat", sections=["findings"])
    assert words.prompt == (words.numbers["[START]"],)
    assert words.numbers["<unk>"] not in words.suppressed
    told = words.sentences(words.encode(report, 60))
    assert " ".join(each.text for each in told) == "heart size is normal . new mass ."
    unknown = words.encode(row("Heart enlarged."), 60)
    assert [words.tokens[n] for n in unknown] == ["[START]", "heart", "<unk>", ".", "[END]"]


def test_a_corpus_of_rare_words_is_refused() -> None:
    with pytest.raises(PlaceError, match="min_count"):
        vocabulary(row("Heart normal."), min_count=5)
    with pytest.raises(PlaceError, match="no vocabulary"):
        Vocabulary.from_record({"labels": []})


def test_one_row_stands_for_a_study_the_frontal_one() -> None:
    lateral, frontal, other = (
        row("Clear.", image_id=name, study_id="s1", view=view)
        for name, view in (("a", "LATERAL"), ("b", "PA"), ("c", "AP"))
    )
    empty = row("", image_id="d", study_id="s2")
    assert one_per_study([lateral, frontal, other, empty], ("findings", "impression")) == [frontal]
    assert order_views([lateral, frontal, other], frontal) == [frontal, lateral, other]


@given(st.lists(st.sampled_from(["heart", "5.5", "x-ray", ",", ";", "(", ")", "/", "%", "."]), min_size=1, max_size=20))
def test_what_is_told_reads_as_the_same_words(words: list[str]) -> None:
    assert sentence_words(tell_words(words)) == (words if words[-1] == "." else [*words, "."]) or "/" in words


@given(st.text(max_size=80))
def test_any_text_is_encoded_within_the_limit_and_told(text: str) -> None:
    words = vocabulary(row("Heart size is normal. Lungs clear."))
    numbers = words.encode(row(text, text), 32)
    assert 2 <= len(numbers) <= 32
    words.sentences(numbers)


def test_a_readers_report_is_laid_out_in_its_own_words_over_its_numbers() -> None:
    report = row("Heart size is normal. A QUAINT word, seen. XXXX was told.", "No effusion.")
    words = vocabulary(row("Heart size is normal. A word, seen.", "No effusion."))
    numbers, sentences = words.lay_out(report, 64)
    assert numbers == words.encode(report, 64)
    assert [(each.section, each.text) for each in sentences] == [
        ("findings", "Heart size is normal."),
        ("findings", "A QUAINT word, seen."),
        ("impression", "No effusion."),
    ]
    for each in sentences:
        known = [word if word in words.numbers else "[UNK]" for word in sentence_words(each.text)]
        assert [words.tokens[n] for n in numbers[each.start : each.stop]] == known


@pytest.mark.parametrize(("limit", "kept"), [(7, 0), (8, 1), (12, 1), (13, 2), (16, 2), (17, 3)])
def test_what_is_laid_out_ends_with_a_whole_sentence(limit: int, kept: int) -> None:
    report = row("Heart size is normal. A word, seen.", "No effusion.")
    numbers, sentences = vocabulary(report).lay_out(report, limit)
    assert len(sentences) == kept
    assert len(numbers) <= limit
    assert vocabulary(report).tokens[numbers[-1]] == "[END]"

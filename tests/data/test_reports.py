"""Sections, sentences and text keys: worked examples, the published oddities, and properties over made-up text."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.data.report_sentences import NUMBER_FOLLOWS
from placecli.data.reports import (
    build_report,
    normalize_sentence,
    parse_loose_sections,
    parse_sections,
    split_sentences,
    text_key,
)
from placecli.records import Report

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___ year old woman with ?pleural effusion.

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  ___

 FINDINGS:

 Cardiac size is normal. There is a 1.5 cm nodule
 in the left lung.

 IMPRESSION:

 1. Nodule.
 2. No effusion.
"""


def test_sections_of_a_usual_report() -> None:
    sections = parse_sections(REPORT)
    assert list(sections) == [
        *("preamble", "examination", "indication", "technique", "comparison", "findings", "impression"),
    ]
    assert sections["preamble"] == "FINAL REPORT"
    assert sections["findings"] == "Cardiac size is normal. There is a 1.5 cm nodule\n in the left lung."
    assert sections["impression"] == "1. Nodule.\n 2. No effusion."
    assert parse_sections(REPORT.replace("\n", "\r\n")) == sections


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("CONCLUSION", "impression"),
        ("FINDINGS/IMPRESSION", "impression"),
        ("FINDINGS AND IMPRESSION", "impression"),
        ("IMPRESSON", "impression"),
        ("NDICATION", "impression"),  # the published table has it so
        ("CHEST, TWO VIEWS", "findings"),
        ("PORTABLE SUPINE FILM", "findings"),
        ("FINDNGS", "findings"),
        ("PRELIMINARY FINDINGS", "findings"),
        ("CLINICAL HISTORY", "history"),
        ("RELEVANT COMPARISON STUDY", "comparison"),
        ("REASON FOR EXAM", "indication"),
        ("ADDENDUM TO THE REPORT", "addendum"),
        ("RECOMMENDATION(S)", "recommendations"),
        ("WETREAD", "wet read"),
        ("ABDOMEN", "abdomen"),
    ],
)
def test_heading_names(heading: str, section: str) -> None:
    sections = parse_sections(f" FINAL REPORT\n {heading}: Text under it.\n")
    assert sections[section] == "Text under it."


def test_a_heading_needs_a_new_line_a_space_and_capitals() -> None:
    for text in ("FINDINGS: Clear.", "x\nFINDINGS: Clear.", "x\n Findings: Clear."):
        assert parse_sections(text) == {"full report": text}


def test_heading_right_after_a_bare_heading_is_not_seen() -> None:
    text = " x\n INDICATION:\n FINDINGS: Clear lungs.\n more\n IMPRESSION: Fine.\n"
    assert parse_sections(text) == {
        "preamble": "x",
        "indication": "FINDINGS: Clear lungs.\n more",
        "impression": "Fine.",
    }


def test_last_section_of_a_name_counts_and_empty_ones_do_not() -> None:
    text = " x\n FINDINGS: First.\n FINDINGS: Second.\n IMPRESSION: Old.\n IMPRESSION: \n \n"
    assert parse_sections(text) == {"preamble": "x", "findings": "Second.", "impression": "Old."}


def test_last_paragraph_stands_in_for_findings_and_impression() -> None:
    text = " x\n INDICATION: Cough.\n \n Lungs are clear.\n \n Normal heart.\n"
    sections = parse_sections(text)
    assert sections == {
        "preamble": "x",
        "indication": "Cough.",
        "last_paragraph": "Lungs are clear.\n \n Normal heart.",
    }
    assert build_report(sections, ("impression", "findings")).sentences == ("Lungs are clear.", "Normal heart.")
    assert build_report(sections, ("impression", "findings"), "compat").sentences == ()


def test_loose_sections_take_headings_in_any_case_at_the_start_of_a_line() -> None:
    text = "Indication: cough\nFindings: Lungs clear.\nHeart: normal.\nImpression:\nNo pneumonia.\n"
    assert parse_loose_sections(text) == {
        "indication": "cough",
        "findings": "Lungs clear.\nHeart: normal.",
        "impression": "No pneumonia.",
    }
    assert parse_loose_sections("Lungs clear. ") == {"full report": "Lungs clear."}
    assert parse_loose_sections(REPORT) == parse_sections(REPORT)
    assert build_report(parse_loose_sections("Lungs clear."), ("findings",)).findings == "Lungs clear."


SENTENCES = [
    ("The nodule measures 1.5 cm. No effusion.", ["The nodule measures 1.5 cm.", "No effusion."]),
    ("Degenerative change at T11. No fracture.", ["Degenerative change at T11.", "No fracture."]),
    ("Nodule of 5 mm. in the left apex. Clear.", ["Nodule of 5 mm. in the left apex.", "Clear."]),
    ("Nodule of 5 mm. Clear.", ["Nodule of 5 mm.", "Clear."]),
    ("1. No acute disease. 2. Stable heart.", ["No acute disease.", "Stable heart."]),
    ("1) No acute disease 2) Stable heart.", ["No acute disease", "Stable heart."]),
    ("1. Granulomatous disease 2. Left base clear", ["Granulomatous disease", "Left base clear"]),
    ("1. Nodule in segment 2. No effusion.", ["Nodule in segment 2.", "No effusion."]),
    ("1.There is edema. 2.No effusion", ["There is edema.", "No effusion"]),
    ("Hand 1. No fracture. 2. Normal joints.", ["Hand", "No fracture.", "Normal joints."]),
    ("Chest: 1. No disease. 2. Normal.", ["Chest: No disease.", "Normal."]),
    ("Told Dr. Smith at 3:30 p.m. on ___ by phone. OK.", ["Told Dr. Smith at 3:30 p.m. on ___ by phone.", "OK."]),
    ("Told Dr. ___ at 3:30 p.m. The lungs are clear.", ["Told Dr. ___ at 3:30 p.m.", "The lungs are clear."]),
    ("Small vs. moderate effusion, e.g. loculated.", ["Small vs. moderate effusion, e.g. loculated."]),
    ("Approx. 2 cm, i.e. small. Clear.", ["Approx. 2 cm, i.e. small.", "Clear."]),
    ("Read by J. A. Smith, M.D. Lungs clear.", ["Read by J. A. Smith, M.D.", "Lungs clear."]),
    ("Hepatitis C. No effusion.", ["Hepatitis C.", "No effusion."]),
    ("The lungs are clear.No effusion.", ["The lungs are clear.", "No effusion."]),
    ("Compared to ___, stable. In ___ XXXX XXXX seen.", ["Compared to ___, stable.", "In ___ XXXX XXXX seen."]),
    ("Heart is XXXX. XXXX XXXX. ___. Clear.", ["Heart is XXXX.", "Clear."]),
    ("No change ... since then. Possible... Clear.", ["No change ... since then.", "Possible...", "Clear."]),
    ("Mild opacity; unchanged, stable.", ["Mild opacity; unchanged, stable."]),
    ("Lungs (was 5 mm. Now 6) clear. No mass (stable). Fine.", None),
    ("Pneumonia? No effusion! Follow up.", ["Pneumonia?", "No effusion!", "Follow up."]),
    ("Seen on (day 2). The heart is normal.", ["Seen on (day 2).", "The heart is normal."]),
    ("Normal.>] Lungs low.", ["Normal.>]", "Lungs low."]),
    ("See www.example.org and a.b@c.org today.", ["See www.example.org and a.b@c.org today."]),
    ("No pneumothorax.. Heart normal..", ["No pneumothorax.", "Heart normal."]),
    ("Pneumonia?. No mass!. (Stable..) Fine..", ["Pneumonia?", "No mass!", "(Stable.)", "Fine."]),
    ("Smith et al.. The same.", ["Smith et al.", "The same."]),
    ("No change.... since then. Seen in ../images.", ["No change.... since then.", "Seen in ../images."]),
    ("Tip in the SVC.Left lung clear.", ["Tip in the SVC.", "Left lung clear."]),
    ("Left-sided.The x-ray.No mass at L2-L3.", ["Left-sided.", "The x-ray.", "No mass at L2-L3."]),
    ("Cardiomegaly.No effusion.", ["Cardiomegaly.", "No effusion."]),
    ("Lungs clear.XXXX normal.A nodule.CT is next.", ["Lungs clear.", "XXXX normal.", "A nodule.", "CT is next."]),
    ("Calcified (lateral view).. Seen.", ["Calcified (lateral view).", "Seen."]),
    ("Nodule of 1.5 cm.No mass.", ["Nodule of 1.5 cm.", "No mass."]),
    ("Called at 3:30 p.m.The lungs clear.", ["Called at 3:30 p.m.", "The lungs clear."]),
    ("1.Clear lungs 2.Normal heart", ["Clear lungs", "Normal heart"]),
    ("Stable.1.Clear lungs 2.Normal heart", ["Stable.", "Clear lungs", "Normal heart"]),
    ("1.Nodule in segment 2.Left lung clear", ["Nodule in segment 2.", "Left lung clear"]),
    (
        "Take q.i.d. as before. Fracture at T1.2 and L4.5 mm.",
        ["Take q.i.d. as before.", "Fracture at T1.2 and L4.5 mm."],
    ),
    ("IMG.dcm, IMG1.DCM, Report.Pdf at 10:30.", ["IMG.dcm, IMG1.DCM, Report.Pdf at 10:30."]),
    ("Told Dr.Smith and DR.Jones of J.Doe vs.Roe.", ["Told Dr.Smith and DR.Jones of J.Doe vs.Roe."]),
    ("Heart is normal.2 cm nodule in the left lung.", ["Heart is normal.", "2 cm nodule in the left lung."]),
    (
        "Lungs clear.12 mm nodule.Stable.1.5 x 2 cm mass.",
        ["Lungs clear.", "12 mm nodule.", "Stable.", "1.5 x 2 cm mass."],
    ),
    ("No effusion.8-mm granuloma is seen.", ["No effusion.", "8-mm granuloma is seen."]),
    ("Nodule measuring.5 cm, about.12 mm, tip.5 cm up.", ["Nodule measuring.5 cm, about.12 mm, tip.5 cm up."]),
    ("Nodule.5 cm at T1.5 mm of XXXX.2 cm and ___.12 mm.", ["Nodule.5 cm at T1.5 mm of XXXX.2 cm and ___.12 mm."]),
    ("Approx.2.5 cm, max.12 mm, image.2 of normal.2 views.", ["Approx.2.5 cm, max.12 mm, image.2 of normal.2 views."]),
    (" .  - ... 2. ", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), SENTENCES)
def test_clinical_sentences(text: str, expected: list[str] | None) -> None:
    if expected is None:
        expected = ["Lungs (was 5 mm. Now 6) clear.", "No mass (stable).", "Fine."]
    assert split_sentences(text) == tuple(expected)


def test_lines_are_joined_but_for_list_items_and_paragraphs() -> None:
    text = """
 1. First item that goes
    on in a second line
 2. Second item without a stop
 - a dash
 * a star

 The nodule measures
 2.5 cm and lies in segment
 2. The heart is normal
"""
    assert split_sentences(text) == (
        "First item that goes on in a second line",
        "Second item without a stop",
        "a dash",
        "a star",
        "The nodule measures 2.5 cm and lies in segment 2.",
        "The heart is normal",
    )


def test_compat_is_the_published_splitter_with_its_side_effects() -> None:
    text = "1. The nodule is 1.5 cm.\n2. Dr. No saw T11. Clear.\ufffd\ufffdcaf\u00e9 heart \u00df"
    # "1." of 1.5 and "11." of T11 are taken for list numbers; "Dr" and "5 cm" become pieces; one-word pieces fall out.
    assert split_sentences(text, "compat") == ("the nodule is", "5 cm", "no saw t", "caf heart")
    assert split_sentences("Edema. x", "compat") == ()


def test_compat_joins_the_sections_before_it_splits() -> None:
    sections = {"impression": "No acute disease", "findings": "Lungs clear. Heart normal."}
    order = ("impression", "findings")
    assert build_report(sections, order, "compat").sentences == ("no acute disease lungs clear", "heart normal")
    assert build_report(sections, order).sentences == ("No acute disease", "Lungs clear.", "Heart normal.")


def test_report_keeps_both_sections_on_one_line_and_reads_those_asked_for() -> None:
    report = build_report(parse_sections(REPORT), ("findings",))
    assert report.findings == "Cardiac size is normal. There is a 1.5 cm nodule in the left lung."
    assert report.impression == "1. Nodule. 2. No effusion."
    assert report.sentences == ("Cardiac size is normal.", "There is a 1.5 cm nodule in the left lung.")
    assert build_report({}, ("findings",)) == Report("", "", ())


def test_equal_texts_have_equal_keys() -> None:
    assert normalize_sentence("  Right-sided  EFFUSION (1.5 cm)! ") == "right sided effusion 1 5 cm"
    key = text_key(["No effusion.", "Heart is normal."])
    assert re.fullmatch("[0-9a-f]{16}", key)
    assert text_key(["heart is NORMAL", "No effusion!", "no effusion"]) == key
    assert text_key(Report("", "", ("Heart is normal.", "No effusion."))) == key
    assert text_key(["No effusion.", "Heart is not normal."]) != key
    assert text_key(["No effusion heart is normal."]) != key


PIECES = (
    *("No", "effusion", "heart", "the", "segment", "normal.", "clear.No", "No.", "Chest:", "x", "1.5", "cm", "mm."),
    *("1.", "2.", "2)", "(1)", "5.", "12", "2.No", "-", "T11.", "10:30", "Dr.", "vs.", "e.g.", "a.m.", "A.", "M.D."),
    *(
        "SVC.Left",
        "cm.No",
        "Stable.1.Clear",
        "2.Left",
        "q.i.d.",
        "p.m.The",
        "normal..",
        "IMG.dcm",
        "?.",
        "Dr.Smith",
        "CT.",
    ),
    *("___", "___.", "XXXX", "XXXX.", "(", "(stable).", ")", ".>]", "..", "...", "?", "!", ";", '"', "\u201c"),
    *("normal.2", "clear.12", "mass.1.5", "mm", "x"),
    *("\n", "\n \n", "\n - ", "\n 2. ", "\r\n", "\u00e9.", "\u0130.", "\u00b2", "\u0663."),
)
PROSE = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=14).map(" ".join),
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.text(max_size=120),
)


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"[^\W_]+", text))


@settings(max_examples=1500, deadline=None)
@given(PROSE)
def test_no_word_is_lost_or_added_and_sentences_stay_whole_when_split_again(text: str) -> None:
    sentences = split_sentences(text)
    before, after = _words(text), _words(" ".join(sentences))
    assert not after - before
    # Only list numbers and sentences of nothing but the mark of de-identification go.
    assert all(re.fullmatch("[0-9]{1,2}|X{2,}", word) for word in before - after)
    for sentence in sentences:
        assert sentence == " ".join(sentence.split())
        assert split_sentences(sentence) == (sentence,)


@settings(max_examples=500, deadline=None)
@given(PROSE)
def test_no_sentence_ends_in_a_doubled_stop(text: str) -> None:
    for sentence in split_sentences(text):
        assert not re.search(r"[\w)\]][.?!]\.\Z", sentence)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(("Clear lungs", "No effusion", "Tip in the SVC", "Nodule of 1.5 cm")), min_size=1))
def test_a_forgotten_space_or_a_stop_too_many_changes_no_sentence(sentences: list[str]) -> None:
    expected = tuple(f"{sentence}." for sentence in sentences)
    for join in (". ", ".", ".. "):
        assert split_sentences(join.join(sentences) + ".") == expected
    numbered = [f"{number}.{sentence}." for number, sentence in enumerate(sentences[:9], start=1)]
    for join in (" ", ""):
        assert split_sentences(join.join(numbered)) == expected[:9]


SIZES = st.tuples(
    st.one_of(st.integers(1, 99).map(str), st.tuples(st.integers(0, 9), st.integers(0, 9)).map("{0[0]}.{0[1]}".format)),
    st.sampled_from((" cm", " mm", "cm", "-mm", " x 3 mm")),
).map("".join)


@settings(max_examples=500, deadline=None)
@given(st.sampled_from(("The heart is normal", "Lungs are clear", "Unchanged")), SIZES, st.sampled_from((".", ". ")))
def test_a_size_after_a_closing_word_opens_a_sentence_with_or_without_a_space(start: str, size: str, join: str) -> None:
    assert split_sentences(f"{start}{join}{size} nodule.") == (f"{start}.", f"{size} nodule.")


@settings(max_examples=500, deadline=None)
@given(st.sampled_from([*sorted(NUMBER_FOLLOWS), "T1", "L4", "2", "XXXX", "___", "approx", "fig", "max"]), SIZES)
def test_a_decimal_is_never_cut(word: str, size: str) -> None:
    text = f"A nodule {word}.{size} is seen."
    assert split_sentences(text) == (text,)


@settings(max_examples=500, deadline=None)
@given(PROSE)
def test_nothing_ever_raises(text: str) -> None:
    for sections in (parse_sections(text), parse_loose_sections(text)):
        for splitter in ("clinical", "compat"):
            build_report(sections, ("impression", "findings"), splitter)
    assert text_key([text]) == text_key([text, text])


@settings(max_examples=300, deadline=None)
@given(PROSE)
def test_compat_pieces_are_two_or_more_lower_case_ascii_words(text: str) -> None:
    for piece in split_sentences(text, "compat"):
        assert re.fullmatch(r"\w+( \w+)*", piece, re.ASCII)
        assert piece == piece.lower()


@pytest.mark.parametrize("piece", ["a.", "1. ", "x 1. A ", "(a. ", "\n", ".", "a", "- ", "\n A: "])
def test_long_odd_text_is_split_without_loss(piece: str) -> None:
    text = piece * 20000
    letters = Counter(character for character in "".join(split_sentences(text)) if character.isalpha())
    assert letters == Counter(character for character in text if character.isalpha())


def test_real_reports_lose_no_word(real_data: Callable[[str], Path]) -> None:
    path = real_data("openi_iu_xray") / "indiana_reports.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        texts = [row[name] for row in csv.DictReader(stream) for name in ("findings", "impression") if row[name]]
    sentences = [split_sentences(text) for text in texts]
    lost: Counter[str] = Counter()
    for text, found in zip(texts, sentences, strict=True):
        lost += _words(text) - _words(" ".join(found))
        assert all(split_sentences(sentence) == (sentence,) for sentence in found)
    assert {word for word in lost if not word.isdigit()} <= {"XXXX"}
    assert lost["1"] > lost["2"] > lost["3"] > 0  # list numbers, so the earlier ones are the more frequent
    # Every sentence with a stop inside is one of the abbreviations of the collection.
    inside = [s for found in sentences for s in found if re.search(r"\w\. \w", re.sub(r"\b(?:Dr|[ap]\.m)\.", "", s))]
    assert inside == []

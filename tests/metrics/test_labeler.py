"""Rules of the labeler that hold for any report: order, company, length, noise; notation of phrases; real gold labels."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecli.metrics.clinical import agreement
from placecli.metrics.clinical.findings import COMPETITION, FINDINGS, NO_FINDING
from placecli.metrics.clinical.labeler import OTHER, find_mentions, label_report, label_reports
from placecli.metrics.clinical.patterns import compile_phrases
from placecli.metrics.clinical.reading import clauses_of, sentences_of, simplify

STATEMENTS = (
    "Small left pleural effusion.",
    "No pneumothorax.",
    "Possible pneumonia.",
    "The heart is enlarged.",
    "Bibasilar atelectasis is unchanged.",
    "No pulmonary edema.",
    "Old rib fractures.",
    "There is no effusion on the right.",
    "Right PICC in place.",
    "Opacity, cannot exclude consolidation.",
)
NORMAL_ELSEWHERE = {
    "Small left pleural effusion.": "No pneumothorax.",
    "No pneumothorax.": "Heart size is normal.",
    "Possible pneumonia.": "No fracture.",
    "The heart is enlarged.": "No effusion or pneumothorax.",
    "Old rib fractures.": "The mediastinum is unremarkable.",
}


@given(st.permutations(STATEMENTS))
def test_order_of_sentences_does_not_matter(order: list[str]) -> None:
    assert label_report(" ".join(order)) == label_report(" ".join(STATEMENTS))


@given(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=6))
def test_labels_of_a_report_are_the_strongest_of_its_sentences(sentences: list[str]) -> None:
    strength = {1: 2, -1: 1, 0: 0}
    expected: dict[str, int] = {}
    for sentence in sentences:
        for name, state in label_report(sentence).items():
            if name != NO_FINDING and strength[state] >= strength[expected.get(name, 0)]:
                expected[name] = state
    labels = label_report("\n".join(sentences))
    assert {name: state for name, state in labels.items() if name != NO_FINDING} == expected


@pytest.mark.parametrize(("sentence", "normal"), NORMAL_ELSEWHERE.items())
def test_a_normal_sentence_about_something_else_changes_nothing_else(sentence: str, normal: str) -> None:
    alone, beside = label_report(sentence), label_report(normal)
    for text in (f"{sentence} {normal}", f"{normal} {sentence}", f"{sentence[:-1]}; {normal}"):
        assert {
            name: state for name, state in label_report(text).items() if name not in beside or name in alone
        } == alone


def test_no_finding_needs_words_and_nothing_abnormal_but_devices() -> None:
    assert label_report("Normal chest.") == {NO_FINDING: 1}
    assert label_report("Clear lungs. A pacemaker is present.") == {NO_FINDING: 1, "Support Devices": 1}
    assert NO_FINDING not in label_report("Possible effusion.")
    assert NO_FINDING not in label_report("Clear lungs. Marked scoliosis.")
    assert label_report("") == label_report(" XXXX. ___ \n") == {}


def test_table_has_a_row_a_report_in_the_order_of_the_findings() -> None:
    table = label_reports(["No effusion. Possible pneumonia.", "", "Cardiomegaly."])
    assert table.shape == (3, 14)
    assert table[0, FINDINGS.index("Pleural Effusion")] == 0
    assert table[0, FINDINGS.index("Pneumonia")] == -1
    assert table[2, FINDINGS.index("Cardiomegaly")] == 1
    assert np.isnan(table[1]).all()
    assert label_reports([]).shape == (0, 14)


def test_mentions_say_where_and_why() -> None:
    found = find_mentions("The lungs are clear. No pleural effusion, but a small nodule. Scoliosis.")
    assert [(each.finding, each.state, each.phrase, each.sentence) for each in found] == [
        ("Pleural Effusion", 0, "effusion", 1),
        ("Lung Lesion", 1, "nodule", 1),
        (OTHER, 1, "scoliosis", 2),
    ]


@given(st.text(max_size=300))
def test_never_raises_and_says_only_what_it_may(text: str) -> None:
    labels = label_report(text)
    assert set(labels) <= set(FINDINGS)
    assert set(labels.values()) <= {-1, 0, 1}
    assert labels.get(NO_FINDING, 1) == 1


WORDS = st.sampled_from(
    [
        *(
            "no",
            "effusion",
            ",",
            "and",
            "or",
            "but",
            "pneumonia",
            "cannot be",
            "excluded",
            "heart is",
            "normal",
            "enlarged",
        ),
        *(
            "versus",
            ":",
            ";",
            "possible",
            "history of",
            "the",
            "indication:",
            "findings:",
            "without",
            "with",
            "resolved",
        ),
        *("not", "seen", "opacity", "may", ".", "?", "XXXX", "(", ")", "/", "1.", "\n", "\n\n"),
    ]
)


@given(st.lists(WORDS, max_size=60))
def test_never_raises_on_the_words_of_its_own_rules(words: list[str]) -> None:
    text = " ".join(words)
    labels = label_report(text)
    assert labels == label_report(f"  {text}  ")
    assert len(find_mentions(text)) >= len(set(labels) - {NO_FINDING})


@pytest.mark.parametrize(
    "unit", ["no effusion or ", "effusion ", "history: ", "heart is ", "( ", "and , ", "opacity versus "]
)
def test_work_grows_with_length_alone(unit: str) -> None:
    """Quadratic work on this much would not end within a test run."""
    sentences = sentences_of(unit * 20_000)
    assert all(len(sentence.split()) <= 120 for sentence in sentences)
    label_report(unit * 3_000)


def test_simplify() -> None:
    assert simplify("Air-space DISEASE and/or Atlectasis (w/o XXXX effussion)") == (
        "air space disease or atelectasis , without effusion ,"
    )
    assert label_report("? Pneumonia") == {"Pneumonia": -1}
    assert simplify("? pneumonia") == "possible pneumonia"
    assert simplify("pneumonia?") == "pneumonia questioned"
    assert simplify("___ 1.5 cm") == "1.5 cm"
    assert simplify("XXXX") == ""


def test_sentences() -> None:
    assert sentences_of("No effusion.Heart is large. Nodule of 1.5 cm; seen by Dr. X. Is it new? Yes") == [
        "no effusion",
        "heart is large",
        "nodule of 1.5 cm ; seen by dr x",
        "is it new questioned",
        "yes",
    ]
    assert sentences_of("a line\nbroken\n\nnext") == ["a line broken", "next"]
    assert sentences_of("FINDINGS: Clear. IMPRESSION: 1. Edema\n2. Effusion") == [
        "clear",
        "1",
        "edema",
        "2",
        "effusion",
    ]
    assert sentences_of("Findings: no effusion Impression: edema") == ["no effusion", "edema"]
    assert sentences_of("TECHNIQUE: two views to exclude edema.\n\nClear.") == ["clear"]


def test_clauses() -> None:
    assert clauses_of("no effusion but edema") == ["no effusion", "edema"]
    assert clauses_of("no effusion , heart is large") == ["no effusion", "heart is large"]
    assert clauses_of("no effusion , edema or pneumonia is seen") == ["no effusion , edema or pneumonia is seen"]
    assert clauses_of("lungs are clear , heart and mediastinum are normal") == [
        "lungs are clear",
        "heart and mediastinum are normal",
    ]


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("pleural/_ effusion*", "small pleural effusions", "pleural effusions"),
        ("pleural/_ effusion*", "effusion", "effusion"),
        ("mass", "massive", None),
        ("mass", "bodymass mass", "mass"),
        ("thickening of ... pleura", "thickening of the left apical pleura", "thickening of the left apical pleura"),
        ("thickening of ... pleura", "thickening of one two three four pleura", None),
        ("limits of/_ normal/_", "within limits", "limits"),
        ("limits of/_ normal/_", "limits of normal size", "limits of normal"),
        ("a/b c", "x b c", "b c"),
        ("a.b", "axb", None),
    ],
)
def test_notation_of_phrases(phrase: str, text: str, found: str | None) -> None:
    match = compile_phrases([phrase]).search(text)
    assert (match[0] if match else None) == found


def test_no_phrase_finds_nothing() -> None:
    assert compile_phrases([]).search("anything") is None


def test_longer_phrase_is_tried_first() -> None:
    match = compile_phrases(["no", "no change"]).search("no change")
    assert match
    assert match[0] == "no change"


def test_equals_the_published_labels_of_four_impressions(real_data: Callable[[str], Path]) -> None:
    with (real_data("chexpert_labeler") / "labeled_reports.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    for row in rows:
        expected = {name: int(float(row[name])) for name in FINDINGS if row[name]}
        assert label_report(row["Reports"]) == expected


GOLD = {"Pleural Effusion": "Effusion", "Edema": "Edema", "Consolidation": "Consolidation"} | {
    name: name for name in ("Cardiomegaly", "Atelectasis", "Pneumonia", "Pneumothorax")
}


def test_agrees_with_the_codes_of_people(real_data: Callable[[str], Path]) -> None:
    """The half that the rules were written on; docs/labeler.md has the other."""
    with (real_data("openi_gold_labels") / "openi_gld_std14.csv").open(encoding="utf-8", newline="") as stream:
        gold = {row["filename"]: row for row in csv.DictReader(stream)}
    with (real_data("openi_iu_xray") / "indiana_reports.csv").open(encoding="utf-8", newline="") as stream:
        reports = {f"CXR{row['uid']}": f"{row['findings']}\n\n{row['impression']}" for row in csv.DictReader(stream)}
    ids = [name for name in gold if name in reports and zlib.crc32(name.encode()) % 2 == 0]
    truth = np.full((len(ids), len(FINDINGS)), np.nan)
    for finding, column in GOLD.items():
        truth[:, FINDINGS.index(finding)] = [float(gold[name][column]) for name in ids]
    outcomes = agreement.outcomes(label_reports(reports[name] for name in ids), truth, "absent")
    assert len(ids) > 1000
    assert agreement.micro_f1(agreement.select(outcomes, tuple(GOLD))) > 0.80
    assert agreement.macro_f1(agreement.select(outcomes, COMPETITION)) > 0.80

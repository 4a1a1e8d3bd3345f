"""Synthetic reports are true of their image: read back from the text alone, by rules that know nothing of the writer."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from phantom_cases import studies

from placecli.data import phantom_findings as kinds
from placecli.data import phantom_wording as wording
from placecli.data.phantom import LABELS, PhantomStudy
from placecli.data.phantom_findings import Condition, follow_up, sample_conditions
from placecli.data.phantom_reports import Statement, SyntheticReport, write_report

NAMES = {
    kinds.ATELECTASIS: r"atelectasis",
    kinds.CARDIOMEGALY: r"cardiomegaly|enlarge|heart size is \w+ly increased",
    kinds.CONSOLIDATION: r"consolidation|pneumonia|airspace opacity",
    kinds.HERNIA: r"hernia",
    kinds.HYPERINFLATION: r"hyperinflat|hyperexpan|hyperexpansion|emphysema",
    kinds.MASS: r"\bmass",
    kinds.NODULE: r"nodul",
    kinds.EFFUSION: r"effusion|pleural fluid",
    kinds.PNEUMOTHORAX: r"pneumothora",
    kinds.EDEMA: r"edema",
    kinds.SCOLIOSIS: r"scolio|curvature|convex",
    kinds.DEVICE: r"pacemaker|pacing|catheter|central line|venous line|\btube|intubated|support device",
}
DENYING = re.compile(r"^no\b|\bno\b|\bnot\b|\bnormal|unremarkable|within normal", re.IGNORECASE)
DOUBT = re.compile(r"\b(possible|probable|may|cannot be excluded|suspected|likely|borderline|appear)\b", re.IGNORECASE)


def sections(text: str) -> dict[str, str]:
    """Section name -> its text on one line."""
    parts = re.split(r"^ ([A-Z]+): *", text, flags=re.MULTILINE)
    return {name: " ".join(body.split()) for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def sentences(study: PhantomStudy) -> list[str]:
    """Sentences of FINDINGS and IMPRESSION as the text has them; a point inside a number does not end one."""
    body = sections(study.report.text)
    joined = f"{body['FINDINGS']} {body['IMPRESSION']}"
    return [re.sub(r"^\d\. ", "", each) for each in re.split(r"(?<=[a-z)A-Z]\.) ", joined) if each]


def said(sentence: str) -> set[str]:
    return {label for label, names in NAMES.items() if re.search(names, sentence, re.IGNORECASE)}


def of_label(study: PhantomStudy, label: str) -> list[Condition]:
    return [each.condition for each in study.findings if each.condition.label == label]


def affirmed() -> Iterator[tuple[PhantomStudy, Statement, str]]:
    for study in studies():
        for statement in (*study.report.findings, *study.report.impression):
            yield from ((study, statement, label) for label in statement.affirms)


def test_what_the_text_affirms_is_planted_and_what_it_denies_is_absent() -> None:
    num_affirmed = num_denied = 0
    for study in studies():
        planted = {each.condition.label for each in study.findings}
        for sentence in sentences(study):
            labels = said(sentence) - ({kinds.CARDIOMEGALY} if "not enlarged" in sentence else set())
            if DENYING.search(sentence):
                assert not labels & planted, f"{study.study_id} {planted}: {sentence}"
                num_denied += len(labels)
            else:
                assert labels <= planted, f"{study.study_id} {planted}: {sentence}"
                num_affirmed += len(labels)
    assert num_affirmed > 200
    assert num_denied > 200


def test_statements_say_what_they_claim_to_say() -> None:
    """The claims that come with the text hold, and an affirmed label is named by its own words."""
    for study in studies():
        planted = {each.condition.label for each in study.findings}
        for statement in (*study.report.findings, *study.report.impression):
            assert statement.affirms <= planted
            assert not statement.denies & planted
            for label in statement.affirms:
                assert label in said(statement.text) or DOUBT.search(statement.text), statement.text
            assert not (statement.affirms and DENYING.search(statement.text)), statement.text


def test_every_planted_finding_is_described() -> None:
    for study in studies():
        described = {label for statement in study.report.findings for label in statement.affirms}
        assert described == {each.condition.label for each in study.findings}, study.study_id


def test_the_text_holds_the_statements_in_their_order() -> None:
    for study in studies():
        body = sections(study.report.text)
        assert body["FINDINGS"] == " ".join(statement.text for statement in study.report.findings)
        summary = re.sub(r"(?:^|(?<= ))\d\. ", "", body["IMPRESSION"])
        assert summary == " ".join(statement.text for statement in study.report.impression)


def test_sides_in_the_text_are_those_of_the_findings() -> None:
    seen = Counter[str]()
    for study, statement, label in affirmed():
        words = set(re.findall(r"\b(left|right)\b", statement.text.lower()))
        words |= {"right"} if "dextroscoliosis" in statement.text.lower() else set()
        words |= {"left"} if "levoscoliosis" in statement.text.lower() else set()
        words -= {"right"} if "right heart" in statement.text.lower() else set()
        sides = {condition.side for condition in of_label(study, label)}
        assert words <= sides, f"{study.study_id} {sides}: {statement.text}"
        if re.search(r"bilateral|bibasilar|both", statement.text, re.IGNORECASE):
            assert sides in ({"bilateral"}, {"left", "right"}), statement.text
        seen.update(words)
    assert min(seen["left"], seen["right"]) > 50


def test_sites_in_the_text_are_those_of_the_findings() -> None:
    for study, statement, label in affirmed():
        if label in (kinds.CONSOLIDATION, kinds.NODULE, kinds.MASS):
            places = re.findall(
                r"upper lobe|middle lobe|lower lobe|lingula|\bupper\b|\bmid\b|\blower\b", statement.text
            )
            found = {condition.site for condition in of_label(study, label)}
            assert set(places) <= found, f"{study.study_id} {found}: {statement.text}"


def test_sizes_in_the_text_are_those_of_the_findings() -> None:
    units = Counter[str]()
    for study, statement, label in affirmed():
        for number, unit in re.findall(r"(\d+(?:\.\d+)?) (cm|mm)\b", statement.text):
            length = float(number) if unit == "cm" else float(number) / 10
            sizes = [condition.size_cm for condition in of_label(study, label)]
            assert any(abs(length - size) < 0.01 for size in sizes), f"{study.study_id} {sizes}: {statement.text}"
            units[unit] += 1
    assert min(units["cm"], units["mm"]) > 5


def test_a_mild_finding_is_not_called_severe() -> None:
    strong = re.compile(r"\b(severe|severely|marked|markedly|large|extensive|dense)\b", re.IGNORECASE)
    for study, statement, label in affirmed():
        grades = {condition.grade for condition in of_label(study, label)}
        if strong.search(re.sub(r"large mass-like", "", statement.text)):
            assert "severe" in grades, f"{study.study_id} {grades}: {statement.text}"


@pytest.mark.parametrize("label", [label for label in LABELS if label != kinds.DEVICE])
def test_each_finding_has_several_wordings(label: str) -> None:
    rng = np.random.default_rng(1)
    condition = Condition(label, "left", "upper lobe" if label == kinds.CONSOLIDATION else "mid", 0.5, 2.0, 1)
    texts = set()
    for _ in range(80):
        report = write_report(rng, [condition], frozenset({"PA"}), is_follow_up=False)
        text = next(each.text for each in report.findings if each.affirms)
        texts.add(re.sub(r"2\.0 cm|20 mm|moderate-sized", "moderate", text))
    assert len(texts) >= 5


def reports_of(num: int) -> list[SyntheticReport]:
    """Reports on sampled findings, without pictures."""
    made = []
    for seed in range(num):
        rng = np.random.default_rng(seed)
        conditions = sample_conditions(rng)
        if seed % 4 == 3:
            conditions = follow_up(rng, conditions)
        made.append(write_report(rng, conditions, frozenset({"AP"}), is_follow_up=False))
    return made


def test_negations_and_doubts_occur_and_order_varies() -> None:
    reports = reports_of(600)
    texts = [" ".join(statement.text for statement in report.findings) for report in reports]
    assert sum(bool(re.search(r"\b[Nn]o\b", text)) for text in texts) > 0.5 * len(texts)
    assert 0.03 < sum(bool(DOUBT.search(text)) for text in texts) / len(texts) < 0.5
    orders: dict[frozenset[str], set[tuple[str, ...]]] = defaultdict(set)
    lead = Counter[bool]()
    for report in reports:
        told = tuple(label for statement in report.findings for label in statement.affirms)
        orders[frozenset(told)].add(told)
        kinds_of = [bool(statement.affirms) for statement in report.findings if statement.affirms or statement.denies]
        if any(kinds_of) and not all(kinds_of):
            lead[kinds_of[0]] += 1
    pair = frozenset({kinds.CARDIOMEGALY, kinds.EDEMA})
    assert len(orders[pair]) == 2
    assert min(lead[True], lead[False]) > 0.15 * lead.total()


def test_texts_differ_from_report_to_report() -> None:
    texts = [report.text for report in reports_of(400)]
    assert len(set(texts)) > 0.97 * len(texts)


def test_every_wording_is_reached_and_filled() -> None:
    for table in (wording.DESCRIBED, wording.DOUBTED, wording.SUMMED):
        assert {key.removesuffix(" bilateral") for key in table} <= {
            *LABELS,
            *(kinds.PACEMAKER, kinds.CENTRAL_LINE, kinds.TUBE),
        }
    for report in reports_of(300):
        assert not re.search(r"[{}|]|  +[a-z]", " ".join(each.text for each in (*report.findings, *report.impression)))


def test_reports_say_that_they_are_synthetic() -> None:
    for study in studies():
        assert sections(study.report.text)["EXAMINATION"] == f"SYNTHETIC CHEST RADIOGRAPH ({study.pose.view})"

"""Synthetic reports that are true of their image: chosen wordings, negations, doubts and order, in MIMIC's layout."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from placecli.data import phantom_findings as kinds
from placecli.data import phantom_wording as wording
from placecli.data.phantom_findings import Condition

LINE_WIDTH = 79
INDICATIONS = (
    *("Cough.", "Shortness of breath.", "Chest pain.", "Fever and cough.", "Preoperative evaluation."),
    *("Follow-up.", "Dyspnea on exertion.", "Evaluate for pneumonia.", "Screening.", "Weight loss."),
)


@dataclass(frozen=True, slots=True)
class Statement:
    """One sentence and what it claims: labels it affirms (perhaps with doubt) and labels or facts it denies."""

    text: str
    affirms: frozenset[str] = frozenset()
    denies: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SyntheticReport:
    """The two sections as statements, and the whole text as a file holds it."""

    findings: tuple[Statement, ...]
    impression: tuple[Statement, ...]
    text: str


def write_report(
    rng: np.random.Generator, conditions: Sequence[Condition], facts: frozenset[str], *, is_follow_up: bool
) -> SyntheticReport:
    """A report on `conditions`; `facts` are keys of `wording.NOTED` that hold for the image."""
    described = [_describe(rng, group) for group in _groups(conditions)]
    remarks = [Statement(_pick(rng, wording.NOTED[fact])) for fact in sorted(facts) if rng.random() < 0.8]
    absent = _denials(rng, conditions, facts, max(1, 6 - len(described) - len(remarks) // 2))
    body = [described[i] for i in rng.permutation(len(described))]
    # Radiologists name the view first and mix the rest; the findings lead or follow the normals.
    rest = [*body, *absent] if rng.random() < 0.6 else [*absent, *body]
    if rng.random() < 0.4:
        rest = [rest[i] for i in rng.permutation(len(rest))]
    findings = (*remarks, *rest)
    impression = tuple(_impression(rng, conditions, facts))
    text = _layout(rng, findings, impression, facts, is_follow_up)
    return SyntheticReport(findings, impression, text)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _groups(conditions: Sequence[Condition]) -> list[list[Condition]]:
    """Conditions of both sides that are told in one sentence stay together; right comes first."""
    groups: dict[tuple[str, str], list[Condition]] = {}
    for condition in conditions:
        paired = condition.label in (kinds.EFFUSION, kinds.ATELECTASIS)
        key = (condition.label, "" if paired else f"{condition.side} {condition.site}")
        groups.setdefault(key, []).append(condition)
    return [sorted(group, key=lambda c: c.sign) for group in groups.values()]


def _slots(rng: np.random.Generator, group: Sequence[Condition]) -> Mapping[str, str]:
    first = group[0]
    words = wording.GRADES.get(first.label, wording.PLAIN_GRADES)
    grade, other = _pick(rng, words[first.grade]), _pick(rng, words[group[-1].grade])
    size = f"{first.size_cm:.1f} cm" if rng.random() < 0.75 else f"{first.size_cm * 10:.0f} mm"
    return {
        "side": first.side,
        "Side": first.side.capitalize(),
        "grade": grade,
        "Grade": grade.capitalize(),
        "other": other,
        "site": first.site,
        "size": size,
        "Size": size,
    }


def _key(group: Sequence[Condition]) -> str:
    first = group[0]
    if first.label == kinds.DEVICE:
        return first.site
    return f"{first.label} bilateral" if len(group) == 2 else first.label


def _say(rng: np.random.Generator, options: Sequence[str], group: Sequence[Condition]) -> Statement:
    template = _pick(rng, options)
    if "|" in template:
        # A right convex curve is dextroscoliosis, a left convex one levoscoliosis.
        template = template.split("|")[0 if group[0].side == "right" else 1]
    text = template.format(**_slots(rng, group))
    return Statement(text, affirms=frozenset({group[0].label}))


def _describe(rng: np.random.Generator, group: Sequence[Condition]) -> Statement:
    key, doubts = _key(group), wording.DOUBTED.get(group[0].label, ())
    doubtful = len(group) == 1 and group[0].grade == "mild" and doubts and rng.random() < 0.35
    return _say(rng, doubts if doubtful else wording.DESCRIBED[key], group)


def _denials(
    rng: np.random.Generator, conditions: Sequence[Condition], facts: frozenset[str], count: int
) -> list[Statement]:
    """Up to `count` stock sentences that are true and do not repeat each other."""
    present = {condition.label for condition in conditions} | facts | {fact.split()[0] for fact in facts}
    chosen: list[Statement] = []
    said: set[str] = set()
    for index in rng.permutation(len(wording.DENIED)):
        text, absent = wording.DENIED[index]
        denied = frozenset(absent)
        if denied & present or denied <= said or (denied & said and rng.random() < 0.75):
            continue
        chosen.append(Statement(text, denies=denied))
        said |= denied
        if len(chosen) == count:
            break
    return chosen


def _impression(rng: np.random.Generator, conditions: Sequence[Condition], facts: frozenset[str]) -> list[Statement]:
    groups = _groups(conditions)
    acute = frozenset(wording.ACUTE)
    if not groups:
        if rng.random() < 0.4 and not facts - {"PA", "AP"}:
            return [Statement(_pick(rng, wording.NORMAL_ONLY_SUMMARIES), denies=frozenset(kinds.LABELS))]
        return [Statement(_pick(rng, wording.NORMAL_SUMMARIES), denies=acute)]
    order = sorted(rng.permutation(len(groups)), key=lambda i: groups[i][0].label not in acute)
    said = [_say(rng, wording.SUMMED[_key(groups[i])], groups[i]) for i in order[:3]]
    if not acute & {condition.label for condition in conditions} and rng.random() < 0.6:
        said.append(Statement(_pick(rng, wording.NORMAL_SUMMARIES), denies=acute))
    return said


def _layout(
    rng: np.random.Generator,
    findings: Sequence[Statement],
    impression: Sequence[Statement],
    facts: frozenset[str],
    is_follow_up: bool,
) -> str:
    view = "AP" if "AP" in facts else "PA"
    summary = [statement.text for statement in impression]
    if len(summary) > 1 and rng.random() < 0.4:
        summary = [f"{number}. {text}" for number, text in enumerate(summary, 1)]
    sections = (
        ("EXAMINATION", f"SYNTHETIC CHEST RADIOGRAPH ({view})"),
        ("INDICATION", _pick(rng, INDICATIONS)),
        ("COMPARISON", "Earlier radiograph of the same phantom." if is_follow_up else "None."),
        ("FINDINGS", " ".join(statement.text for statement in findings)),
        ("IMPRESSION", " ".join(summary)),
    )
    lines = [" " * 33 + "FINAL REPORT"]
    for name, content in sections:
        heading = f" {name}:  "
        if name in ("FINDINGS", "IMPRESSION"):
            lines += [f" {name}: ", " "]
            heading = " "
        lines += textwrap.wrap(
            content, LINE_WIDTH, initial_indent=heading, subsequent_indent=" ", break_on_hyphens=False
        )
        lines.append(" ")
    return "\n".join(lines).rstrip() + "\n"

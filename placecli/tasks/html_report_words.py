"""Reports beside each other: which sentence agrees with the other report, contradicts it, or says what it does not.

Findings are those of our rule-based labeler (docs/labeler.md), so a mark is a hint and not a judgement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from placecli.metrics.clinical.findings import ABSENT, NO_FINDING, PRESENT, UNCERTAIN
from placecli.metrics.clinical.labeler import label_report
from placecli.records import Row
from placecli.tasks.html_report_content import Sentence, Verdict

STATED: Final = (PRESENT, UNCERTAIN)


def report_sentences(row: Row) -> tuple[str, ...]:
    """Those that the model reads, else the sections as the store has them."""
    return row.sentences or tuple(text for text in (row.findings, row.impression) if text)


def judge(sentences: Sequence[str], reference: Sequence[str]) -> tuple[Sentence, ...]:
    """Each sentence held against a reference report.

    agrees: it states a finding that the reference states. denies: it denies what the reference denies. contradicts: it
    states what the reference denies, or denies what the reference states. extra: it states a finding that the reference
    does not mention.
    """
    truth = label_report(" ".join(reference))
    return tuple(Sentence(text, _verdict(_findings(text), truth)) for text in sentences)


def missed(reference: Sequence[str], given: Sequence[str]) -> tuple[Sentence, ...]:
    """The reference, its sentences marked that state a finding.

    missed: the other report denies one of them, or does not speak of it. agrees: it states them all.
    """
    said = label_report(" ".join(given))
    marked = []
    for text in reference:
        stated = [name for name, state in _findings(text).items() if state in STATED]
        is_missed = any(said.get(name, ABSENT) not in STATED for name in stated)
        verdict: Verdict = "missed" if is_missed else "agrees" if stated else ""
        marked.append(Sentence(text, verdict))
    return tuple(marked)


def agreement(given: Sequence[str], reference: Sequence[str]) -> tuple[int, int]:
    """Findings on which two reports agree, and on which they do not (one states it, the other not)."""
    ours, theirs = (
        {name for name, state in _findings(" ".join(text)).items() if state in STATED} for text in (given, reference)
    )
    return len(ours & theirs), len(ours ^ theirs)


def _findings(text: str) -> dict[str, int]:
    return {name: state for name, state in label_report(text).items() if name != NO_FINDING}


def _verdict(claims: Mapping[str, int], truth: Mapping[str, int]) -> Verdict:
    stated = {name for name, state in claims.items() if state in STATED}
    denied = {name for name, state in claims.items() if state == ABSENT}
    if any(truth.get(name) == ABSENT for name in stated) or any(truth.get(name) in STATED for name in denied):
        return "contradicts"
    if any(truth.get(name) in STATED for name in stated):
        return "agrees"
    if stated:
        return "extra"
    return "denies" if any(truth.get(name) == ABSENT for name in denied) else ""

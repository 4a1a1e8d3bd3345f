"""Labels of the fourteen findings from the words of a report, by rules.

CheXpert-style in its findings, its states and how mentions add up. It is neither CheXpert's labeler nor CheXbert, shares no
code with them and does not give their labels; docs/labeler.md says what it does, what it was measured at, and where it differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.clinical import cues, judgements, phrases
from placecli.metrics.clinical.findings import ABSENT, FINDINGS, NO_FINDING, PRESENT, SUPPORT_DEVICES, UNCERTAIN
from placecli.metrics.clinical.patterns import NOTHING, compile_phrases
from placecli.metrics.clinical.reading import clauses_of, sentences_of

OTHER: Final = "Other"
"""Stands for any abnormality beyond the fourteen findings; it only keeps a report from being "No Finding"."""


@dataclass(frozen=True, slots=True)
class Mention:
    """One place where a report speaks of a finding.

    `finding` is one of `FINDINGS` or `OTHER`, `state` 1, 0 or -1, `phrase` the words that name it and `sentence`, counted
    from 0, where they stand. The words are a patient's: not for a log.
    """

    finding: str
    state: int
    phrase: str
    sentence: int


@dataclass(frozen=True, slots=True)
class _Cue:
    kind: cues.Cue
    start: int
    end: int


_TERMS: Final = {
    name: compile_phrases(each) for name, each in (*phrases.TERMS.items(), (OTHER, phrases.OTHER_ABNORMALITY))
}
_DOUBTFUL: Final = {name: compile_phrases(each) for name, each in phrases.DOUBTFUL_TERMS.items()}
_EXCLUDED: Final = {
    name: compile_phrases(each) for name, each in (*phrases.EXCLUSIONS.items(), (OTHER, judgements.NORMAL))
}
_SUBJECTS: Final = {name: compile_phrases(each) for name, each in judgements.SUBJECTS.items()}
_JUDGEMENT: Final = {
    UNCERTAIN: compile_phrases(judgements.BORDERLINE),
    ABSENT: compile_phrases(judgements.NORMAL),
    PRESENT: compile_phrases(judgements.ENLARGED),
}
"""In the order in which they are looked for: "not enlarged" holds "enlarged", "upper limits of normal" holds "normal"."""

_FORWARD: Final = {kind: compile_phrases(each) for kind, each in cues.FORWARD.items()}
_BACKWARD: Final = {kind: compile_phrases(each) for kind, each in cues.BACKWARD.items()}
_FORMER: Final = re.compile(rf"{compile_phrases((cues.FORMER,)).pattern} ?$")
_NO_FURTHER: Final = compile_phrases(cues.NO_FURTHER)
_JOINED_WITH: Final = compile_phrases((cues.JOINED_WITH,))
_NEXT: Final = re.compile(r" (?:,|and) ")
_COMMA: Final = re.compile(r" , ")


def label_report(text: str) -> dict[str, int]:
    """State of each finding that `text` mentions: 1 present, 0 absent, -1 uncertain; one not mentioned has no entry.

    Of several mentions a present one counts before an uncertain one, and that before an absent one. "No Finding" is 1 where
    the text has words and no mention but of support devices is present or uncertain; else it has no entry. Never raises.
    """
    sentences = sentences_of(text)
    states: dict[str, set[int]] = {}
    for index, sentence in enumerate(sentences):
        for mention in _mentions(sentence, index):
            states.setdefault(mention.finding, set()).add(mention.state)
    is_abnormal = any(found - {ABSENT} for name, found in states.items() if name != SUPPORT_DEVICES)
    labels = {name: _strongest(states[name]) for name in FINDINGS if name in states}
    return labels if is_abnormal or not sentences else {NO_FINDING: PRESENT, **labels}


def label_reports(texts: Iterable[str]) -> NDArray[np.float64]:
    """`label_report` of each text: float64 [n, 14] in the order of `FINDINGS`, nan where a finding is not mentioned."""
    rows = [[labels.get(name, np.nan) for name in FINDINGS] for labels in map(label_report, texts)]
    return np.array(rows, dtype=np.float64).reshape(-1, len(FINDINGS))


def find_mentions(text: str) -> tuple[Mention, ...]:
    """Every mention in `text` that has a state, in order of sentences: why `label_report` says what it says."""
    return tuple(mention for index, each in enumerate(sentences_of(text)) for mention in _mentions(each, index))


def _strongest(states: set[int]) -> int:
    return next(state for state in (PRESENT, UNCERTAIN, ABSENT) if state in states)


def _mentions(sentence: str, index: int) -> list[Mention]:
    """The mentions of one simplified sentence."""
    found = []
    for clause in clauses_of(sentence):
        terms = _terms(clause)
        subjects = [(name, match) for name, pattern in _SUBJECTS.items() for match in _hits(pattern, clause, name)]
        if not terms and not subjects:
            continue
        spans = [match.span() for _, match, _ in terms]
        scopes = _scopes(clause, spans)
        alternatives = _alternatives(clause, spans)
        for name, match, is_doubtful in terms:
            is_open = is_doubtful or match.span() in alternatives
            state = _state(name, match.span(), clause, scopes, is_open)
            if state is not None:
                found.append(Mention(name, state, match[0], index))
        for name, match in subjects:
            state = _judgement(name, match, clause, scopes)
            if state is not None:
                found.append(Mention(name, state, match[0], index))
    return found


def _terms(clause: str) -> list[tuple[str, re.Match[str], bool]]:
    """(finding, place, whether it stands for the finding only doubtfully) of each term of the clause."""
    sure = [(name, match, False) for name, pattern in _TERMS.items() for match in _hits(pattern, clause, name)]
    return sure + [(name, match, True) for name, pattern in _DOUBTFUL.items() for match in _hits(pattern, clause, name)]


def _hits(pattern: re.Pattern[str], clause: str, name: str) -> list[re.Match[str]]:
    """Matches that overlap no exclusion of that finding."""
    matches = list(pattern.finditer(clause))
    if not matches:
        return matches
    excluded = [match.span() for match in _EXCLUDED.get(name, NOTHING).finditer(clause)]
    return [match for match in matches if not any(_overlap(match.span(), each) for each in excluded)]


def _overlap(first: tuple[int, int], second: tuple[int, int]) -> bool:
    return first[0] < second[1] and second[0] < first[1]


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where a cue holds: mentions that begin in [start, end). `is_before`: the cue stands before them."""

    cue: _Cue
    start: int
    end: int
    is_before: bool

    def covers(self, span: tuple[int, int]) -> bool:
        return self.start <= span[0] < self.end and not _overlap(span, (self.cue.start, self.cue.end))


def _cues(patterns: dict[cues.Cue, re.Pattern[str]], clause: str) -> list[_Cue]:
    """Cues in order; one that lies inside another ("excluded" in "cannot be excluded") does not count."""
    every = [_Cue(kind, *match.span()) for kind, pattern in patterns.items() for match in pattern.finditer(clause)]
    kept: list[_Cue] = []
    for cue in sorted(every, key=lambda cue: (cue.start, -cue.end)):
        if not kept or cue.start >= kept[-1].end:
            kept.append(cue)
    return kept


def _scopes(clause: str, spans: Sequence[tuple[int, int]]) -> list[_Scope]:
    backward = [_Scope(cue, _reach_back(clause, cue), cue.start, False) for cue in _cues(_BACKWARD, clause)]
    used = [scope for scope in backward if any(scope.covers(span) for span in spans)]
    forward = [
        _Scope(cue, cue.end, _reach(clause, cue), True)
        for cue in _cues(_FORWARD, clause)
        # "effusion has resolved , ...": what speaks of the words before it is not said of those after it.
        if not any(_overlap((cue.start, cue.end), (scope.cue.start, scope.cue.end)) for scope in used)
    ]
    return used + forward


def _reach(clause: str, cue: _Cue) -> int:
    """Where a cue that bears on what follows ends to hold."""
    if cue.kind in ("doubt_next", "elsewhere"):
        stop = _NEXT.search(clause, cue.end)
        return stop.start() if stop else len(clause)
    for stop in _NO_FURTHER.finditer(clause, cue.end):
        if stop[0] == "with":
            word_before = clause[: stop.start()].split()[-1:]
            if not word_before or not _JOINED_WITH.match(word_before[0]):
                return stop.start()
        elif cue.kind.startswith("deny"):
            return stop.start()
    return len(clause)


def _reach_back(clause: str, cue: _Cue) -> int:
    """Where a cue that bears on what stands before begins to hold: its part of the sentence, or the list that it ends."""
    commas = [match.end() for match in _COMMA.finditer(clause, 0, cue.start)]
    if not commas or clause.startswith(("and ", "or ", "nor "), commas[-1]):
        return 0
    return commas[-1]


def _alternatives(clause: str, spans: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Mentions that are one of two ("scar or atelectasis"): the last before and the first after each "or"."""
    chosen: set[tuple[int, int]] = set()
    for match in re.finditer(r"\b(?:or|versus|vs)\b", clause):
        before = [
            span for span in spans if span[1] <= match.start() and len(clause[span[1] : match.start()].split()) <= 3
        ]
        after = [span for span in spans if span[0] >= match.end() and len(clause[match.end() : span[0]].split()) <= 4]
        if before and after:
            chosen |= {max(before), min(after)}
    return chosen


def _state(name: str, span: tuple[int, int], clause: str, scopes: Sequence[_Scope], is_open: bool) -> int | None:
    """State of a mention under the cues of its clause; None where it is not about the patient now."""
    holding = [scope for scope in scopes if scope.covers(span)]
    if name != SUPPORT_DEVICES:
        holding = [scope for scope in holding if scope.cue.kind != "deny_device"]
    before = [scope.cue for scope in holding if scope.is_before]
    after = {scope.cue.kind for scope in holding if not scope.is_before}
    decisive = [cue for cue in before if not cue.kind.startswith("doubt")]
    nearest = max(decisive, key=lambda cue: cue.start).kind if decisive else None
    if after & {"deny", "deny_device"} or nearest in ("deny", "deny_device"):
        return ABSENT
    if (
        nearest == "elsewhere"
        or "elsewhere" in after
        or (name in cues.TRANSIENT and _FORMER.search(clause, 0, span[0]))
    ):
        return None
    is_doubted = "doubt" in after or any(cue.kind.startswith("doubt") for cue in before)
    return UNCERTAIN if is_doubted or is_open else PRESENT


def _judgement(name: str, subject: re.Match[str], clause: str, scopes: Sequence[_Scope]) -> int | None:
    """What the clause says of a subject's size: by the word next to it, else the first after it, else the last before."""
    passed: list[tuple[int, int, int]] = []
    for state, pattern in _JUDGEMENT.items():
        for match in pattern.finditer(clause):
            if not any(_overlap(match.span(), (start, end)) for start, end, _ in passed):
                passed.append((*match.span(), state))
    before = [each for each in passed if each[1] <= subject.start()]
    after = [each for each in passed if each[0] >= subject.end()]
    if not before and not after:
        return None
    nearest = max(before, default=None)
    if nearest is None or (after and not re.fullmatch(r" (?:[a-z]+ )?", clause[nearest[1] : subject.start()])):
        nearest = min(after) if after else max(before)
    start, end, state = nearest
    return _state(name, (start, end), clause, scopes, False) if state == PRESENT else state

"""Reports as a writer of reports learns and tells them: sections and sentences -> words -> numbers, and back."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from placecli.config import ReportGenerationConfig
from placecli.data.reports import split_sentences
from placecli.engine.report_decoder import SpecialTokens
from placecli.records import PlaceError, Row
from placecli.tasks import report_compat
from placecli.tasks.report_compat import Source

PAD, START, END, UNKNOWN = "[PAD]", "[START]", "[END]", "[UNK]"
MARKS: Final = {"findings": "[FINDINGS]", "impression": "[IMPRESSION]"}
"""Tokens that open a section. Words are lower-case, so that no word is one of these."""
STOP: Final = "."

_WORD: Final = re.compile(r"[A-Za-z0-9]+(?:[.'-][A-Za-z0-9]+)*|[^\sA-Za-z0-9]")
_DEIDENTIFIED: Final = re.compile(r"X{2,}|_{2,}|\[\*\*")
_CLOSING: Final = frozenset(".,;:)]%?!/")
_OPENING: Final = frozenset("([/")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One written sentence; it was written by the tokens [start, stop) of its report."""

    text: str
    section: str
    start: int
    stop: int


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by number. cleaning: "compat" has R2Gen's words and no sections."""

    tokens: tuple[str, ...]
    cleaning: str
    sections: tuple[str, ...]
    source: Source = "iu-xray"
    spelling: dict[str, str] = field(default_factory=dict)
    """How words are written that are mostly not written in lower case: {"ct": "CT"}."""
    numbers: dict[str, int] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.numbers.update({token: number for number, token in enumerate(self.tokens)})

    @classmethod
    def of_reports(cls, rows: Sequence[Row], config: ReportGenerationConfig) -> Vocabulary:
        """Words of the train rows (one a study) that occur `min_count` times. Raises PlaceError where there are none."""
        source, spelling = config.compat_source, dict[str, str]()
        if config.cleaning == "compat":
            words = report_compat.count_words(
                (raw_text(row, config.sections) for row in rows), source, config.min_count
            )
            special = [PAD, START, END, *words]
        else:
            words, spelling = _count_words(rows, config)
            special = [PAD, START, END, UNKNOWN, *(MARKS[name] for name in config.sections), *words]
        if len(words) < 2:
            raise PlaceError(
                f"no word occurs {config.min_count} times in the train split's {' and '.join(config.sections)};"
                " lower finetune.report_generation.min_count or name other sections"
            )
        return cls(tuple(special), config.cleaning, tuple(config.sections), source, spelling)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Vocabulary:
        """The vocabulary of `to_record`."""
        try:
            names = ("cleaning", "sections", "source", "spelling")
            cleaning, sections, source, spelling = (record[name] for name in names)
            return cls(tuple(record["tokens"]), cleaning, tuple(sections), source, dict(spelling))
        except (KeyError, TypeError):
            raise PlaceError("task.json: holds no vocabulary of reports; the run folder is damaged") from None

    def to_record(self) -> dict[str, Any]:
        """JSON-able: {"tokens", "cleaning", "sections", "source", "spelling"}."""
        return {
            "tokens": list(self.tokens),
            "cleaning": self.cleaning,
            "sections": list(self.sections),
            "source": self.source,
            "spelling": dict(self.spelling),
        }

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def special(self) -> SpecialTokens:
        return SpecialTokens(self.numbers[PAD], self.numbers[START], self.numbers[END])

    @property
    def unknown(self) -> int:
        """Number of the token for rare words."""
        return self.numbers[report_compat.UNKNOWN if self.cleaning == "compat" else UNKNOWN]

    @cached_property
    def prompt(self) -> tuple[int, ...]:
        """What every report begins with: the start and the mark of the first section, where there are sections."""
        opening = [] if self.cleaning == "compat" else [self.numbers[MARKS[self.sections[0]]]]
        return (self.numbers[START], *opening)

    @property
    def suppressed(self) -> tuple[int, ...]:
        """Tokens that are never written. R2Gen writes "<unk>", and its references hold it."""
        own = (PAD, START) if self.cleaning == "compat" else (PAD, START, UNKNOWN)
        return tuple(self.numbers[token] for token in own)

    def encode(self, row: Row, max_tokens: int) -> list[int]:
        """Numbers of a report, start and end included, cut to `max_tokens`; one that is cut has no end."""
        if self.cleaning == "compat":
            words = report_compat.clean(raw_text(row, self.sections), self.source).split()
        else:
            words = [word for name in self.sections for word in _section_words(name, getattr(row, name))]
        unknown = self.unknown
        numbers = [self.numbers.get(word, unknown) for word in words]
        return [self.numbers[START], *numbers, self.numbers[END]][:max_tokens]

    def lay_out(self, row: Row, max_tokens: int) -> tuple[list[int], list[Sentence]]:
        """A reader's report as if it had been written: its numbers, and its sentences in the reader's own words.

        Rare words are kept in the text. Sentences past `max_tokens` are left out, as are those that are not learnt.
        """
        numbers, found = [self.numbers[START]], list[Sentence]()
        for section in self.sections:
            opened = len(numbers) + 1
            for text in learnt_sentences(getattr(row, section)):
                words = sentence_words(text)
                start = max(opened, len(numbers))
                if start + len(words) >= max_tokens:
                    return [*numbers, self.numbers[END]], found
                if start > len(numbers):
                    numbers.append(self.numbers[MARKS[section]])
                numbers += [self.numbers.get(word, self.unknown) for word in words]
                found.append(Sentence(text, section, start, len(numbers)))
        return [*numbers, self.numbers[END]], found

    def sentences(self, numbers: Sequence[int]) -> list[Sentence]:
        """The sentences of a written report, its prompt included, up to its end."""
        names = {self.numbers[mark]: name for name, mark in MARKS.items() if mark in self.numbers}
        stop, skipped = self.numbers.get(STOP, -1), {self.numbers[PAD], self.numbers[START]}
        section, first = self.sections[0], 0
        found: list[Sentence] = []

        def close(end: int) -> None:
            words = [self.tokens[number] for number in numbers[first:end] if number not in skipped]
            if any(word != STOP for word in words):
                found.append(Sentence(self._tell(words), section, first, end))

        for place, number in enumerate(numbers):
            if number == self.numbers[END] or number in names:
                close(place)
                first = place + 1
                if number == self.numbers[END]:
                    return found
                section = names[number]
            elif number == stop:
                close(place + 1)
                first = place + 1
        close(len(numbers))
        return found

    def _tell(self, words: Sequence[str]) -> str:
        if self.cleaning == "compat":
            return " ".join(words)
        return tell_words([self.spelling.get(word, word) for word in words])


def read_vocabulary(about: Mapping[str, Any]) -> Vocabulary:
    """The vocabulary in a run's task.json. Raises PlaceError where it holds none."""
    return Vocabulary.from_record(about.get("vocabulary") or {})


def one_per_study(rows: Iterable[Row], sections: Sequence[str]) -> list[Row]:
    """For each study with text in a section one row, a frontal one if there is one, in the order of first mention."""
    chosen: dict[str, Row] = {}
    for row in rows:
        if any(getattr(row, section).strip() for section in sections):
            best = chosen.get(row.study_id)
            if best is None or _is_frontal(row) > _is_frontal(best):
                chosen[row.study_id] = row
    return list(chosen.values())


def order_views(rows: Sequence[Row], first: Row) -> list[Row]:
    """The images of a study with `first` first, then those of another view, then the rest, in the order given."""
    others = [row for row in rows if row.image_id != first.image_id]
    return [first, *sorted(others, key=lambda row: _is_frontal(row) == _is_frontal(first))]


def _is_frontal(row: Row) -> bool:
    return row.view in ("PA", "AP", "FRONTAL")


def raw_text(row: Row, sections: Sequence[str]) -> str:
    """The sections of a row as they are in the store, joined by a space."""
    return " ".join(text for section in sections if (text := getattr(row, section)))


def reference_text(row: Row, sections: Sequence[str]) -> str:
    """The whole report without marks of lists: what `clean` scores are against."""
    return " ".join(sentence for section in sections for sentence in split_sentences(getattr(row, section)))


def learnt_sentences(text: str) -> tuple[str, ...]:
    """The sentences of a section that a writer learns: without those that hold a de-identified word, unless all do."""
    sentences = split_sentences(text)
    return tuple(each for each in sentences if not _DEIDENTIFIED.search(each)) or sentences


def sentence_words(sentence: str) -> list[str]:
    """Lower-case words and punctuation, a stop at the end."""
    words = [word.lower() for word in _WORD.findall(sentence)]
    return words if words and words[-1] == STOP else [*words, STOP]


def tell_words(words: Sequence[str]) -> str:
    """A sentence for a reader: spaces where they belong and a capital first."""
    text = ""
    for word in words:
        is_joined = not text or word in _CLOSING or text[-1] in _OPENING or word == "-" or text.endswith("-")
        text += word if is_joined else f" {word}"
    return text[:1].upper() + text[1:]


def _count_words(rows: Sequence[Row], config: ReportGenerationConfig) -> tuple[tuple[str, ...], dict[str, str]]:
    """The sorted words, and how those are written that are mostly not in lower case."""
    counts: Counter[str] = Counter()
    forms: dict[str, Counter[str]] = {}
    for row in rows:
        for section in config.sections:
            for sentence in learnt_sentences(getattr(row, section)):
                counts.update(sentence_words(sentence))
                for form in _WORD.findall(sentence)[1:]:  # the first has its capital from its place
                    forms.setdefault(form.lower(), Counter())[form] += 1
    words = tuple(sorted(word for word, count in counts.items() if count >= config.min_count))
    common = {word: max(sorted(forms[word]), key=forms[word].__getitem__) for word in words if word in forms}
    return words, {word: form for word, form in common.items() if form != word}


def _section_words(name: str, text: str) -> list[str]:
    words = [word for sentence in learnt_sentences(text) for word in sentence_words(sentence)]
    return [MARKS[name], *words] if words else []

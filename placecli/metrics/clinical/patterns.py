"""From phrases as a person writes them to one regular expression.

A phrase is words with spaces between. In a word, `/` parts alternatives and `_` among them lets the word be left out;
`*` stands for any ending; `...` for up to three words. "pleural/_ effusion*" finds "pleural effusions" and "effusion".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NOTHING = re.compile(r"(?!)")
_ANY = "..."
_GAP_BEFORE = r"(?:\w+ ){0,3}?"
_GAP_AFTER = r"(?: \w+){0,3}?"


def compile_phrases(phrases: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the phrases, as whole words, in text that `reading.simplify` made.

    Of phrases that begin at the same place the one with most words is tried first. Raises StopIteration for a phrase whose
    words may all be left out.
    """
    ordered = sorted(phrases, key=lambda phrase: -len(phrase.split()))
    if not ordered:
        return NOTHING
    return re.compile(rf"(?<!\S)(?:{'|'.join(_phrase(each) for each in ordered)})")


def _phrase(phrase: str) -> str:
    """One phrase. Words up to the first that must be there take the space behind them along, later ones that before."""
    words = phrase.split()
    first = next(place for place, word in enumerate(words) if "_" not in word.split("/") and word != _ANY)
    before = [_GAP_BEFORE if word == _ANY else f"(?:{_alternatives(word)} )?" for word in words[:first]]
    after = [
        _GAP_AFTER if word == _ANY else f"(?: {_alternatives(word)}){_optional(word)}" for word in words[first + 1 :]
    ]
    return "".join([*before, _alternatives(words[first]), *after])


def _optional(word: str) -> str:
    return "?" if "_" in word.split("/") else ""


def _alternatives(word: str) -> str:
    each = (re.escape(part).replace(r"\*", r"\w*") for part in word.split("/") if part != "_")
    return rf"(?:{'|'.join(each)})(?!\S)"

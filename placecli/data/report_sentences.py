"""Sentences of a radiology report: a splitter made for clinical text, and MGCA's for comparison with the field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

Splitter = Literal["clinical", "compat"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NEVER_LAST: Final = _words("dr drs mr mrs ms prof vs e.g i.e eg ie approx st cf")
"""Abbreviations that never end a sentence."""

SELDOM_LAST: Final = _words(
    "a.m p.m am pm cm mm m in ft ml cc kg mg g lb lbs hr hrs min mins sec yr yrs wk wks mo mos etc al no fig resp esp "
    "est incl lat ant post bilat rt lt diam temp pt pts hx jr sr m.d ph.d r.n d.o b.i.d"
)
"""Abbreviations and units that end a sentence only where the next word starts with a capital or a list item follows."""

NUMBER_FOLLOWS: Final = _words(
    "a an and approximately are about at by from grade in is level measure measured measures measuring number of on or "
    "over rib ribs segment stage than the through to type under was were with x zone"
)
"""Words after which a number belongs to the sentence and does not open a list item."""

CLOSING: Final = _words("clear intact limits negative normal stable unchanged unremarkable")
"""Words that a size never follows, so that a stop behind them ends the sentence even before ".2 cm"."""

DOMAINS: Final = _words("com org edu net gov pdf txt dcm jpg png html htm")

_MARKER: Final = (
    r"(?:\(?[0-9]{1,2}(?:\.\)?|\))\s*(?=[^\W\d_]|[(\[\"'\u201c\u2018])"
    r"|\(?[0-9]{1,2}(?:\.\)?|\))(?:\s+|$)"
    r"|[-*\u2022\u00b7]+(?:\s+|$))"
)
_MARKERS_AT_START: Final = re.compile(rf"(?:\s*{_MARKER})+")
_ITEM_NUMBER: Final = re.compile(r"(?<!\S)\(?(?P<number>[0-9]{1,2})(?:\.\)?|\))(?=(?P<spaced>\s+)\S|[^\W\d_])")
_BULLET: Final = re.compile(r"\n[ \t]*(?=[-*\u2022\u00b7]+\s)")
_PARAGRAPH: Final = re.compile(r"\n\s*\n")
_STOP: Final = re.compile(r"(?P<stop>[.?!\u2026]+)(?P<close>[\"'\u201d\u2019)\]>]*)(?P<gap>\s*)")
_LAST_WORD: Final = re.compile(r"[^\s(\[\"'\u201c:;,/]*\Z")
_CONTENT: Final = re.compile(r"[^\W_]+")
_MASK: Final = re.compile(r"X{2,}\Z")
_SECOND_ITEM: Final = re.compile(r"\s2(?:\.\)?|\))\s+[A-Z]")
_WINDOW: Final = 200
"""Characters looked at on either side of a possible boundary, so that the time stays linear in the text."""

_ITEM_WINDOW: Final = 2000
"""Characters in which the second item of a list has to follow the first."""

_DOUBLED_STOP: Final = re.compile(r"(?<=[\w)\]][.?!])\.(?![.?!\u2026/\\\d])")
"""A full stop too many: "pneumothorax..", "Pneumonia?."; not "...", "../", or one that stands alone."""

_GLUED_ITEM: Final = re.compile(r"(?<=[^\W\d]{2}\.)(?=[0-9]{1,2}(?:\.\)?|\))\s*[A-Z])")
"""Where the space before a list item was forgotten: "Stable.|1.Clear"."""

_CAPITALS: Final = re.compile(r"(?:[A-Z]{2,}|___|A)\s")
"""What opens a sentence in capitals: "CT scan", "XXXX seen", "A nodule"; a file's ending is followed by a stop."""

_TIMES: Final = r"(?:\s*[x\u00d7]\s*[0-9.]{1,5}){0,2}[\s-]?"
_SIZE: Final = re.compile(rf"(?:[0-9]{{1,3}}\.[0-9]{{1,2}}|[0-9]{{2,3}}){_TIMES}[cm]m\b|[0-9]{{1,3}}{_TIMES}mm\b")
"""A size that a stop is no part of: "12 mm", "2.5 x 3 cm"; ".5 cm" is half a centimetre, whose zero was left out."""
_ONE_DIGIT_SIZE: Final = re.compile(rf"[0-9]{_TIMES}cm\b")

_DOTTED: Final = re.compile(r"(?:[a-z]\.)+[a-z]")
"""Single letters between stops, such as "q.i.d": an abbreviation whether listed or not."""

_NEXT_NUMBER: Final = re.compile(r"[0-9]{1,2}(?:\.\)?|\))\s*[A-Z]")


def split_sentences(text: str, splitter: Splitter = "clinical") -> tuple[str, ...]:
    """The sentences of `text` in order, white space collapsed.

    "clinical" keeps numbers, units, times, abbreviations, initials, `___` and `XXXX` whole, takes list markers away
    and keeps every other word; a sentence without a word is dropped. "compat" is MGCA's: cut at every `[0-9]+\\.`
    and every ".", lower-case ASCII words only, pieces of one word dropped, so that "1.5 cm" loses its number.
    Never raises.
    """
    return tuple(_split_compat(text)) if splitter == "compat" else tuple(_split_clinical(text))


def _split_compat(text: str) -> Iterator[str]:
    for part in re.split(r"[0-9]+\.", text.replace("\n", " ")):
        for piece in part.split("."):
            words = re.findall(r"\w+", piece.replace("\ufffd\ufffd", " ").lower())
            if len(words) <= 1:
                continue
            ascii_words = [word.encode("ascii", "ignore").decode("ascii") for word in words]
            if any(ascii_words):
                yield " ".join(word for word in ascii_words if word)


def _split_clinical(text: str) -> Iterator[str]:
    held = ""  # a fragment that ends in a colon introduces the next one
    text = _GLUED_ITEM.sub(" ", _DOUBLED_STOP.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    for block in _PARAGRAPH.split(_expose_items(text)):
        for sentence in _cut(" ".join(block.split())):
            if not _has_content(sentence):
                continue
            held = f"{held} {sentence}" if held else sentence
            if not sentence.endswith(":"):
                yield held
                held = ""
    if held:
        yield held


def _has_content(sentence: str) -> bool:
    """Whether a word is left when punctuation and the marks of de-identification (`___`, `XXXX`) are not counted."""
    return any(not _MASK.match(word) for word in _CONTENT.findall(sentence))


def _expose_items(text: str) -> str:
    """`text` with a blank line before every list item; a number that a line break split off is joined again."""
    last = 0
    pieces, position = [], 0
    for match in _ITEM_NUMBER.finditer(text):
        before = text[max(position, match.start() - _WINDOW) : match.start()]
        gap = before[len(before.rstrip()) :]
        if _opens_item(match, before.rstrip(), gap, last):
            separator, last = "\n\n", int(match["number"])
        elif "\n" in gap:
            separator = " "
        else:
            continue
        pieces += [text[position : match.start() - len(gap)], separator]
        position = match.start()
    pieces.append(text[position:])
    return _BULLET.sub("\n\n", "".join(pieces))


def _opens_item(match: re.Match[str], before: str, gap: str, last: int) -> bool:
    """Whether a number opens a list item: after a stop, or as the next of a list that has begun."""
    if not before or _PARAGRAPH.search(gap):
        return True
    word = before.split()[-1].rstrip("\"')]")
    if word[-1:] in (".", "?", "!", ":", ";", "\u2026"):
        return _abbreviation(word[:-1].lower()) is None
    if word.lower() in NUMBER_FOLLOWS:
        return False
    start = match.end("spaced") if match["spaced"] else match.end()
    rest = match.string[start : start + _ITEM_WINDOW]
    is_aside = before.rfind("(") > before.rfind(")")
    if is_aside or ("\n" not in gap and not rest[:1].isupper()):
        return False
    if last or int(match["number"]) != 1:
        return int(match["number"]) == last + 1 and (bool(match["spaced"]) or _is_capitalized(rest))
    return bool(match["spaced"]) and ("\n" in gap or bool(_SECOND_ITEM.search(rest)))


def _abbreviation(word: str) -> frozenset[str] | None:
    word = word.lstrip("([\"'")
    listed = next((known for known in (NEVER_LAST, SELDOM_LAST) if word in known), None)
    return SELDOM_LAST if listed is None and _DOTTED.fullmatch(word) else listed


def _cut(line: str) -> Iterator[str]:
    """The sentences of a paragraph without the list markers that open them."""
    start = _after_markers(line, 0)
    for match in _STOP.finditer(line):
        if match.start() < start or match.end() == len(line):
            continue
        head = line[max(start, match.start() - _WINDOW) : match.start()]
        if _ends_sentence(head, match, line[match.end() : match.end() + _WINDOW]):
            yield line[start : match.end("close")].strip()
            start = _after_markers(line, match.end("close"))
    yield line[start:].strip()


def _after_markers(line: str, start: int) -> int:
    match = _MARKERS_AT_START.match(line, start)
    return start if match is None else match.end()


def _ends_sentence(head: str, match: re.Match[str], rest: str) -> bool:
    """Whether the stop between `head` (the sentence so far, or its end) and `rest` ends a sentence."""
    following = rest.lstrip("\"'\u201c([")
    first = following[:1]
    if _inside_parenthesis(head + match["stop"] + match["close"], rest):
        return False
    if not match["gap"]:
        return not match["close"] and _lacks_space(head, match["stop"], following)
    if match["stop"] in ("?", "!", "\u2026") or match["stop"].startswith("..."):
        return not first.islower()
    word = _last_word(head)
    if match["stop"] != "." or match["close"]:
        return _abbreviation(word.lower()) is None
    if _is_initial(head, word, following) or _abbreviation(word.lower()) is NEVER_LAST:
        return False
    if _abbreviation(word.lower()) is SELDOM_LAST or word[-1:].isdigit():
        return first.isupper() or bool(_NEXT_NUMBER.match(following)) or (word[-1:].isdigit() and first.islower())
    return True


def _lacks_space(head: str, stop: str, following: str) -> bool:
    """Whether a space was forgotten after the stop: "are clear.No effusion", "SVC.Left", "cm.No", "normal.2 cm nodule".

    Not "1.5", "e.g.", "T1.2", "www.site.org", "IMG.dcm", "A.Smith", "measuring.5 cm".
    """
    word = _last_word(head)
    if set(stop) != {"."} or "@" in word:
        return False
    kind = _abbreviation(word.lower())
    if kind is not None:
        return kind is SELDOM_LAST and len(word) > 1 and _is_capitalized(following)
    if "." in word:
        return False
    word = word.rpartition("-")[2]
    if _precedes_size(word, following):
        return True
    if _MASK.match(word) or word.endswith("__") or (word.isalpha() and word.islower() and len(word) > 1):
        return _is_capitalized(following) or (
            len(word) > 3 and (_is_plain_word(following) or bool(_CAPITALS.match(following)))
        )
    if word.isalpha() and len(word) > 1 and (word.isupper() or (len(word) > 3 and word[1:].islower())):
        return _is_capitalized(following)
    return stop == "." and word[-1:].isdigit() and _is_capitalized(following)


def _precedes_size(word: str, following: str) -> bool:
    """Whether `word` ends a sentence and a size opens the next one; a masked word may be a number, "XXXX.2 cm"."""
    if len(word) <= 3 or not (word.isalpha() and word[1:].islower()) or word.lower() in NUMBER_FOLLOWS:
        return False
    return bool(_SIZE.match(following)) or (word.lower() in CLOSING and bool(_ONE_DIGIT_SIZE.match(following)))


def _is_plain_word(text: str) -> bool:
    """Whether `text` begins with two letters or more, lower-case from the second, no ending of a file or a site."""
    word = (_CONTENT.match(text) or [""])[0]
    return word.isalpha() and word[1:].islower() and word.lower() not in DOMAINS


def _is_capitalized(text: str) -> bool:
    return _is_capital(text) and _is_plain_word(text)


def _is_capital(text: str) -> bool:
    return text[:1].isupper()


def _last_word(head: str) -> str:
    match = _LAST_WORD.search(head)
    return match[0] if match else ""


def _is_initial(head: str, word: str, following: str) -> bool:
    """Whether a single capital before the stop stands for a name: at the start, or beside a title or an initial."""
    if not re.fullmatch("[A-Z]", word):
        return False
    if re.match(r"[A-Z]\.(?:\s|$)", following):
        return True
    before = head[: len(head) - 1].rstrip()
    if not before or before.endswith(":"):
        return True
    previous = before.split()[-2:]
    return any(item.lower().rstrip(".") in NEVER_LAST - {"vs"} for item in previous) or bool(
        re.fullmatch(r"[A-Z]\.", previous[-1])
    )


def _inside_parenthesis(head: str, rest: str) -> bool:
    """Whether an open "(" of the sentence so far is closed within the next 80 characters."""
    if head.count("(") <= head.count(")"):
        return False
    closing, opening = rest[:80].find(")"), rest[:80].find("(")
    return closing != -1 and (opening == -1 or closing < opening)

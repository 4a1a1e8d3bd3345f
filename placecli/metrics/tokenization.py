"""Words of a report as the field's text scores count them: a pure-Python stand-in for Stanford's PTBTokenizer.

BLEU, ROUGE-L and CIDEr in pycocoevalcap are taken after PTBTokenizer 3.4.1 (Java), lower-cased, without punctuation. `tokenize`
gives the same words; docs/metrics.md says on how much text that was checked. At each place the longest match of a
few patterns is taken, as a lexer does. What is left out on purpose: emoticons, rare SGML entities, signs of currency.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# Dropped after tokenization. Brackets stay, as "-lrb-" and so on: the reference drops only their upper-case forms,
# which lower-casing has removed.
_DROPPED: Final = re.compile(r"''|``|[\"'`.?!,:;]|-+|\.{3,}")
_BRACKETS: Final = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SPLIT_WORDS: Final = {
    "cannot": ("can", "not"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "wanna": ("wan", "na"),
    "lemme": ("lem", "me"),
    "gimme": ("gim", "me"),
}
# Words that keep their period, as found by asking the reference about 72,000 words in 18 contexts.
_ABBREVIATIONS: Final = (
    "adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd bldg blvd brig bros calif "
    "capt cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr drs ens esq est etc ext feb fla fri "
    "ft ga gen gov govs hon inc ind insp intl jan jos jr jul jun kan kans ky lieut lt ltd maj mar md messrs mich minn "
    "mlle mme mo mon mont mr mrs ms msgr mt neb nev nov oct okla penn pfc ph plc pres prof profs pvt rd rep reps rev "
    "rt sen sens sep sept seq sfc sgt spc sq sr st ste supt supts sys tel tenn thu thurs tue tues univ va vs vt wed wis "
    "wisc wm wyo [a-z]"
)
_CAPITAL_ABBREVIATIONS: Final = "ark az del ill la mass miss ore pa tex wash"
_BEFORE_DIGITS: Final = "art ca figs? nos? op pp prop"


def _any_of(words: str) -> str:
    return "(?:" + "|".join(words.split()) + ")"


_LETTER: Final = r"[^\W\d_]"
_WORD: Final = rf"{_LETTER}[^\W_]*(?:[.!?]{_LETTER}[^\W_]*)*"
_PATTERNS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"https?://[^\s\"<>|()]+",
        r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
        r"</?[A-Za-z][\w-]*(?:\s+[\w=\"'-]+)*\s*/?>",
        # Numbers: 1.5 and 10:30, and with a separator in front as in a list of codes ",786.2".
        r"[-+]?(?:\d*(?:[.,:]\d+)+|\d+)",
        # Words and what hangs together: x-ray, and/or, T12-L1, 2-3-2010, and "normal.Heart" where a space is missing.
        rf"{_WORD}",
        rf"(?:{_WORD}|[^\W_]+)(?:\.?-|[_/])[^\W_]+(?:[-_/][^\W_]+)*",
        r"[^\W_]+",
        r"[A-Z]+(?:[&+][A-Z]+)+",
        r"(?:[A-HJ-XZdno]'[A-Za-z]{2,}|(?i:y'(?=all)))",
        # A period that belongs to its word: acronyms, abbreviations, and any word before a comma.
        r"[A-Za-z](?:\.[A-Za-z])+\.",
        rf"(?i:{_any_of(_ABBREVIATIONS)})\.",
        rf"{_any_of(' '.join(f'(?:{w.capitalize()}|{w.upper()})' for w in _CAPITAL_ABBREVIATIONS.split()))}\.",
        rf"(?i:{_any_of(_BEFORE_DIGITS)})\.(?=\s?\d)",
        rf"(?:{_WORD}|[^\W_]+)\.(?=[,;:])",
        # Endings that are split off, and what is left of signs.
        r"(?i:'(?:s|re|ve|ll|d|m))(?![^\W_])",
        r"'\d\ds",
        r"#[A-Za-z]\w*|@[A-Za-z]\w*",
        r"--+|\.\.\.+|''|``|[!?]{2,}|_+|\*+",
        r"[^\s]",
    )
)
# Typographic signs as the reference writes them: quotes, dashes, ellipsis, no-break space and fractions.
_PLAIN: Final = str.maketrans(
    {
        "\u2019": "'",
        "\u2018": "`",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "--",
        "\u2014": "--",
        "\u2026": "...",
        "\u00a0": " ",
        "\u00bd": " 1/2",
        "\u00bc": " 1/4",
        "\u00be": " 3/4",
        "\u2153": " 1/3",
        "\u2154": " 2/3",
    }
)
_ENTITIES: Final = {"&lt;": "<", "&gt;": ">", "&amp;": "&", "&nbsp;": " "}


def tokenize(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation; an empty text has none."""
    return [word for word in _words(text.translate(_PLAIN)) if not _DROPPED.fullmatch(word)]


def split_words(text: str) -> list[str]:
    """The words as the field's report generation code (R2Gen) scores them: split at spaces, each full stop a word.

    For `compat`, on text that its cleaner has lower-cased and spaced; PTBTokenizer plays no part there.
    """
    return text.split()


def _words(text: str) -> Iterator[str]:
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        found = max((match.group() for p in _PATTERNS if (match := p.match(text, place))), key=len)
        # don't -> do n't: the word pattern ends before the apostrophe.
        rest = text[place + len(found) : place + len(found) + 2]
        if found[-1:] in "nN" and rest.lower() == "'t" and found.isalpha():
            yield from filter(None, (found[:-1].lower(), "n't"))
            place += len(found) + 2
            continue
        place += len(found)
        lower = found.lower().replace(" ", "\xa0")
        yield from _SPLIT_WORDS.get(lower, (_BRACKETS.get(lower, lower),))

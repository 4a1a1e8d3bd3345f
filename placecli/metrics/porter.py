"""The stemmer of Porter 1980, "An algorithm for suffix stripping", as published, for the stem stage of METEOR."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

# Steps 2 to 4: suffix -> replacement; the longest suffix that fits is the one that counts, whether or not it may go.
_STEP_2: Final = {
    **dict.fromkeys(["ational", "ation", "ator"], "ate"),
    **dict.fromkeys(["tional"], "tion"),
    **dict.fromkeys(["enci"], "ence"),
    **dict.fromkeys(["anci"], "ance"),
    **dict.fromkeys(["izer", "ization"], "ize"),
    **dict.fromkeys(["abli"], "able"),
    **dict.fromkeys(["alli", "alism", "aliti"], "al"),
    **dict.fromkeys(["entli"], "ent"),
    **dict.fromkeys(["eli"], "e"),
    **dict.fromkeys(["ousli", "ousness"], "ous"),
    **dict.fromkeys(["iveness", "iviti"], "ive"),
    **dict.fromkeys(["fulness"], "ful"),
    **dict.fromkeys(["biliti"], "ble"),
}
_STEP_3: Final = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4: Final = dict.fromkeys(
    [
        *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment"),
        *("ent", "ion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"),
    ],
    "",
)


@lru_cache(maxsize=100_000)
def stem(word: str) -> str:
    """The stem of a lower-case word; words of one or two letters stay, as in the author's own program."""
    if len(word) <= 2:
        return word
    word = _step_1(word)
    word = _strip(word, _STEP_2, 0)
    word = _strip(word, _STEP_3, 0)
    word = _strip(word, _STEP_4, 1)
    if word.endswith("e"):
        rest = word[:-1]
        if _measure(rest) > 1 or (_measure(rest) == 1 and not _ends_short(rest)):
            word = rest
    return word[:-1] if word.endswith("ll") and _measure(word) > 1 else word


def _step_1(word: str) -> str:
    """Plurals, -ed, -ing, and a final y after a vowel."""
    if word.endswith(("sses", "ies")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if word.endswith("eed"):
        word = word[:-1] if _measure(word[:-3]) > 0 else word
    else:
        ending = next((e for e in ("ed", "ing") if word.endswith(e) and _has_vowel(word[: -len(e)])), "")
        if ending:
            word = _repair(word[: -len(ending)])
    return word[:-1] + "i" if word.endswith("y") and _has_vowel(word[:-1]) else word


def _repair(word: str) -> str:
    """What is left after -ed or -ing went: give back an e, or drop one of two equal consonants."""
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if len(word) > 1 and word[-1] == word[-2] and _shape(word)[-1] == "c" and word[-1] not in "lsz":
        return word[:-1]
    return word + "e" if _measure(word) == 1 and _ends_short(word) else word


def _strip(word: str, suffixes: dict[str, str], above: int) -> str:
    """The word with its longest listed suffix replaced, if what stands before it has a measure above `above`."""
    suffix = max((s for s in suffixes if word.endswith(s)), key=len, default="")
    rest = word[: len(word) - len(suffix)]
    if not suffix or _measure(rest) <= above or (suffix == "ion" and not rest.endswith(("s", "t"))):
        return word
    return rest + suffixes[suffix]


def _shape(word: str) -> str:
    """One letter for each: v for a vowel, c for a consonant; y is a vowel after a consonant."""
    shape = ""
    for letter in word:
        shape += "v" if letter in "aeiou" or (letter == "y" and shape.endswith("c")) else "c"
    return shape


def _measure(word: str) -> int:
    """m in [C](VC)^m[V]: how often vowels are followed by consonants."""
    return len(re.findall("v+c", _shape(word)))


def _has_vowel(word: str) -> bool:
    return "v" in _shape(word)


def _ends_short(word: str) -> bool:
    """Ends consonant, vowel, consonant, and the last is not w, x or y."""
    return _shape(word).endswith("cvc") and word[-1] not in "wxy"

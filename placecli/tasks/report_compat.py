"""R2Gen's words: its cleaning of reports byte for byte, its vocabulary, and the references that its scores are against.

Written from what its tokenizer does, oddities included, because published scores are of references so cleaned:

- the class of characters that are dropped holds a range from ":" to "[", hence "<=>@" vanish and hyphens stay;
- "1. " is dropped wherever it stands, also inside "T11. ";
- a sentence that is left empty stays, as a stray stop;
- a reference is cut at 60 (IU X-Ray) or 100 (MIMIC-CXR) tokens, one of them the start, and rare words become "<unk>".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, Literal

Source = Literal["iu-xray", "mimic"]

UNKNOWN: Final = "<unk>"
MIN_COUNT: Final[dict[Source, int]] = {"iu-xray": 3, "mimic": 10}
MAX_TOKENS: Final[dict[Source, int]] = {"iu-xray": 60, "mimic": 100}
"""R2Gen's settings for each set: what published scores are of, whatever a model of ours is trained with."""

_DROPPED: Final = re.compile(r"[.,?;*!%^&_+():-\[\]{}]")
_QUOTES: Final = str.maketrans("", "", "\"/\\'")
_ITEMS: Final = (
    ("1. ", ""),
    *((f". {number}. ", ". ") for number in (2, 3, 4, 5)),
    *((f" {number}. ", ". ") for number in (2, 3, 4, 5)),
)
_PASSES: Final[dict[Source, tuple[tuple[str, str, int], ...]]] = {
    "iu-xray": (("..", ".", 3),),
    "mimic": (("\n", " ", 1), ("__", "_", 7), ("  ", " ", 6), ("..", ".", 8)),
}
"""What each set's cleaner halves and how often: a longer run is not wholly gone."""


def clean(report: str, source: Source) -> str:
    """The cleaned report: lower-case sentences joined by " . ", with a stop at the end."""
    for old, new, times in _PASSES[source]:
        for _ in range(times):
            report = report.replace(old, new)
    for old, new in _ITEMS:
        report = report.replace(old, new)
    sentences = report.strip().lower().split(". ")
    return " . ".join(_DROPPED.sub("", each.translate(_QUOTES).strip().lower()) for each in sentences) + " ."


def count_words(reports: Iterable[str], source: Source, min_count: int) -> tuple[str, ...]:
    """The vocabulary: words of at least `min_count` occurrences in cleaned reports, and "<unk>", sorted."""
    counts = Counter(word for report in reports for word in clean(report, source).split())
    return tuple(sorted([*(word for word, count in counts.items() if count >= min_count), UNKNOWN]))


def reference_words(report: str, source: Source, vocabulary: Collection[str], max_tokens: int) -> list[str]:
    """The reference that R2Gen scores against: the first `max_tokens` - 1 words, those not in the vocabulary "<unk>"."""
    words = clean(report, source).split()[: max_tokens - 1]
    return [word if word in vocabulary else UNKNOWN for word in words]

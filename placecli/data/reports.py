"""Free-text reports -> sections -> the sentences that the model reads, and keys that say which texts are equal."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from placecli.data.report_sections import parse_loose_sections, parse_sections
from placecli.data.report_sentences import Splitter, split_sentences
from placecli.records import Report

__all__ = [
    "build_report",
    "normalize_sentence",
    "parse_loose_sections",
    "parse_sections",
    "split_sentences",
    "text_key",
]

FALLBACK_SECTIONS: tuple[Literal["last_paragraph", "full report"], ...] = ("last_paragraph", "full report")


def build_report(sections: Mapping[str, str], order: Sequence[str], splitter: Splitter = "clinical") -> Report:
    """The Report whose sentences are those of the sections named in `order`, in that order.

    "clinical" reads "last_paragraph", else "full report", where none of `order` holds text, and keeps it as the
    findings. "compat" joins the sections by a space before splitting and has no such fallback, as MGCA does.
    No text gives a Report without sentences.
    """
    findings, impression = sections.get("findings", ""), sections.get("impression", "")
    texts = [sections[name] for name in order if sections.get(name, "").strip()]
    if splitter == "compat":
        sentences = split_sentences(" ".join(texts), "compat")
        return Report(_one_line(findings), _one_line(impression), sentences)
    if not texts:
        texts = [sections[name] for name in FALLBACK_SECTIONS if sections.get(name, "").strip()][:1]
        findings = findings or "".join(texts)
    sentences = tuple(sentence for text in texts for sentence in split_sentences(text))
    return Report(_one_line(findings), _one_line(impression), sentences)


def normalize_sentence(text: str) -> str:
    """The letters and digits of a sentence, case-folded, one space between runs: equal texts count as equal."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"[^\W_]+", folded))


def text_key(report: Report | Iterable[str]) -> str:
    """16 hexadecimal digits of SHA-256 over the set of normalized sentences.

    Two reports that differ in order, case, punctuation or repetition of their sentences have one key.
    """
    sentences = report.sentences if isinstance(report, Report) else report
    normalized = sorted({normalize_sentence(sentence) for sentence in sentences} - {""})
    return hashlib.sha256("\n".join(normalized).encode()).hexdigest()[:16]


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""A report as the labeler reads it: sections, simplified sentences, clauses."""

from __future__ import annotations

import re
from typing import Final

from placecli.metrics.clinical import cues
from placecli.metrics.clinical.patterns import compile_phrases

_HEADING_OF_QUESTION: Final = (
    r"indications?|history|clinical (?:history|information|indication|data)|reason for (?:exam|examination|study)|technique|"
    r"comparisons?|exam(?:ination)?|procedure"
)
_HEADING_OF_ANSWER: Final = (
    r"findings(?: and impression)?|impressions?|conclusions?|report|interpretation|recommendations?"
)
_ASIDE: Final = re.compile(
    rf"(?:^|(?<=[\n.]))[ \t]*(?:{_HEADING_OF_QUESTION})[ \t]*:"
    rf"(?:.{{0,2000}}?(?=\b(?:{_HEADING_OF_ANSWER})[ \t]*:)|.{{0,2000}}?(?=\n[ \t]*\n)|[^.\n]*)",
    re.IGNORECASE | re.DOTALL,
)
"""A section that holds the question and not what was seen, up to the findings, a blank line or the end of its sentence."""

_HEADING: Final = re.compile(rf"\b(?:{_HEADING_OF_ANSWER})[ \t]*:", re.IGNORECASE)
_ABBREVIATION: Final = re.compile(r"\b(dr|mr|mrs|ms|vs|e\.g|i\.e|approx|st|cf|etc)\.", re.IGNORECASE)
_BOUNDARY: Final = re.compile(
    r"\.{2,}|(?<=[A-Za-z_\])%])\.(?=\s*[A-Za-z_(\[0-9]|\s*$)|\.(?=\s|$)|[!\n\u2022]|(?<=\w\?)(?=\s+[A-Z]|\s*$)"
)
_TOKEN: Final = re.compile(r"[^\W_]+(?:\.\d+)?|[,;:?]")
_LONGEST: Final = 120
"""Words of a sentence; a longer one is a list or has lost its stops."""
_MASKS: Final = re.compile(r"\bX{2,}\b|_{2,}")

SPELLINGS: Final = {
    "atalectasis": "atelectasis",
    "atelectisis": "atelectasis",
    "atlectasis": "atelectasis",
    "cardiomegally": "cardiomegaly",
    "caridomegaly": "cardiomegaly",
    "cardiomeagly": "cardiomegaly",
    "effussion": "effusion",
    "effussions": "effusions",
    "efusion": "effusion",
    "efffusion": "effusion",
    "pnuemonia": "pneumonia",
    "pneumonai": "pneumonia",
    "pnemonia": "pneumonia",
    "pneumothroax": "pneumothorax",
    "pneumothoax": "pneumothorax",
    "pneumothorx": "pneumothorax",
    "pnuemothorax": "pneumothorax",
    "pneumothorces": "pneumothoraces",
    "pnemothorax": "pneumothorax",
    "consoldiation": "consolidation",
    "consolodation": "consolidation",
    "conslidation": "consolidation",
    "opactiy": "opacity",
    "opacites": "opacities",
    "opacitiy": "opacity",
    "infitrate": "infiltrate",
    "infiltate": "infiltrate",
    "mediastinim": "mediastinum",
    "mediastium": "mediastinum",
    "silhoutte": "silhouette",
    "silouhette": "silhouette",
    "silhouete": "silhouette",
    "silhouttes": "silhouettes",
    "cardiomediastianl": "cardiomediastinal",
    "cardiomediastinl": "cardiomediastinal",
    "unremarkeable": "unremarkable",
    "noraml": "normal",
    "nomal": "normal",
    "thickenning": "thickening",
    "fx": "fracture",
    "fxs": "fractures",
    "wo": "without",
}
"""Slips of the pen and short forms, and what they stand for."""


def sentences_of(text: str) -> list[str]:
    """The sentences of what was seen, each simplified (`simplify`); headings and sections of the question left out."""
    seen = _HEADING.sub("\n\n", _ASIDE.sub("\n\n", text.replace("\r", "")))
    # A line break inside a paragraph is a space, one before a list item or an empty line ends a sentence.
    seen = re.sub(r"\n(?![ \t]*(?:\n|[0-9]{1,2}[.)]|[-*\u2022]))", " ", re.sub(r"\n[ \t]*\n", "\n\n", seen))
    seen = _ABBREVIATION.sub(r"\1", seen)
    return [piece for part in _BOUNDARY.split(seen) for piece in _pieces(simplify(part))]


def _pieces(sentence: str) -> list[str]:
    """`sentence` in pieces of at most so many words that the time stays linear in the text; none for an empty one."""
    words = sentence.split()
    return [" ".join(words[first : first + _LONGEST]) for first in range(0, len(words), _LONGEST)]


def simplify(sentence: str) -> str:
    """`sentence` as lower-case words and the signs , ; : with one space between them.

    Hyphens part words, "/" reads "or", brackets read as commas, known misspellings are set right, marks of removed
    words (XXXX, ___) are dropped. A question mark reads "possible", at the end "questioned".
    """
    lowered = _MASKS.sub(" ", sentence).lower()
    lowered = lowered.replace("and/or", "or").replace("w/o", "without").replace("/", " or ")
    lowered = re.sub(r"[()\[\]]", " , ", lowered.replace("'", "").replace("\u2019", ""))
    tokens = [SPELLINGS.get(token, token) for token in _TOKEN.findall(lowered)]
    if tokens and tokens[-1] == "?":
        tokens[-1] = "questioned"
    return " ".join("possible" if token == "?" else token for token in tokens)


_BREAK: Final = re.compile(rf" ?; ?|(?:^| ){compile_phrases(cues.ANOTHER_CLAUSE).pattern}(?: |$)")
_JOINT: Final = re.compile(r" (?:, and|, or|, nor|,|and|or|nor) ")
_PREDICATE: Final = compile_phrases(cues.PREDICATES)
_VERB: Final = compile_phrases((cues.VERBS,))
_DENIAL: Final = compile_phrases(cues.FORWARD["deny"])
_OF_A_LIST: Final = compile_phrases((cues.OF_A_LIST,))
_OPENING: Final = compile_phrases((cues.OPENS_STATEMENT,))


def clauses_of(sentence: str) -> list[str]:
    """`sentence` (simplified) cut where what one part says does not reach the next: "no effusion , heart is large"."""
    return [clause for part in _BREAK.split(sentence) if part for clause in _parted(part)]


def _parted(text: str) -> list[str]:
    """`text` cut before every part after "," or "and" that makes a statement of its own."""
    clauses, start, after_predicate = [], 0, 0
    joints = list(_JOINT.finditer(text))
    ends = [*(joint.start() for joint in joints[1:]), len(text)]
    for joint, end in zip(joints, ends if joints else [], strict=True):
        so_far = text[start : joint.start()]
        part = text[joint.end() : end]
        is_denied = _DENIAL.search(so_far) is not None
        if "or" in joint[0].split() or "nor" in joint[0].split():
            continue
        if _stands_alone(so_far, part, is_denied, text[joint.end() :]):
            cut = joint.start() if is_denied or after_predicate <= start else after_predicate
            clauses.append(text[start:cut].strip(" ,"))
            start = cut
            after_predicate = 0
        elif after_predicate <= start and _PREDICATE.search(so_far):
            after_predicate = joint.start()
    clauses.append(text[start:].strip(" ,"))
    return [clause.removeprefix("and ").strip(" ,") for clause in clauses if clause]


def _stands_alone(so_far: str, part: str, is_denied: bool, rest: str) -> bool:
    """Whether `part` says something of its own rather than going on with the list that ends `so_far`."""
    if is_denied:
        if _OPENING.match(part) and not re.search(r"\b(?:or|nor)\b", rest):
            return True
        return _VERB.search(part) is not None and _OF_A_LIST.search(part) is None
    return _PREDICATE.search(so_far) is not None and _VERB.search(part) is not None

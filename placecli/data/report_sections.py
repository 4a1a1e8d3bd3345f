"""Sections of a free-text radiology report, by the rules that MIMIC-CXR's sectioned reports were made with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

HEADING: Final = re.compile(r"\n ([A-Z ()/,-]+):\s")
"""A heading stands at the start of a line behind a space, in capitals, and ends in a colon and white space."""

PARAGRAPH: Final = "\n \n"
"""A blank line as MIMIC-CXR writes it: every line of a report starts with a space."""

_NAMES_BY_SECTION: Final[Mapping[str, tuple[str, ...]]] = {
    "preamble": ("preamble",),
    # "ndication" belongs to the indication, yet the published rules count it as an impression: kept as they have it.
    "impression": (
        *("impression", "conclusion", "findings and impression", "findings/impression", "findings/ impression"),
        *("ndication", "impresson", "imprression", "imoression", "impressoin", "imprssion", "impresion", "imperssion"),
        *("mpression", "impession"),
    ),
    "findings": (
        *("findings", "finding", "chest, two views", "reference findings", "findins", "findindgs", "findgings"),
        *("findngs", "findnings", "finidngs"),
    ),
    "comparison": (
        *("comparison", "comparisons", "comparison exam", "comparison film", "reference exam", "comparision"),
        *("comparsion", "comparrison", "comparisions"),
    ),
    "indication": ("indication", "reason for examination", "reason for exam", "clinical indication", "idication"),
    "history": ("history", "clinical history", "clinical information", "patient history", "pfi"),
    "examination": ("examination", "exam", "type of examination"),
    "recommendations": ("recommendations", "recommendation", "recommendation(s)"),
    "technique": ("technique",),
    "notification": ("notification",),
    "addendum": ("addendum",),
    "date": ("date",),
    "comment": ("comment",),
    "wet read": ("wet read", "wetread"),
}
SECTION_BY_NAME: Final = {name: section for section, names in _NAMES_BY_SECTION.items() for name in names}

MAIN_SECTIONS: Final = ("impression", "findings", "history", "comparison", "addendum")
"""A name that is in no list but contains one of these words is that section; the first in this order wins."""

TITLES_OF_FINDINGS: Final = re.compile(
    "chest|portable|pa and lateral|lateral and pa|ap and lateral|lateral and ap|frontal and|two views|frontal view|"
    "pa view|ap view|one view|lateral view|bone window|frontal upright|frontal semi-upright|ribs|pa and lat"
)
"""A heading that names the whole examination ("PORTABLE CHEST") stands over its findings."""

_KNOWN_HEADING: Final = re.compile(
    r"^[ \t]*(?P<name>"
    + "|".join(re.escape(name) for name in sorted(SECTION_BY_NAME, key=len, reverse=True) if name != "preamble")
    + r")[ \t]*:[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)


def section_name(heading: str) -> str:
    """The section that a heading stands for: "CONCLUSION" -> "impression"; one not known is only lower-cased."""
    name = heading.lower().strip()
    if name in SECTION_BY_NAME:
        return SECTION_BY_NAME[name]
    for section in MAIN_SECTIONS:
        if section in name:
            return section
    return "findings" if TITLES_OF_FINDINGS.search(name) else name


def parse_sections(text: str) -> dict[str, str]:
    """Lower-case section name -> stripped text, by MIMIC-CXR's published rules with their oddities.

    Text before the first heading is "preamble"; text without any heading is "full report". After a heading
    the search goes on past the next line end, so a heading in the line after it is not seen when the first
    one's own line is empty. Empty findings and impressions are dropped; if neither is left, what follows the
    first blank line of the last section becomes "last_paragraph". Of a section that occurs twice the last counts.
    """
    names, texts = _cut_at_headings(text.replace("\r\n", "\n").replace("\r", "\n"))
    kept = [
        (name, body)
        for name, body in zip(names, texts, strict=True)
        if name not in ("impression", "findings") or body.strip()
    ]
    present = {name for name, _ in kept}
    if not present & {"impression", "findings"} and PARAGRAPH in kept[-1][1]:
        name, body = kept[-1]
        first, _, rest = body.partition(PARAGRAPH)
        kept[-1:] = [(name, first), ("last_paragraph", rest)]
    return {name: body.strip() for name, body in kept}


def parse_loose_sections(text: str) -> dict[str, str]:
    """Sections of a report from anywhere: MIMIC-CXR's rules, else known headings at a line's start in any case.

    Without any heading that is known, the whole text is "full report".
    """
    sections = parse_sections(text)
    if "findings" in sections or "impression" in sections:
        return sections
    headings = list(_KNOWN_HEADING.finditer(text))
    if not headings:
        return {"full report": text.strip()}
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    loose = {"preamble": text[: headings[0].start()].strip()}
    for heading, end in zip(headings, ends, strict=True):
        body = text[heading.end() : end].strip()
        if body:
            loose[section_name(heading["name"])] = body
    return {name: body for name, body in loose.items() if body}


def _cut_at_headings(text: str) -> tuple[list[str], list[str]]:
    heading = HEADING.search(text)
    if heading is None:
        return ["full report"], [text]
    names, texts = ["preamble"], [text[: heading.start(1)]]
    while heading is not None:
        start = heading.end()
        next_line = text.find("\n", start)
        following = HEADING.search(text, start if next_line == -1 else next_line)
        names.append(section_name(heading[1]))
        texts.append(text[start : len(text) if following is None else following.start()])
        heading = following
    return names, texts

"""The 54 MIMIC-CXR reports whose text the general rules do not find, as MIT-LCP/mimic-cxr (MIT licence) lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from placecli.data.reports import parse_sections

_STUDIES_BY_SECTION: Final = {
    "recommendations": "s50913680 s59768032 s59067458 s59087630 s58157373 s56482935 s58375018",
    "examination": "s59363654 s53356173 s50743547 s59215320 s55157853",
    "technique": "s59279892 s53202765 s50808053",
    "indication": "s57936451 s50058765 s51966317 s55124749 s54365831 s54654948",
    "note": "s56451190",
    "history": "s51491012",
}
SECTION_OF_STUDY: Final = {
    study: section for section, studies in _STUDIES_BY_SECTION.items() for study in studies.split()
}
"""Study -> the section under whose name its findings stand."""

_SLICES: Final = """
    s50525523 201 349, s57564132 233 554, s59982525 313 717, s53488209 149 475, s54875119 234 988,
    s50196495 59 399, s56579911 59 218, s52648681 292 631, s59889364 172 453, s53514462 73 377,
    s59505494 59 450, s53182247 59 412, s51410602 47 320, s56412866 522 822, s54986978 59 306,
    s59003148 262 505, s57150433 61 394, s56760320 219 457, s59562049 158 348, s52674888 145 296,
    s55258338 192 568, s59330497 140 655, s52119491 179 454
"""
_WITHOUT_FINDINGS: Final = "s58235663 s50798377 s54168089 s53071062 s56724958 s54231141 s53607029 s52035334"

SLICE_OF_STUDY: Final[dict[str, tuple[int, int]]] = {
    **{study: (int(first), int(end)) for study, first, end in (item.split() for item in _SLICES.split(","))},
    **dict.fromkeys(_WITHOUT_FINDINGS.split(), (0, 0)),
}
"""Study -> (first, end) characters of its report that are the findings."""


def sections_by_hand(study: str, report_path: Path) -> dict[str, str] | None:
    """{"findings": text} of a listed study ({} if it has none), read from its report; None for any other study."""
    if study in SLICE_OF_STUDY:
        first, end = SLICE_OF_STUDY[study]
        findings = _read(report_path)[first:end].strip()
    elif study in SECTION_OF_STUDY:
        # A report in which that section is not found is left to the general rules.
        findings = parse_sections(_read(report_path)).get(SECTION_OF_STUDY[study], "")
        if not findings:
            return None
    else:
        return None
    return {"findings": findings} if findings else {}


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")

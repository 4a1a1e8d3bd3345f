"""What the column `finding` of the COVID-19 image data collection says of each name in it: present, absent or open.

The last versions write a path from coarse to fine, "Pneumonia/Viral/COVID-19"; those up to mid-2020 write bare names,
several of them with commas: "COVID-19, ARDS". Names and their order come from the table itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

Path = tuple[str, ...]

NO_FINDING: Final = "No Finding"
PNEUMONIA: Final = "Pneumonia"
"""In a table of bare names: of a kind that is not told."""
NOT_TOLD: Final = ("", "todo", "Unknown")
"""The image was not looked at yet, or nobody knows."""


def parse_finding(text: str) -> tuple[Path, ...] | None:
    """The paths that a cell names, each a tuple from coarse to fine; () where it tells none, None where it is no list of
    names, or "No Finding" has company.
    """
    if text in NOT_TOLD:
        return ()
    paths = tuple(tuple(name.strip() for name in part.split("/")) for part in text.split(","))
    if any(not name for path in paths for name in path):
        return None
    return None if (NO_FINDING,) in paths and len(paths) > 1 else paths


def known_paths(findings: Iterable[tuple[Path, ...]]) -> frozenset[Path]:
    """Every path of a table with the coarser ones that it begins with."""
    return frozenset(path[: end + 1] for paths in findings for path in paths for end in range(len(path)))


def labels_of(paths: tuple[Path, ...], known: frozenset[Path]) -> dict[str, float]:
    """Label -> 1.0 for each name on one of the paths, -1.0 (uncertain) for one that they leave open, 0.0 for the others;
    {} without a path.

    Open are the names below a path's end: "Pneumonia" does not say which. Where no path has a second name, nothing says
    what is a pneumonia: then "Pneumonia" leaves every kind open, and a kind leaves "Pneumonia" open.
    """
    if not paths:
        return {}
    present = {name for path in paths for name in path}
    left_open = {path[-1] for path in known for end in paths if len(path) > len(end) and path[: len(end)] == end}
    if all(len(path) == 1 for path in known) and NO_FINDING not in present:
        is_open = PNEUMONIA in present
        left_open |= {path[0] for path in known if path[0] != NO_FINDING} if is_open else {PNEUMONIA}
    names = sorted({path[-1] for path in known})
    return {name: 1.0 if name in present else -1.0 if name in left_open else 0.0 for name in names}

"""The files that each release's reader looks for under its root, for `place preprocess --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from placecli.config import PreprocessConfig

_PATTERNS: Final[Mapping[str, tuple[str, ...]]] = {
    "mimic-cxr": (
        "files/p1?/p1*/s5*",
        "cxr-record-list.csv*",
        "cxr-study-list.csv*",
        "mimic-cxr-*-metadata.csv*",
        "mimic-cxr-*-split.csv*",
        "mimic-cxr-*-chexpert.csv*",
    ),
    "openi": (
        "indiana_reports.csv",
        "indiana_projections.csv",
        "images/images_normalized",
        "NLMCXR_reports.tgz",
        "ecgen-radiology/*.xml",
        "NLMCXR_png",
        "annotation.json",
        "images",
    ),
    "folder": ("**/*",),
    "demo": ("*",),
}


def looked_for(config: PreprocessConfig, root: Path) -> Mapping[str, bool]:
    """Path or pattern -> whether something matches it. Of a release with several layouts one has to be complete."""
    found = {str(root / pattern): any(True for _ in root.glob(pattern)) for pattern in _PATTERNS[config.release]}
    for table in (config.reports, config.labels):
        if table is not None:
            found[str(table)] = table.is_file()
    return found

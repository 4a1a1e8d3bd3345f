"""Synthetic chest radiographs and reports from a seed: no asset, no download, nothing of any patient.

`make_study` is a pure function of its seed; `write_phantoms` writes a folder of them as `releases.demo` reads it.
docs/phantom.md says what is modelled and what is not.
"""

from __future__ import annotations

from placecli.data.phantom_files import write_phantoms
from placecli.data.phantom_findings import LABELS
from placecli.data.phantom_study import Finding, PhantomStudy, make_study

__all__ = ["LABELS", "Finding", "PhantomStudy", "make_study", "write_phantoms"]

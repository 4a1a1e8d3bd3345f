"""What an evaluation page shows, as plain records: html_report.py gathers them, html_report_page.py writes them as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from placecli.tasks.charts import Estimate

Verdict = Literal["", "agrees", "denies", "contradicts", "extra", "missed"]
"""Of a sentence; `denies`: it denies a finding that the other report denies too."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a report, and what a comparison with another report says of it."""

    text: str
    verdict: Verdict = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture, uint8 [H, W] or [H, W, 3], with what it shows in words and a line below."""

    pixels: np.ndarray
    description: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One image: pictures, and texts as (heading, sentences). `ids` is empty where ids are not to be shown."""

    title: str
    pictures: tuple[Shown, ...]
    texts: tuple[tuple[str, tuple[Sentence, ...]], ...] = ()
    ids: str = ""


@dataclass(frozen=True, slots=True)
class Cases:
    """Several images under one heading. With `is_wide` each takes a row of its own, its reports beside its pictures;
    with `is_large` three share a row, and not four."""

    title: str
    note: str
    cases: tuple[Case, ...]
    is_wide: bool = False
    is_large: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A metric: an estimate for each run (None: it has none), what chance gives, and the differences to the first run."""

    name: str
    explanation: str
    estimates: tuple[Estimate | None, ...]
    chance: float | None
    differences: tuple[Estimate | None, ...] = ()
    is_share: bool = True
    """False for a number that may pass 1, such as a rank: it is shown in figures alone."""
    places: int = 3
    """Decimal places that are shown."""


@dataclass(frozen=True, slots=True)
class LabelLine:
    """A label: how many cases have it, of how many, and the metrics of `Part.label_metrics`, each for every run."""

    name: str
    positives: int | None
    n: int
    values: tuple[tuple[Estimate | None, ...], ...]


@dataclass(frozen=True, slots=True)
class Charts:
    """The charts of one label, each an SVG; `values` says for each run what its curves come to."""

    title: str
    note: str
    charts: tuple[str, ...]
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """All of one task. `runs` are the names of the columns, `label_count` says what the second number of a label counts."""

    anchor: str
    title: str
    explanation: str
    counts: str
    runs: tuple[str, ...]
    lines: tuple[Line, ...]
    differences_note: str = ""
    label_metrics: tuple[str, ...] = ()
    label_count: str = ""
    labels: tuple[LabelLine, ...] = ()
    charts_note: str = ""
    charts: tuple[Charts, ...] = ()
    cases: tuple[Cases, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page shows. `facts` are (number, what it counts)."""

    title: str
    lead: str
    banner_title: str
    banner: str
    facts: tuple[tuple[str, str], ...]
    runs: tuple[str, ...]
    protocol: str
    parts: tuple[Part, ...]
    how_to_read: tuple[tuple[str, str], ...]
    footer: str

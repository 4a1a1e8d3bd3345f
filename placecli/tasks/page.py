"""The demo's one page: results in, self-contained HTML out, every picture inside it, nothing loaded from a network."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import Literal

import numpy as np
from PIL import Image

from placecli import __version__
from placecli.tasks.charts import Estimate, Series, interval_chart, line_chart

Verdict = Literal["", "agrees", "contradicts"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One headline number of the trained and the untrained model and of chance, all in 0..1."""

    name: str
    explanation: str
    trained: Estimate
    untrained: Estimate | None
    chance: float | None


@dataclass(frozen=True, slots=True)
class FindingResult:
    """One planted finding on the test split; `pointing` is (hits, cases) of the pointing game."""

    name: str
    num_positive: int
    trained: Estimate
    untrained: Estimate | None
    pointing: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class MarkedSentence:
    """A sentence and whether it agrees with the query image, contradicts it, or neither."""

    text: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RetrievedReport:
    rank: int
    score: float
    study_id: str
    sentences: tuple[MarkedSentence, ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One planted finding: the image with its region outlined, and the image under the heat-map; uint8 [H, W(, 3)]."""

    title: str
    sentence: str
    planted: np.ndarray
    heat: np.ndarray
    is_hit: bool


@dataclass(frozen=True, slots=True)
class PatientResult:
    """One unseen patient: `image` uint8 [H, W], its own report, what was retrieved and where each finding was seen."""

    study_id: str
    image: np.ndarray
    report: tuple[str, ...]
    findings: tuple[str, ...]
    retrieved: tuple[RetrievedReport, ...]
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One chart of training; `reference` is a named level such as chance."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    reference: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """All that the page shows. `steps` are (number, what it counts), `timings` (stage, seconds, remark)."""

    title: str
    lead: str
    banner: str
    steps: tuple[tuple[str, str], ...]
    metrics_note: str
    comparisons: tuple[Comparison, ...]
    findings_note: str
    findings: tuple[FindingResult, ...]
    training_note: str
    curves: tuple[Curve, ...]
    gallery_note: str
    patients: tuple[PatientResult, ...]
    timings: tuple[tuple[str, float, str], ...]
    machine: str
    commands: tuple[tuple[str, str], ...]
    footer: str


def render(page: Page) -> str:
    """The whole page as HTML; every text is escaped, every picture is inside as a data URI."""
    template = Template((resources.files("placecli.tasks") / "page.html").read_text("utf-8"))
    texts = (
        "title",
        "lead",
        "banner",
        "metrics_note",
        "findings_note",
        "training_note",
        "gallery_note",
        "machine",
        "footer",
    )
    return template.substitute(
        {name: escape(getattr(page, name)) for name in texts},
        version=escape(__version__),
        chain="".join(f"<li><b>{escape(number)}</b><span>{escape(what)}</span></li>" for number, what in page.steps),
        comparisons="".join(map(_comparison, page.comparisons)),
        findings="".join(map(_finding, page.findings)),
        curves="".join(map(_curve, page.curves)),
        patients="".join(map(_patient, page.patients)),
        timings="".join(_timings(page.timings)),
        commands="".join(f"<p>{escape(text)}</p><pre>{escape(command)}</pre>" for text, command in page.commands),
    )


def picture(pixels: np.ndarray, description: str) -> str:
    """<img> of uint8 [H, W] or [H, W, 3], embedded as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=88)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = pixels.shape[:2]
    return f'<img width="{width}" height="{height}" alt="{escape(description)}" src="data:image/jpeg;base64,{data}">'


def _comparison(comparison: Comparison) -> str:
    return (
        f"<tr><td>{escape(comparison.name)}<small>{escape(comparison.explanation)}</small></td>"
        f"<td>{interval_chart(comparison.trained, comparison.untrained, comparison.chance)}</td>"
        f'<td class="number">{_estimate(comparison.trained)}</td>'
        f'<td class="number">{_estimate(comparison.untrained)}</td>'
        f'<td class="number">{"" if comparison.chance is None else f"{comparison.chance:.3f}"}</td></tr>'
    )


def _finding(finding: FindingResult) -> str:
    pointing = "" if finding.pointing is None else f"{finding.pointing[0]} of {finding.pointing[1]}"
    return (
        f'<tr><td>{escape(finding.name)}</td><td class="number">{finding.num_positive}</td>'
        f"<td>{interval_chart(finding.trained, finding.untrained, 0.5)}</td>"
        f'<td class="number">{_estimate(finding.trained)}</td><td class="number">{_estimate(finding.untrained)}</td>'
        f'<td class="number">{pointing}</td></tr>'
    )


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "-"
    interval = "" if estimate.low is None or estimate.high is None else f"{estimate.low:.3f} to {estimate.high:.3f}"
    return f"{estimate.value:.3f}<small>{interval}</small>"


def _curve(curve: Curve) -> str:
    chart = line_chart(curve.series, x_label=curve.x_label, y_label=curve.y_label, reference=curve.reference)
    return f"<figure><h3>{escape(curve.title)}</h3>{chart}</figure>"


def _patient(patient: PatientResult) -> str:
    findings = ", ".join(patient.findings) or "no finding"
    hits = "".join(map(_retrieved, patient.retrieved))
    panels = "".join(map(_panel, patient.panels))
    return (
        f'<section class="patient"><div class="layout"><figure>{picture(patient.image, "synthetic radiograph")}'
        f"<figcaption>Study {escape(patient.study_id)}, synthetic. Planted: {escape(findings)}.</figcaption></figure>"
        "<div><h3>Its own report (the model does not see it here)</h3>"
        f'<p class="note">{escape(" ".join(patient.report))}</p>'
        f'<h3 style="margin-top:18px">Reports retrieved for the image</h3><ol class="hits">{hits}</ol></div></div>'
        + (f'<div class="panels">{panels}</div>' if panels else "")
        + "</section>"
    )


def _retrieved(hit: RetrievedReport) -> str:
    sentences = " ".join(
        f'<mark class="{sentence.verdict}">{escape(sentence.text)}</mark>'
        if sentence.verdict
        else escape(sentence.text)
        for sentence in hit.sentences
    )
    place = f'<span class="meta">{hit.rank}. study {escape(hit.study_id)}, score {hit.score:.3f}</span>'
    return f"<li>{place}<p>{sentences}</p></li>"


def _panel(panel: Panel) -> str:
    verdict = '<span class="hit">points inside</span>' if panel.is_hit else '<span class="miss">points outside</span>'
    return (
        f'<figure><h3>{escape(panel.title)}</h3><div class="pair">{picture(panel.planted, "planted region")}'
        f"{picture(panel.heat, 'heat-map')}</div><figcaption>Left: where it was planted. Right: where the model sees "
        f"“{escape(panel.sentence)}” {verdict}</figcaption></figure>"
    )


def _timings(timings: Sequence[tuple[str, float, str]]) -> Iterator[str]:
    for stage, seconds, remark in timings:
        yield (
            f'<tr><td>{escape(stage)}</td><td class="number">{_duration(seconds)}</td>'
            f'<td class="note">{escape(remark)}</td></tr>'
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"

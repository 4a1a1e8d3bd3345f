"""Charts of the evaluation page as inline SVG: curves in a unit square, reliability, intervals in a row, differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from placecli.tasks.charts import LINE_CLASSES, Estimate, Series

SIDE: Final = 190
"""Units of a square chart, of which the axes take some."""
_LEFT: Final = 38
_BOTTOM: Final = 30
_TOP: Final = 8


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram: mean probability, share of positives, and its share of all cases."""

    probability: float
    frequency: float
    weight: float


def square_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    summary: str,
    level: float | None = None,
    diagonal: bool = False,
) -> str:
    """SVG of curves whose both axes run from 0 to 1, drawn as steps of at most one unit; `level` is a dashed height.

    `summary` says in words what is seen, for those who cannot.
    """
    parts = [_frame(x_label, y_label, summary)]
    if diagonal:
        parts.append(f'<line class="reference" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    if level is not None:
        parts.append(f'<line class="reference" x1="{_x(0)}" y1="{_y(level)}" x2="{_x(1)}" y2="{_y(level)}"/>')
    for one, name in zip(series, LINE_CLASSES, strict=False):
        points = list(dict.fromkeys(f"{_x(x)},{_y(y)}" for x, y in zip(one.x, one.y, strict=True)))
        parts.append(f'<polyline class="{name}" points="{" ".join(points)}"/>')
    return "".join([*parts, "</svg>"])


def reliability_chart(runs: Sequence[Sequence[Bin]], summary: str) -> str:
    """SVG of a reliability diagram: a dot for each bin with cases, its area by their number; the diagonal is right."""
    parts = [_frame("probability given", "share present", summary)]
    parts.append(f'<line class="reference" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    for bins, name in zip(runs, LINE_CLASSES, strict=False):
        kept = [each for each in bins if each.weight > 0 and math.isfinite(each.frequency)]
        points = " ".join(f"{_x(each.probability)},{_y(each.frequency)}" for each in kept)
        parts.append(f'<polyline class="{name} thin" points="{points}"/>')
        for each in kept:
            radius = 1.6 + 5 * math.sqrt(each.weight)
            parts.append(
                f'<circle class="dot {name}" cx="{_x(each.probability)}" cy="{_y(each.frequency)}" r="{radius:.1f}"/>'
            )
    return "".join([*parts, "</svg>"])


def interval_rows(estimates: Sequence[Estimate], chance: float | None, names: Sequence[str], width: int = 300) -> str:
    """SVG strip from 0 to 1 with a row for each run: its dot and interval; a tick at chance through all rows."""
    height = 16 * len(estimates) + 10
    said = "; ".join(f"{name} {_said(each)}" for name, each in zip(names, estimates, strict=True))
    said += "" if chance is None else f"; chance {chance:.3f}"
    parts = [f'<svg class="row" width="{width}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">']
    across = _Row(0.0, 1.0, width)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts.append(f'<line class="grid" x1="{across(tick)}" x2="{across(tick)}" y1="2" y2="{height - 2}"/>')
    if chance is not None:
        parts.append(f'<line class="chance" x1="{across(chance)}" x2="{across(chance)}" y1="2" y2="{height - 2}"/>')
    parts += _dots(estimates, across)
    return "".join([*parts, "</svg>"])


def difference_rows(estimates: Sequence[Estimate], reach: float, names: Sequence[str], width: int = 300) -> str:
    """SVG strip from -reach to reach with a row for each run: the difference and its interval; a line at 0."""
    height = 16 * len(estimates) + 10
    said = "; ".join(f"{name} {_said(each, '+.3f')}" for name, each in zip(names, estimates, strict=True))
    parts = [f'<svg class="row" width="{width}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(said)}">']
    across = _Row(-reach, reach, width)
    for tick in (-reach, -reach / 2, reach / 2, reach):
        parts.append(f'<line class="grid" x1="{across(tick)}" x2="{across(tick)}" y1="2" y2="{height - 2}"/>')
    parts.append(f'<line class="chance" x1="{across(0)}" x2="{across(0)}" y1="2" y2="{height - 2}"/>')
    parts += _dots(estimates, across, first=1)
    return "".join([*parts, "</svg>"])


@dataclass(frozen=True, slots=True)
class _Row:
    """Values of [low, high] onto a strip of that width; what lies outside is drawn at the end."""

    low: float
    high: float
    width: int

    def __call__(self, value: float) -> str:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return f"{8 + share * (self.width - 16):.1f}"


def _dots(estimates: Sequence[Estimate], across: _Row, first: int = 0) -> list[str]:
    parts = []
    for row, each in enumerate(estimates):
        name, height = LINE_CLASSES[(row + first) % len(LINE_CLASSES)], 13 + 16 * row
        if not math.isfinite(each.value):
            continue
        if each.low is not None and each.high is not None:
            parts.append(
                f'<line class="whisker {name}" x1="{across(each.low)}" x2="{across(each.high)}"'
                f' y1="{height}" y2="{height}"/>'
            )
        parts.append(f'<circle class="dot {name}" cx="{across(each.value)}" cy="{height}" r="4.5"/>')
    return parts


def _said(estimate: Estimate, form: str = ".3f") -> str:
    if not math.isfinite(estimate.value):
        return "not defined"
    ends = (
        "" if estimate.low is None or estimate.high is None else f" ({estimate.low:{form}} to {estimate.high:{form}})"
    )
    return f"{estimate.value:{form}}{ends}"


def _frame(x_label: str, y_label: str, summary: str) -> str:
    parts = [f'<svg class="square" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{escape(summary)}">']
    for tick in (0.0, 0.5, 1.0):
        parts.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(tick)}" y2="{_y(tick)}"/>')
        parts.append(f'<line class="grid" x1="{_x(tick)}" x2="{_x(tick)}" y1="{_y(0)}" y2="{_y(1)}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 4}" y="{float(_y(tick)) + 3.5:.1f}" text-anchor="end">{tick:g}</text>'
        )
        parts.append(f'<text class="tick" x="{_x(tick)}" y="{SIDE - 18}" text-anchor="middle">{tick:g}</text>')
    middle = (_LEFT + SIDE - 8) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{SIDE - 4}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="axis" transform="translate(9 {(SIDE - _BOTTOM + _TOP) / 2}) rotate(-90)"'
        f' text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts)


def _x(value: float) -> str:
    return f"{_LEFT + value * (SIDE - _LEFT - 8):.0f}"


def _y(value: float) -> str:
    return f"{SIDE - _BOTTOM - value * (SIDE - _BOTTOM - _TOP):.0f}"

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
_UNIT_TICKS: Final = ((0.0, "0"), (0.5, "0.5"), (1.0, "1"))
SHAPES: Final = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0Z",
    "M-4.5-4.5h9v9h-9Z",
    "M0-6L6 0L0 6L-6 0Z",
    "M0-5.5L5.5 4.5h-11Z",
)
"""Of the runs in order: a disc, a square, a diamond and a triangle, so that they differ without their colours."""
MINUS: Final = "\N{MINUS SIGN}"
"""As wide as the plus."""


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of a reliability diagram: mean probability, share of positives, and its share of all cases.

    `is_small` where it holds too few cases for its share to mean much.
    """

    probability: float
    frequency: float
    weight: float
    is_small: bool = False


def square_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    summary: str,
    level: float | None = None,
    diagonal: bool = False,
    x_ticks: Sequence[tuple[float, str]] = _UNIT_TICKS,
) -> str:
    """SVG of curves whose both axes run from 0 to 1, drawn as steps of at most one unit; `level` is a dashed height.

    `summary` says in words what is seen, for those who cannot. `x_ticks` are (place in 0..1, text).
    """
    parts = [_frame(x_label, y_label, summary, x_ticks)]
    if diagonal:
        parts.append(f'<line class="reference" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    if level is not None:
        parts.append(f'<line class="reference" x1="{_x(0)}" y1="{_y(level)}" x2="{_x(1)}" y2="{_y(level)}"/>')
    for one, name in zip(series, LINE_CLASSES, strict=False):
        points = list(dict.fromkeys(f"{_x(x)},{_y(y)}" for x, y in zip(one.x, one.y, strict=True)))
        parts.append(f'<polyline class="{name}" points="{" ".join(points)}"/>')
    return "".join([*parts, "</svg>"])


def reliability_chart(runs: Sequence[Sequence[Bin]], summary: str) -> str:
    """SVG of a reliability diagram: a dot for each bin with cases, its area by their number; the diagonal is right.

    Bins with few cases are pale and not joined by the line.
    """
    parts = [_frame("probability given", "share present", summary, _UNIT_TICKS)]
    parts.append(f'<line class="reference" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    for bins, name in zip(runs, LINE_CLASSES, strict=False):
        kept = [each for each in bins if each.weight > 0 and math.isfinite(each.frequency)]
        points = " ".join(f"{_x(each.probability)},{_y(each.frequency)}" for each in kept if not each.is_small)
        parts.append(f'<polyline class="{name} thin" points="{points}"/>')
        for each in kept:
            radius, pale = 1.6 + 5 * math.sqrt(each.weight), " pale" if each.is_small else ""
            parts.append(
                f'<circle class="dot {name}{pale}" cx="{_x(each.probability)}" cy="{_y(each.frequency)}" r="{radius:.1f}"/>'
            )
    return "".join([*parts, "</svg>"])


def interval_rows(estimates: Sequence[Estimate | None], chance: float | None, names: Sequence[str]) -> str:
    """SVG strip from 0 to 1 with a row for each run: its mark and interval; a tick at chance through all rows.

    As wide as its place, since all that lies across is in percent.
    """
    said = "; ".join(f"{name} {_said(each)}" for name, each in zip(names, estimates, strict=True))
    said += "" if chance is None else f"; chance {chance:.3f}"
    scale = _Row(0.0, 1.0)
    lines = [(tick, "grid") for tick in (0, 0.25, 0.5, 0.75, 1)] + ([] if chance is None else [(chance, "chance")])
    return _strip(said, lines, estimates, scale, 0)


def difference_rows(estimates: Sequence[Estimate | None], reach: float, names: Sequence[str]) -> str:
    """SVG strip from -reach to reach with a row for each run but the first: the difference, its interval; a line at 0."""
    said = "; ".join(f"{name} {_said(each, '+.3f')}" for name, each in zip(names, estimates, strict=True))
    lines = [(tick, "grid") for tick in (-reach, -reach / 2, reach / 2, reach)] + [(0.0, "chance")]
    return _strip(said, lines, estimates, _Row(-reach, reach), 1)


def strip_axis(low: float, high: float) -> str:
    """SVG of the numbers above the strips of a table: both ends and the middle."""
    scale = _Row(low, high)
    texts = "".join(
        f'<text class="tick" x="{scale(value)}" y="11" text-anchor="middle">{value:g}</text>'.replace(">-", f">{MINUS}")
        for value in (low, (low + high) / 2, high)
    )
    return f'<svg class="row" height="14" role="img" aria-label="Scale from {low:g} to {high:g}">{texts}</svg>'


def sample(number: int, *, is_line: bool) -> str:
    """SVG of the mark of the run of that number, with a piece of its line where it has one: for a legend."""
    name = LINE_CLASSES[number]
    line = f'<polyline class="{name}" points="0,7 30,7"/>' if is_line else ""
    mark = "" if is_line else f'<path class="mark {name}" transform="translate(8 7)" d="{SHAPES[number]}"/>'
    width = 30 if is_line else 16
    return f'<svg class="sample" width="{width}" height="14" viewBox="0 0 {width} 14" aria-hidden="true">{line}{mark}</svg>'


@dataclass(frozen=True, slots=True)
class _Row:
    """Values of [low, high] onto the width of a strip, in percent; what lies outside is drawn at the end."""

    low: float
    high: float

    def __call__(self, value: float) -> str:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return f"{4 + 92 * share:.2f}%"


def _strip(
    said: str, lines: Sequence[tuple[float, str]], estimates: Sequence[Estimate | None], scale: _Row, first: int
) -> str:
    """`lines` are (value, class); `first` is the number of the run of the first row."""
    height = 16 * len(estimates) + 10
    parts = [f'<svg class="row" height="{height}" role="img" aria-label="{escape(said)}">']
    for value, kind in lines:
        parts.append(f'<line class="{kind}" x1="{scale(value)}" x2="{scale(value)}" y1="2" y2="{height - 2}"/>')
    for row, each in enumerate(estimates):
        if each is None or not math.isfinite(each.value):
            continue
        number, middle = (row + first) % len(LINE_CLASSES), 13 + 16 * row
        name = LINE_CLASSES[number]
        if each.low is not None and each.high is not None:
            ends = f'x1="{scale(each.low)}" x2="{scale(each.high)}"'
            parts.append(f'<line class="whisker {name}" {ends} y1="{middle}" y2="{middle}"/>')
        # A nested SVG is what can stand at a percentage and keep its shape.
        mark = f'<path class="mark {name}" d="{SHAPES[number]}"/>'
        parts.append(
            f'<svg x="{scale(each.value)}" y="{middle}" overflow="visible" width="1" height="1" aria-hidden="true">{mark}</svg>'
        )
    return "".join([*parts, "</svg>"])


def _said(estimate: Estimate | None, form: str = ".3f") -> str:
    if estimate is None or not math.isfinite(estimate.value):
        return "not defined"
    ends = (
        "" if estimate.low is None or estimate.high is None else f" ({estimate.low:{form}} to {estimate.high:{form}})"
    )
    return f"{estimate.value:{form}}{ends}"


def _frame(x_label: str, y_label: str, summary: str, x_ticks: Sequence[tuple[float, str]]) -> str:
    parts = [f'<svg class="square" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{escape(summary)}">']
    for tick, text in _UNIT_TICKS:
        parts.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(tick)}" y2="{_y(tick)}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 4}" y="{float(_y(tick)) + 3.5:.1f}" text-anchor="end">{text}</text>'
        )
    for tick, text in x_ticks:
        parts.append(f'<line class="grid" x1="{_x(tick)}" x2="{_x(tick)}" y1="{_y(0)}" y2="{_y(1)}"/>')
        parts.append(f'<text class="tick" x="{_x(tick)}" y="{SIDE - 18}" text-anchor="middle">{text}</text>')
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

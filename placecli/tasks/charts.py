"""Small charts as inline SVG text: lines over steps, and values with intervals on one scale. Numbers in, text out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

LINE_CLASSES: Final = ("line-a", "line-b", "line-c", "line-d")
"""CSS classes of the page that colour the series, in order."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line: `x` and `y` of equal length; points that are not finite are left out."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its 95 % interval; `low` and `high` None where none was computed."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class _Scale:
    """Linear map of [low, high] onto [start, end] in SVG units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, about `count` of them, a 1, 2 or 5 apart."""
    if not high > low:
        high = low + 1.0
    raw = (high - low) / max(count - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean of the last `window` values at each point (fewer at the start)."""
    return [
        sum(values[max(0, i + 1 - window) : i + 1]) / len(values[max(0, i + 1 - window) : i + 1])
        for i in range(len(values))
    ]


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    reference: tuple[str, float] | None = None,
    width: int = 520,
    height: int = 270,
) -> str:
    """SVG of the lines, each named at its right end; `reference` is a dashed level, e.g. ("chance", 0.1)."""
    kept = [_finite(one) for one in series]
    kept = [one for one in kept if one.x]
    if not kept:
        return '<p class="note">No points were recorded.</p>'
    values = [y for one in kept for y in one.y] + ([reference[1]] if reference else [])
    y_ticks = ticks(min(0.0, *values), max(values))
    x_ticks = ticks(min(one.x[0] for one in kept), max(one.x[-1] for one in kept))
    x_ticks = [tick for tick in x_ticks if tick <= max(one.x[-1] for one in kept)]
    right = 96
    across = _Scale(min(one.x[0] for one in kept), max(max(one.x[-1] for one in kept), 1e-9), 48, width - right)
    if across.high <= across.low:
        across = _Scale(across.low, across.low + 1.0, 48, width - right)
    up = _Scale(y_ticks[0], y_ticks[-1], height - 40, 14)
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(y_label)} by {escape(x_label)}">']
    for tick in y_ticks:
        parts.append(f'<line class="grid" x1="48" x2="{width - right}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>')
        parts.append(f'<text class="tick" x="42" y="{up(tick) + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x_ticks:
        if tick >= across.low:
            parts.append(
                f'<text class="tick" x="{across(tick):.1f}" y="{height - 24}" text-anchor="middle">{tick:g}</text>'
            )
    parts.append(f'<text class="axis" x="{width - right}" y="{height - 6}" text-anchor="end">{escape(x_label)}</text>')
    if reference:
        level = up(reference[1])
        parts.append(f'<line class="reference" x1="48" x2="{width - right}" y1="{level:.1f}" y2="{level:.1f}"/>')
        parts.append(f'<text class="tick" x="{width - right + 6}" y="{level + 3.5:.1f}">{escape(reference[0])}</text>')
    heights = _spread([up(one.y[-1]) for one in kept], taken=[up(reference[1])] if reference else [])
    for one, name_class, label_y in zip(kept, LINE_CLASSES, heights, strict=False):
        points = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in zip(one.x, one.y, strict=True))
        parts.append(f'<polyline class="{name_class}" points="{points}"/>')
        parts.append(
            f'<text class="name {name_class}" x="{width - right + 6}" y="{label_y + 3.5:.1f}">{escape(one.name)}</text>'
        )
    return "".join([*parts, "</svg>"])


def interval_chart(trained: Estimate, untrained: Estimate | None, chance: float | None, width: int = 360) -> str:
    """SVG strip from 0 to 1: a dot with its interval for each model and a tick at chance."""
    across = _Scale(0.0, 1.0, 8, width - 8)
    parts = [f'<svg class="strip" viewBox="0 0 {width} 34" role="img" aria-label="{trained.value:.3f} of 1">']
    parts.append(f'<line class="grid" x1="{across(0)}" x2="{across(1)}" y1="17" y2="17"/>')
    parts += [
        f'<line class="grid" x1="{across(t)}" x2="{across(t)}" y1="13" y2="21"/>' for t in (0, 0.25, 0.5, 0.75, 1)
    ]
    if chance is not None:
        parts.append(f'<line class="chance" x1="{across(chance):.1f}" x2="{across(chance):.1f}" y1="4" y2="30"/>')
    for estimate, kind in ((untrained, "untrained"), (trained, "trained")):
        if estimate is None or not math.isfinite(estimate.value):
            continue
        if estimate.low is not None and estimate.high is not None:
            low, high = across(max(0.0, estimate.low)), across(min(1.0, estimate.high))
            parts.append(f'<line class="whisker {kind}" x1="{low:.1f}" x2="{high:.1f}" y1="17" y2="17"/>')
        parts.append(f'<circle class="{kind}" cx="{across(estimate.value):.1f}" cy="17" r="5"/>')
    return "".join([*parts, "</svg>"])


def _finite(series: Series) -> Series:
    kept = [(x, y) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return Series(series.name, [x for x, _ in kept], [y for _, y in kept])


def _spread(heights: Sequence[float], taken: Sequence[float], gap: float = 14.0) -> list[float]:
    """The label heights, moved down just enough that no two (nor the taken ones) lie closer than `gap`."""
    placed: list[float] = list(taken)
    result = [0.0] * len(heights)
    for index in sorted(range(len(heights)), key=lambda i: heights[i]):
        height = heights[index]
        while any(abs(height - other) < gap for other in placed):
            height += 1.0
        placed.append(height)
        result[index] = height
    return result

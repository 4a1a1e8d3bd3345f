"""Tables of the evaluation page: measures with their intervals, differences, and label by label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from placecli.tasks.charts import Estimate
from placecli.tasks.html_report_charts import MINUS, difference_rows, interval_rows, strip_axis
from placecli.tasks.html_report_content import LabelLine, Line, Part

_REACHES: Final = (0.05, 0.1, 0.2, 0.5)
"""Ends of the strips of differences, the smallest that holds all of a table; else 1."""


def measures(part: Part) -> str:
    """The table of the measures, and that of their differences to the first run where there are any."""
    heads = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in part.runs)
    table = _table(
        f'<th scope="col">Measure</th><th scope="col" class="strip">{strip_axis(0, 1)}</th>{heads}'
        '<th scope="col" class="number">Chance</th>',
        "".join(_line(line, part.runs) for line in part.lines),
        f"{part.title}: measures",
    )
    return table + (_differences(part) if any(line.differences for line in part.lines) else "")


def labels(part: Part) -> str:
    """The table of single labels; nothing without any."""
    if not part.labels:
        return ""
    heads = "".join(
        f'<th scope="col" class="strip">{escape(name)}{strip_axis(0, 1)}</th>'
        + "".join(
            f'<th scope="col" class="number">{escape(run)}<small>{escape(name)}</small></th>' for run in part.runs
        )
        for name in part.label_metrics
    )
    rows = "".join(_label(line, part.runs) for line in part.labels)
    count = f'<th scope="col" class="number">{escape(part.label_count)}</th>'
    kind = "many" if len(part.label_metrics) > 1 else ""
    return "<h3>Label by label</h3>" + _table(
        f'<th scope="col">Label</th>{count}{heads}', rows, f"{part.title}: by label", kind
    )


def _line(line: Line, runs: Sequence[str]) -> str:
    cells = "".join(f'<td class="number">{_estimate(each, line.places)}</td>' for each in line.estimates)
    chance = "" if line.chance is None else _number(line.chance, line.places)
    return (
        f'<tr><th scope="row">{escape(line.name)}<small>{escape(line.explanation)}</small></th>'
        f'<td class="strip">{_strip(line.estimates, line.chance, runs) if line.is_share else ""}</td>{cells}'
        f'<td class="number">{chance}</td></tr>'
    )


def _strip(estimates: Sequence[Estimate | None], chance: float | None, runs: Sequence[str]) -> str:
    """A strip where all that is known lies in 0..1 and something is known."""
    values = [each.value for each in estimates if each is not None and math.isfinite(each.value)]
    return interval_rows(estimates, chance, runs) if values and all(0 <= value <= 1 for value in values) else ""


def _differences(part: Part) -> str:
    first, others = part.runs[0], part.runs[1:]
    ends = [
        abs(end)
        for line in part.lines
        if line.is_share and _are_shares(line.differences)
        for each in line.differences
        if each is not None
        for end in (each.value, each.low or 0.0, each.high or 0.0)
    ]
    reach = next((reach for reach in _REACHES if reach >= max(ends, default=0.0)), 1.0)
    rows = "".join(
        f'<tr><th scope="row">{escape(line.name)}</th>'
        f'<td class="strip">{_difference_strip(line, reach, others)}</td>'
        + "".join(f'<td class="number">{_difference(each, line.places)}</td>' for each in line.differences)
        + "</tr>"
        for line in part.lines
        if line.differences
    )
    heads = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in others)
    return (
        f"<h3>Difference to {escape(first)}, on the same patients</h3>"
        f'<p class="note">Right of the line: a larger number than that of {escape(first)}; left: a smaller one. Both are'
        " scored on the same resampled patients, so that hard patients count for both. In bold, a difference whose interval"
        " does not hold 0.</p>"
        + _table(
            f'<th scope="col">Measure</th><th scope="col" class="strip">{strip_axis(-reach, reach)}</th>{heads}',
            rows,
            f"{part.title}: differences",
        )
    )


def _difference_strip(line: Line, reach: float, names: Sequence[str]) -> str:
    has_any = any(each is not None for each in line.differences)
    is_drawn = line.is_share and has_any and _are_shares(line.differences)
    return difference_rows(line.differences, reach, names) if is_drawn else ""


def _are_shares(estimates: Sequence[Estimate | None]) -> bool:
    """Whether all are differences of numbers in 0..1, and not, say, of ranks."""
    return all(
        math.isfinite(each.value) and max(abs(each.value), abs(each.low or 0.0), abs(each.high or 0.0)) <= 1
        for each in estimates
        if each is not None
    )


def _label(line: LabelLine, runs: Sequence[str]) -> str:
    cells = ""
    for estimates in line.values:
        cells += f'<td class="strip">{_strip(estimates, None, runs)}</td>' + "".join(
            f'<td class="number">{_estimate(each)}</td>' for each in estimates
        )
    present = f"{line.n:,}" if line.positives is None else f"{line.positives:,} of {line.n:,}"
    return (
        f'<tr><th scope="row">{escape(line.name.replace("_", " "))}</th><td class="number">{present}</td>{cells}</tr>'
    )


def _table(head: str, rows: str, caption: str, kind: str = "") -> str:
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table class="{kind}">'.replace(
            ' class=""', ""
        )
        + f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _estimate(estimate: Estimate | None, places: int = 3, sign: str = "") -> str:
    if estimate is None or not math.isfinite(estimate.value):
        return "-"
    value = _number(estimate.value, places, sign)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value}<small>{_number(estimate.low, places, sign)} to {_number(estimate.high, places, sign)}</small>"


def _difference(estimate: Estimate | None, places: int) -> str:
    text = _estimate(estimate, places, "+")
    if estimate is None or estimate.low is None or estimate.high is None or estimate.low <= 0 <= estimate.high:
        return text
    value, _, rest = text.partition("<small>")
    return f"<b>{value}</b><small>{rest}"


def _number(value: float, places: int, sign: str = "") -> str:
    return f"{value:{sign},.{places}f}".replace("-", MINUS)

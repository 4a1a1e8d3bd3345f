"""Cells -> means over seeds, differences paired by seed, and the page that shows them (Markdown and HTML)."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from grid import NAMES
from scipy.stats import t as student

from placecli.tasks.charts import Series, line_chart

ROWS: Sequence[tuple[str, str, str]] = (
    ("image to report, Recall@1", "retrieval", "recall@1"),
    ("image to report, Recall@5", "retrieval", "recall@5"),
    ("image to report, Recall@10", "retrieval", "recall@10"),
    ("report to image, Recall@1", "retrieval", "recall@1_text_to_image"),
    ("report to image, Recall@5", "retrieval", "recall@5_text_to_image"),
    ("report to image, Recall@10", "retrieval", "recall@10_text_to_image"),
    ("zero-shot, macro AUROC", "zero-shot", "auroc_macro"),
    ("probe on 1 % of labels, macro AUROC", "probe", "auroc_0.01"),
    ("probe on 10 %", "probe", "auroc_0.1"),
    ("probe on 30 %", "probe", "auroc_0.3"),
    ("probe on all labels", "probe", "auroc_1"),
    ("probe on what the arm learnt (V-PORs beside the global feature), 1 %", "observed", "auroc_0.01"),
    ("the same on 10 %", "observed", "auroc_0.1"),
    ("the same on 30 %", "observed", "auroc_0.3"),
    ("the same on all labels", "observed", "auroc_1"),
    ("probe on an extractor as drawn beside the global feature (control), 1 %", "drawn", "auroc_0.01"),
    ("control on 10 %", "drawn", "auroc_0.1"),
    ("control on 30 %", "drawn", "auroc_0.3"),
    ("control on all labels", "drawn", "auroc_1"),
    ("pointing game", "grounding", "pointing_game"),
    ("share of the map inside", "grounding", "mass_inside"),
    ("strongest tenth of the map over the region, IoU", "grounding", "overlap"),
    ("true side over exchanged side", "altered", "true_over_altered_side"),
    ("less that of another image: side", "altered", "image_gain_side"),
    ("true statement over its denial", "altered", "true_over_altered_denial"),
    ("less that of another image: denial", "altered", "image_gain_denial"),
    ("true site over exchanged site", "altered", "true_over_altered_site"),
    ("less that of another image: site", "altered", "image_gain_site"),
    ("segmentation on 5 % of labels, Dice", "segmentation", "dice"),
    ("segmentation on all labels, Dice", "segmentation", "dice_1"),
    ("detection on 10 % of labels, AP50", "detection", "map_50"),
)
"""Title, kind of score and name in cell.json."""

_TOLD = {
    "retrieval": ("recall@10", "recall@10_text_to_image"),
    "zero-shot": ("auroc_macro",),
    "probe": ("auroc_0.01", "auroc_0.1"),
    "grounding": ("pointing_game", "mass_inside"),
    "altered": ("image_gain_side", "image_gain_denial"),
}
VARIED = [row for row in ROWS if row[2] in _TOLD.get(row[1], ())]
"""What is told of a variant."""

PAIRS: Sequence[tuple[str, str]] = (
    ("pcma", "ita"),
    ("cce", "ita"),
    ("place", "ita"),
    ("place", "pcma"),
    ("place", "token"),
    ("place", "cluster"),
)
"""What the claim compares: the first should be better."""

ACROSS: Sequence[tuple[str, str, str, tuple[str, str], tuple[str, str]]] = (
    ("PLACE, global feature, 10 % - ITA, 30 %", "place", "ita", ("probe", "auroc_0.1"), ("probe", "auroc_0.3")),
    ("PLACE, V-PORs too, 10 % - ITA, 30 %", "place", "ita", ("observed", "auroc_0.1"), ("probe", "auroc_0.3")),
    ("PLACE, V-PORs too, 10 % - control, 30 %", "place", "ita", ("observed", "auroc_0.1"), ("drawn", "auroc_0.3")),
    ("PLACE, V-PORs too, 10 % - control, 10 %", "place", "ita", ("observed", "auroc_0.1"), ("drawn", "auroc_0.1")),
    ("ITA + PCMA, V-PORs too, 10 % - control, 10 %", "pcma", "ita", ("observed", "auroc_0.1"), ("drawn", "auroc_0.1")),
    ("control, 10 % - ITA, 10 %", "ita", "ita", ("drawn", "auroc_0.1"), ("probe", "auroc_0.1")),
)
"""Text, first and second arm and what is compared of each. The control is ITA's encoder read by an extractor as drawn."""


DRAWN = {"place": "PLACE", "pcma": "ITA + PCMA", "ita": "ITA", "token": "token-wise"}
"""Arms whose learning curves are drawn, with a short name; those first that most sources have, in one colour each."""


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds with its 95 % interval by Student's t (nan of one seed)."""

    mean: float
    low: float
    high: float
    num_seeds: int

    @property
    def is_above_zero(self) -> bool:
        """Whether the whole interval is."""
        return self.low > 0


def estimate(values: Sequence[float]) -> Estimate:
    """Mean m and m -/+ t_{.975, n - 1} s / sqrt(n)."""
    mean, num = statistics.fmean(values), len(values)
    if num < 2:
        return Estimate(mean, math.nan, math.nan, num)
    half = float(student.ppf(0.975, num - 1)) * statistics.stdev(values) / math.sqrt(num)
    return Estimate(mean, mean - half, mean + half, num)


Values = Mapping[str, Mapping[int, Mapping[tuple[str, str], float]]]
"""By arm, seed, and (kind, name)."""


def values_of(records: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, dict[tuple[str, str], float]]]:
    """The scores of the cells of one source."""
    found: dict[str, dict[int, dict[tuple[str, str], float]]] = {}
    for record in records:
        flat = {
            (kind, name): value
            for kind, scores in record["scores"].items()
            for name, value in scores.items()
            if value is not None
        }
        found.setdefault(record["arm"], {})[record["seed"]] = flat
    return found


def paired(
    values: Values, first: str, second: str, key: tuple[str, str], other: tuple[str, str] | None = None
) -> Estimate | None:
    """first - second on the seeds that both have; `other` is the second's score where it is not the first's."""
    one, two = values.get(first, {}), values.get(second, {})
    against = other or key
    seeds = [seed for seed in sorted(set(one) & set(two)) if key in one[seed] and against in two[seed]]
    return estimate([one[seed][key] - two[seed][against] for seed in seeds]) if seeds else None


def tables(source: str, records: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[list[str]]]]:
    """(caption, rows of cells with the heading first) for one source."""
    values = values_of(records)
    own = sorted(set(values) - set(NAMES))
    arms = [arm for arm in NAMES if arm in values] + ([] if "place" in values else own)
    elsewhere = {kind: name for record in records for kind, name in record.get("elsewhere", {}).items()}
    present = [
        (f"{title} ({elsewhere[kind]})" if kind in elsewhere else title, kind, name)
        for title, kind, name in ROWS
        if any((kind, name) in scores for seeds in values.values() for scores in seeds.values())
    ]
    means = [["", *(NAMES.get(arm, arm) for arm in arms)]]
    for title, kind, name in present:
        line = []
        for arm in arms:
            got = [scores[kind, name] for scores in values[arm].values() if (kind, name) in scores]
            line.append(_plain(estimate(got)) if got else "")
        means.append([title, *line])
    means.append(["seeds", *(str(len(values[arm])) for arm in arms)])
    seconds = {arm: [r["training"]["seconds"] for r in records if r["arm"] == arm and "training" in r] for arm in arms}
    means.append(["seconds of training", *(f"{statistics.fmean(s):.0f}" if s else "" for s in seconds.values())])
    pairs = [pair for pair in PAIRS if pair[0] in values and pair[1] in values]
    differences = [["", *(f"{NAMES.get(a, a)} minus {NAMES.get(b, b)}" for a, b in pairs)]]
    for title, kind, name in present:
        found = [_signed(paired(values, a, b, (kind, name))) for a, b in pairs]
        if any(found):
            differences.append([title, *found])
    made = [(f"{source}: mean over seeds (95 % interval of the mean)", means)]
    if pairs:
        made.append((f"{source}: differences paired by seed (95 % interval); bold where it is above 0", differences))
    varied = _variants(own, values, records)
    if varied:
        made.append((f"{source}: PLACE with one thing changed, minus PLACE, paired by seed", varied))
    curves = _curves(records)
    if curves:
        steps = sorted({step for by_step in curves.values() for step in by_step})
        rows = [
            [str(step), *(f"{curves[arm][step]:.3f}" if step in curves[arm] else "" for arm in arms)] for step in steps
        ]
        rows = [["step", *(NAMES.get(arm, arm) for arm in arms)], *rows]
        made.append((f"{source}: validation recall (mean of Recall@1, 5, 10, both ways) by step, mean", rows))
    across = [[told, _signed(found)] for told, *asked in ACROSS if (found := paired(values, *asked))]
    if across:
        made.append((f"{source}: probes that differ in labels or in what they read", [["", "macro AUROC"], *across]))
    return made


def _variants(own: Sequence[str], values: Values, records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """A row for each arm of one's own, with what its settings change of PLACE's; [] where there is none to compare."""
    settings = {record["arm"]: record.get("overrides", []) for record in records}
    if not own or "place" not in values:
        return []
    rows = [["changed", "seeds", *(title for title, *_ in VARIED)]]
    for arm in own:
        changed = [setting for setting in settings[arm] if setting not in settings["place"]]
        seeds = len(set(values[arm]) & set(values["place"]))
        found = [_signed(paired(values, arm, "place", (kind, name))) for _, kind, name in VARIED]
        rows.append([", ".join(changed) or arm, str(seeds), *found])
    return rows


def chart(records: Sequence[Mapping[str, Any]]) -> str:
    """The learning curves of one source as SVG, those of `DRAWN` that it has; "" for none."""
    curves = _curves(records)
    lines = [
        Series(name, list(curves[arm]), list(curves[arm].values())) for arm, name in DRAWN.items() if curves.get(arm)
    ]
    return line_chart(lines, x_label="steps", y_label="validation recall") if lines else ""


def _curves(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, float]]:
    """By arm and step, in order, the mean over the seeds that validated there."""
    found: dict[str, dict[int, list[float]]] = {record["arm"]: {} for record in records if record.get("curve")}
    for record in records:
        for step, recall in record.get("curve", ()):
            found[record["arm"]].setdefault(step, []).append(recall)
    means = {arm: {step: statistics.fmean(by_step[step]) for step in sorted(by_step)} for arm, by_step in found.items()}
    return defaultdict(dict, means)


def markdown(title: str, lead: str, made: Sequence[tuple[str, list[list[str]]]]) -> str:
    """The page as Markdown."""
    blocks = [f"# {title}", lead]
    for caption, rows in made:
        head, *body = [f"| {' | '.join(row)} |" for row in rows]
        blocks += [f"**{caption}**", "\n".join([head, "|" + "---|" * len(rows[0]), *body])]
    return "\n\n".join(blocks) + "\n"


def html(
    title: str, lead: str, made: Sequence[tuple[str, list[list[str]]]], charts: Mapping[str, str] | None = None
) -> str:
    """The page as one self-contained HTML file; charts by source, first."""
    parts = [
        f"<h2>{escape(source)}: validation recall, mean of Recall@1, 5, 10, both ways, over seeds</h2>{drawn}"
        for source, drawn in (charts or {}).items()
        if drawn
    ]
    for caption, rows in made:
        head = "".join(f"<th>{escape(cell)}</th>" for cell in rows[0])
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows[1:])
        parts.append(f"<h2>{escape(caption)}</h2><div><table><tr>{head}</tr>{body}</table></div>")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style><h1>{escape(title)}</h1><p>{escape(lead)}</p>"
        + "".join(parts)
        + "</html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2rem auto;padding:0 1rem;color:#1b2530}"
    "h2{font-size:1rem;margin-top:2rem}div{overflow-x:auto}table{border-collapse:collapse}"
    "td,th{padding:.3rem .7rem;border-bottom:1px solid #d8dee4;text-align:right;vertical-align:top;"
    "font-variant-numeric:tabular-nums}td:first-child,th:first-child{text-align:left}th{font-weight:600}"
    ".yes{background:#e3f1e6;font-weight:600}svg{max-width:620px;display:block}"
    ".grid{stroke:#e3e7eb}.tick,.axis{font-size:10px;fill:#5b6670}.name{font-size:11px}polyline{fill:none;stroke-width:2}"
    "polyline.line-a{stroke:#0b7a75}polyline.line-b{stroke:#3572b0}polyline.line-c{stroke:#8a94a0}polyline.line-d{stroke:#b07b2c}"
    "text.line-a{fill:#0b7a75}text.line-b{fill:#3572b0}text.line-c{fill:#6b7580}text.line-d{fill:#b07b2c}"
)


def _cell(text: str) -> str:
    bold = text.startswith("**")
    return f"<td{' class=yes' if bold else ''}>{escape(text.strip('*'))}</td>"


def _plain(found: Estimate) -> str:
    return f"{found.mean:.3f}" + ("" if math.isnan(found.low) else f" ({found.low:.3f} to {found.high:.3f})")


def _signed(found: Estimate | None) -> str:
    if found is None:
        return ""
    interval = "" if math.isnan(found.low) else f" ({found.low:+.3f} to {found.high:+.3f})"
    mark = "**" if found.is_above_zero else ""
    return f"{mark}{found.mean:+.3f}{interval}{mark}"

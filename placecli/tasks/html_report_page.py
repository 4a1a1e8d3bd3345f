"""The evaluation page as HTML: sections in, one self-contained text out. Every text is escaped, every picture is inside."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Final

from placecli import __version__
from placecli.tasks.charts import Estimate
from placecli.tasks.html_report_charts import difference_rows, interval_rows
from placecli.tasks.html_report_content import Case, Cases, Charts, LabelLine, Line, Page, Part, Sentence
from placecli.tasks.page import picture

NUM_OPEN: Final = 6
"""Labels whose charts are seen at once; the others unfold."""
_CLASSES: Final = ("a", "b", "c", "d")
_LEGEND: Final = (
    '<p class="note marks"><mark class="agrees">states a finding that the other report states</mark>'
    ' <mark class="contradicts">contradicts the other report</mark>'
    ' <mark class="extra">a finding that the other does not mention</mark>'
    ' <mark class="missed">a finding that was missed</mark></p>'
)


def render(page: Page) -> str:
    """The page as HTML that loads nothing and runs nothing."""
    template = Template((resources.files("placecli.tasks") / "html_report.html").read_text("utf-8"))
    texts = ("title", "lead", "banner_title", "banner", "protocol", "footer")
    return template.substitute(
        {name: escape(getattr(page, name)) for name in texts},
        version=escape(__version__),
        facts="".join(f"<li><b>{escape(number)}</b><span>{escape(what)}</span></li>" for number, what in page.facts),
        contents="".join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in page.parts),
        runs=_key(page.runs),
        parts="".join(map(_part, page.parts)),
        reading="".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in page.how_to_read),
    )


def _key(runs: Sequence[str]) -> str:
    """Which colour is which run; chance."""
    dots = "".join(
        f'<span class="key"><i class="dot {kind}"></i>{escape(name)}</span>'
        for name, kind in zip(runs, _CLASSES, strict=False)
    )
    return f'<p class="note keys">{dots}<span class="key"><i class="tick"></i>chance</span></p>'


def _part(part: Part) -> str:
    return (
        f'<section id="{part.anchor}"><h2>{escape(part.title)}</h2><p>{escape(part.explanation)}</p>'
        f'<p class="note">{escape(part.counts)}</p>'
        + _lines(part)
        + (_differences(part) if any(line.differences for line in part.lines) else "")
        + (f'<p class="note">{escape(part.differences_note)}</p>' if part.differences_note else "")
        + (_labels(part) if part.labels else "")
        + _charts(part)
        + "".join(map(_cases, part.cases))
        + "</section>"
    )


def _lines(part: Part) -> str:
    heads = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in part.runs)
    rows = "".join(_line(line, part.runs) for line in part.lines)
    return _table(
        f'<th scope="col">Measure</th><th scope="col" class="strip">0 to 1</th>{heads}<th scope="col" class="number">Chance</th>',
        rows,
        f"{part.title}: measures",
    )


def _line(line: Line, runs: Sequence[str]) -> str:
    kept = [each for each in line.estimates if each is not None]
    is_share = len(kept) == len(runs) and all(0 <= each.value <= 1 for each in kept if math.isfinite(each.value))
    strip = interval_rows(kept, line.chance, runs) if is_share else ""
    cells = "".join(f'<td class="number">{_estimate(each)}</td>' for each in line.estimates)
    chance = "" if line.chance is None else _number(line.chance)
    return (
        f'<tr><th scope="row">{escape(line.name)}<small>{escape(line.explanation)}</small></th>'
        f'<td class="strip">{strip}</td>{cells}'
        f'<td class="number">{chance}</td></tr>'
    )


def _differences(part: Part) -> str:
    others = part.runs[1:]
    ends = [
        abs(end)
        for line in part.lines
        if _are_shares(line.differences)
        for each in line.differences
        if each is not None
        for end in (each.value, each.low or 0.0, each.high or 0.0)
    ]
    reach = next((reach for reach in (0.05, 0.1, 0.2, 0.5) if reach >= max(ends, default=0.0)), 1.0)
    rows = "".join(
        f'<tr><th scope="row">{escape(line.name)}</th><td class="strip">{_difference_strip(line, reach, others)}</td>'
        + "".join(f'<td class="number">{_estimate(each, "+")}</td>' for each in line.differences)
        + "</tr>"
        for line in part.lines
        if line.differences
    )
    heads = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in others)
    return (
        f"<h3>Difference to {escape(part.runs[0])}, on the same patients</h3>"
        '<p class="note">Both runs are scored on the same resampled patients, so that hard patients count for both. An'
        " interval that does not hold 0 is a difference that these patients show.</p>"
        + _table(
            f'<th scope="col">Measure</th><th scope="col" class="strip">{-reach:g} to {reach:g}</th>{heads}',
            rows,
            f"{part.title}: differences",
        )
    )


def _difference_strip(line: Line, reach: float, names: Sequence[str]) -> str:
    kept = [each for each in line.differences if each is not None]
    return difference_rows(kept, reach, names) if len(kept) == len(names) and _are_shares(kept) else ""


def _are_shares(estimates: Sequence[Estimate | None]) -> bool:
    """Whether all are differences of numbers in 0..1, and not, say, of ranks."""
    return all(
        math.isfinite(each.value) and max(abs(each.value), abs(each.low or 0.0), abs(each.high or 0.0)) <= 1
        for each in estimates
        if each is not None
    )


def _labels(part: Part) -> str:
    heads = "".join(
        f'<th scope="col" class="strip">{escape(name)}, 0 to 1</th>'
        + "".join(
            f'<th scope="col" class="number">{escape(run)}<small>{escape(name)}</small></th>' for run in part.runs
        )
        for name in part.label_metrics
    )
    rows = "".join(_label(line, part.runs) for line in part.labels)
    return "<h3>Label by label</h3>" + _table(
        f'<th scope="col">Label</th><th scope="col" class="number">Present</th>{heads}', rows, f"{part.title}: by label"
    )


def _label(line: LabelLine, runs: Sequence[str]) -> str:
    cells = ""
    for estimates in line.values:
        kept = [each for each in estimates if each is not None]
        strip = interval_rows(kept, None, runs, width=180) if len(kept) == len(runs) else ""
        cells += f'<td class="strip">{strip}</td>' + "".join(
            f'<td class="number">{_estimate(each)}</td>' for each in estimates
        )
    present = f"{line.n}" if line.positives is None else f"{line.positives} of {line.n}"
    return (
        f'<tr><th scope="row">{escape(line.name.replace("_", " "))}</th><td class="number">{present}</td>{cells}</tr>'
    )


def _charts(part: Part) -> str:
    if not part.charts:
        return ""
    cards = [_card(card) for card in part.charts]
    shown, more = cards[:NUM_OPEN], cards[NUM_OPEN:]
    folded = (
        f"<details><summary>{len(more)} more labels</summary><div class='cards'>{''.join(more)}</div></details>"
        if more
        else ""
    )
    return (
        f'<h3>Curves</h3><p class="note">{escape(part.charts_note)}</p>{_key(part.runs)}'
        f'<div class="cards">{"".join(shown)}</div>{folded}'
    )


def _card(card: Charts) -> str:
    charts, title = "".join(card.charts), escape(card.title.replace("_", " "))
    return (
        f'<figure class="card"><figcaption><b>{title}</b> <span>{escape(card.note)}</span></figcaption>'
        f'<div class="charts of-{len(card.charts)}">{charts}</div></figure>'
    )


def _cases(cases: Cases) -> str:
    kind = "wide" if cases.is_wide else "grid"
    note = f'<p class="note">{escape(cases.note)}</p>' if cases.note else ""
    legend = _LEGEND if cases.is_wide and cases.note else ""
    return f'<h3>{escape(cases.title)}</h3>{note}{legend}<div class="{kind}">{"".join(map(_case, cases.cases))}</div>'


def _case(case: Case) -> str:
    pictures = "".join(
        f"<figure>{picture(each.pixels, each.description)}"
        + (f"<figcaption>{escape(each.caption)}</figcaption>" if each.caption else "")
        + "</figure>"
        for each in case.pictures
    )
    texts = "".join(f"<h5>{escape(title)}</h5><p>{_sentences(sentences)}</p>" for title, sentences in case.texts)
    ids = f'<p class="note">{escape(case.ids)}</p>' if case.ids else ""
    body = f'<div class="words">{texts}</div>' if texts else ""
    layout = "layout" if len(case.pictures) > 1 else "layout single"
    return (
        f'<article class="case"><h4>{escape(case.title)}</h4>{ids}'
        f'<div class="{layout}"><div class="pictures">{pictures}</div>{body}</div></article>'
    )


def _sentences(sentences: Sequence[Sentence]) -> str:
    return " ".join(_sentence(each) for each in sentences) or '<span class="note">no text</span>'


def _sentence(sentence: Sentence) -> str:
    if not sentence.verdict:
        return escape(sentence.text)
    return f'<mark class="{sentence.verdict}" title="{sentence.verdict}">{escape(sentence.text)}</mark>'


def _table(head: str, rows: str, caption: str) -> str:
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _estimate(estimate: Estimate | None, sign: str = "") -> str:
    if estimate is None or not math.isfinite(estimate.value):
        return "-"
    value = _number(estimate.value, sign)
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value}<small>{_number(estimate.low, sign)} to {_number(estimate.high, sign)}</small>"


def _number(value: float, sign: str = "") -> str:
    """Three places for shares, fewer for larger numbers such as ranks."""
    places = 3 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:{sign}.{places}f}"

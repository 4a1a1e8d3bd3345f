"""The evaluation page as HTML: sections in, one self-contained text out. Every text is escaped, every picture is inside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from typing import Final

from placecli import __version__
from placecli.tasks import html_report_tables as tables
from placecli.tasks.html_report_charts import sample
from placecli.tasks.html_report_content import Case, Cases, Charts, Page, Part, Sentence
from placecli.tasks.page import picture

NUM_OPEN: Final = {"of-1": 8, "of-2": 6, "of-3": 6}
"""By charts of a card the cards that are seen at once, whole rows of them; the others unfold."""
_VERDICTS: Final = {
    "agrees": "states a finding that the other report states",
    "denies": "denies a finding that the other denies",
    "contradicts": "contradicts the other report",
    "extra": "states a finding that the other does not mention",
    "missed": "a finding that the other report does not state",
}
"""By verdict what it says, in the legend and to who points at a sentence or has it read aloud."""


def render(page: Page) -> str:
    """The page as HTML that loads nothing and runs nothing."""
    template = Template((resources.files("placecli.tasks") / "html_report.html").read_text("utf-8"))
    texts = ("title", "lead", "banner_title", "banner", "protocol", "footer")
    return template.substitute(
        {name: escape(getattr(page, name)) for name in texts},
        version=escape(__version__),
        facts="".join(f"<li><b>{escape(number)}</b><span>{escape(what)}</span></li>" for number, what in page.facts),
        contents="".join(f'<a href="#{part.anchor}">{escape(part.title)}</a>' for part in page.parts),
        runs=_key(page.runs, is_line=False),
        parts="".join(map(_part, page.parts)),
        reading="".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in page.how_to_read),
    )


def _key(runs: Sequence[str], *, is_line: bool) -> str:
    """Which mark, or line, is which run; chance."""
    marks = "".join(
        f'<span class="key">{sample(number, is_line=is_line)}{escape(name)}</span>' for number, name in enumerate(runs)
    )
    chance = "" if is_line else '<span class="key"><i class="tick"></i>chance</span>'
    return f'<p class="note keys">{marks}{chance}</p>'


def _part(part: Part) -> str:
    return (
        f'<section id="{part.anchor}" aria-label="{escape(part.title)}"><h2>{escape(part.title)}</h2>'
        f'<p>{escape(part.explanation)}</p><p class="note">{escape(part.counts)}</p>'
        + tables.measures(part)
        + (f'<p class="note">{escape(part.differences_note)}</p>' if part.differences_note else "")
        + tables.labels(part)
        + _charts(part)
        + "".join(_cases(cases, part.cases) for cases in part.cases)
        + "</section>"
    )


def _charts(part: Part) -> str:
    if not part.charts:
        return ""
    cards = [_card(card) for card in part.charts]
    kind = f"of-{max(len(card.charts) for card in part.charts)}"
    num_open = NUM_OPEN[kind]
    shown, more = cards[:num_open], cards[num_open:]
    folded = (
        f'<details><summary>{len(more)} more labels</summary><div class="cards {kind}">{"".join(more)}</div></details>'
        if more
        else ""
    )
    return (
        f'<h3>Curves</h3><p class="note">{escape(part.charts_note)}</p>{_key(part.runs, is_line=True)}'
        f'<div class="cards {kind}">{"".join(shown)}</div>{folded}'
    )


def _card(card: Charts) -> str:
    charts, title = "".join(card.charts), escape(card.title.replace("_", " "))
    values = "".join(
        f"<li>{sample(number, is_line=True)}{escape(text)}</li>" for number, text in enumerate(card.values)
    )
    return (
        f'<figure class="card"><figcaption><b>{title}</b> <span>{escape(card.note)}</span></figcaption>'
        f'<ul class="values">{values}</ul><div class="charts of-{len(card.charts)}">{charts}</div></figure>'
    )


def _cases(cases: Cases, others: Sequence[Cases]) -> str:
    kind = "wide" if cases.is_wide else "grid large" if cases.is_large else "grid"
    note = f'<p class="note">{escape(cases.note)}</p>' if cases.note else ""
    legend = _legend(others) if cases is others[0] else ""
    return f'<h3>{escape(cases.title)}</h3>{note}{legend}<div class="{kind}">{"".join(map(_case, cases.cases))}</div>'


def _legend(groups: Sequence[Cases]) -> str:
    """What the colours mean that the sentences of these cases have."""
    used = {
        sentence.verdict
        for cases in groups
        for case in cases.cases
        for _, sentences in case.texts
        for sentence in sentences
    }
    marks = " ".join(f'<mark class="{name}">{text}</mark>' for name, text in _VERDICTS.items() if name in used)
    return f'<p class="note marks">{marks}</p>' if marks else ""


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
    layout = "layout" if texts else "row-only"
    single = " single" if len(case.pictures) == 1 else ""
    return (
        f'<article class="case"><h4>{escape(case.title)}</h4>{ids}'
        f'<div class="{layout}{single}"><div class="pictures">{pictures}</div>{body}</div></article>'
    )


def _sentences(sentences: Sequence[Sentence]) -> str:
    return " ".join(_sentence(each) for each in sentences) or '<span class="note">no text</span>'


def _sentence(sentence: Sentence) -> str:
    if not sentence.verdict:
        return escape(sentence.text)
    return f'<mark class="{sentence.verdict}" title="{_VERDICTS[sentence.verdict]}">{escape(sentence.text)}</mark>'

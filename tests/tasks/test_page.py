"""The demo's page: self-contained, escaped, well formed, and showing the numbers it was given."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from placecli.tasks.charts import Estimate, Series, interval_chart, line_chart, smooth, ticks
from placecli.tasks.page import (
    Comparison,
    Curve,
    FindingResult,
    MarkedSentence,
    Page,
    Panel,
    PatientResult,
    RetrievedReport,
    picture,
    render,
)

VOID = {"meta", "img", "br", "line", "circle", "polyline"}


class Balance(HTMLParser):
    """Collects tags that were opened and never closed, and every address that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.faults.append(tag)


def example_page(title: str = "What the model learnt") -> Page:
    grey = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    colour = np.repeat(grey[:, :, None], 3, axis=2)
    hit = RetrievedReport(1, 0.91, "s2", (MarkedSentence("Right effusion.", "agrees"), MarkedSentence("No <b>.", "")))
    panel = Panel("effusion, right", "Right effusion.", colour, colour, is_hit=True)
    return Page(
        title=title,
        lead="lead",
        banner="made from seed 7",
        steps=(("700", "patients"),),
        metrics_note="note",
        comparisons=(Comparison("Zero-shot", "mean", Estimate(0.875, 0.85, 0.9), Estimate(0.512, 0.4, 0.6), 0.5),),
        findings_note="note",
        findings=(FindingResult("effusion", 12, Estimate(0.9), None, (7, 9)),),
        training_note="note",
        curves=(Curve("Loss", "step", "loss", (Series("train", [1, 2, 3], [3.0, 2.0, 1.5]),)),),
        gallery_note="note",
        patients=(PatientResult("s1", grey, ("Right effusion.",), ("effusion",), (hit,), (panel,)),),
        timings=(("pre-training", 151.0, "8 epochs"),),
        machine="2 cores",
        commands=(("Look again", "place retrieve image.png"),),
        footer="",
    )


def test_page_is_well_formed_and_loads_nothing() -> None:
    html = render(example_page())
    parser = Balance()
    parser.feed(html)
    assert parser.faults == []
    assert parser.open == []
    assert parser.addresses
    assert all(address.startswith("data:image/") for address in parser.addresses)
    assert not re.search(r"url\(|@import|<script|<link|<iframe", html)


def test_page_shows_the_numbers_it_was_given() -> None:
    html = render(example_page())
    for text in ("0.875", "0.850 to 0.900", "0.512", "7 of 9", "2 min 31 s", "made from seed 7", "points inside"):
        assert text in html


def test_every_text_is_escaped() -> None:
    html = render(example_page("<script>alert(1)</script> $lead"))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "No &lt;b&gt;." in html


def test_agreeing_sentences_are_marked_and_others_are_not() -> None:
    gallery = render(example_page()).split('class="hits"')[1]
    assert re.findall(r"<mark class=\"(.*?)\">(.*?)</mark>", gallery) == [("agrees", "Right effusion.")]


def test_picture_holds_the_pixels() -> None:
    grey = np.full((20, 30), 90, np.uint8)
    data = re.search(r"base64,([^\"]+)", picture(grey, "x"))
    assert data is not None
    back = np.asarray(Image.open(io.BytesIO(base64.b64decode(data.group(1)))))
    assert back.shape == (20, 30)
    assert np.abs(back.astype(int) - 90).max() <= 2


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.5, 1]), (0, 4, [0, 1, 2, 3, 4]), (0, 0, [0, 0.5, 1]), (0, 230, None)]
)
def test_ticks_are_round_and_cover_the_range(low: float, high: float, expected: list[float] | None) -> None:
    found = ticks(low, high)
    assert found[0] <= low
    assert found[-1] >= high
    assert 3 <= len(found) <= 8
    if expected is not None and high == 4:
        assert found == expected


def test_line_chart_puts_the_highest_point_highest() -> None:
    svg = line_chart([Series("a", [0, 1, 2], [0.0, 4.0, 2.0])], x_label="step", y_label="loss")
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    heights = [float(pair.split(",")[1]) for pair in points.group(1).split()]
    assert heights[1] < heights[2] < heights[0]


def test_line_chart_leaves_out_points_that_are_not_finite() -> None:
    svg = line_chart([Series("a", [0, 1, 2], [1.0, float("nan"), 2.0])], x_label="x", y_label="y")
    assert "nan" not in svg
    assert svg.count(",") == 2
    assert "No points" in line_chart([Series("a", [0], [float("nan")])], x_label="x", y_label="y")
    assert "<polyline" in line_chart([Series("a", [3], [1.0])], x_label="x", y_label="y")


def test_interval_chart_places_the_dot_by_its_value() -> None:
    def centre(value: float) -> float:
        found = re.search(r'class="trained" cx="([\d.]+)"', interval_chart(Estimate(value), None, None))
        assert found is not None
        return float(found.group(1))

    assert centre(0.0) == 8.0
    assert centre(1.0) == 352.0
    assert centre(0.5) == 180.0


def test_smooth_is_the_mean_of_the_last_values() -> None:
    assert smooth([1.0, 3.0, 5.0, 7.0], 2) == [1.0, 2.0, 4.0, 6.0]

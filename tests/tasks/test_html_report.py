"""The evaluation page: self-contained, well formed, without ids, and showing the numbers and cases that it was given."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import FINDINGS, make_rows, small_preset, write_rows

from placecli.config import Preset
from placecli.data.store import Store, open_store
from placecli.records import PlaceError
from placecli.tasks.charts import Estimate, Series
from placecli.tasks.evaluate import evaluate
from placecli.tasks.evaluate_tuned import evaluate_predictions
from placecli.tasks.evaluation import Evaluation
from placecli.tasks.html_report import make_page, write_report
from placecli.tasks.html_report_charts import Bin, difference_rows, interval_rows, reliability_chart, square_chart
from placecli.tasks.html_report_words import agreement, judge, missed
from placecli.tasks.paired import compare_with_first
from placecli.tasks.segmentation_runs import encode_runs

VOID = {"meta", "img", "br", "line", "circle", "polyline", "i"}


class Reader(HTMLParser):
    """Faults of the tags, every address that is asked for, and what has no words for who cannot see."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.addresses: list[str] = []
        self.silent: list[str] = []
        self.anchors: set[str] = set()
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag == "img" and not values.get("alt"):
            self.silent.append("img")
        if tag == "svg" and not values.get("aria-label"):
            self.silent.append("svg")
        if tag == "th":
            self.cells.append(values.get("scope") or "none")
        if values.get("id"):
            self.anchors.add(str(values["id"]))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.faults.append(tag)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def named_store(folder: Path) -> Store:
    """A store whose ids can be looked for."""
    rows, images, masks = make_rows({"train": 8, "test": 24}, seed=3)
    rows = [
        dataclasses.replace(
            row,
            image_id=f"IMG{row.row}Q",
            study_id=f"STU{row.row}Q",
            patient_id=f"PAT{row.row // 2}Q",
            source=f"SRC{row.row}Q",
        )
        for row in rows
    ]
    return open_store(write_rows(folder, rows, images, masks))


def prediction_files(folder: Path, store: Store) -> dict[str, tuple[Path, Path]]:
    """By task two files of predictions of the test split: close to the truth, and guesses."""
    generator = np.random.default_rng(0)
    rows = store.select("test")
    masks = store.masks(rows) > 0
    made: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
        "classification": (
            [{"scores": {name: 0.1 + 0.8 * row.labels[name] for name in FINDINGS}} for row in rows],
            [{"scores": {name: float(generator.uniform()) for name in FINDINGS}} for _ in rows],
        ),
        "segmentation": (
            [encode_runs(mask) for mask in masks],
            [encode_runs(np.roll(mask, int(generator.integers(1, 9)), axis=1)) for mask in masks],
        ),
        "detection": (
            [{"boxes": [{**dataclasses.asdict(box), "score": 0.9} for box in row.boxes]} for row in rows],
            [{"boxes": [{**dataclasses.asdict(box), "x": 2.0, "score": 0.8} for box in row.boxes]} for row in rows],
        ),
    }
    files = {}
    for task, pair in made.items():
        files[task] = (folder / f"{task}-good.jsonl", folder / f"{task}-guess.jsonl")
        for file, predictions in zip(files[task], pair, strict=True):
            lines = [
                json.dumps({"image_id": row.image_id, **each}) for row, each in zip(rows, predictions, strict=True)
            ]
            file.write_text("\n".join(lines), "utf-8")
    return files


@pytest.fixture(scope="module")
def found(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Evaluation]:
    """Three tasks of a run and three of two files of predictions each."""
    folder = tmp_path_factory.mktemp("html")
    store = named_store(folder / "store")
    shutil.copytree(run_folder, folder / "run")
    config = small_preset().evaluate.model_copy(update={"bootstrap": 20})
    evaluations = [
        evaluate(folder / "run", store.path, task, config=config, device="cpu", keeps_material=True)  # type: ignore[arg-type]
        for task in ("retrieval", "zero-shot", "grounding")
    ]
    preset = Preset.model_validate({"evaluate": {"bootstrap": 20}})
    for task, files in prediction_files(folder, store).items():
        for file in files:
            evaluations.append(
                evaluate_predictions(task, file, store, preset, split="test", protocol="clean", keeps_material=True)
            )
    return evaluations


def page_of(found: list[Evaluation], task: str, tmp_path: Path, **choices: Any) -> str:
    chosen = [each for each in found if each.task == task]
    path = write_report(tmp_path / "page.html", chosen, compare_with_first(chosen), **choices)
    return path.read_text("utf-8")


@pytest.mark.parametrize("task", ["retrieval", "zero-shot", "grounding", "classification", "segmentation", "detection"])
def test_page_loads_nothing_names_nobody_and_is_well_formed(found: list[Evaluation], task: str, tmp_path: Path) -> None:
    html = page_of(found, task, tmp_path)
    reader = read(html)
    assert (reader.faults, reader.open, reader.silent) == ([], [], [])
    assert reader.addresses
    assert all(address.startswith("data:image/") or address[1:] in reader.anchors for address in reader.addresses)
    assert not re.search(r"url\(|@import|<script|<link|<iframe|https?:|javascript:| on\w+=", html)
    assert not re.search(r"(IMG|STU|PAT|SRC)\d+Q", html)
    assert str(found[0].data) not in html
    assert set(reader.cells) == {"col", "row"}
    assert "$" not in html
    if task != "zero-shot":
        assert html.count("<img") >= 4


def test_ids_are_shown_to_who_asks_for_them_but_patients_never(found: list[Evaluation], tmp_path: Path) -> None:
    for task in ("retrieval", "classification", "segmentation", "detection", "grounding"):
        html = page_of(found, task, tmp_path, show_ids=True)
        assert re.search(r"study STU\d+Q, image IMG\d+Q", html), task
        assert not re.search(r"PAT\d+Q", html)


def test_numbers_intervals_and_differences_are_those_of_the_evaluation(found: list[Evaluation], tmp_path: Path) -> None:
    chosen = [each for each in found if each.task == "classification"]
    html = page_of(found, "classification", tmp_path)
    for each in chosen:
        measure = each.findings.metrics["auroc_macro"]
        assert f"{measure.value:.3f}<small>{measure.low:.3f} to {measure.high:.3f}</small>" in html
    difference = compare_with_first(chosen)[0].metrics["auroc_macro"]
    assert f"{difference.value:+.3f}<small>{difference.low:+.3f} to {difference.high:+.3f}</small>" in html
    assert "classification-good.jsonl and classification-guess.jsonl" in html
    assert html.count('class="card"') == len(FINDINGS)


def test_cases_are_the_extremes(found: list[Evaluation]) -> None:
    guess = next(each for each in found if each.task == "segmentation" and "guess" in each.run)
    part = make_page([guess], [], show_ids=False).parts[0]
    best, _, worst = part.cases
    values = [[float(case.title.split()[1]) for case in group.cases] for group in (best, worst)]
    assert min(values[0]) > max(values[1])
    assert values[0] == sorted(values[0], reverse=True)


def test_protocol_and_synthetic_data_are_said_in_words(found: list[Evaluation], tmp_path: Path) -> None:
    html = page_of(found, "retrieval", tmp_path)
    assert "Protocol clean: patients of this split are in no other split" in html
    assert "Not for clinical use." in html
    compat = [dataclasses.replace(found[0], protocol="compat")]
    assert "known leaks" in write_report(tmp_path / "c", compat, []).read_text("utf-8")
    assert (tmp_path / "c" / "index.html").is_file()


def test_a_split_that_shares_patients_with_train_is_not_called_unseen(found: list[Evaluation], tmp_path: Path) -> None:
    rows, images, masks = make_rows({"train": 8, "test": 24}, seed=3)
    rows[0] = dataclasses.replace(rows[0], patient_id=rows[9].patient_id)
    store = write_rows(tmp_path / "leaky", rows, images, masks)
    page = make_page([dataclasses.replace(found[3], data=str(store))], [], show_ids=False)
    assert "1 patients of this split are also in train." in page.protocol
    assert "unseen" not in page.title
    assert "unseen" in make_page([found[3]], [], show_ids=False).title


def test_every_text_is_escaped(found: list[Evaluation], tmp_path: Path) -> None:
    evil = [dataclasses.replace(found[0], run="/runs/<script>alert(1)<&script> $lead")]
    html = write_report(tmp_path / "page.html", evil, []).read_text("utf-8")
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_more_runs_than_colours_or_no_place_is_refused(found: list[Evaluation], tmp_path: Path) -> None:
    many = [dataclasses.replace(found[0], run=f"run-{i}") for i in range(5)]
    with pytest.raises(PlaceError, match="up to 4 runs, not 5"):
        write_report(tmp_path / "page.html", many, [])
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaceError, match="cannot be written"):
        write_report(tmp_path / "file" / "page.html", [found[0]], [])


def test_sentences_are_held_against_the_other_report() -> None:
    reference = ("There is a left pleural effusion.", "No pneumothorax.", "Heart size is normal.")
    given = ("Small left pleural effusion.", "Right pneumothorax.", "Pneumonia in the right lung.", "Bones are intact.")
    assert [each.verdict for each in judge(given, reference)] == ["agrees", "contradicts", "extra", ""]
    assert [each.verdict for each in missed(reference, ("No pleural effusion.",))] == ["missed", "", ""]
    assert [each.verdict for each in missed(reference, given)] == ["", "", ""]
    same, other = agreement(given, reference)
    assert same == 1
    assert other >= 2


def test_strips_place_their_dots_by_value_and_say_them() -> None:
    strip = interval_rows([Estimate(0.25, 0.0, 0.5), Estimate(1.0)], 0.5, ["a", "b"], width=216)
    assert re.findall(r'cx="([\d.]+)"', strip) == ["58.0", "208.0"]
    assert 'x1="8.0" x2="108.0"' in strip
    assert 'aria-label="a 0.250 (0.000 to 0.500); b 1.000; chance 0.500"' in strip
    middle = difference_rows([Estimate(0.0, -0.1, 0.3)], 0.2, ["b"], width=216)
    assert 'cx="108.0"' in middle
    assert 'x1="58.0" x2="208.0"' in middle  # what lies outside ends at the edge


def test_curves_run_from_corner_to_corner_without_a_point_twice() -> None:
    many = [i / 5000 for i in range(5001)]
    svg = square_chart([Series("", many, many)], x_label="x", y_label="y", summary="A curve", diagonal=True)
    points = re.search(r'<polyline class="line-a" points="([^"]+)"', svg)
    assert points is not None
    pairs = points.group(1).split()
    assert len(pairs) == len(set(pairs)) < 400
    left, bottom = (float(value) for value in pairs[0].split(","))
    right, top = (float(value) for value in pairs[-1].split(","))
    assert left < right
    assert top < bottom
    bins = reliability_chart([[Bin(0.2, 0.3, 0.9), Bin(0.5, float("nan"), 0.0), Bin(0.8, 0.7, 0.1)]], "Reliability")
    assert bins.count("<circle") == 2
    assert "nan" not in bins

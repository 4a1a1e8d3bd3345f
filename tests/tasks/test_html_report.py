"""The evaluation page: self-contained, well formed, without ids, and showing the numbers and cases that it was given."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_run import FINDINGS, make_rows, small_preset, write_rows

from placecli.config import Preset
from placecli.data.store import Store, open_store
from placecli.metrics.classification import average_precision
from placecli.metrics.detection import make_detections, make_targets, match, mean_average_precision
from placecli.metrics.froc import froc
from placecli.records import PlaceError
from placecli.tasks.charts import Estimate, Series
from placecli.tasks.evaluate import evaluate
from placecli.tasks.evaluate_tuned import evaluate_predictions
from placecli.tasks.evaluation import Evaluation
from placecli.tasks.html_report import make_page, write_report
from placecli.tasks.html_report_boxes import froc_curve, froc_marks, precision_at_recalls
from placecli.tasks.html_report_calls import Calls, call_cases
from placecli.tasks.html_report_charts import (
    SHAPES,
    Bin,
    difference_rows,
    interval_rows,
    reliability_chart,
    square_chart,
)
from placecli.tasks.html_report_classes import drawn_images, nearest_images
from placecli.tasks.html_report_content import Case
from placecli.tasks.html_report_curves import Scored, precision_recall_steps
from placecli.tasks.html_report_page import render
from placecli.tasks.html_report_tuned import share_reaching
from placecli.tasks.html_report_words import agreement, judge, missed
from placecli.tasks.material import PretrainedMaterial
from placecli.tasks.paired import compare_with_first
from placecli.tasks.segmentation_runs import encode_runs

TASKS = (
    "retrieval",
    "zero-shot",
    "grounding",
    "class-retrieval",
    "classification",
    "segmentation",
    "detection",
    "report-generation",
)
METRICS = ("auroc", "average_precision", "ece")
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
        self.levels: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag == "img" and not values.get("alt"):
            self.silent.append("img")
        if tag == "svg" and not values.get("aria-label") and values.get("aria-hidden") != "true":
            self.silent.append("svg")
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
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
        "report-generation": (
            [{"report": " ".join(row.sentences) or "Nothing."} for row in rows],
            [{"report": "No pneumothorax. Square opacity in the left lung."} for _ in rows],
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
    classes = config.class_retrieval.model_copy(update={"per_class": 4, "cutoffs": (1, 5)})
    config = config.model_copy(update={"class_retrieval": classes})
    evaluations.append(
        evaluate(folder / "run", store.path, "class-retrieval", config=config, device="cpu", keeps_material=True)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "placecli.tasks.meteor_java.is_available", lambda: False
        )  # a machine of its own, and slow to start
        for task, files in prediction_files(folder, store).items():
            for file in files:
                evaluations.append(
                    evaluate_predictions(task, file, store, preset, split="test", protocol="clean", keeps_material=True)
                )
    return evaluations


def first_of(found: list[Evaluation], task: str, name: str = "") -> Evaluation:
    return next(each for each in found if each.task == task and name in each.run)


def page_of(found: list[Evaluation], task: str, tmp_path: Path, **choices: Any) -> str:
    chosen = [each for each in found if each.task == task]
    path = write_report(tmp_path / "page.html", chosen, compare_with_first(chosen), **choices)
    return path.read_text("utf-8")


@pytest.mark.parametrize("task", TASKS)
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
    assert reader.levels[:2] == [1, 2]
    assert all(after - before <= 1 for before, after in pairwise(reader.levels))
    assert "$" not in html
    assert "not for clinical use" in html.lower()
    assert html.count("<img") >= 4


def test_ids_are_shown_to_who_asks_for_them_but_patients_never(found: list[Evaluation], tmp_path: Path) -> None:
    for task in TASKS:
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
    assert difference.high < 0  # so it is in bold
    told = f"<b>{difference.value:+.3f}</b><small>{difference.low:+.3f} to {difference.high:+.3f}</small>"
    assert told.replace("-", "\N{MINUS SIGN}") in html
    assert "classification-good.jsonl and classification-guess.jsonl" in html
    assert html.count('class="card"') == len(FINDINGS)


def test_cases_are_the_extremes(found: list[Evaluation]) -> None:
    guess = next(each for each in found if each.task == "segmentation" and "guess" in each.run)
    part = make_page([guess], [], show_ids=False).parts[0]
    best, _, worst = part.cases[:3]
    values = [[float(case.title.split()[1]) for case in group.cases] for group in (best, worst)]
    assert min(values[0]) > max(values[1])
    assert values[0] == sorted(values[0], reverse=True)
    assert values[1] == sorted(values[1])


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
    assert [each.verdict for each in judge(("No pneumothorax.",), reference)] == ["denies"]
    assert [each.verdict for each in missed(reference, ("No pleural effusion.",))] == ["missed", "", ""]
    assert [each.verdict for each in missed(reference, given)] == ["agrees", "", ""]
    same, other = agreement(given, reference)
    assert same == 1
    assert other >= 2


def test_strips_place_their_marks_by_value_and_say_them() -> None:
    strip = interval_rows([Estimate(0.25, 0.0, 0.5), None, Estimate(1.0)], 0.5, ["a", "b", "c"])
    assert re.findall(r'<svg x="([\d.]+)%" y="(\d+)"', strip) == [("27.00", "13"), ("96.00", "45")]
    assert 'x1="4.00%" x2="50.00%"' in strip
    assert 'aria-label="a 0.250 (0.000 to 0.500); b not defined; c 1.000; chance 0.500"' in strip
    assert [shape in strip for shape in SHAPES] == [True, False, True, False]  # each run its own
    middle = difference_rows([Estimate(0.0, -0.1, 0.3)], 0.2, ["b"])
    assert '<svg x="50.00%"' in middle
    assert 'x1="27.00%" x2="96.00%"' in middle  # what lies outside ends at the edge
    assert SHAPES[1] in middle  # the second run, as everywhere


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
    pale = reliability_chart([[Bin(0.2, 0.3, 0.9), Bin(0.8, 0.7, 0.1, is_small=True)]], "Reliability")
    assert re.findall(r'points="([^"]*)"', pale)[0].count(",") == 1
    assert pale.count(" pale") == 1


def area(series: Series) -> float:
    x, y = np.asarray(series.x), np.asarray(series.y)
    return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())


def test_areas_below_the_curves_are_the_numbers_beside_them() -> None:
    generator = np.random.default_rng(4)
    present = generator.uniform(size=60) < 0.3
    scores = np.round(present * 0.3 + generator.uniform(size=60), 1)  # with ties
    assert area(precision_recall_steps(Scored(present, scores))) == pytest.approx(average_precision(present, scores))
    values = np.sort(generator.uniform(size=9))
    assert area(share_reaching(values)) == pytest.approx(values.mean())
    assert area(share_reaching(np.array([0.0, 1.0]))) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["good", "guess"])
def test_charts_tell_the_numbers_of_the_evaluation(found: list[Evaluation], name: str) -> None:
    classified = first_of(found, "classification", name)
    for card in make_page([classified], [], show_ids=False).parts[0].charts:
        parts = [classified.findings.metrics[f"{metric}[{card.title}]"].value for metric in METRICS]
        assert card.values == ("AUROC {:.3f}, average precision {:.3f}, ECE {:.3f}".format(*parts),)
    detected = first_of(found, "detection", name)
    first, *others = make_page([detected], [], show_ids=False).parts[0].charts
    assert first.values == (f"FROC {detected.findings.metrics['froc'].value:.3f}",)
    for card in others:
        assert card.values == (f"average precision {detected.findings.metrics[f'ap_50[{card.title}]'].value:.3f}",)
    segmented = first_of(found, "segmentation", name)
    (card,) = make_page([segmented], [], show_ids=False).parts[0].charts
    assert card.values[0].startswith(f"mean {segmented.findings.metrics['dice_positives'].value:.3f},")


def test_boxes_curves_are_those_that_the_scores_average() -> None:
    generator = np.random.default_rng(2)
    wanted = [make_targets(boxes(generator, 3), [0, 0, 1]) for _ in range(12)]
    near = [each.boxes + generator.normal(scale=2.0, size=(3, 4)) for each in wanted]
    found = [make_detections(corners, generator.uniform(size=3), [0, 1, 1]) for corners in near]
    own = [make_detections(each.boxes[:1], each.scores[:1], [0]) for each in found]
    only = [make_targets(each.boxes[:2], [0, 0]) for each in wanted]
    curve = precision_at_recalls(found, wanted, 0)
    assert 0 < np.mean(curve) < 1
    assert np.mean(curve) == pytest.approx(mean_average_precision(match(own, only, (0.5,))))
    marks = froc_marks(found, wanted)
    seven = froc_curve(marks)[::10]
    assert np.mean(seven) == pytest.approx(froc(marks))


def boxes(generator: np.random.Generator, number: int) -> np.ndarray:
    corners = generator.uniform(0, 30, (number, 2))
    return np.concatenate([corners, corners + 12], axis=1)


def test_images_found_for_a_class_are_those_that_the_score_counts(found: list[Evaluation]) -> None:
    evaluation = first_of(found, "class-retrieval")
    material = evaluation.material
    assert isinstance(material, PretrainedMaterial)
    images, of_class, classes = drawn_images(evaluation, material)
    nearest = nearest_images(evaluation, material, images)
    right = of_class[nearest] == of_class[:, None]
    assert right[:, 0].mean() == pytest.approx(evaluation.findings.metrics["precision@1_image_to_image"].value)
    patients = [row.patient_id for row in material.gallery.rows(images)]
    assert not any(patients[query] == patients[hit] for query in range(len(images)) for hit in nearest[query])
    assert classes == tuple(FINDINGS)


@pytest.mark.parametrize("key", ["image_id", "study_id", "query"])
def test_reports_are_shown_however_they_were_matched(
    found: list[Evaluation], key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("placecli.tasks.meteor_java.is_available", lambda: False)
    store = open_store(Path(found[0].data))
    names = {
        row.image_id: {"image_id": row.image_id, "study_id": row.study_id, "query": f"/films/{row.source}"}[key]
        for row in store.select("test")
    }
    lines = [
        {key: name, "report": "Large right pleural effusion." if i % 2 else "No pneumothorax."}
        for i, name in enumerate(names.values())
    ]
    file = tmp_path / "theirs.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    preset = Preset.model_validate({"evaluate": {"bootstrap": 0}})
    made = evaluate_predictions(
        "report-generation", file, store, preset, split="test", protocol="clean", keeps_material=True
    )
    html = write_report(tmp_path, [made], []).read_text("utf-8")
    assert "Large right pleural effusion." in html
    assert html.count("<h5>Generated</h5>") == html.count("<img") >= 3
    assert "no text" not in html


def test_a_run_without_observations_has_no_score_by_them_and_no_heat_map(
    found: list[Evaluation], tmp_path: Path
) -> None:
    learnt = page_of(found, "retrieval", tmp_path)
    assert "Heat-map for the sentence" in learnt
    plain = []
    for task in ("retrieval", "zero-shot"):
        evaluation = first_of(found, task)
        material = evaluation.material
        assert isinstance(material, PretrainedMaterial)
        run = dataclasses.replace(
            material.run, preset=small_preset(objective={"pcma_weight": 0.0, "correlation_heads": 2})
        )
        config = material.config.model_copy(update={"score": "global", "zero_shot_score": "global"})
        kept = dataclasses.replace(material, run=run, config=config)
        plain.append(dataclasses.replace(evaluation, material=kept, score="global"))
    page = make_page(plain, [], show_ids=False)
    html = render(page)
    assert "Heat-map" not in html
    assert "trained without observations" in html
    assert [line.name for line in page.parts[1].lines].count("AUROC by observations") == 0


def test_calls_are_the_clearest_with_each_label_and_image_once() -> None:
    targets = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, np.nan], [np.nan, 0.0]])
    strengths = np.array([[0.9, 0.8], [0.1, 0.7], [0.3, 0.99], [0.95, 0.2]])
    groups = call_cases(Calls(targets, strengths), "numbers", lambda i, j: Case(f"{i} {j}", ()))
    assert [(group.title, [case.title for case in group.cases]) for group in groups] == [
        ("Rightly called", ["0 0", "1 1"]),
        ("Missed", ["1 0"]),
        ("False alarms", ["0 1", "2 0"]),
    ]


def test_colours_can_be_told_from_their_ground() -> None:
    css = (resources.files("placecli.tasks") / "html_report.html").read_text("utf-8")
    schemes = [dict(re.findall(r"--(\w+): (#[0-9a-f]{3,6})", block)) for block in re.findall(r":root \{([^}]*)\}", css)]
    assert len(schemes) == 3  # light, dark, print
    for colours in schemes:
        for ground in ("paper", "panel", "agree", "warn", "wrong", "extra"):
            assert contrast(colours["ink"], colours[ground]) >= 7
        for ground in ("paper", "panel"):
            assert contrast(colours["soft"], colours[ground]) >= 4.5
            assert all(contrast(colours[line], colours[ground]) >= 4.5 for line in "abcd")


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colours."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = np.array([int(digits[i : i + 2], 16) for i in (0, 2, 4)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])

"""Scores of boxes: closed cases, pycocotools, the field's counting, intervals by patient."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from small_run import make_rows

from placecli.records import Box, PlaceError, Row
from placecli.tasks import detection_scores
from placecli.tasks.detection_baseline import constant_boxes
from placecli.tasks.detection_boxes import predicted_boxes, true_boxes
from placecli.tasks.detection_scores import score_detection
from placecli.tasks.evaluation import Resampling
from placecli.tasks.use import Prediction

LABELS = ("square", "stripe")


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """Two images a patient; every third image has nothing in it."""
    made = make_rows({"test": 24}, 4)[0]
    return [dataclasses.replace(row, boxes=()) if i % 3 == 2 else row for i, row in enumerate(made)]


def predict(row: Row, *boxes: tuple[Box, float]) -> Prediction:
    listed = [{**dataclasses.asdict(box), "score": score} for box, score in boxes]
    return {"image_id": row.image_id, "boxes": listed}


def noisy(rows: list[Row], seed: int = 0) -> list[Prediction]:
    """Each box displaced, and false ones everywhere."""
    generator = np.random.default_rng(seed)
    made = []
    for row in rows:
        boxes = [
            (dataclasses.replace(box, x=box.x + generator.normal(), y=box.y + generator.normal()), generator.random())
            for box in row.boxes
        ]
        for _ in range(generator.integers(0, 4)):
            label = LABELS[generator.integers(2)]
            x, y, width, height = generator.random(4) * 20 + 2
            boxes.append((Box(label, x, y, width, height), generator.random() * 0.8))
        made.append(predict(row, *boxes))
    return made


def score(predictions: list[Prediction], rows: list[Row], protocol: str = "clean", **resampling: int) -> dict[str, Any]:
    drawn = Resampling(resampling.get("replicates", 0), resampling.get("seed", 0))
    findings = score_detection(predictions, rows, LABELS, protocol, drawn)
    return {"counts": findings.counts, **findings.metrics}


def test_the_truth_scores_one_and_nothing_scores_zero(rows: list[Row]) -> None:
    truth = score([predict(row, *((box, 0.9) for box in row.boxes)) for row in rows], rows)
    nothing = score([predict(row) for row in rows], rows)
    for name in ("map", "map_50", "map_75", "froc", "ap_50[square]", "ap_50[stripe]"):
        assert truth[name].value == pytest.approx(1.0)
        assert nothing[name].value == 0.0
    assert "map_compat" not in truth
    counts = truth["counts"]
    assert (counts["images_with_boxes"], counts["patients"], counts["detections"]) == (16, 12, 16)
    assert sum(counts["boxes"].values()) == 16
    assert truth["ap_50[square]"].positives == counts["boxes"]["square"]


def test_map_is_that_of_pycocotools_over_all_images(rows: list[Row]) -> None:
    coco = pytest.importorskip("placecli.metrics.coco")
    pytest.importorskip("pycocotools", reason="the extra `detection` is not installed")
    made = noisy(rows)
    found, wanted = [predicted_boxes(p, LABELS) for p in made], [true_boxes(row, LABELS) for row in rows]
    summary = coco.measure_with_pycocotools(found, wanted)
    scored = score(made, rows)
    assert 0.05 < scored["map"].value < 0.95
    assert scored["map"].value == pytest.approx(summary.average_precision, abs=1e-12)
    assert scored["map_50"].value == pytest.approx(summary.by_threshold[0], abs=1e-12)
    assert scored["map_75"].value == pytest.approx(summary.by_threshold[5], abs=1e-12)
    by_label = [scored[f"ap_50[{label}]"].value for label in LABELS]
    assert scored["map_50"].value == pytest.approx(np.mean(by_label), abs=1e-12)


def test_a_false_alarm_on_an_empty_image_costs_by_the_clean_count_only(rows: list[Row]) -> None:
    truth = [predict(row, *((box, 0.6) for box in row.boxes)) for row in rows]
    false = Box("square", 2, 2, 9, 9)
    alarmed = [predict(row, (false, 0.9)) if not row.boxes else made for row, made in zip(rows, truth, strict=True)]
    clean, compat = score(truth, rows, "compat"), score(alarmed, rows, "compat")
    assert clean["map"].value == clean["map_compat"].value == pytest.approx(1.0)
    assert compat["map"].value < 0.9
    assert compat["map_compat"].value == pytest.approx(1.0)
    assert compat["counts"]["compat_images"] == compat["map_compat"].n == 16


def test_the_fields_interval_draws_the_patients_of_the_images_that_it_counts(rows: list[Row]) -> None:
    of_whom = [dataclasses.replace(row, patient_id="one" if row.boxes else row.image_id) for row in rows]
    measure = score(noisy(rows), of_whom, "compat", replicates=20)["map_compat"]
    assert measure.low == pytest.approx(measure.value) == measure.high


def test_the_field_counts_nothing_without_a_confident_detection(
    rows: list[Row], caplog: pytest.LogCaptureFixture
) -> None:
    scored = score([predict(row, *((box, 0.4) for box in row.boxes)) for row in rows], rows, "compat")
    assert scored["map"].value == pytest.approx(1.0)
    assert scored["counts"]["compat_images"] == 0
    assert scored["map_compat"].to_record() == {"value": None, "ci95": None, "n": 0}
    assert [record.getMessage() for record in caplog.records] == [
        "map_compat has no value: no image has both a box and a detection of 0.5 or more; read map instead"
    ]
    caplog.clear()
    score([predict(row) for row in rows], rows)
    assert [record.getMessage() for record in caplog.records] == [
        "not one box was predicted in 24 images, so every score is 0"
    ]


def test_froc_takes_the_centre_and_the_label(rows: list[Row]) -> None:
    target = next(row for row in rows if row.boxes)
    box = target.boxes[0]
    other = LABELS[1 - LABELS.index(box.label)]
    # Half as wide, in the middle: the overlap is poor, the centre is right.
    small = dataclasses.replace(box, x=box.x + box.width / 4, width=box.width / 2, height=box.height)
    found = score([predict(target, (small, 0.9))], [target])
    assert (found["froc"].value, found["map_75"].value) == (1.0, 0.0)
    assert score([predict(target, (dataclasses.replace(box, label=other), 0.9))], [target])["froc"].value == 0.0


def test_intervals_are_by_patient_and_blocks_do_not_matter(rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    made = noisy(rows)
    whole = score(made, rows, replicates=40)
    monkeypatch.setattr(detection_scores, "_CELLS", 100)
    parts = score(made, rows, replicates=40)
    for name in ("map", "map_50", "froc", "ap_50[square]"):
        assert (parts[name].low, parts[name].high) == pytest.approx((whole[name].low, whole[name].high), abs=1e-12)
        assert whole[name].low < whole[name].value < whole[name].high
    # With one patient every replicate is the same.
    alone = [dataclasses.replace(row, patient_id="one") for row in rows]
    same = score(made, alone, replicates=10)["map"]
    assert same.low == pytest.approx(same.high)


def test_intervals_are_those_of_pycocotools_on_each_drawn_set(rows: list[Row]) -> None:
    coco = pytest.importorskip("placecli.metrics.coco")
    pytest.importorskip("pycocotools", reason="the extra `detection` is not installed")
    made = noisy(rows)
    found, wanted = [predicted_boxes(p, LABELS) for p in made], [true_boxes(row, LABELS) for row in rows]
    values = []
    for drawn in np.random.default_rng(3).integers(0, 12, (25, 12)):
        counts = np.bincount(drawn, minlength=12)
        patients = sorted({row.patient_id for row in rows})
        images = [i for i, row in enumerate(rows) for _ in range(counts[patients.index(row.patient_id)])]
        summary = coco.measure_with_pycocotools([found[i] for i in images], [wanted[i] for i in images])
        values.append((summary.average_precision, summary.by_threshold[0], summary.by_threshold[5]))
    ends = np.percentile(values, [2.5, 97.5], axis=0).T
    scored = score(made, rows, replicates=25, seed=3)
    for name, (low, high) in zip(("map", "map_50", "map_75"), ends, strict=True):
        assert (scored[name].low, scored[name].high) == pytest.approx((low, high), abs=1e-12)


def test_boxes_that_are_the_same_everywhere_are_the_chance(rows: list[Row]) -> None:
    """Half of the images have a box in one place, a quarter in another, the rest none."""
    often, rare = Box("square", 4, 4, 10, 10), Box("square", 30, 20, 8, 8)
    of_all = [
        dataclasses.replace(
            row, boxes=(dataclasses.replace(often, x=4 + i % 3),) if i % 2 else (rare,) if i % 4 else ()
        )
        for i, row in enumerate(rows)
    ]
    shown = constant_boxes(of_all, LABELS)
    assert shown.boxes.tolist() == [[5.0, 4, 15, 14], [30, 20, 38, 28]]
    assert shown.scores.tolist() == [0.5, 0.25]
    findings = score_detection(noisy(of_all), of_all, LABELS, "clean", Resampling(0, 0), of_all)
    # 12 of 24 are right, then 18 of 48: precision 1/2 up to recall 2/3, then 3/8, at 101 recalls of which 67 are below.
    # Equal scores stand in the order of the images, which moves it by a few hundredths.
    assert findings.chance["map_50"] == pytest.approx((67 * 12 / 24 + 34 * 18 / 48) / 101, abs=0.03)
    assert findings.chance.keys() == findings.metrics.keys()
    assert score_detection(noisy(rows), rows, LABELS, "clean", Resampling(0, 0)).chance == {}


def test_missing_predictions_and_a_split_without_boxes_are_named(rows: list[Row]) -> None:
    made = noisy(rows)
    with pytest.raises(PlaceError, match="1 of 24 images of the split have none"):
        score(made[1:], rows)
    empty = [row for row in rows if not row.boxes]
    with pytest.raises(PlaceError, match="no image of this split has a box of square, stripe"):
        score(noisy(empty), empty)
    assert score([predict(row) for row in rows[:2]], rows[:2])["counts"]["undefined"] in (["square"], ["stripe"], [])

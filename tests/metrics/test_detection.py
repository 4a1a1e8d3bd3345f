"""Average precision against pycocotools and a plain VOC loop; compat counting; FROC against the challenge's own steps."""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.metrics import detection, froc
from placecli.metrics.bootstrap import estimate
from placecli.metrics.coco import measure_with_pycocotools
from placecli.metrics.detection import Detections, Targets


def boxes(generator: np.random.Generator, number: int) -> np.ndarray:
    """Boxes on a coarse grid, so that overlaps tie and touch the thresholds."""
    corner, size = generator.integers(0, 6, (number, 2)), generator.integers(1, 6, (number, 2))
    return np.concatenate([corner, corner + size], axis=1).astype(float)


def images(seed: int, number: int = 9, num_classes: int = 2) -> tuple[list[Detections], list[Targets]]:
    generator = np.random.default_rng(seed)
    found, wanted = [], []
    for _ in range(number):
        true = boxes(generator, generator.integers(0, 4))
        labels = generator.integers(0, num_classes, len(true))
        shown = np.concatenate([true, boxes(generator, 3)])
        shown = shown[generator.random(len(shown)) < 0.7]
        kept = np.resize(labels, len(shown)) if len(labels) else np.zeros(len(shown), dtype=int)
        found.append(detection.make_detections(shown, generator.integers(0, 8, len(shown)) / 8, kept))
        wanted.append(detection.make_targets(true, labels))
    return found, wanted


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_equals_pycocotools_with_ties_and_empty_images(seed: int) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    found, wanted = images(seed)
    summary = measure_with_pycocotools(found, wanted)
    matches = detection.match(found, wanted)
    assert detection.mean_average_precision(matches) == pytest.approx(summary.average_precision, abs=1e-12, nan_ok=True)
    for threshold, value in zip(detection.COCO_THRESHOLDS, summary.by_threshold, strict=True):
        one = detection.mean_average_precision(detection.match(found, wanted, [threshold]))
        assert one == pytest.approx(value, abs=1e-12, nan_ok=True)


def test_equals_pycocotools_past_a_hundred_detections() -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    generator = np.random.default_rng(0)
    found = [detection.make_detections(boxes(generator, 130), generator.random(130))]
    wanted = [detection.make_targets(boxes(generator, 20))]
    own = detection.mean_average_precision(detection.match(found, wanted))
    assert own == pytest.approx(measure_with_pycocotools(found, wanted).average_precision, abs=1e-12)


def test_pycocotools_prints_nothing_and_is_named_when_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    found, wanted = images(1)
    summary = measure_with_pycocotools(found, wanted)
    assert 0 < summary.average_precision < summary.average_recall < 1
    assert capsys.readouterr().out == ""
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(ImportError, match=r"placecli\[detection\]") as caught:
        measure_with_pycocotools(found, wanted)
    assert "\n" not in str(caught.value)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_weights_equal_repeated_images_without_ties(seed: int) -> None:
    found, wanted = images(seed)
    generator = np.random.default_rng(seed)
    found = [detection.make_detections(d.boxes, generator.random(len(d.boxes)), d.classes) for d in found]
    weights = generator.integers(0, 3, (4, len(found)))
    weights[:, 0] += 1
    for interpolation in ("coco", "voc", "voc07"):
        values = detection.mean_average_precision(detection.match(found, wanted), weights, interpolation=interpolation)
        for row, value in zip(weights, values, strict=True):
            # Scores do not tie: the order of equal scores in one image would differ when images are written out.
            drawn = np.repeat(np.arange(len(found)), row)
            repeated = detection.match([found[i] for i in drawn], [wanted[i] for i in drawn])
            expected = detection.mean_average_precision(repeated, interpolation=interpolation)
            assert value == pytest.approx(expected, abs=1e-9, nan_ok=True)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_a_replicate_is_pycocotools_on_the_images_that_were_drawn(seed: int) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    found, wanted = images(seed)
    generator = np.random.default_rng(seed)
    # A coarse grid of scores ties across images, never within one: copies of an image would shuffle those.
    found = [
        detection.make_detections(d.boxes, generator.permutation(16)[: len(d.boxes)] / 16, d.classes) for d in found
    ]
    matches = detection.match(found, wanted)
    drawn = generator.integers(0, len(found), (4, len(found)))
    weights = np.stack([np.bincount(row, minlength=len(found)) for row in drawn])
    for row, value in zip(drawn, detection.mean_average_precision(matches, weights), strict=True):
        order = np.sort(row)
        summary = measure_with_pycocotools([found[i] for i in order], [wanted[i] for i in order])
        assert value == pytest.approx(summary.average_precision, abs=1e-12, nan_ok=True)


def naive_voc(found: list[Detections], wanted: list[Targets], threshold: float) -> float:
    """The devkit's way for one class: each detection against its best box, area under the raised curve."""
    shown = sorted(
        ((score, i, box) for i, d in enumerate(found) for score, box in zip(d.scores, d.boxes, strict=True)),
        key=lambda item: -item[0],
    )
    taken: set[tuple[int, int]] = set()
    hits = []
    for _, i, (x1, y1, x2, y2) in shown:
        best, place = 0.0, -1
        for j, (a1, b1, a2, b2) in enumerate(wanted[i].boxes):
            shared = max(min(x2, a2) - max(x1, a1), 0) * max(min(y2, b2) - max(y1, b1), 0)
            overlap = shared / ((x2 - x1) * (y2 - y1) + (a2 - a1) * (b2 - b1) - shared)
            if overlap > best:
                best, place = overlap, j
        hits.append(best >= threshold and (i, place) not in taken)
        if hits[-1]:
            taken.add((i, place))
    total = sum(len(t.boxes) for t in wanted)
    recalls, precisions = np.cumsum(hits) / total, np.cumsum(hits) / np.arange(1, len(hits) + 1)
    area, last = 0.0, 0.0
    for k, recall in enumerate(recalls):
        area += (recall - last) * max(precisions[k:])
        last = recall
    return area


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 0.5, 0.75]))
@settings(max_examples=40, deadline=None)
def test_voc_equals_a_plain_loop(seed: int, threshold: float) -> None:
    found, wanted = images(seed, num_classes=1)
    if any(len(t.boxes) for t in wanted) and any(len(d.boxes) for d in found):
        matches = detection.match(found, wanted, [threshold], rule="voc")
        own = detection.mean_average_precision(matches, interpolation="voc")
        assert own == pytest.approx(naive_voc(found, wanted, threshold), abs=1e-9)


def test_the_rules_differ_where_the_best_box_is_taken() -> None:
    wanted = [detection.make_targets([[0, 0, 10, 10], [2, 0, 12, 10]])]
    found = [detection.make_detections([[0, 0, 10, 10], [1, 0, 10.5, 10]], [0.9, 0.8])]
    assert detection.match(found, wanted, [0.5], rule="coco").hit.tolist() == [[True, True]]
    assert detection.match(found, wanted, [0.5], rule="voc").hit.tolist() == [[True, False]]


@pytest.mark.parametrize("only", [0, 1])
def test_of_equal_overlaps_the_later_box_is_taken_as_pycocotools_does(only: int) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    true = [[0, 0, 10, 10], [6, 0, 16, 10]]
    # The first detection overlaps both alike; the second overlaps one box only.
    found = [detection.make_detections([[3, 0, 13, 10], true[only]], [0.9, 0.8])]
    own = detection.match(found, [detection.make_targets(true)], [0.5])
    assert own.hit.tolist() == [[True, only == 0]]
    value = measure_with_pycocotools(found, [detection.make_targets(true)], [0.5]).average_precision
    assert detection.mean_average_precision(own) == pytest.approx(value)


def test_equal_boxes_reach_a_threshold_of_one() -> None:
    target = detection.make_targets([[0, 0, 3, 7]])
    assert detection.match([detection.make_detections([[0, 0, 3, 7]], [0.5])], [target], [1.0]).hit.all()


def test_a_class_without_a_box_in_a_replicate_is_in_no_mean() -> None:
    wanted = [detection.make_targets([[0, 0, 9, 9]], [label]) for label in (0, 1)]
    found = [detection.make_detections([[0, 0, 9, 9]], [0.5], [0]), detection.make_detections([], [])]
    matches = detection.match(found, wanted)
    values = detection.mean_average_precision(matches, [[1, 1], [1, 0], [0, 1], [0, 0]])
    assert values == pytest.approx([0.5, 1.0, 0.0, np.nan], nan_ok=True)


def test_what_lies_between_hits_counts_by_its_weight() -> None:
    target, empty = detection.make_targets([[0, 0, 10, 10]]), detection.make_targets([])
    hit, miss = detection.make_detections([[0, 0, 10, 10]], [0.5]), detection.make_detections([[0, 0, 1, 1]], [0.9])
    late = detection.make_detections([[20, 20, 21, 21]], [0.1])
    matches = detection.match([miss, hit, late, hit], [empty, target, empty, target], [0.5])
    weights = [[0, 1, 5, 1], [1, 1, 0, 1], [3, 1, 2, 0], [2, 0, 0, 0.5]]
    # Precision is highest at the last hit: hits over hits and the misses before.
    expected = [1, 2 / 3, 1 / 4, 0.5 / 2.5]
    for interpolation in ("coco", "voc", "voc07"):
        values = detection.mean_average_precision(matches, weights, interpolation=interpolation)
        assert values == pytest.approx(expected)


def test_closed_forms() -> None:
    target = detection.make_targets([[0, 0, 10, 10]])
    half = detection.make_detections([[0, 0, 10, 6]], [0.9])
    nothing, alarm = detection.make_detections([], []), detection.make_detections([[0, 0, 1, 1]], [0.99])
    # IoU 0.6 reaches 0.5, 0.55 and 0.6 of ten thresholds.
    assert detection.mean_average_precision(detection.match([half], [target])) == pytest.approx(0.3)
    two = [target, target]
    missed = detection.match([half, nothing], two, [0.5])
    assert detection.mean_average_precision(missed, interpolation="voc") == pytest.approx(0.5)
    healthy = detection.match([half, alarm], [target, detection.make_targets([])], [0.5])
    assert detection.mean_average_precision(healthy) == pytest.approx(0.5)
    assert np.isnan(detection.mean_average_precision(detection.match([alarm], [detection.make_targets([])])))
    assert detection.mean_average_precision(detection.match([nothing], [target])) == 0.0
    assert detection.box_iou([[0, 0, 0, 0]], [[0, 0, 0, 0]]).tolist() == [[0.0]]


def test_compat_forgives_missed_images_and_false_alarms() -> None:
    target, empty = detection.make_targets([[0, 0, 10, 10]]), detection.make_targets([])
    good = detection.make_detections([[0, 0, 10, 10], [20, 20, 30, 30]], [0.9, 0.49])
    nothing, alarm = detection.make_detections([], []), detection.make_detections([[0, 0, 1, 1]], [0.99])
    found, wanted = [good, nothing, alarm], [target, target, empty]
    matches, kept = detection.compat_matches(found, wanted)
    assert kept.tolist() == [0]
    assert detection.mean_average_precision(matches) == pytest.approx(1.0)
    clean = detection.match(found, wanted, detection.COMPAT_THRESHOLDS)
    assert detection.mean_average_precision(clean) == pytest.approx(51 / 101 * 0.5)
    with pytest.raises(ValueError, match="not defined"):
        detection.compat_matches([nothing], [target])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_compat_equals_pycocotools_on_what_the_reference_code_keeps(seed: int) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    found, wanted = images(seed, num_classes=1)
    rows = [(d, t, d.scores >= 0.5) for d, t in zip(found, wanted, strict=True)]
    rows = [(d, t, keep) for d, t, keep in rows if keep.any() and len(t.boxes)]
    if rows:
        confident = [detection.make_detections(d.boxes[k], d.scores[k], d.classes[k]) for d, _, k in rows]
        summary = measure_with_pycocotools(confident, [t for _, t, _ in rows], detection.COMPAT_THRESHOLDS)
        matches, _ = detection.compat_matches(found, wanted)
        assert detection.mean_average_precision(matches) == pytest.approx(summary.average_precision, abs=1e-12)


def test_intervals_resample_patients() -> None:
    found, wanted = images(7, number=40)
    matches = detection.match(found, wanted)
    result = estimate(lambda w: detection.mean_average_precision(matches, w), np.arange(40) // 2, replicates=100)
    assert result.low < result.value < result.high
    compat, kept = detection.compat_matches(found, wanted)
    result = estimate(
        lambda w: detection.mean_average_precision(compat, w[:, kept]), np.arange(40) // 2, replicates=100
    )
    assert result.low < result.value < result.high
    assert result.n == 40


def test_refuses_what_is_no_box() -> None:
    with pytest.raises(ValueError, match="x1 <= x2"):
        detection.make_targets([[5, 0, 1, 1]])
    with pytest.raises(ValueError, match="as many scores"):
        detection.make_detections([[0, 0, 1, 1]], [])
    with pytest.raises(ValueError, match="as many classes"):
        detection.make_targets([[0, 0, 1, 1]], [1, 2])
    with pytest.raises(ValueError, match="one each"):
        detection.match([], [])


def naive_froc(scores: list, inside: list, rate: float) -> float:
    """The challenge's own steps: points one by one, best first, until the rate is reached. For scores without ties."""
    points = sorted(((s, i, p) for i, own in enumerate(scores) for p, s in enumerate(own)), reverse=True)
    total = sum(np.shape(table)[1] for table in inside)
    found: set[tuple[int, int]] = set()
    false = 0
    for _, i, p in points:
        hit = np.flatnonzero(inside[i][p])
        found |= {(i, int(g)) for g in hit}
        false += not len(hit)
        if false / len(scores) >= rate:
            break
    return len(found) / total


def marks(seed: int, number: int = 8) -> tuple[list, list]:
    generator = np.random.default_rng(seed)
    scores = [generator.random(generator.integers(0, 6)) for _ in range(number)]
    return scores, [generator.random((len(s), generator.integers(0, 4))) < 0.3 for s in scores]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_froc_equals_the_steps_of_the_challenge(seed: int) -> None:
    scores, inside = marks(seed)
    if sum(table.shape[1] for table in inside):
        own = froc.collect_marks(scores, inside)
        expected = [naive_froc(scores, inside, rate) for rate in froc.OBJECT_CXR_GRID]
        assert [froc.sensitivity_at(own, rate) for rate in froc.OBJECT_CXR_GRID] == pytest.approx(expected)
        assert froc.froc(own) == pytest.approx(np.mean(expected))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_froc_weights_equal_repeated_images(seed: int) -> None:
    scores, inside = marks(seed)
    weights = np.random.default_rng(seed).integers(0, 3, (3, len(scores)))
    weights[:, 0] += 1
    values = froc.froc(froc.collect_marks(scores, inside), (0.5, 1.0), weights)
    for row, value in zip(weights, values, strict=True):
        drawn = np.repeat(np.arange(len(scores)), row)
        repeated = froc.collect_marks([scores[i] for i in drawn], [inside[i] for i in drawn])
        assert value == pytest.approx(froc.froc(repeated, (0.5, 1.0)), nan_ok=True)


def test_froc_reads_ties_against_the_model() -> None:
    tied = froc.collect_marks([[0.5, 0.5]], [[[True], [False]]])
    assert froc.sensitivity_at(tied, 1.0) == 0.0
    assert froc.sensitivity_at(tied, 2.0) == 1.0
    assert np.isnan(froc.sensitivity_at(froc.collect_marks([[0.5]], [np.zeros((1, 0))]), 1.0))
    assert froc.sensitivity_at(froc.collect_marks([[]], [np.zeros((0, 2))]), 1.0) == 0.0
    with pytest.raises(ValueError, match="above 0"):
        froc.sensitivity_at(tied, 0)
    with pytest.raises(ValueError, match="do not fit"):
        froc.collect_marks([[0.5]], [[[True], [False]]])


def test_points_in_shapes() -> None:
    points = [[5, 5], [0, 0], [9.9, 9.9], [11, 5]]
    assert froc.points_in_boxes(points, [[0, 0, 10, 10]])[:, 0].tolist() == [True, True, True, False]
    assert froc.points_in_ellipses(points, [[0, 0, 10, 10]])[:, 0].tolist() == [True, False, False, False]
    triangle = [[1, -1], [12, -1], [12, 10]]
    assert froc.points_in_polygon(points, triangle).tolist() == [False, False, False, True]
    assert froc.points_in_boxes([], [[0, 0, 1, 1]]).shape == (0, 1)
    with pytest.raises(ValueError, match="table"):
        froc.points_in_boxes([[1, 2, 3]], [[0, 0, 1, 1]])


def test_real_boxes_shifted_a_little(real_data: Callable[[str], Path]) -> None:
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    by_image: dict[str, list[list[float]]] = defaultdict(list)
    with (real_data("rsna_pneumonia") / "stage_2_train_labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            own = by_image[row["patientId"]]
            if row["Target"] == "1":
                x, y, width, height = (float(row[name]) for name in ("x", "y", "width", "height"))
                own.append([x, y, x + width, y + height])
    wanted = [detection.make_targets(own) for own in by_image.values()]
    assert 20 < sum(len(t.boxes) for t in wanted) < 10_000
    generator = np.random.default_rng(0)
    shifted = [t.boxes + generator.normal(scale=12, size=(len(t.boxes), 1)) for t in wanted]
    found = [detection.make_detections(own, generator.random(len(own))) for own in shifted]
    value = detection.mean_average_precision(detection.match(found, wanted))
    assert value == pytest.approx(measure_with_pycocotools(found, wanted).average_precision, abs=1e-12)
    assert 0.4 < value < 1.0

"""Boxes for the evaluation page: precision and recall of each label, FROC, and the best and the worst images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np

from placecli.metrics.detection import Detections, Targets, match
from placecli.metrics.froc import Marks, collect_marks, froc, points_in_boxes, sensitivity_at
from placecli.records import Box, Row
from placecli.tasks.charts import Series
from placecli.tasks.detection_boxes import known_rows, predicted_boxes, true_boxes
from placecli.tasks.detection_figures import OVERLAP, caption_of, crop_boxes, draw_boxes
from placecli.tasks.html_report_calls import ids_of
from placecli.tasks.html_report_charts import square_chart
from placecli.tasks.html_report_content import Case, Cases, Charts, Shown
from placecli.tasks.html_report_tuned import Pair, extremes
from placecli.tasks.material import TunedMaterial

LEAST_SCORE: Final = 0.3
"""Boxes below this score are not drawn."""
LARGE: Final = 330
"""Longest side of a picture: names and scores are written into it."""
NUM_SHOWN: Final = 3
RECALLS: Final = np.linspace(0, 1, 101)
_RATES: Final = 2.0 ** np.round(np.linspace(-3, 3, 61), 1)
"""False alarms an image at which the FROC curve is drawn, evenly on its logarithmic axis; every tenth, exactly, is one of
the seven that the score averages."""
_RATE_TICKS: Final = ((0.0, "1/8"), (0.5, "1"), (1.0, "8"))
NOTE: Final = (
    "FROC: the share of all boxes of the reader that is found (up) at so many false alarms an image (right, on a doubling"
    " scale); a box is found when the centre of one of its label lies inside. By label: precision over recall of boxes that"
    " overlap by half or more, made to fall only; the area under each line is the average precision beside it."
)


def detection_charts(materials: Sequence[TunedMaterial]) -> tuple[Charts, ...]:
    """FROC of all labels, then precision over recall of each label that has a box, the most frequent first."""
    labels = tuple(materials[0].about["labels"])
    wanted = [true_boxes(row, labels) for row in materials[0].rows]
    found = [[predicted_boxes(made, labels) for made in each.predictions] for each in materials]
    counts = [sum(int((each.classes == i).sum()) for each in wanted) for i in range(len(labels))]
    order = sorted((i for i, count in enumerate(counts) if count), key=lambda i: (-counts[i], labels[i]))
    images = len(wanted)
    marks = [froc_marks(each, wanted) for each in found]
    means = [f"FROC {froc(each):.3f}" for each in marks]
    chart = square_chart(
        [Series("", np.linspace(0, 1, len(_RATES)).tolist(), froc_curve(each)) for each in marks],
        x_label="false alarms an image",
        y_label="share found",
        summary=f"FROC of all labels: {', '.join(means)}",
        x_ticks=_RATE_TICKS,
    )
    first = Charts("All labels, FROC", f"{sum(counts):,} boxes, {images:,} images", (chart,), tuple(means))
    return (first, *(_of_label(labels[i], i, counts[i], found, wanted) for i in order))


def _of_label(
    label: str, number: int, count: int, found: Sequence[Sequence[Detections]], wanted: Sequence[Targets]
) -> Charts:
    curves = [precision_at_recalls(each, wanted, number) for each in found]
    values = [f"average precision {np.mean(curve):.3f}" for curve in curves]
    chart = square_chart(
        [Series("", RECALLS.tolist(), curve) for curve in curves],
        x_label="recall",
        y_label="precision",
        summary=f"Precision-recall curve of {label} at an overlap of one half: {', '.join(values)}",
    )
    return Charts(label, f"{count:,} boxes", (chart,), tuple(values))


def precision_at_recalls(found: Sequence[Detections], wanted: Sequence[Targets], number: int) -> list[float]:
    """COCO's precision of one label at the 101 recalls 0, 0.01 .. 1, at an overlap of 0.5; their mean is `ap_50[label]`."""
    matches = match(found, wanted, (OVERLAP,))
    hits = np.cumsum(matches.hit[0][matches.category == number])
    recall = hits / (matches.target_category == number).sum()
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    reached = np.searchsorted(recall, RECALLS, side="left")
    return np.append(precision, 0.0)[reached].tolist()


def froc_marks(found: Sequence[Detections], wanted: Sequence[Targets]) -> Marks:
    """As the score counts them: a mark is the centre of a box, of the label of the object it lies in."""
    inside = [
        points_in_boxes((f.boxes[:, :2] + f.boxes[:, 2:]) / 2, w.boxes) & (f.classes[:, None] == w.classes)
        for f, w in zip(found, wanted, strict=True)
    ]
    return collect_marks([each.scores for each in found], inside)


def froc_curve(marks: Marks) -> list[float]:
    """The share found at each of `_RATES`."""
    return [float(sensitivity_at(marks, float(rate))) for rate in _RATES]


def detection_cases(material: TunedMaterial, ids: bool) -> tuple[Cases, ...]:
    """Images with the most and the fewest boxes found for what a reader drew, and false alarms."""
    known = {row.image_id for row in known_rows(material.rows, material.preset.finetune.detection)}
    ordered = tuple(material.about["labels"])
    labels = set(ordered)

    def drawn(row: Row) -> list[Box]:
        return [box for box in row.boxes if box.label in labels]

    def agreement_of(pair: Pair) -> float | None:
        if pair[0].image_id not in known or not drawn(pair[0]):
            return None
        hits, shown, there = _agreeing(pair, ordered)
        # Among equal shares the one with more boxes of the reader says more.
        return 2 * hits / (shown + there) + 1e-4 * there * (1 if hits else -1)

    def draw(pair: Pair) -> Case:
        boxes = drawn(pair[0])
        image = material.store.images([pair[0]])[0]
        boxed = crop_boxes(image, pair[0].content, pair[1], boxes, least_score=LEAST_SCORE)
        title = caption_of(boxed).capitalize()
        names = ", ".join(sorted({box.label for box in boxes}))
        caption = f"The reader drew: {names}." if boxes else "The reader drew nothing."
        shown = Shown(
            draw_boxes(boxed, LARGE),
            f"Radiograph with boxes of the model and of the reader. {title}. {caption}",
            caption,
        )
        return Case(title, (shown,), ids=ids_of(pair[0]) if ids else "")

    note = (
        f"Blue, with a score: found by the model, scores from {LEAST_SCORE:g} on. Green, dashed: drawn by the reader. A box is"
        " found when one of its label overlaps it by half or more."
    )
    cases = extremes(
        material, agreement_of, draw, note, ("The best boxes", "In the middle", "The worst boxes"), NUM_SHOWN
    )
    cases = tuple(dataclasses.replace(each, is_large=True) for each in cases)
    alarms = [
        (max((box["score"] for box in prediction["boxes"]), default=0.0), (row, prediction))
        for row, prediction in zip(material.rows, material.predictions, strict=True)
        if row.image_id in known and not drawn(row)
    ]
    alarms.sort(key=lambda each: -each[0])
    shown = tuple(draw(pair) for score, pair in alarms[:NUM_SHOWN] if score >= LEAST_SCORE)
    return (
        (*cases, Cases("False alarms", "Images where the reader drew nothing.", shown, is_large=True))
        if shown
        else cases
    )


def _agreeing(pair: Pair, labels: Sequence[str]) -> tuple[int, int, int]:
    """Boxes of the reader that are found, boxes of the model that are shown, boxes of the reader."""
    wanted, found = true_boxes(pair[0], labels), predicted_boxes(pair[1], labels)
    kept = found.scores >= LEAST_SCORE
    shown = Detections(found.boxes[kept], found.scores[kept], found.classes[kept])
    return int(match([shown], [wanted], (OVERLAP,)).hit.sum()), len(shown.boxes), len(wanted.boxes)

"""Pictures of tuned runs for the evaluation page: right and wrong calls, masks, boxes, and reports beside their reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from placecli.data.reports import split_sentences
from placecli.data.store import Store
from placecli.metrics.segmentation import dice, measure_overlap
from placecli.records import Row
from placecli.tasks.detection_boxes import known_rows
from placecli.tasks.detection_figures import caption_of as caption_of_boxes
from placecli.tasks.detection_figures import crop_boxes, draw_boxes
from placecli.tasks.html_report_content import Case, Cases, Sentence, Shown
from placecli.tasks.html_report_curves import Scored, scored
from placecli.tasks.html_report_pretrained import ids_of
from placecli.tasks.html_report_words import agreement, judge, missed, report_sentences
from placecli.tasks.material import TunedMaterial
from placecli.tasks.segmentation_figures import Marked, caption_of, draw_masks
from placecli.tasks.segmentation_runs import decode_runs
from placecli.tasks.targets import read_targets
from placecli.tasks.use import Prediction

NUM_SHOWN: Final = 4
PANEL: Final = 300
LEAST_SCORE: Final = 0.3
"""Boxes below this score are not drawn."""

_Pair = tuple[Row, Prediction]


def classification_curves(material: TunedMaterial) -> dict[str, Scored]:
    """By label the probabilities of the labelled rows."""
    labels = tuple(material.about["labels"])
    targets = read_targets(material.rows, labels, material.preset.finetune.classification)
    table = np.asarray([[each["scores"][label] for label in labels] for each in material.predictions], np.float64)
    curves = {label: scored(targets[:, j], table[:, j]) for j, label in enumerate(labels)}
    return {label: curve for label, curve in curves.items() if curve is not None}


def classification_cases(material: TunedMaterial, ids: bool) -> tuple[Cases, ...]:
    """The surest calls that are right, and the surest that are wrong, one a label and image."""
    labels = tuple(material.about["labels"])
    targets = read_targets(material.rows, labels, material.preset.finetune.classification)
    table = np.asarray([[each["scores"][label] for label in labels] for each in material.predictions], np.float64)
    present, absent = targets == 1, targets == 0
    groups = (
        ("Rightly called", "Findings that are there, with the highest probabilities.", np.where(present, table, -1)),
        ("Missed", "Findings that are there, with the lowest probabilities.", np.where(present, 1 - table, -1)),
        ("False alarms", "Findings that are not there, with the highest probabilities.", np.where(absent, table, -1)),
    )
    return tuple(
        Cases(title, note, tuple(_call(material, labels, table, place, ids) for place in _strongest(sureness)))
        for title, note, sureness in groups
    )


def _strongest(sureness: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(row, label) of the largest values, of rows and labels not taken yet."""
    rows: set[int] = set()
    columns: set[int] = set()
    chosen: list[tuple[int, int]] = []
    for flat in np.argsort(-sureness, axis=None, kind="stable").tolist():
        row, column = divmod(flat, sureness.shape[1])
        if sureness[row, column] < 0 or len(chosen) == NUM_SHOWN:
            break
        if row not in rows and column not in columns:
            chosen.append((row, column))
            rows.add(row)
            columns.add(column)
    return chosen


def _call(
    material: TunedMaterial, labels: Sequence[str], table: NDArray[np.float64], place: tuple[int, int], ids: bool
) -> Case:
    row, label = material.rows[place[0]], labels[place[1]]
    truth = sorted(name for name, value in row.labels.items() if value == 1)
    caption = f"probability {table[place]:.2f}. Labels: {', '.join(truth) or 'none present'}"
    shown = Shown(draw_plain(material.store, row), f"Radiograph; {label} was given {caption}", caption)
    return Case(label, (shown,), ids=ids_of(row) if ids else "")


def segmentation_cases(material: TunedMaterial, ids: bool) -> tuple[Cases, ...]:
    """The masks with the highest, a middle and the lowest Dice, of images where a reader marked something."""

    def mask_of(pair: _Pair) -> NDArray[np.bool_]:
        return decode_runs(pair[1], material.store.size)

    def agreement_of(pair: _Pair) -> float | None:
        actual = material.store.masks([pair[0]]) > 0
        return float(dice(measure_overlap(mask_of(pair)[None], actual))[0]) if actual.any() else None

    def draw(pair: _Pair) -> Case:
        (x0, y0, x1, y1), actual = pair[0].content, material.store.masks([pair[0]])[0] > 0
        image = material.store.images([pair[0]])[0][y0:y1, x0:x1]
        marked = Marked(image, mask_of(pair)[y0:y1, x0:x1], actual[y0:y1, x0:x1])
        caption = caption_of(marked)
        shown = Shown(draw_masks(marked, PANEL), f"Radiograph with the mask of the model and of the reader; {caption}")
        return Case(caption, (shown,), ids=ids_of(pair[0]) if ids else "")

    note = "Blue: marked by the model. Green outline: marked by the reader."
    return _extremes(material, agreement_of, draw, note, ("The best masks", "In the middle", "The worst masks"))


def detection_cases(material: TunedMaterial, ids: bool) -> tuple[Cases, ...]:
    """Images with the most and the fewest boxes found for what a reader drew, and false alarms."""
    known = {row.image_id for row in known_rows(material.rows, material.preset.finetune.detection)}
    labels = set(material.about["labels"])

    def drawn(row: Row) -> list[object]:
        return [box for box in row.boxes if box.label in labels]

    def agreement_of(pair: _Pair) -> float | None:
        boxes = [box for box in pair[0].boxes if box.label in labels]
        if pair[0].image_id not in known or not boxes:
            return None
        found = [box for box in pair[1]["boxes"] if box["score"] >= LEAST_SCORE]
        hits = sum(any(_overlap(box, each) >= 0.5 and box.label == each["label"] for each in found) for box in boxes)
        return 2 * hits / (len(boxes) + len(found))

    def draw(pair: _Pair) -> Case:
        boxes = [box for box in pair[0].boxes if box.label in labels]
        image = material.store.images([pair[0]])[0]
        boxed = crop_boxes(image, pair[0].content, pair[1], boxes, least_score=LEAST_SCORE)
        caption = caption_of_boxes(boxed)
        shown = Shown(draw_boxes(boxed, PANEL), f"Radiograph with boxes of the model and of the reader; {caption}")
        return Case(caption, (shown,), ids=ids_of(pair[0]) if ids else "")

    note = f"Blue: found by the model, with scores from {LEAST_SCORE:g} on. Green, dashed: drawn by the reader."
    cases = _extremes(material, agreement_of, draw, note, ("The best boxes", "In the middle", "The worst boxes"))
    alarms = [
        (max((box["score"] for box in prediction["boxes"]), default=0.0), (row, prediction))
        for row, prediction in zip(material.rows, material.predictions, strict=True)
        if row.image_id in known and not drawn(row)
    ]
    alarms.sort(key=lambda each: -each[0])
    shown = tuple(draw(pair) for score, pair in alarms[:NUM_SHOWN] if score >= LEAST_SCORE)
    return (*cases, Cases("False alarms", note, shown)) if shown else cases


def _overlap(box: object, found: object) -> float:
    """Intersection over union of a Box and a predicted box."""
    ax, ay, aw, ah = (float(getattr(box, name)) for name in ("x", "y", "width", "height"))
    bx, by, bw, bh = (float(found[name]) for name in ("x", "y", "width", "height"))  # type: ignore[index]
    width = max(0.0, min(ax + aw, bx + bw) - max(ax, bx))
    height = max(0.0, min(ay + ah, by + bh) - max(ay, by))
    return width * height / max(aw * ah + bw * bh - width * height, 1e-9)


def report_cases(material: TunedMaterial, ids: bool) -> tuple[Cases, ...]:
    """Generated reports beside the written ones: most and fewest findings in common, and some in the middle."""

    def agreement_of(pair: _Pair) -> float | None:
        same, other = agreement(_written(pair[1]), report_sentences(pair[0]))
        # Among equal shares the one with fewer errors is the better one.
        return 2 * same / (2 * same + other) - 1e-3 * other if same + other else None

    def draw(pair: _Pair) -> Case:
        written, reference = _written(pair[1]), report_sentences(pair[0])
        same, other = agreement(written, reference)
        texts: tuple[tuple[str, tuple[Sentence, ...]], ...] = (
            ("Generated", judge(written, reference)),
            ("Written by a radiologist", missed(reference, written)),
        )
        shown = Shown(draw_plain(material.store, pair[0]), "Radiograph that the report was generated for")
        title = f"{same} findings in both, {other} in one alone"
        return Case(title, (shown,), texts, ids_of(pair[0]) if ids else "")

    note = (
        "Findings are read from both texts by rules (docs/labeler.md). Images without any finding in either report are"
        " left out here."
    )
    cases = _extremes(material, agreement_of, draw, note, ("The best reports", "In the middle", "The worst reports"), 2)
    return tuple(Cases(each.title, each.note, each.cases, is_wide=True) for each in cases)


def _written(prediction: Prediction) -> tuple[str, ...]:
    listed = prediction.get("sentences")
    if isinstance(listed, list) and all(isinstance(each, dict) and "text" in each for each in listed) and listed:
        return tuple(str(each["text"]) for each in listed)
    return split_sentences(str(prediction.get("report", "")))


def _extremes(
    material: TunedMaterial,
    agreement_of: Callable[[_Pair], float | None],
    draw: Callable[[_Pair], Case],
    note: str,
    titles: tuple[str, str, str],
    count: int = NUM_SHOWN,
) -> tuple[Cases, ...]:
    """The pairs of highest, middle and lowest agreement, the note with the first; those without one are left out."""
    pairs = list(zip(material.rows, material.predictions, strict=True))
    values = [(value, i) for i, pair in enumerate(pairs) if (value := agreement_of(pair)) is not None]
    values.sort(key=lambda each: (-each[0], each[1]))
    count = min(count, max(1, len(values) // 3))
    middle = max(0, (len(values) - count) // 2)
    groups = (values[:count], values[middle : middle + count], values[len(values) - count :])
    return tuple(
        Cases(title, "" if number else note, tuple(draw(pairs[i]) for _, i in group))
        for number, (title, group) in enumerate(zip(titles, groups, strict=True))
        if group
    )


def draw_plain(store: Store, row: Row) -> NDArray[np.uint8]:
    """uint8 [h, w]: the image without its padding, the longest side as long as that of the other pictures."""
    x0, y0, x1, y1 = row.content
    image = store.images([row])[0][y0:y1, x0:x1]
    scale = PANEL / max(image.shape)
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)

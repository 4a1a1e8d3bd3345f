"""Pictures of tuned runs for the evaluation page: right and wrong calls, masks, boxes, and reports beside their reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.data.reports import split_sentences
from placecli.metrics.segmentation import dice
from placecli.records import Row
from placecli.tasks.charts import Series
from placecli.tasks.html_report_calls import (
    NUM_SHOWN,
    PANEL,
    Calls,
    call_cases,
    draw_plain,
    ids_of,
    labels_in_words,
)
from placecli.tasks.html_report_charts import square_chart
from placecli.tasks.html_report_content import Case, Cases, Charts, Sentence, Shown
from placecli.tasks.html_report_curves import Scored, scored
from placecli.tasks.html_report_words import agreement, judge, missed, report_sentences
from placecli.tasks.material import TunedMaterial
from placecli.tasks.segmentation_figures import Marked, draw_masks
from placecli.tasks.segmentation_runs import decode_runs
from placecli.tasks.segmentation_scores import BATCH, measure_rows
from placecli.tasks.targets import read_targets
from placecli.tasks.use import Prediction

SEGMENTATION_NOTE: Final = (
    "The share of the images (up) whose Dice is at least so large (right). The further up and right, the better; the area"
    " below the line is the mean."
)

Pair = tuple[Row, Prediction]


def classification_curves(material: TunedMaterial) -> dict[str, Scored]:
    """By label the probabilities of the labelled rows."""
    labels = tuple(material.about["labels"])
    targets = read_targets(material.rows, labels, material.preset.finetune.classification)
    table = np.asarray([[each["scores"][label] for label in labels] for each in material.predictions], np.float64)
    curves = {label: scored(targets[:, j], table[:, j]) for j, label in enumerate(labels)}
    return {label: curve for label, curve in curves.items() if curve is not None}


def classification_cases(material: TunedMaterial, ids: bool) -> tuple[Cases, ...]:
    """The surest calls that are right, and the surest that are wrong."""
    labels = tuple(material.about["labels"])
    targets = read_targets(material.rows, labels, material.preset.finetune.classification)
    table = np.asarray([[each["scores"][label] for label in labels] for each in material.predictions], np.float64)

    def draw(place: int, number: int) -> Case:
        row, label = material.rows[place], labels[number].replace("_", " ")
        caption = f"Probability {table[place, number]:.2f}. {labels_in_words(row)}"
        shown = Shown(draw_plain(material.store, row), f"Radiograph; {label}. {caption}", caption)
        return Case(label, (shown,), ids=ids_of(row) if ids else "")

    return call_cases(Calls(targets, table), "probabilities", draw)


def segmentation_charts(materials: Sequence[TunedMaterial], protocol: str) -> tuple[Charts, ...]:
    """How many of the images with a mark reach a Dice, of each run."""
    series, values = [], []
    for material in materials:
        reached = np.sort([value for value in _dice_of(material, protocol) if value is not None])
        series.append(share_reaching(reached))
        values.append(f"mean {reached.mean():.3f}, median {np.median(reached):.3f}")
    chart = square_chart(
        series,
        x_label="Dice",
        y_label="share of images",
        summary="Share of images whose mask reaches a Dice: " + "; ".join(values),
    )
    return (Charts("Dice of single images", f"{len(reached):,} with a mark", (chart,), tuple(values)),)


def share_reaching(values: NDArray[np.float64]) -> Series:
    """The share of values, in ascending order and in 0..1, that are at least x, as steps; the area below is their mean."""
    heights = 1 - np.arange(len(values) + 1) / len(values)
    x = np.repeat(np.concatenate([[0.0], values, [1.0]]), 2)[1:-1]
    return Series("", x.tolist(), np.repeat(heights, 2).tolist())


def _dice_of(material: TunedMaterial, protocol: str) -> list[float | None]:
    """Dice of each row as the evaluation counts it; None where no reader marked anything."""
    found: list[float | None] = []
    for first in range(0, len(material.rows), BATCH):
        rows = material.rows[first : first + BATCH]
        chosen = material.predictions[first : first + BATCH]
        predicted = np.stack([decode_runs(each, material.store.size) for each in chosen])
        overlap = measure_rows(predicted, material.store, rows, is_clipped=protocol != "compat")
        found += [float(one) if n else None for one, n in zip(dice(overlap), overlap.actual, strict=True)]
    return found


def segmentation_cases(material: TunedMaterial, protocol: str, ids: bool) -> tuple[Cases, ...]:
    """The masks with the highest, a middle and the lowest Dice, of images where a reader marked something; false alarms."""
    values = _dice_of(material, protocol)
    values_of = {row.image_id: value for row, value in zip(material.rows, values, strict=True)}

    def mask_of(pair: Pair) -> NDArray[np.bool_]:
        return decode_runs(pair[1], material.store.size)

    def agreement_of(pair: Pair) -> float | None:
        return values_of[pair[0].image_id]

    def draw(pair: Pair) -> Case:
        (x0, y0, x1, y1), actual = pair[0].content, material.store.masks([pair[0]])[0] > 0
        image = material.store.images([pair[0]])[0][y0:y1, x0:x1]
        marked = Marked(image, mask_of(pair)[y0:y1, x0:x1], actual[y0:y1, x0:x1])
        value = values_of[pair[0].image_id]
        caption = "Nothing there" if value is None else f"Dice {value:.2f}"
        shown = Shown(draw_masks(marked, PANEL), f"Radiograph with the mask of the model and of the reader. {caption}")
        return Case(caption, (shown,), ids=ids_of(pair[0]) if ids else "")

    note = "Blue, filled: marked by the model. Green line: marked by the reader."
    cases = extremes(material, agreement_of, draw, note, ("The best masks", "In the middle", "The worst masks"))
    alarms = [
        (int(mask_of(pair).sum()), pair)
        for pair in zip(material.rows, material.predictions, strict=True)
        if values_of[pair[0].image_id] is None
    ]
    alarms.sort(key=lambda each: -each[0])
    shown = tuple(draw(pair) for size, pair in alarms[:NUM_SHOWN] if size)
    text = "Images where nothing was marked, with the largest masks of the model."
    return (*cases, Cases("False alarms", text, shown)) if shown else cases


def report_cases(material: TunedMaterial, ids: bool) -> tuple[Cases, ...]:
    """Generated reports beside the written ones: most and fewest findings in common, and some in the middle."""

    def agreement_of(pair: Pair) -> float | None:
        same, other = agreement(_written(pair[1]), report_sentences(pair[0]))
        # Among equal shares the one with fewer errors is the better one.
        return 2 * same / (2 * same + other) - 1e-3 * other if same + other else None

    def draw(pair: Pair) -> Case:
        written, reference = _written(pair[1]), report_sentences(pair[0])
        same, other = agreement(written, reference)
        texts: tuple[tuple[str, tuple[Sentence, ...]], ...] = (
            ("Generated", judge(written, reference)),
            ("Reference", missed(reference, written)),
        )
        shown = Shown(draw_plain(material.store, pair[0]), "Radiograph that the report was generated for")
        title = f"{same} finding{'' if same == 1 else 's'} in both reports, {other} in one alone"
        return Case(title, (shown,), texts, ids_of(pair[0]) if ids else "")

    note = (
        "Findings are read from both texts by rules (docs/labeler.md). Images without any finding in either report are"
        " left out here."
    )
    cases = extremes(material, agreement_of, draw, note, ("The best reports", "In the middle", "The worst reports"), 2)
    return tuple(Cases(each.title, each.note, each.cases, is_wide=True) for each in cases)


def _written(prediction: Prediction) -> tuple[str, ...]:
    listed = prediction.get("sentences")
    if isinstance(listed, list) and all(isinstance(each, dict) and "text" in each for each in listed) and listed:
        return tuple(str(each["text"]) for each in listed)
    return split_sentences(str(prediction.get("report", "")))


def extremes(
    material: TunedMaterial,
    agreement_of: Callable[[Pair], float | None],
    draw: Callable[[Pair], Case],
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
    groups = (values[:count], values[middle : middle + count], values[: -count - 1 : -1])
    return tuple(
        Cases(title, "" if number else note, tuple(draw(pairs[i]) for _, i in group))
        for number, (title, group) in enumerate(zip(titles, groups, strict=True))
        if group
    )

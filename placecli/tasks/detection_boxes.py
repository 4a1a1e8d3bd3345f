"""Boxes of a store's rows as a detector learns them, and back: which rows are known, labels as numbers, moved boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from placecli.config import DetectionConfig
from placecli.engine.augment import Augmentation
from placecli.engine.detection.detector import BoxTargets, FoundBoxes
from placecli.metrics.detection import Detections, Targets, make_detections, make_targets
from placecli.records import PlaceError, Row
from placecli.tasks.use import Prediction

Turned = Literal["ellipse", "corners"]

MIN_VISIBLE: Final = 0.25
"""Share of a moved box that must still lie in the frame."""
MIN_SIDE: Final = 1.0
"""Least side of a box that is learnt from, pixels of the encoder's image."""


def box_labels(rows: Sequence[Row], config: DetectionConfig) -> tuple[str, ...]:
    """The labels asked for, or those of all boxes of the rows, sorted."""
    return config.labels or tuple(sorted({box.label for row in rows for box in row.boxes}))


def known_rows(rows: Sequence[Row], config: DetectionConfig) -> list[Row]:
    """Rows of which it is known where the labelled boxes are.

    A row with a box of one of the labels is known. A row without one is known, as a negative, when its own labels say
    absent (0) for every label of the boxes that they speak of, and speak of one at least: a release that marks every
    image labels its negatives so. A row that says present or uncertain and has no box was not marked, a row without
    labels was not read. `negatives: none` leaves all rows without a box out.
    """
    labels = box_labels(rows, config)
    return [row for row in rows if _has_box(row, labels) or (config.negatives != "none" and _is_negative(row, labels))]


def _has_box(row: Row, labels: Sequence[str]) -> bool:
    return any(box.label in labels for box in row.boxes)


def _is_negative(row: Row, labels: Sequence[str]) -> bool:
    spoken = [row.labels[label] for label in labels if label in row.labels]
    return bool(spoken) and not any(spoken)


def read_boxes(row: Row, labels: Sequence[str], frame: int) -> tuple[Tensor, Tensor]:
    """float32 [n, 4] corners in fractions of a frame of `frame` pixels, and int64 [n], of the boxes with these labels."""
    chosen = [box for box in row.boxes if box.label in labels]
    corners = [[box.x, box.y, box.x + box.width, box.y + box.height] for box in chosen]
    numbers = [labels.index(box.label) for box in chosen]
    return torch.tensor(corners).reshape(-1, 4).float() / frame, torch.tensor(numbers, dtype=torch.int64)


def place_boxes(
    corners: Tensor, numbers: Tensor, size: int, augmentation: Augmentation | None, turned: Turned = "ellipse"
) -> BoxTargets:
    """The boxes of one image in pixels of the encoder's image of `size`, after its augmentation (of one image), cut at the frame.

    A box with less than a quarter of its moved area left in the frame, or a side below a pixel, is dropped.
    """
    moved = corners if augmentation is None else move_boxes(corners, augmentation, turned)
    cut = moved.clamp(0, 1)
    visible = _areas(cut) >= MIN_VISIBLE * _areas(moved)
    kept = visible & ((cut[:, 2:] - cut[:, :2]).amin(dim=1) * size >= MIN_SIDE)
    return BoxTargets(cut[kept] * size, numbers[kept])


def move_boxes(corners: Tensor, augmentation: Augmentation, turned: Turned) -> Tensor:
    """float32 [n, 4] in fractions of the frame -> the upright boxes of where they come to lie, not cut.

    `augmentation` is that of the one image that all n are in; the same map as `augment.apply` moves pixels by. A turned
    box is no upright one: its upright box is that around its four corners, or around the ellipse that filled it.
    """
    centre, half = corners[:, :2] + corners[:, 2:] - 1, corners[:, 2:] - corners[:, :2]
    cosine, sine, scale = augmentation.rotation.cos(), augmentation.rotation.sin(), augmentation.scale
    x = scale * (cosine * centre[:, 0] - sine * centre[:, 1]) + 2 * augmentation.shift_x
    y = scale * (sine * centre[:, 0] + cosine * centre[:, 1]) + 2 * augmentation.shift_y
    by_width = torch.stack([half[:, 0] * cosine, half[:, 0] * sine], 1).abs()
    by_height = torch.stack([half[:, 1] * sine, half[:, 1] * cosine], 1).abs()
    reach = scale * (by_width + by_height if turned == "corners" else torch.hypot(by_width, by_height))
    moved = torch.stack([x, y], 1)
    return (torch.cat([moved - reach, moved + reach], 1) + 1) / 2


def to_prediction(image_id: str, found: FoundBoxes, labels: Sequence[str], scale: float, frame: int) -> Prediction:
    """{"image_id", "boxes": [{"label", "x", "y", "width", "height", "score"}]}, best first, in pixels of the store's frame.

    scale: of the frame to the encoder's image, frame / size. Boxes are cut at the frame; what is left empty is dropped.
    """
    corners = (found.boxes.double().cpu() * scale).clamp(0, frame).tolist()
    boxes = [
        {
            "label": labels[number],
            "x": round(x0, 3),
            "y": round(y0, 3),
            "width": round(x1 - x0, 3),
            "height": round(y1 - y0, 3),
            "score": score,
        }
        for (x0, y0, x1, y1), score, number in zip(corners, found.scores.tolist(), found.labels.tolist(), strict=True)
        if x1 > x0 and y1 > y0
    ]
    return {"image_id": image_id, "boxes": boxes}


def true_boxes(row: Row, labels: Sequence[str]) -> Targets:
    """The boxes of a row with these labels, in pixels of the store's frame."""
    chosen = [box for box in row.boxes if box.label in labels]
    corners = [[box.x, box.y, box.x + box.width, box.y + box.height] for box in chosen]
    return make_targets(corners, [labels.index(box.label) for box in chosen])


def predicted_boxes(prediction: Prediction, labels: Sequence[str]) -> Detections:
    """The boxes of a prediction. Raises PlaceError for one that is no box or has another label."""
    boxes = prediction["boxes"]
    read = [_read_box(box, labels) for box in boxes] if isinstance(boxes, list) else [None]
    if any(each is None for each in read):
        raise PlaceError(
            'predictions: "boxes" is a list of {"label", "x", "y", "width", "height", "score"}, numbers in pixels of the'
            " store's frame, width and height 0 or more; docs/finetune.md shows the form"
        )
    table: NDArray[np.float64] = np.array(read, dtype=np.float64).reshape(-1, 6)
    return make_detections(table[:, :4], table[:, 4], table[:, 5].astype(np.int64))


def _read_box(box: Any, labels: Sequence[str]) -> list[float] | None:
    try:
        x, y, width, height, score = (float(box[key]) for key in ("x", "y", "width", "height", "score"))
        label = box["label"]
    except (TypeError, KeyError, ValueError):
        return None
    if label not in labels:
        raise PlaceError(
            f'predictions: a box has the label "{str(label)[:60]}", which is none of {", ".join(labels)}; leave it out or'
            " set finetune.detection.labels"
        )
    numbers = [x, y, x + width, y + height, score]
    if not all(map(math.isfinite, numbers)) or width < 0 or height < 0:
        return None
    return [*numbers, float(labels.index(label))]


def _areas(corners: Tensor) -> Tensor:
    return (corners[:, 2:] - corners[:, :2]).clamp(min=0).prod(dim=1)

"""What boxes get that are the same for every image: findings keep to their places, so this is far from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from placecli.metrics.detection import Detections, Floats, box_iou, make_detections
from placecli.records import Row
from placecli.tasks.detection_boxes import true_boxes

BOXES: Final = 4
"""Boxes of each label that are shown."""
OVERLAP: Final = 0.5
MOST: Final = 2000
"""Boxes of a label that are looked at: all against all are compared."""


def constant_boxes(rows: Sequence[Row], labels: Sequence[str]) -> Detections:
    """Boxes to show on any image, in pixels of the frame, learnt from these rows: at most four a label.

    Of a label's boxes the one that overlaps most others by one half, again without those, and so on. The score is the
    share of the rows whose boxes it is to stand for.
    """
    truth = [true_boxes(row, labels) for row in rows]
    shown: list[tuple[Floats, float, int]] = []
    for number in range(len(labels)):
        own = [each.boxes[each.classes == number] for each in truth]
        left = np.concatenate([np.empty((0, 4)), *own])
        step = max(1, -(-len(left) // MOST))
        left = left[::step]
        for _ in range(BOXES):
            if not len(left):
                break
            near = box_iou(left, left) >= OVERLAP
            best = int(near.sum(axis=1).argmax())
            shown.append((left[best], float(near[best].sum() * step / len(rows)), number))
            left = left[~near[best]]
    boxes, scores, numbers = zip(*shown, strict=True) if shown else ((), (), ())
    return make_detections(list(boxes), list(scores), list(numbers))

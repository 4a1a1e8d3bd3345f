"""Average precision by pycocotools itself, every image counted; `detection` gives the same number without it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from placecli.metrics.detection import COCO_THRESHOLDS, Detections, Floats, Targets, Whole


@dataclass(frozen=True, slots=True)
class CocoSummary:
    """pycocotools' figures over all areas, in 0..1, at most 100 detections an image; nan without any box.

    `average_precision` and `average_recall` are means over thresholds and classes; `by_threshold` the average precision
    at each threshold.
    """

    average_precision: float
    average_recall: float
    by_threshold: tuple[float, ...]


def measure_with_pycocotools(
    detections: Sequence[Detections], targets: Sequence[Targets], thresholds: Sequence[float] = COCO_THRESHOLDS
) -> CocoSummary:
    """COCO's evaluation of all images. Raises ImportError with the remedy where pycocotools is not installed."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ImportError(
            "COCO mAP: pycocotools is not installed; pip install 'placecli[detection]', or take "
            "metrics.detection.mean_average_precision, which gives the same number"
        ) from None
    if len(detections) != len(targets) or not len(targets):
        raise ValueError(f"{len(detections)} images with detections and {len(targets)} with boxes; one each is wanted")
    classes = sorted({int(label) for wanted in targets for label in wanted.classes})
    # It prints what it does, and stdout is ours for data.
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset = _data_set([(t.boxes, t.classes, None) for t in targets], classes)
        found.dataset = _data_set([(d.boxes, d.classes, d.scores) for d in detections], classes)
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.iouThrs = np.asarray(thresholds, dtype=np.float64)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e10]], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    by_threshold = tuple(_mean(part) for part in precision)
    return CocoSummary(_mean(precision), _mean(recall), by_threshold)


def _data_set(images: Sequence[tuple[Floats, Whole, Floats | None]], classes: list[int]) -> dict[str, Any]:
    """Images as (boxes, classes, scores or None) in COCO's form. Its ids of boxes start at 1: it takes 0 for "none"."""
    annotations: list[dict[str, Any]] = []
    for i, (boxes, labels, scores) in enumerate(images):
        for k, ((x1, y1, x2, y2), label) in enumerate(zip(boxes.tolist(), labels.tolist(), strict=True)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": label,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    **({} if scores is None else {"score": float(scores[k])}),
                }
            )
    return {
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": label} for label in classes],
        "annotations": annotations,
    }


def _mean(values: Any) -> float:
    """Mean of what is defined: pycocotools writes -1 for a class without boxes."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else float("nan")

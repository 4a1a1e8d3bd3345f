"""Detection: average precision of boxes, as COCO, as Pascal VOC, and as the field's reference code counts it.

A box is (x1, y1, x2, y2) in any unit, x1 <= x2 and y1 <= y2; its area is (x2 - x1)(y2 - y1), without the pixel that the
VOC toolkit adds. Every image counts, whether or not it has a box or a detection. Detections are matched to boxes within
each image and class once; a weighting of images, such as a bootstrap replicate, only sums over them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
Rule = Literal["coco", "voc"]
Interpolation = Literal["coco", "voc", "voc07"]

COCO_THRESHOLDS: Final = tuple(0.5 + 0.05 * i for i in range(10))
COMPAT_THRESHOLDS: Final = tuple(0.4 + 0.05 * i for i in range(8))
COMPAT_CONFIDENCE: Final = 0.5
_COCO_RECALLS: Final = np.linspace(0.0, 1.0, 101)
_VOC07_RECALLS: Final = np.linspace(0.0, 1.0, 11)


@dataclass(frozen=True, slots=True)
class Targets:
    """The true boxes of one image: float64 [g, 4] and their classes int64 [g]."""

    boxes: Floats
    classes: Whole


@dataclass(frozen=True, slots=True)
class Detections:
    """The detections of one image: boxes float64 [d, 4], scores float64 [d], classes int64 [d]."""

    boxes: Floats
    scores: Floats
    classes: Whole


@dataclass(frozen=True, slots=True)
class Matches:
    """What average precision needs: D detections in falling order of score and G true boxes, over n images.

    `hit` bool [T, D] says whether a detection has a box of its own at each of T thresholds; `image` and `category` say of
    what image and class it is, and `target_image`, `target_category` [G] the same of the boxes.
    """

    num_images: int
    hit: NDArray[np.bool_]
    image: Whole
    category: Whole
    target_image: Whole
    target_category: Whole


def make_targets(boxes: ArrayLike, classes: ArrayLike | None = None) -> Targets:
    """True boxes of an image; without classes all are of class 0. An empty list is an image without boxes."""
    table = _boxes(boxes)
    return Targets(table, _classes(classes, len(table)))


def make_detections(boxes: ArrayLike, scores: ArrayLike, classes: ArrayLike | None = None) -> Detections:
    """Detections of an image; without classes all are of class 0. Raises ValueError for nan or unequal numbers."""
    table, confidence = _boxes(boxes), np.asarray(scores, dtype=np.float64).reshape(-1)
    if len(confidence) != len(table) or np.isnan(confidence).any():
        raise ValueError(f"{len(table)} boxes want as many scores that are numbers")
    return Detections(table, confidence, _classes(classes, len(table)))


def box_iou(first: ArrayLike, second: ArrayLike) -> Floats:
    """Intersection over union of every pair, float64 [d, g] in 0..1; 0 where neither box has an area."""
    a, b = _boxes(first)[:, None], _boxes(second)[None]
    sides = np.maximum(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0)
    shared = sides.prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1.0), 0.0)


def match(
    detections: Sequence[Detections],
    targets: Sequence[Targets],
    thresholds: Sequence[float] = COCO_THRESHOLDS,
    *,
    rule: Rule = "coco",
    limit: int = 100,
) -> Matches:
    """Match the detections of each image, best first, to its boxes of the same class.

    A box is matched once. By the rule "coco" a detection takes the free box that it overlaps most, if the overlap reaches
    the threshold (of equal overlaps the later box); by "voc" it wants the box it overlaps most of all, and misses if that
    is taken. At most `limit` detections of an image and class count (rule "coco").
    """
    if len(detections) != len(targets) or not len(targets):
        raise ValueError(f"{len(detections)} images with detections and {len(targets)} with boxes; one each is wanted")
    parts: list[tuple[NDArray[np.bool_], Floats, int, int]] = []
    for i, (found, wanted) in enumerate(zip(detections, targets, strict=True)):
        for label in np.unique(found.classes):
            own = np.flatnonzero(found.classes == label)
            order = own[np.argsort(-found.scores[own], kind="stable")]
            order = order[:limit] if rule == "coco" else order
            true = wanted.boxes[wanted.classes == label]
            hit = np.zeros((len(thresholds), len(order)), dtype=bool)
            if len(true):
                overlap = box_iou(found.boxes[order], true)
                hit = _match_coco(overlap, thresholds) if rule == "coco" else _match_voc(overlap, thresholds)
            parts.append((hit, found.scores[order], i, int(label)))
    sizes = [len(scores) for _, scores, _, _ in parts]
    order = np.argsort(-np.concatenate([np.empty(0), *(scores for _, scores, _, _ in parts)]), kind="stable")
    hit = np.concatenate([np.empty((len(thresholds), 0), dtype=bool), *(part for part, _, _, _ in parts)], axis=1)
    return Matches(
        len(targets),
        hit[:, order],
        np.repeat(np.array([i for _, _, i, _ in parts], dtype=np.int64), sizes)[order],
        np.repeat(np.array([label for _, _, _, label in parts], dtype=np.int64), sizes)[order],
        np.repeat(np.arange(len(targets)), [len(wanted.boxes) for wanted in targets]),
        np.concatenate([wanted.classes for wanted in targets]),
    )


def mean_average_precision(
    matches: Matches, weights: ArrayLike | None = None, *, interpolation: Interpolation = "coco"
) -> Any:
    """Average precision, the mean over thresholds and over the classes that have a box, in 0..1.

    Precision is made non-increasing in recall, then averaged over 101 recalls 0, 0.01 .. 1 ("coco"), 11 recalls
    ("voc07"), or integrated over recall ("voc"). float, or float64 [R] with weights [R, n] of the images; nan without any
    box. With "coco" and matches by that rule it is the number of pycocotools (all areas).
    """
    table = np.ones((1, matches.num_images)) if weights is None else np.asarray(weights, dtype=np.float64)
    columns = np.ascontiguousarray(np.atleast_2d(table).T)
    total, defined = np.zeros(columns.shape[1]), np.zeros(columns.shape[1])
    for label in np.unique(matches.target_category):
        own = matches.category == label
        boxes = columns[matches.target_image[matches.target_category == label]].sum(axis=0)
        has_box = boxes > 0
        values = _average_precisions(columns, matches.image[own], matches.hit[:, own], boxes, interpolation)
        total += np.where(has_box, np.mean(values, axis=0), 0.0)
        defined += has_box
    with np.errstate(invalid="ignore"):
        mean = total / defined
    return mean if weights is not None and table.ndim == 2 else float(mean[0])


def compat_matches(detections: Sequence[Detections], targets: Sequence[Targets]) -> tuple[Matches, Whole]:
    """Matches as the field's reference code counts them, and the images that it counts, int64 [m].

    Detections below 0.5 are dropped, then every image without a detection or without a box: missed images and false
    alarms on healthy ones cost nothing. Thresholds 0.40, 0.45 .. 0.75. For `mean_average_precision` weigh the m images
    only: `weights[:, kept]`. Raises ValueError when no image is left.
    """
    confident = [
        Detections(d.boxes[keep], d.scores[keep], d.classes[keep])
        for d in detections
        for keep in [d.scores >= COMPAT_CONFIDENCE]
    ]
    kept = [i for i, (d, t) in enumerate(zip(confident, targets, strict=True)) if len(d.boxes) and len(t.boxes)]
    if not kept:
        raise ValueError("no image has both a box and a detection of 0.5 or more: compat mAP is not defined")
    matches = match([confident[i] for i in kept], [targets[i] for i in kept], COMPAT_THRESHOLDS)
    return matches, np.array(kept, dtype=np.int64)


def _match_coco(overlap: Floats, thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """bool [T, d] for overlaps [d, g] of detections in falling order of score."""
    least = np.minimum(np.asarray(thresholds, dtype=np.float64), 1 - 1e-10)[:, None]
    hit = np.zeros((len(least), len(overlap)), dtype=bool)
    free = np.ones((len(least), overlap.shape[1]), dtype=bool)
    for i, row in enumerate(overlap):
        open_to = np.where(free & (row >= least), row, -1.0)
        best = overlap.shape[1] - 1 - open_to[:, ::-1].argmax(axis=1)
        hit[:, i] = open_to[np.arange(len(least)), best] >= 0
        free[np.flatnonzero(hit[:, i]), best[hit[:, i]]] = False
    return hit


def _match_voc(overlap: Floats, thresholds: Sequence[float]) -> NDArray[np.bool_]:
    hit = np.zeros((len(thresholds), len(overlap)), dtype=bool)
    free = np.ones((len(thresholds), overlap.shape[1]), dtype=bool)
    for i, row in enumerate(overlap):
        best = int(row.argmax())
        hit[:, i] = (row[best] >= np.asarray(thresholds)) & free[:, best]
        free[hit[:, i], best] = False
    return hit


def _average_precisions(
    columns: Floats, image: Whole, hit: NDArray[np.bool_], boxes: Floats, interpolation: Interpolation
) -> list[Floats]:
    """float64 [R] of one class at each of T thresholds: weights [n, R] of the images, the image [d] and the hits [T, d]
    of each detection in falling order of score, boxes [R].

    Between two hits recall stands still and precision falls, so only the places that hit at some threshold are looked
    at, at most boxes times thresholds; what lies between them is summed once for all thresholds.
    """
    places = np.flatnonzero(hit.any(axis=0))
    if not len(places):
        return [np.zeros(len(boxes))] * len(hit)
    since = np.concatenate([[0], places[:-1] + 1])
    shown = np.cumsum(np.add.reduceat(columns[image[: places[-1] + 1]], since, axis=0), axis=0)
    counts = columns[image[places]]
    return [
        _average_precision(counts[one], shown[one], boxes, interpolation)
        for one in (np.flatnonzero(row) for row in hit[:, places])
    ]


def _average_precision(counts: Floats, shown: Floats, boxes: Floats, interpolation: Interpolation) -> Floats:
    """float64 [R] of the hits [h] of one class and threshold in falling order of score: each one's weight [h, R], the
    weight of all detections up to it [h, R], and that of the boxes [R]."""
    right = np.cumsum(counts, axis=0)
    recall = right / np.where(boxes > 0, boxes, 1.0)
    precision = right / (shown + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    if interpolation == "voc":
        return np.asarray((np.diff(recall, axis=0, prepend=0.0) * precision).sum(axis=0))
    wanted = _COCO_RECALLS if interpolation == "coco" else _VOC07_RECALLS
    # A recall that is never reached has precision 0.
    padded = np.pad(precision, ((0, 1), (0, 0)))
    return np.asarray(np.take_along_axis(padded.T, _first_reaching(recall, wanted), axis=1).mean(axis=1))


def _first_reaching(recall: Floats, wanted: Floats) -> Whole:
    """int64 [R, k]: where each of k rising recalls is reached in recalls [h, R] that do not fall; h where never."""
    number = recall.shape[1]
    reached = np.searchsorted(wanted, recall.T, side="right") + np.arange(number)[:, None] * (len(wanted) + 1)
    below = np.bincount(reached.ravel(), minlength=number * (len(wanted) + 1)).reshape(number, -1)
    return np.cumsum(below, axis=1)[:, : len(wanted)]


def _boxes(values: ArrayLike) -> Floats:
    table = np.asarray(values, dtype=np.float64)
    table = table.reshape(-1, 4) if table.size == 0 else table
    if table.ndim != 2 or table.shape[1] != 4 or not np.isfinite(table).all() or (table[:, 2:] < table[:, :2]).any():
        raise ValueError("boxes are [n, 4] numbers x1, y1, x2, y2 with x1 <= x2 and y1 <= y2")
    return table


def _classes(values: ArrayLike | None, number: int) -> Whole:
    if values is None:
        return np.zeros(number, dtype=np.int64)
    classes = np.asarray(values, dtype=np.int64).reshape(-1)
    if len(classes) != number:
        raise ValueError(f"{number} boxes want as many classes, not {len(classes)}")
    return classes

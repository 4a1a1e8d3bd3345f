"""Pictures of boxes: what a model found, with its scores, over what a reader drew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from placecli.metrics.detection import Detections, Targets, match
from placecli.records import Box
from placecli.tasks.use import Prediction

Picture = NDArray[np.uint8]
Corners = tuple[int, int, int, int]
"""Left, top, right and bottom pixel of an outline."""

_PANEL: Final = 300
"""Longest side of a panel's image, pixels."""
_NAME_SIZE: Final = 11
_BACKGROUND: Final = (16, 17, 20)
_PREDICTED: Final = (90, 220, 255)
_ACTUAL: Final = (120, 255, 140)
_DASH: Final = 5
OVERLAP: Final = 0.5
"""From this intersection over union on a drawn box counts as found, in the caption."""


@dataclass(frozen=True, slots=True)
class Boxed:
    """An image uint8 [h, w] with boxes in its pixels: what a model found, with scores, and what a reader drew; None: no
    reader looked."""

    image: NDArray[np.uint8]
    found: tuple[Box, ...]
    scores: tuple[float, ...]
    drawn: tuple[Box, ...] | None = None
    title: str = ""


def crop_boxes(
    image: NDArray[np.uint8],
    content: tuple[int, int, int, int],
    prediction: Prediction,
    drawn: Sequence[Box] | None,
    *,
    least_score: float,
    title: str = "",
) -> Boxed:
    """The content rectangle (x0, y0, x1, y1) of a frame [S, S], with the predicted boxes of at least that score.

    `prediction` and `drawn` are in pixels of the frame, as a store and `predictions.jsonl` have them.
    """
    x0, y0, x1, y1 = content
    kept = [box for box in prediction["boxes"] if box["score"] >= least_score]
    boxes = [Box(box["label"], box["x"] - x0, box["y"] - y0, box["width"], box["height"]) for box in kept]
    wanted = None
    if drawn is not None:
        wanted = tuple(Box(box.label, box.x - x0, box.y - y0, box.width, box.height) for box in drawn)
    return Boxed(image[y0:y1, x0:x1], tuple(boxes), tuple(float(box["score"]) for box in kept), wanted, title)


def draw_boxes(boxed: Boxed, longest: int = _PANEL) -> Picture:
    """uint8 RGB, the longest side `longest` pixels: the reader's boxes in dashed green, the model's in blue, the best on top.

    Beside a box of the model stand its label and score.
    """
    height, width = boxed.image.shape
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(boxed.image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    canvas = Image.fromarray(np.asarray(cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB), np.uint8))
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(_NAME_SIZE)
    for box in boxed.drawn or ():
        _draw_dashed(pen, _corners(box, scale))
    order = np.argsort(boxed.scores, kind="stable")
    for i in order:
        pen.rectangle(_corners(boxed.found[i], scale), outline=_PREDICTED, width=2)
    taken: list[Corners] = []
    for i in order[::-1]:  # the best has its name where it belongs, the others make room
        text = f"{boxed.found[i].label} {boxed.scores[i]:.2f}"
        taken.append(_write_name(pen, _corners(boxed.found[i], scale), text, font, size, taken))
    return np.asarray(canvas, np.uint8)


def caption_of(entry: Boxed) -> str:
    """How many of the reader's boxes are found (right label, overlap of one half) and how many others are shown."""
    if entry.drawn is None:
        return f"{len(entry.found)} shown  {entry.title}".strip()
    labels = sorted({box.label for box in (*entry.found, *entry.drawn)})
    found = Detections(_table(entry.found), np.array(entry.scores, np.float64), _numbers(entry.found, labels))
    wanted = Targets(_table(entry.drawn), _numbers(entry.drawn, labels))
    hits = int(match([found], [wanted], (OVERLAP,)).hit.sum())
    others = len(entry.found) - hits
    told = f"{hits} of {len(entry.drawn)} found" if entry.drawn else "nothing there"
    return f"{told}, {others} more shown  {entry.title}".strip()


def _table(boxes: Sequence[Box]) -> NDArray[np.float64]:
    corners = [[box.x, box.y, box.x + box.width, box.y + box.height] for box in boxes]
    return np.array(corners, np.float64).reshape(-1, 4)


def _numbers(boxes: Sequence[Box], labels: Sequence[str]) -> NDArray[np.int64]:
    return np.array([labels.index(box.label) for box in boxes], np.int64)


def _corners(box: Box, scale: float) -> Corners:
    """Pixels of the picture that the outline runs through."""
    x0, y0 = round(box.x * scale), round(box.y * scale)
    x1, y1 = round((box.x + box.width) * scale) - 1, round((box.y + box.height) * scale) - 1
    return x0, y0, max(x0, x1), max(y0, y1)


def _draw_dashed(pen: ImageDraw.ImageDraw, corners: Corners) -> None:
    x0, y0, x1, y1 = corners
    for start in range(x0, x1 + 1, 2 * _DASH):
        end = min(start + _DASH - 1, x1)
        pen.line([(start, y0), (end, y0)], fill=_ACTUAL, width=2)
        pen.line([(start, y1), (end, y1)], fill=_ACTUAL, width=2)
    for start in range(y0, y1 + 1, 2 * _DASH):
        end = min(start + _DASH - 1, y1)
        pen.line([(x0, start), (x0, end)], fill=_ACTUAL, width=2)
        pen.line([(x1, start), (x1, end)], fill=_ACTUAL, width=2)


def _write_name(
    pen: ImageDraw.ImageDraw, corners: Corners, text: str, font: Any, size: tuple[int, int], taken: Sequence[Corners]
) -> Corners:
    """Above the box, or inside it at the top of the picture, on a dark ground; below the names that are in the way.

    Returns where it stands.
    """
    width, height = round(font.getlength(text)), _NAME_SIZE + 2
    left = max(0, min(corners[0], size[0] - width))
    top = corners[1] - height if corners[1] >= height else corners[1] + 1
    place = (left, top, left + width, top + height - 1)
    while (below := _first_below(place, taken)) is not None and below + height <= size[1]:
        place = (left, below, left + width, below + height - 1)
    pen.rectangle(place, fill=_BACKGROUND)
    pen.text(place[:2], text, fill=_PREDICTED, font=font)
    return place


def _first_below(place: Corners, taken: Sequence[Corners]) -> int | None:
    """The first line under what is in the way of a name; None where nothing is."""
    bottoms = [
        other[3] + 1
        for other in taken
        if place[0] <= other[2] and other[0] <= place[2] and place[1] <= other[3] and other[1] <= place[3]
    ]
    return max(bottoms, default=None)

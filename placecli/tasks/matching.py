"""Which sentences of a report an image answers, and where: score, map and box of each sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from placecli.metrics.grounding import resize_bilinear
from placecli.records import Box, SentenceMatch
from placecli.tasks.scores import sentence_maps, sentence_scores

Rectangle = tuple[int, int, int, int]

BOX_THRESHOLD: Final = 0.5
"""Part of the map's maximum that a point must reach to be inside the region of a sentence."""
_OVERSAMPLING: Final = 8


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An image and what was read: pixels uint8 [S, S], content (x0, y0, x1, y1), V-PORs [K, d], attention [K, N]."""

    pixels: NDArray[np.uint8]
    content: Rectangle
    observations: NDArray[Any]
    attention: NDArray[np.float32]
    grid: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """A sentence with its map over the frame of the image, float32 [rows, cols], sum 1."""

    match: SentenceMatch
    heat: NDArray[np.float32]


def match_sentences(
    sentences: Sequence[str],
    textual: NDArray[Any],
    mask: NDArray[np.bool_],
    seen: SeenImage,
    temperature: float,
    limit: int,
) -> tuple[Found, ...]:
    """The `limit` sentences that the image answers best, best first, equal scores in the report's order.

    `textual` [S, d] and `mask` [S] are the T-PORs of `sentences`; a sentence that the model's limits cut is left out.
    """
    slots = [slot for slot in range(min(len(sentences), len(mask))) if mask[slot]]
    if not slots:
        return ()
    chosen = textual[slots]
    scores = sentence_scores(seen.observations, chosen, temperature)
    maps = sentence_maps(seen.observations, seen.attention, seen.grid, chosen, temperature)
    order = np.argsort(-scores, kind="stable")[:limit]
    return tuple(
        Found(
            SentenceMatch(sentences[slots[i]], float(scores[i]), find_box(maps[i], seen.content, seen.pixels.shape[0])),
            maps[i],
        )
        for i in order
    )


def find_box(heat: NDArray[Any], content: Rectangle, size: int, threshold: float = BOX_THRESHOLD) -> Box:
    """The box of a map's strongest connected region, in fractions (x, y, width, height) of the image content.

    `heat` [rows, cols] covers a frame of `size` pixels of which `content` holds image. The map is resized (bilinear),
    cut to the content, thresholded at `threshold` of its maximum there; the largest 8-connected region counts. A map
    without mass in the content gives the whole content.
    """
    x0, y0, x1, y1 = content
    shape = (heat.shape[0] * _OVERSAMPLING, heat.shape[1] * _OVERSAMPLING)
    full = resize_bilinear(heat, shape)
    # Centres of the fine cells in pixels of the frame: those outside the content are padding, not image.
    rows, columns = ((np.arange(n) + 0.5) * size / n for n in shape)
    inside = np.outer((rows >= y0) & (rows < y1), (columns >= x0) & (columns < x1))
    values = np.where(inside, full, 0.0)
    peak = values.max()
    if peak <= 0:
        return Box("", 0.0, 0.0, 1.0, 1.0)
    strong = (values >= threshold * peak).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(strong, connectivity=8)
    left, top, width, height, _ = max(stats[1:].tolist(), key=lambda region: region[4])
    scale_x, scale_y = size / shape[1], size / shape[0]
    first_x, last_x = (np.clip((edge * scale_x - x0) / (x1 - x0), 0, 1) for edge in (left, left + width))
    first_y, last_y = (np.clip((edge * scale_y - y0) / (y1 - y0), 0, 1) for edge in (top, top + height))
    return Box("", float(first_x), float(first_y), float(last_x - first_x), float(last_y - first_y))

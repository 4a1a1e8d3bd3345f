"""Pictures of masks: what a model marked, filled, under the outline of what a reader marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from placecli.metrics.segmentation import dice, measure_overlap

Picture = NDArray[np.uint8]

_PANEL: Final = 300
"""Longest side of a panel's image, pixels."""
_PREDICTED: Final = (90, 220, 255)
_ACTUAL: Final = (120, 255, 140)
_OPACITY: Final = 0.3


@dataclass(frozen=True, slots=True)
class Marked:
    """An image uint8 [h, w] with the masks bool [h, w] of a model and of a reader; None: no reader looked."""

    image: NDArray[np.uint8]
    predicted: NDArray[np.bool_]
    actual: NDArray[np.bool_] | None = None
    title: str = ""


def draw_masks(marked: Marked, longest: int = _PANEL) -> Picture:
    """uint8 RGB, the longest side `longest` pixels: the model's mask laid over in blue, the reader's outline in green."""
    height, width = marked.image.shape
    scale = longest / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(marked.image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    picture = np.asarray(cv2.cvtColor(resized, cv2.COLOR_GRAY2RGB), np.uint8)
    inside = _enlarge(marked.predicted, size)
    tinted = picture * (1 - _OPACITY) + np.asarray(_PREDICTED) * _OPACITY
    picture = np.where(inside[:, :, None] > 0, tinted.round(), picture).astype(np.uint8)
    _outline(picture, inside, _PREDICTED)
    if marked.actual is not None:
        _outline(picture, _enlarge(marked.actual, size), _ACTUAL)
    return picture


def caption_of(entry: Marked) -> str:
    """Dice with the reader's mask, or what is the case where one of the two is empty, then the title."""
    if entry.actual is None:
        return entry.title
    if not entry.actual.any():
        agreement = "nothing there, nothing marked" if not entry.predicted.any() else "nothing there"
    else:
        value = dice(measure_overlap(entry.predicted[None], entry.actual[None]))[0]
        agreement = f"Dice {value:.2f}"
    return f"{agreement}  {entry.title}".strip()


def _enlarge(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [H, W], 1 inside: resized (width, height) with smooth edges."""
    return (cv2.resize(np.asarray(mask, np.float32), size, interpolation=cv2.INTER_LINEAR) > 0.5).astype(np.uint8)


def _outline(picture: Picture, inside: NDArray[np.uint8], colour: tuple[int, int, int]) -> None:
    """Draw into the picture; holes have an outline as well."""
    outlines, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, colour, 1, cv2.LINE_AA)

"""Whether a picture of a chest is shown with dense tissue dark, judged from the picture where its header does not tell."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Region = tuple[float, float, float, float]
"""(top, bottom, left, right) as fractions of the picture."""

_MEDIASTINUM: Final[Region] = (0.3, 0.7, 0.42, 0.58)
_LUNGS: Final[tuple[Region, ...]] = ((0.3, 0.6, 0.18, 0.36), (0.3, 0.6, 0.64, 0.82))
_BELLY: Final[tuple[Region, ...]] = ((0.75, 0.95, 0.2, 0.8),)
_MIDLINE: Final[tuple[Region, ...]] = ((0.0, 1.0, 0.44, 0.56),)
_CORNERS: Final[tuple[Region, ...]] = ((0.0, 0.15, 0.0, 0.15), (0.0, 0.15, 0.85, 1.0))


def looks_inverted(pixels: NDArray[np.uint8]) -> bool:
    """Whether the chest in uint8 [h, w] has dense tissue dark.

    Mediastinum and belly are denser than lungs, the midline denser than the air in the upper corners; the three
    differences of mean brightness are added, the last by half because a collimated frame has no air. Of the negative
    of a picture the answer is the opposite, but for a sum of exactly zero.
    """
    lungs = _mean(pixels, _LUNGS)
    differences = (
        _mean(pixels, (_MEDIASTINUM,)) - lungs,
        _mean(pixels, _BELLY) - lungs,
        0.5 * (_mean(pixels, _MIDLINE) - _mean(pixels, _CORNERS)),
    )
    return sum(differences) < 0


def _mean(pixels: NDArray[np.uint8], regions: tuple[Region, ...]) -> float:
    """Mean brightness of regions, each counted once whatever its area."""
    height, width = pixels.shape
    means = []
    for top, bottom, left, right in regions:
        rows = slice(int(top * height), max(int(bottom * height), int(top * height) + 1))
        columns = slice(int(left * width), max(int(right * width), int(left * width) + 1))
        means.append(float(pixels[rows, columns].mean()))
    return sum(means) / len(means)

"""Polarity judged from the picture: drawn chests, and real ones in both polarities."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from placecli.data.polarity import looks_inverted


def draw_chest(height: int, width: int, frame: int | None = None) -> NDArray[np.uint8]:
    """Two dark lungs in a grey body on black air; `frame` is the value of a collimated border."""
    down, across = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    chest = np.where(((across - 0.5) / 0.47) ** 2 + ((down - 0.75) / 0.75) ** 2 < 1, 150, 5)
    for middle in (0.28, 0.72):
        chest[((across - middle) / 0.16) ** 2 + ((down - 0.45) / 0.27) ** 2 < 1] = 50
    if frame is not None:
        border = max(1, round(0.06 * width))
        chest[:border] = chest[-border:] = chest[:, :border] = chest[:, -border:] = frame
    return chest.astype(np.uint8)


@pytest.mark.parametrize("shape", [(64, 64), (256, 210), (17, 16), (200, 333)])
@pytest.mark.parametrize("frame", [None, 0, 255])
def test_a_drawn_chest_and_its_negative(shape: tuple[int, int], frame: int | None) -> None:
    chest = draw_chest(*shape, frame)
    assert not looks_inverted(chest)
    assert looks_inverted(255 - chest)


@pytest.mark.parametrize("side", [1, 2, 16])
def test_any_size_has_an_answer(side: int) -> None:
    assert looks_inverted(np.full((side, side), 9, np.uint8)) is False


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("nih_chestxray14", "**/*.png"), ("covid_chestxray", "images/*"), ("iu_xray_r2gen", "**/*.png")],
)
def test_real_radiographs_are_judged_right(real_data: Callable[[str], Path], name: str, pattern: str) -> None:
    """Lateral views are among them. At most one picture in 25 may be judged wrongly."""
    files = sorted(real_data(name).glob(pattern))[:100]
    pictures = [
        cv2.resize(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), (128, 128), interpolation=cv2.INTER_AREA)
        for file in files
    ]
    assert len(pictures) >= 50
    assert sum(looks_inverted(picture) for picture in pictures) <= len(pictures) / 25
    assert sum(looks_inverted(255 - picture) for picture in pictures) >= 24 * len(pictures) / 25

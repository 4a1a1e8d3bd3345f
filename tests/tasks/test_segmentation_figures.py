"""Pictures of masks: what is tinted, what is outlined, what stands below."""

from __future__ import annotations

import numpy as np
import pytest

from placecli.tasks.segmentation_figures import Marked, caption_of, draw_masks

GRAY = 100


def rectangle(top: int, left: int, bottom: int, right: int, shape: tuple[int, int] = (40, 30)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def marked(predicted: np.ndarray, actual: np.ndarray | None) -> Marked:
    return Marked(np.full(predicted.shape, GRAY, np.uint8), predicted, actual)


def test_the_models_mask_is_tinted_and_the_readers_is_an_outline() -> None:
    picture = draw_masks(marked(rectangle(5, 5, 15, 25), rectangle(22, 5, 36, 25)), longest=400).astype(int)
    assert picture.shape == (400, 300, 3)
    red, green, blue = picture[100, 150]
    assert blue > green > red, "inside the model's mask it is blue"
    assert picture[290, 150].tolist() == [GRAY] * 3, "inside the reader's the image is as it was"
    assert picture[200, 10].tolist() == [GRAY] * 3
    edge = picture[215:225, 150]
    assert (edge[:, 1] > edge[:, 2] + 40).any(), "its edge is green"


def test_an_outline_lies_where_the_mask_ends() -> None:
    picture = draw_masks(marked(rectangle(0, 0, 0, 0), rectangle(10, 10, 20, 20)), longest=400).astype(int)
    rows, columns = np.nonzero(picture[:, :, 1] > picture[:, :, 0] + 20)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx((100, 199, 100, 199), abs=3)


def test_a_hole_is_outlined() -> None:
    ring = rectangle(5, 5, 35, 25)
    ring[15:25, 12:18] = False
    picture = draw_masks(marked(rectangle(0, 0, 0, 0), ring), longest=400).astype(int)
    inner = picture[140:160, 150]
    assert (inner[:, 1] > inner[:, 0] + 40).any()


@pytest.mark.parametrize(
    ("predicted", "actual", "words"),
    [
        (rectangle(0, 0, 10, 10), rectangle(0, 0, 10, 10), "Dice 1.00"),
        (rectangle(0, 0, 10, 10), rectangle(0, 5, 10, 15), "Dice 0.50"),
        (rectangle(0, 0, 0, 0), rectangle(0, 0, 0, 0), "nothing there, nothing marked"),
        (rectangle(0, 0, 2, 2), rectangle(0, 0, 0, 0), "nothing there"),
        (rectangle(0, 0, 2, 2), None, ""),
    ],
)
def test_captions_say_how_well_it_agrees(predicted: np.ndarray, actual: np.ndarray | None, words: str) -> None:
    assert caption_of(marked(predicted, actual)) == words

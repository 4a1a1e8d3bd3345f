"""Pointing game and overlap on maps whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from placecli.metrics import grounding


def region(y0: int, y1: int, x0: int, x1: int, size: int = 40) -> np.ndarray:
    marked = np.zeros((size, size), dtype=bool)
    marked[y0:y1, x0:x1] = True
    return marked


def peak(row: int, column: int, shape: tuple[int, int] = (4, 5)) -> np.ndarray:
    heat = np.full(shape, 0.01)
    heat[row, column] = 1.0
    return heat


def test_hits_when_the_centre_of_the_strongest_cell_is_inside() -> None:
    # Cell (1, 3) of a 4 x 5 map over 40 x 40 pixels is centred at row 15, column 28.
    assert grounding.pointing_game(peak(1, 3), region(15, 16, 28, 29))
    assert not grounding.pointing_game(peak(1, 3), region(15, 16, 29, 40))
    assert not grounding.pointing_game(peak(1, 3), region(28, 29, 15, 16))
    assert not grounding.pointing_game(peak(1, 3), region(0, 0, 0, 0))


def test_tolerance_is_in_pixels_of_the_region() -> None:
    far = region(15, 16, 32, 40)
    assert not grounding.pointing_game(peak(1, 3), far, tolerance=4)
    assert grounding.pointing_game(peak(1, 3), far, tolerance=5)
    assert not grounding.pointing_game(peak(1, 3), region(0, 0, 0, 0), tolerance=100)


def test_a_flat_map_earns_nothing() -> None:
    flat, quarter = np.ones((4, 4)), region(0, 20, 0, 20)
    assert not grounding.pointing_game(flat, quarter)
    assert grounding.mask_overlap(flat, quarter) == 0.0
    assert grounding.mass_inside(flat, quarter) == pytest.approx(0.25)


def test_two_equal_maxima_must_both_hit() -> None:
    heat = np.zeros((2, 2))
    heat[0] = 1.0
    assert not grounding.pointing_game(heat, region(0, 20, 0, 20))
    assert grounding.pointing_game(heat, region(0, 20, 0, 40))


def test_overlap_of_a_perfect_and_of_a_disjoint_map() -> None:
    target = region(0, 20, 0, 8)
    assert grounding.mask_overlap(target.astype(float), target, quantile=0.9) == 1.0
    assert grounding.mask_overlap((~target).astype(float), target, quantile=0.05) == 0.0
    # The strongest tenth lies wholly inside a region of half the frame.
    ramp = np.tile(np.arange(40.0), (40, 1))
    assert grounding.mask_overlap(ramp, region(0, 40, 20, 40), quantile=0.9) == pytest.approx(0.2, abs=0.01)


def test_mass_is_spread_evenly_over_a_cell() -> None:
    assert grounding.mass_inside(peak(0, 0, (2, 2)) - 0.01, region(0, 10, 0, 20)) == pytest.approx(0.5)
    assert grounding.mass_inside(np.ones((3, 7)), region(0, 40, 0, 13)) == pytest.approx(13 / 40)
    assert grounding.mass_inside(np.zeros((3, 7)), region(0, 40, 0, 13)) == 0.0


def test_resize_keeps_constants_and_agrees_with_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    values = np.random.default_rng(0).random((5, 7))
    expected = cv2.resize(values, (33, 21), interpolation=cv2.INTER_LINEAR)
    assert np.allclose(grounding.resize_bilinear(values, (21, 33)), expected, atol=1e-6)
    assert np.allclose(grounding.resize_bilinear(np.full((1, 3), 2.0), (6, 6)), 2.0)


def test_refuses_what_is_no_map() -> None:
    with pytest.raises(ValueError, match="not finite"):
        grounding.pointing_game([[np.nan]], [[True]])
    with pytest.raises(ValueError, match="wanted"):
        grounding.mass_inside([1.0], [[True]])

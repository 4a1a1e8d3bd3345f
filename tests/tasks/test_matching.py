"""Boxes of maps whose answer is known, and the order of matched sentences."""

from __future__ import annotations

import numpy as np
import pytest

from placecli.tasks.matching import SeenImage, find_box, match_sentences

WHOLE = (0, 0, 80, 80)


def test_the_box_surrounds_the_cell_that_holds_the_mass() -> None:
    heat = np.zeros((10, 10))
    heat[2, 7] = 1.0
    box = find_box(heat, WHOLE, 80)
    # Linear between cell centres: half of the maximum is reached half a cell away from the centre.
    assert (box.x + box.width / 2, box.y + box.height / 2) == pytest.approx((0.75, 0.25))
    assert (box.width, box.height) == pytest.approx((0.1, 0.1), abs=0.03)


def test_the_larger_of_two_regions_counts_not_the_stronger() -> None:
    heat = np.zeros((10, 10))
    heat[1, 1] = 1.0
    heat[6:9, 5:9] = 0.8
    box = find_box(heat, WHOLE, 80)
    assert (box.x, box.y) == pytest.approx((0.5, 0.6), abs=0.03)
    assert (box.width, box.height) == pytest.approx((0.4, 0.3), abs=0.05)


def test_the_box_is_in_fractions_of_the_content_and_padding_has_no_part() -> None:
    heat = np.zeros((10, 10))
    heat[:, :2] = 5.0
    heat[5, 4] = 1.0
    box = find_box(heat, (20, 0, 60, 80), 80)
    # Cell column 4 is centred at pixel 36, that is 16 of the 40 pixels of content.
    assert box.x + box.width / 2 == pytest.approx(0.4, abs=0.02)
    assert box.y + box.height / 2 == pytest.approx(0.55, abs=0.02)


def test_a_flat_map_and_an_empty_one_give_the_whole_content() -> None:
    for heat in (np.ones((7, 7)), np.zeros((7, 7))):
        box = find_box(heat, (10, 0, 70, 80), 80)
        assert (box.x, box.y, box.width, box.height) == pytest.approx((0, 0, 1, 1), abs=0.02)


def test_sentences_come_best_first_with_the_map_of_the_observation_that_answers() -> None:
    observations = np.eye(3, dtype=np.float32)
    attention = np.eye(3, 4, dtype=np.float32)
    seen = SeenImage(np.zeros((80, 80), np.uint8), WHOLE, observations, attention, (2, 2))
    textual = np.array([[0.6, 0.8, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]], np.float32)
    mask = np.array([True, True, False, True])
    found = match_sentences(["mixed", "third", "cut", "first"], textual, mask, seen, 0.01, 10)
    assert [item.match.text for item in found] == ["third", "first", "mixed"]
    assert [item.match.score for item in found] == pytest.approx([1.0, 1.0, 0.8], abs=1e-4)
    assert found[0].heat.ravel().tolist() == pytest.approx([0, 0, 1, 0], abs=1e-5)
    assert found[1].heat.ravel().tolist() == pytest.approx([1, 0, 0, 0], abs=1e-5)
    assert len(match_sentences(["a", "b"], textual, mask, seen, 0.01, 1)) == 1
    assert match_sentences([], textual, np.zeros(4, bool), seen, 0.01, 3) == ()

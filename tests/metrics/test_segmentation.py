"""Dice and IoU against plain sets, the field's compat Dice against its own steps, empty masks, real lung masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.metrics import segmentation
from placecli.metrics.bootstrap import estimate, estimate_difference


def masks(seed: int, size: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and masks [n, 4, 5], some of them empty."""
    generator = np.random.default_rng(seed)
    shown, truth = generator.random((size, 4, 5)), generator.random((size, 4, 5)) < 0.3
    shown[generator.random(size) < 0.3] *= 0.5
    truth[generator.random(size) < 0.3] = False
    return shown, truth


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_equal_sets_of_pixels(seed: int) -> None:
    shown, truth = masks(seed)
    overlap = segmentation.measure_overlap(shown, truth)
    for i, (p, t) in enumerate(zip(shown > 0.5, truth, strict=True)):
        a, b = ({tuple(pixel) for pixel in np.argwhere(mask)} for mask in (p, t))
        assert segmentation.dice(overlap)[i] == pytest.approx(2 * len(a & b) / (len(a) + len(b)) if a or b else 1.0)
        expected = len(a & b) / len(a | b) if a or b else 1.0
        assert segmentation.intersection_over_union(overlap)[i] == pytest.approx(expected)
    halves = [segmentation.measure_overlap(shown[k], truth[k]) for k in (slice(0, 3), slice(3, None))]
    assert np.array_equal(segmentation.dice(segmentation.join(halves)), segmentation.dice(overlap))


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 3, 16]))
@settings(max_examples=60, deadline=None)
def test_compat_is_the_mean_of_batch_means(seed: int, batch_size: int) -> None:
    shown, truth = masks(seed)
    means = []
    for first in range(0, len(shown), batch_size):
        p = (shown[first : first + batch_size] > 0.5).reshape(-1, 20).astype(float)
        t = truth[first : first + batch_size].reshape(-1, 20).astype(float)
        values = [
            2 * (a * b).sum() / (a + b).sum() if b.sum() else float(a.sum() == 0) for a, b in zip(p, t, strict=True)
        ]
        means.append(np.mean(values))
    overlap = segmentation.measure_overlap(shown, truth)
    assert segmentation.compat_dice(overlap, batch_size) == pytest.approx(np.mean(means))
    once = segmentation.compat_dice(overlap, batch_size, np.ones((2, len(shown))))
    assert once == pytest.approx([np.mean(means)] * 2)


def test_means_over_all_and_over_positives() -> None:
    truth = np.zeros((3, 2, 2), dtype=bool)
    truth[0, 0] = True
    shown = np.zeros((3, 2, 2))
    shown[0, 0, 0] = shown[2] = 1.0
    overlap = segmentation.measure_overlap(shown, truth)
    values = segmentation.dice(overlap)
    assert values.tolist() == [pytest.approx(2 / 3), 1.0, 0.0]
    assert segmentation.mean_over_images(values) == pytest.approx(5 / 9)
    assert segmentation.mean_over_positives(values, overlap) == pytest.approx(2 / 3)
    found = segmentation.mean_over_positives(values, overlap, [[2, 1, 1], [0, 1, 1]])
    assert found == pytest.approx([2 / 3, np.nan], nan_ok=True)
    # Three in batches of two: the last image alone counts as much as the first two together.
    assert segmentation.compat_dice(overlap, 2) == pytest.approx(((2 / 3 + 1) / 2 + 0) / 2)


def test_a_probability_of_one_half_is_outside() -> None:
    overlap = segmentation.measure_overlap([[0.5, 0.6]], [[1, 1]])
    assert (overlap.both.tolist(), overlap.predicted.tolist()) == ([1], [1])


def test_intervals_resample_patients() -> None:
    shown, truth = masks(3, size=60)
    overlap = segmentation.measure_overlap(shown, truth)
    values, patients = segmentation.dice(overlap), np.arange(60) // 3
    found = estimate(lambda w: segmentation.mean_over_positives(values, overlap, w), patients, replicates=200)
    assert found.low < found.value < found.high
    same = estimate_difference(
        lambda w: segmentation.compat_dice(overlap, 8, w),
        lambda w: segmentation.compat_dice(overlap, 8, w),
        patients,
        replicates=50,
    )
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)


def test_refuses_other_shapes_and_nan() -> None:
    with pytest.raises(ValueError, match="one shape"):
        segmentation.measure_overlap(np.zeros((2, 3, 3)), np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="not a number"):
        segmentation.measure_overlap([[np.nan]], [[1]])
    with pytest.raises(ValueError, match="at least one image"):
        segmentation.compat_dice(segmentation.measure_overlap([[1.0]], [[1]]), 0)
    with pytest.raises(ValueError, match="no image"):
        segmentation.join([])


def test_real_lung_masks_against_a_shifted_copy(real_data: Callable[[str], Path]) -> None:
    cv2 = pytest.importorskip("cv2")
    paths = sorted((real_data("lung_masks_mcu_chn") / "masks").rglob("*.png"))[:6]
    truth = np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127 for path in paths])
    shifted = np.roll(truth, 8, axis=2)
    values = segmentation.dice(segmentation.measure_overlap(shifted, truth))
    assert (segmentation.dice(segmentation.measure_overlap(truth, truth)) == 1).all()
    # Lungs are large and smooth: eight pixels of 512 cost a few hundredths.
    assert (values > 0.85).all()
    assert (values < 0.99).all()

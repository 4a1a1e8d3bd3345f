"""Area averaging against its definition in float64, and the phase of JPEG 2000's lower resolutions."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from placecli.data.codestream import inspect
from placecli.data.decoders import decode_stream
from placecli.data.resampling import Halved, find_ends, reduce_area, scratch


def weights(length: int, wanted: int) -> NDArray[np.float64]:
    """[wanted, length]: the share of each sample in each of `wanted` equal cells."""
    matrix = np.zeros((wanted, length))
    for cell in range(wanted):
        start, stop = cell * length / wanted, (cell + 1) * length / wanted
        for sample in range(length):
            matrix[cell, sample] = max(0.0, min(stop, sample + 1) - max(start, sample))
    return matrix * wanted / length


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 900),
    columns=st.integers(1, 40),
    height=st.integers(1, 900),
    width=st.integers(1, 40),
    highest=st.sampled_from([1, 255, 4095, 16383, 65535]),
    seed=st.integers(0, 1000),
)
def test_each_cell_is_the_average_of_what_it_covers(
    rows: int, columns: int, height: int, width: int, highest: int, seed: int
) -> None:
    dtype = np.uint8 if highest < 256 else np.uint16
    values = np.random.default_rng(seed).integers(0, highest + 1, (rows, columns)).astype(dtype)
    height, width = min(height, rows), min(width, columns)
    expected = weights(rows, height) @ values @ weights(columns, width).T
    for bound in (highest, 65535):
        reduced = reduce_area(values, width, height, highest=bound)
        assert reduced.dtype == np.float32
        np.testing.assert_allclose(reduced, expected, rtol=1e-5, atol=1e-5 * highest)


def test_the_result_does_not_change_with_the_next_image() -> None:
    values = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)
    for width, height in ((12, 16), (48, 16), (12, 64), (48, 64), (96, 16)):
        first = reduce_area(values, width, height)
        kept = first.copy()
        reduce_area(values[::-1] * 3, width, height)
        np.testing.assert_array_equal(first, kept)


def test_largest_values_do_not_overflow() -> None:
    values = np.full((1000, 500), 65535, np.uint16)
    np.testing.assert_allclose(reduce_area(values, 5, 7), 65535, rtol=1e-6)
    values = np.full((1000, 500), 9362, np.uint16)  # seven of them are 65534
    np.testing.assert_allclose(reduce_area(values, 80, 160, highest=9362), 9362, rtol=1e-6)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("size", [(512, 640), (509, 635)])
def test_a_halved_picture_stays_in_its_place(times: int, size: tuple[int, int]) -> None:
    """A slope has its value where the full resolution has it; without the phase it would be half a sample aside."""
    rows, columns = size
    ramp = (6 * np.arange(columns)[None, :] + np.zeros((rows, 1))).astype(np.uint16)
    for values in (ramp, np.ascontiguousarray(ramp[:, :rows].T)):
        stream = bytes(imagecodecs.jpeg2k_encode(values, level=0, reversible=True, codecformat="j2k", bitspersample=12))
        info = inspect(stream)
        assert info is not None
        small = decode_stream(stream, info, False, times)
        height, width = 40, 50
        expected = reduce_area(values, width, height)
        halved = Halved((values.shape[1], values.shape[0]), times)
        found = reduce_area(small, width, height, halved=halved)
        # On average, and apart from the edges, where the filter mirrors the slope.
        assert abs((found - expected)[6:-6, 6:-6].mean()) < 0.2
        aside = reduce_area(small, width, height) - expected
        assert np.abs(aside[6:-6, 6:-6]).max() > 2.0


def test_ends_are_those_of_all_strips() -> None:
    values = np.full((1000, 3), 500, np.uint16)
    values[0, 0], values[999, 2] = 7, 60000
    ends = find_ends(values)
    assert (ends.low, ends.high) == (7, 60000)


def test_large_scratch_is_not_kept() -> None:
    assert scratch("small", (8,), np.float32) is not None
    assert np.shares_memory(scratch("small", (8,), np.float32), scratch("small", (2, 4), np.float32))
    assert not np.shares_memory(scratch("large", (5 << 20,), np.float32), scratch("large", (5 << 20,), np.float32))

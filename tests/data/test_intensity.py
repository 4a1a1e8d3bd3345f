"""Lines and tables of brightness against naive NumPy over all stored values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from small_dicom import lookup_item

from placecli.data.dicom_header import Header
from placecli.data.intensity import FULL, Line, Range, Table, build_brightness, is_inverted, tabulate

BITS = 10
FOUND = Range(low=100, high=900, offset=0, inner=(150, 800))
VALUES = np.arange(1 << BITS)


def header_of(**values: Any) -> Header:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return Header(dataset, set())


def shown(header: Header, found: Range = FOUND, mode: Any = "header", *, inverted: bool = False) -> np.ndarray:
    """Brightness 0 to 1 of unsigned stored values 0 to `found.high`, however it is held."""
    brightness = build_brightness(header, found, mode, inverted)
    return tabulate(brightness, found.high + 1) / FULL


def ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) / (high - low), 0, 1)


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4).filter(lambda x: abs(x) > 1))
def test_a_line_is_numpy_interp(start: float, width: float) -> None:
    ends = sorted((start, start + width))
    expected = np.interp(VALUES, ends, (0, 1) if width > 0 else (1, 0))
    np.testing.assert_allclose(Line(start, start + width)(VALUES.astype(float)), expected, atol=1e-9)


@given(st.floats(-100, 1100), st.floats(-100, 1100))
def test_a_table_of_a_line_is_the_line_to_sixteen_bits(start: float, stop: float) -> None:
    if abs(start - stop) > 1e-3:
        table = tabulate(Line(start, stop), 1 << BITS)
        assert table.dtype == np.uint16
        assert np.abs(table / FULL - Line(start, stop)(VALUES.astype(float))).max() <= 0.5 / FULL + 1e-12


def test_a_table_goes_on_with_its_last_entry() -> None:
    table = Table(np.array([3, 7], np.uint16))
    np.testing.assert_array_equal(tabulate(table, 4), [3, 7, 7, 7])
    np.testing.assert_array_equal(tabulate(table, 1), [3])


@given(
    st.floats(0.01, 50).flatmap(lambda slope: st.sampled_from([slope, -slope])),
    st.floats(-2000, 2000),
    st.integers(200, 800),
    st.integers(60, 600),
    st.sampled_from([0, -512]),
    st.booleans(),
)
def test_window_after_rescale(
    slope: float, intercept: float, middle: int, reach: int, offset: int, inverted: bool
) -> None:
    """The window is put around `middle` in rescaled units; signed values have an offset."""
    found = Range(100, 900, offset, (100, 900))
    slope, intercept = float(f"{slope:.4f}"), float(f"{intercept:.4f}")
    center, width = float(f"{slope * (middle + offset) + intercept:.6f}"), float(f"{abs(slope) * reach + 1:.6f}")
    header = header_of(
        RescaleSlope=str(slope), RescaleIntercept=str(intercept), WindowCenter=str(center), WindowWidth=str(width)
    )
    outputs = slope * (np.arange(901) + offset) + intercept
    expected = ramp(outputs, center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2)
    np.testing.assert_allclose(
        shown(header, found, inverted=inverted), 1 - expected if inverted else expected, atol=1e-4
    )
    assert header.flags == set()


@pytest.mark.parametrize("mode", ["minmax", "percentile", "header"])
@pytest.mark.parametrize("slope", ["2", "-2"])
def test_ranges(mode: str, slope: str) -> None:
    header = header_of(RescaleSlope=slope, RescaleIntercept="5")
    low, high = FOUND.inner if mode == "percentile" else (FOUND.low, FOUND.high)
    expected = ramp(np.arange(901), low, high)
    np.testing.assert_allclose(shown(header, mode=mode), expected if slope == "2" else 1 - expected, atol=1e-4)


def test_percentiles_that_are_one_value_give_way_to_the_ends() -> None:
    found = Range(100, 900, 0, (300, 300))
    np.testing.assert_allclose(shown(header_of(), found, "percentile"), ramp(np.arange(901), 100, 900), atol=1e-4)


@pytest.mark.parametrize("first", [0, 300, 700])
def test_a_table_of_the_file_is_extended_at_its_ends(first: int) -> None:
    entries = np.rint(1023 * np.linspace(0, 1, 150) ** 0.5).astype(np.uint16)
    header = header_of(VOILUTSequence=lookup_item(first, entries, 10))
    expected = [entries[min(max(value - first, 0), 149)] / 1023 for value in range(901)]
    np.testing.assert_allclose(shown(header), expected, atol=1e-4)


def test_a_modality_table_that_is_not_monotonic_is_stretched_over_its_range() -> None:
    entries = np.array([200, 900, 400, 700] * 256, np.uint16)
    header = header_of(ModalityLUTSequence=lookup_item(0, entries, 10))
    np.testing.assert_allclose(shown(header), ramp(entries[:901], 200, 900), atol=1e-4)


def test_a_table_without_contrast_in_this_picture_is_not_used() -> None:
    header = header_of(VOILUTSequence=lookup_item(2000, np.arange(1000, dtype=np.uint16), 10))
    np.testing.assert_allclose(shown(header), ramp(np.arange(901), 100, 900), atol=1e-4)
    assert "window_useless" in header.flags


@pytest.mark.parametrize(
    ("photometric", "shape", "expected"),
    [
        ("MONOCHROME1", "", True),
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "", False),
        ("", "", False),
    ],
)
def test_polarity_by_the_header(photometric: str, shape: str, expected: bool) -> None:
    assert is_inverted(header_of(PresentationLUTShape=shape), photometric) is expected

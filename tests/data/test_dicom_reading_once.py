"""A frame that is drawn while it is measured comes out as one that is measured first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_dicom import draw_picture, write

from placecli.config import PreprocessConfig
from placecli.data import dicom
from placecli.data.radiograph import Radiograph

PICTURE = draw_picture(400, 320)


def read(path: Path, size: int = 60) -> Radiograph:
    return dicom.read_dicom(path, size, PreprocessConfig(size=size))


@pytest.mark.parametrize(
    ("center", "width", "intercept"),
    [
        ("2000", "3000", "0"),  # clips at both ends, in whole numbers
        ("2000", "1000", "0"),  # narrow: clipped in float32
        ("2048", "9000", "0"),  # clips nothing
        ("976", "3000", "-1024"),
        ("30000", "100", "0"),  # beyond the 12 bits: the range of the pixels is used
        ("4000", "120", "0"),  # within the 12 bits, yet without contrast in the picture
    ],
)
def test_a_foreseen_window_changes_nothing(
    center: str, width: str, intercept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"WindowCenter": center, "WindowWidth": width, "RescaleIntercept": intercept, "RescaleSlope": "1"}
    path = write(tmp_path / "a.dcm", np.minimum(PICTURE, 3900), **values)
    at_once = read(path)
    monkeypatch.setattr(dicom, "foresee_line", lambda *_: None)
    measured_first = read(path)
    np.testing.assert_array_equal(at_once.pixels, measured_first.pixels)
    assert at_once.flags == measured_first.flags


def test_bits_beyond_the_stored_ones_are_cleared_before_the_window(tmp_path: Path) -> None:
    values = {"WindowCenter": "2000", "WindowWidth": "3000"}
    clean = read(write(tmp_path / "clean.dcm", PICTURE, **values))
    dirty = PICTURE.copy()
    dirty[::3] |= 0x5000
    found = read(write(tmp_path / "dirty.dcm", dirty, **values))
    np.testing.assert_array_equal(found.pixels, clean.pixels)
    assert "unused_bits_set" in found.flags
    assert "unused_bits_set" not in clean.flags

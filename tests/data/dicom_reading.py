"""Reads DICOM files that a test wrote, at a size that keeps their pixels, and compares what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from placecli.config import PreprocessConfig
from placecli.data.dicom import convert
from placecli.data.dicom_file import parse_dicom
from placecli.data.radiograph import Radiograph
from placecli.records import InputRefused


def read(content: bytes, size: int = 40, **rules: Any) -> Radiograph:
    """The radiograph in a file's bytes; `rules` are keys of the preprocess section."""
    return convert(parse_dicom(content), size, PreprocessConfig(**rules))


def refusal(content: bytes, **rules: Any) -> InputRefused:
    """Why the file is refused; the test fails where it is not."""
    with pytest.raises(InputRefused) as caught:
        read(content, **rules)
    return caught.value


def assert_shows(radiograph: Radiograph, expected: NDArray[np.float64], tolerance: float = 0.51) -> None:
    """Every pixel within `tolerance` grey levels of `expected`: by default what rounding leaves."""
    assert radiograph.pixels.shape == expected.shape
    assert np.abs(radiograph.pixels - expected).max() <= tolerance

"""The one result of reading an image file, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Radiograph:
    """A grayscale picture ready for the store.

    `pixels`: uint8 [h, w], longest side as asked for, bright = dense (bone white), pixels square.
    `original_size`: (width, height) of the stored frame in pixels, before any correction of the aspect ratio.
    `header`: the whitelisted values of docs/dicom.md ("" where absent); empty for PNG and JPEG.
    `flags`: words of `dicom_codes.FLAGS`, sorted, each once.
    """

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]
    header: Mapping[str, str]
    flags: tuple[str, ...]


Pixels = NDArray[Any]
"""An integer image [h, w] as a decoder gives it."""

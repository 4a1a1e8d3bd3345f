"""Small pictures for made-up releases, of any format by their ending, with the folders that they need."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_picture(path: Path, seed: int, height: int = 40, width: int = 36) -> None:
    """Grey noise that differs from seed to seed, as PNG or JPEG."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def looks_inverted(pixels: NDArray[np.uint8]) -> bool:
    return True

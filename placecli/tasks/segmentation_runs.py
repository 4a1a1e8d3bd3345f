"""Masks as run lengths, in COCO's uncompressed form: {"size": [h, w], "counts": [...]}, down the columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from placecli.records import PlaceError

Mask = NDArray[np.bool_]


def encode_runs(mask: Mask) -> dict[str, Any]:
    """{"size": [h, w], "counts"} of a mask bool [h, w]: pixels outside, inside, outside, ... down the first column,
    then down the next one. The first count is 0 where the first pixel is inside."""
    height, width = mask.shape
    pixels = np.concatenate([[False], np.asarray(mask, bool).ravel(order="F")])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    ends = np.concatenate([[0], changes, [height * width]])
    return {"size": [height, width], "counts": np.diff(ends).tolist()}


def decode_runs(record: dict[str, Any], size: int) -> Mask:
    """The mask bool [size, size] of a record that `encode_runs` or another program made.

    Raises PlaceError where the record is for another size or its counts are not those of such a mask.
    """
    counts = record.get("counts")
    if record.get("size") != [size, size]:
        raise PlaceError(
            f"predictions: a mask has the size {record.get('size')}, the images of the store are [{size}, {size}];"
            " give masks of the store's frame, padding included"
        )
    if not isinstance(counts, list) or any(type(count) is not int or count < 0 for count in counts):
        raise PlaceError(
            "predictions: the counts of a mask are not a list of whole numbers from 0 on; write COCO's run lengths"
            " uncompressed (docs/finetune.md shows the form)"
        )
    if sum(counts) != size * size:
        raise PlaceError(
            f"predictions: the counts of a mask sum to {sum(counts)}, not to its {size * size} pixels; count the last"
            " run of pixels outside as well"
        )
    inside = np.arange(len(counts)) % 2 == 1
    return np.repeat(inside, counts).reshape((size, size), order="F")

"""Run lengths: there and back for any mask, equal to COCO's, and refusals that say what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from placecli.records import PlaceError
from placecli.tasks.segmentation_runs import decode_runs, encode_runs

squares = st.integers(1, 12).flatmap(lambda side: arrays(np.bool_, (side, side)))


@given(squares)
def test_any_mask_comes_back(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_runs(encode_runs(mask), len(mask)), mask)


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_runs_are_those_of_coco(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    record = encode_runs(mask)
    own = coco.frPyObjects(record, *mask.shape)
    assert own == coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    np.testing.assert_array_equal(coco.decode(own).astype(bool), mask)


def test_counts_go_down_the_columns_and_begin_outside() -> None:
    assert encode_runs(np.array([[0, 1], [0, 1]], bool)) == {"size": [2, 2], "counts": [2, 2]}
    assert encode_runs(np.array([[1, 1], [0, 0]], bool)) == {"size": [2, 2], "counts": [0, 1, 1, 1, 1]}
    assert encode_runs(np.zeros((2, 3), bool)) == {"size": [2, 3], "counts": [6]}
    assert encode_runs(np.ones((2, 2), bool)) == {"size": [2, 2], "counts": [0, 4]}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"size": [4, 5], "counts": [20]}, r"size \[4, 5\], the images of the store are \[4, 4\]"),
        ({"counts": [16]}, "size None"),
        ({"size": [4, 4], "counts": [10, 5]}, "sum to 15, not to its 16 pixels"),
        ({"size": [4, 4], "counts": [17, -1]}, "whole numbers from 0 on"),
        ({"size": [4, 4], "counts": [8.0, 8.0]}, "whole numbers"),
        ({"size": [4, 4], "counts": [True, 15]}, "whole numbers"),
        ({"size": [4, 4], "counts": "0b1"}, "uncompressed"),
    ],
)
def test_what_is_no_mask_is_refused_in_one_line(record: dict[str, Any], words: str) -> None:
    with pytest.raises(PlaceError, match=words) as caught:
        decode_runs(record, 4)
    assert "\n" not in str(caught.value)

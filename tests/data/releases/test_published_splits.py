"""The published splits are those that scikit-learn draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from placecli.data.releases.published_splits import draw_three, draw_two


@given(st.integers(2, 300), st.floats(0.01, 0.9), st.integers(0, 3))
def test_shares_are_drawn_as_scikit_learn_draws_them(count: int, share: float, seed: int) -> None:
    if int(np.ceil(share * count)) >= count:
        return
    expected = train_test_split(np.arange(count), test_size=share, random_state=seed)
    assert [part.tolist() for part in draw_two(count, share, seed)] == [part.tolist() for part in expected]


@given(st.integers(2, 300), st.data())
def test_numbers_are_drawn_as_scikit_learn_draws_them(count: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(1, count - 1))
    expected = train_test_split(np.arange(count), test_size=number, random_state=0)
    assert [part.tolist() for part in draw_two(count, number)] == [part.tolist() for part in expected]


@pytest.mark.parametrize(("count", "held_out", "sizes"), [(26684, 0.3, (18678, 4003, 4003)), (26684, 10674, None)])
def test_three_parts_are_two_draws(count: int, held_out: float | int, sizes: tuple[int, int, int] | None) -> None:
    train, held = train_test_split(np.arange(count), test_size=held_out, random_state=0)
    test, validate = train_test_split(held, test_size=0.5, random_state=0)
    drawn = draw_three(count, held_out)
    for name, expected in (("train", train), ("validate", validate), ("test", test)):
        assert np.array_equal(drawn[name], expected)
    found = tuple(len(drawn[name]) for name in ("train", "validate", "test"))
    assert found == (sizes or (16010, 5337, 5337))


def test_more_held_out_than_there_is() -> None:
    assert [len(part) for part in draw_two(3, 10)] == [0, 3]
    assert [len(draw_three(n, 0.3)[name]) for n in (0, 1) for name in ("train", "validate", "test")] == [
        *(0, 0, 0),
        *(0, 1, 0),
    ]

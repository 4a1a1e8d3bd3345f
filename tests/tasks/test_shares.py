"""Shares of the train split: nested, by patient, independent of order; and the field's draw of rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_run import make_rows

from placecli.records import PlaceError, Row
from placecli.tasks.shares import draw_share


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return make_rows({"train": 400}, seed=0)[0]


def patients(rows: list[Row]) -> set[str]:
    return {row.patient_id for row in rows}


def test_a_small_share_lies_within_a_larger_one_and_patients_stay_whole(rows: list[Row]) -> None:
    small, large = draw_share(rows, 0.01, 3), draw_share(rows, 0.1, 3)
    assert len(patients(small)) == 2
    assert len(patients(large)) == 20
    assert patients(small) < patients(large)
    assert len(large) == 40
    assert [row for row in rows if row.patient_id in patients(large)] == large


def test_it_follows_the_seed_and_not_the_order_of_the_store(rows: list[Row]) -> None:
    first = patients(draw_share(rows, 0.1, 3))
    assert first == patients(draw_share(rows[::-1], 0.1, 3))
    assert first != patients(draw_share(rows, 0.1, 4))


def test_all_is_all(rows: list[Row]) -> None:
    assert draw_share(rows, 1.0, 0) == rows


def test_rows_are_drawn_as_a_data_frame_samples_them(rows: list[Row]) -> None:
    chosen = draw_share(rows, 0.1, 42, "rows")
    # pandas.DataFrame.sample(frac=0.1, random_state=42) of 400 rows draws by RandomState.choice without replacement.
    expected = np.sort(np.random.RandomState(42).choice(400, size=40, replace=False))
    assert [row.row for row in chosen] == expected.tolist()


def test_nothing_left_is_an_error(rows: list[Row]) -> None:
    with pytest.raises(PlaceError, match=r"0\.001 of 400 images leaves none.*--fraction"):
        draw_share(rows, 0.001, 0, "rows")


def test_one_patient_is_never_cut(rows: list[Row]) -> None:
    alone = [dataclasses.replace(row, patient_id="one") for row in rows[:10]]
    assert draw_share(alone, 0.01, 0) == alone

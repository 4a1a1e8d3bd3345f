"""Exclusive sets against a naive count, the rule's own cases, and the published CheXpert table where it is installed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from chexpert_table import published_rows

from placecli.data.exclusive_sets import CHEXPERT_CLASSES, draw, exclusive_pools, exclusive_sets
from placecli.records import PlaceError

CLASSES = ("Edema", "Pleural Effusion")


@pytest.mark.parametrize(
    ("labels", "found_in"),
    [
        ({"Edema": 1.0}, "Edema"),
        ({"Edema": 1.0, "Fracture": 0.0, "Pleural Effusion": 0.0}, "Edema"),
        ({"Edema": 1.0, "No Finding": 1.0}, "Edema"),
        ({"Edema": 1.0, "No Finding": -1.0}, "Edema"),
        ({"Edema": 1.0, "Fracture": 1.0}, None),
        ({"Edema": 1.0, "Fracture": -1.0}, None),
        ({"Edema": 1.0, "Pleural Effusion": 1.0}, None),
        ({"Edema": -1.0}, None),
        ({"Fracture": 1.0}, None),
        ({"No Finding": 1.0}, None),
        ({"Pleural Effusion": 1.0}, "Pleural Effusion"),
        ({}, None),
    ],
)
def test_the_rule(labels: dict[str, float], found_in: str | None) -> None:
    pools = exclusive_pools([{}, labels], CLASSES)
    assert pools == {name: (1,) if name == found_in else () for name in CLASSES}


def test_pools_are_those_of_a_naive_count() -> None:
    names = (*CLASSES, "Fracture", "No Finding")
    rows = [
        {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for values in itertools.product((None, 0.0, 1.0, -1.0), repeat=4)
    ]
    pools = exclusive_pools(rows, CLASSES)
    for name in CLASSES:
        others = [other for other in names if other not in (name, "No Finding")]
        naive = [i for i, row in enumerate(rows) if row.get(name) == 1 and all(row.get(o, 0) == 0 for o in others)]
        assert list(pools[name]) == naive
        # Positive, two others each blank or 0, "No Finding" free: 1 x 2 x 2 x 4.
        assert len(naive) == 16


def test_sets_are_drawn_from_the_pools_without_repeats_and_follow_the_seed() -> None:
    rows = [{CLASSES[number % 2]: 1.0} for number in range(60)]
    drawn = exclusive_sets(rows, CLASSES, per_class=10, seed=3)
    pools = exclusive_pools(rows, CLASSES)
    for name in CLASSES:
        assert len(set(drawn[name])) == 10
        assert set(drawn[name]) <= set(pools[name])
    assert drawn == exclusive_sets(rows, CLASSES, per_class=10, seed=3)
    assert drawn != exclusive_sets(rows, CLASSES, per_class=10, seed=4)
    # One class does not decide another's draw.
    assert drawn["Edema"] == exclusive_sets(rows, ("Edema",), per_class=10, seed=3)["Edema"]


def test_a_pool_that_is_too_small_is_named_with_its_size() -> None:
    rows = [{"Edema": 1.0}] * 3 + [{"Pleural Effusion": 1.0}] * 2
    assert len(exclusive_sets(rows, CLASSES, per_class=2)["Edema"]) == 2
    with pytest.raises(PlaceError, match=r"3 images for each class .* \(Pleural Effusion 2\); ask for fewer"):
        exclusive_sets(rows, CLASSES, per_class=3)


def test_a_draw_is_the_start_of_numpys_old_permutation() -> None:
    assert draw(100, 7, 0) == list(np.random.RandomState(0).permutation(100)[:7])
    state = np.random.get_state()
    try:
        np.random.seed(5)
        assert draw(40, 40, 5) == list(np.random.choice(40, 40, replace=False))
    finally:
        np.random.set_state(state)


def test_published_table_has_the_published_pool_sizes() -> None:
    """MGCA's 5x200 on the real train.csv, as torchxrayvision carries it."""
    frontal = [labels for path, labels in published_rows() if path.endswith("_frontal.jpg")]
    sizes = {name: len(pool) for name, pool in exclusive_pools(frontal).items()}
    assert sizes == dict(zip(CHEXPERT_CLASSES, (1087, 1034, 537, 2257, 2425), strict=True))
    assert {len(chosen) for chosen in exclusive_sets(frontal).values()} == {200}

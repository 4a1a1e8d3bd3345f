"""How labels of a store become targets: uncertain, unmentioned, unlabelled, exclusive."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from small_run import make_rows

from placecli.config import ClassificationConfig
from placecli.records import PlaceError, Row
from placecli.tasks.targets import choose_labels, read_targets

LABELS = ("Edema", "Fracture")


def row(**labels: float) -> Row:
    return dataclasses.replace(make_rows({"train": 1}, seed=0)[0][0], labels=labels)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("zeros", [0.0, 0.0]), ("ones", [1.0, 1.0]), ("ignore", [np.nan, np.nan]), ("mixed", [1.0, 0.0])],
)
def test_uncertain_is_read_as_the_preset_says(policy: str, expected: list[float]) -> None:
    config = ClassificationConfig(uncertain=policy)  # type: ignore[arg-type]
    found = read_targets([row(Edema=-1.0, Fracture=-1.0)], LABELS, config)
    assert np.array_equal(found[0], expected, equal_nan=True)


def test_silence_is_absence_or_nothing_and_a_row_without_labels_is_not_used() -> None:
    rows = [row(Edema=1.0), row()]
    absent = read_targets(rows, LABELS, ClassificationConfig())
    assert np.array_equal(absent, [[1.0, 0.0], [np.nan, np.nan]], equal_nan=True)
    ignored = read_targets(rows, LABELS, ClassificationConfig(unmentioned="ignore"))
    assert np.array_equal(ignored[0], [1.0, np.nan], equal_nan=True)


def test_classes_must_exclude_each_other() -> None:
    config = ClassificationConfig(kind="multi-class")
    read_targets([row(Edema=1.0), row(Fracture=1.0, Edema=0.0), row()], LABELS, config)
    with pytest.raises(PlaceError, match="2 of 3 labelled images have not exactly one of Edema, Fracture"):
        read_targets([row(Edema=1.0, Fracture=1.0), row(Edema=0.0), row(Edema=1.0)], LABELS, config)


def test_labels_are_those_with_both_kinds_or_those_that_are_named() -> None:
    rows = [row(A=1.0, B=0.0, C=1.0, D=-1.0), row(A=0.0, B=0.0, C=-1.0, D=1.0)]
    assert choose_labels(rows, ClassificationConfig()) == ("A",)
    assert choose_labels(rows, ClassificationConfig(labels=("B", "A"))) == ("B", "A")
    with pytest.raises(PlaceError, match='no label "E"; it has A, B, C, D'):
        choose_labels(rows, ClassificationConfig(labels=("E",)))
    with pytest.raises(PlaceError, match="no label of the train split has both"):
        choose_labels(rows[:1], ClassificationConfig())

"""Boxes: which rows are known, and that a box moves with the pixels under it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_run import make_rows
from torch import Tensor

from placecli.config import DetectionConfig
from placecli.engine.augment import Augmentation, apply, draw, transform_content
from placecli.engine.detection.detector import FoundBoxes
from placecli.records import Box, PlaceError, Row
from placecli.tasks.detection_boxes import (
    Turned,
    box_labels,
    known_rows,
    move_boxes,
    place_boxes,
    predicted_boxes,
    read_boxes,
    to_prediction,
    true_boxes,
)

NEUTRAL = draw(1, 0.0, torch.Generator())


def row(labels: dict[str, float], *boxes: Box) -> Row:
    return dataclasses.replace(make_rows({"train": 1}, 0)[0][0], labels=labels, boxes=boxes)


def box(label: str, x: float = 1, y: float = 2, width: float = 3, height: float = 4) -> Box:
    return Box(label, x, y, width, height)


@pytest.mark.parametrize(
    ("labels", "boxes", "is_known"),
    [
        ({"Mass": 1.0}, [box("Mass")], True),
        ({}, [box("Mass")], True),
        ({"Mass": 0.0}, [], True),  # a release that marks all images labels its negatives
        ({"Mass": 0.0, "Nodule": 0.0, "Edema": 1.0}, [], True),  # nothing is marked as Edema
        ({"Mass": 1.0}, [], False),  # present, but nobody drew where
        ({"Mass": 0.0, "Nodule": -1.0}, [], False),
        ({}, [], False),  # nobody read it
        ({"Edema": 0.0}, [], False),
        ({"Edema": 1.0}, [box("Edema")], False),  # a box of another label says nothing of these
    ],
)
def test_a_row_is_known_when_marked_or_said_to_hold_nothing(
    labels: dict[str, float], boxes: list[Box], is_known: bool
) -> None:
    config = DetectionConfig(labels=("Mass", "Nodule"))
    assert bool(known_rows([row(labels, *boxes)], config)) == is_known
    positives_only = known_rows([row(labels, *boxes)], config.model_copy(update={"negatives": "none"}))
    assert bool(positives_only) == (is_known and bool(boxes))


def test_labels_are_those_asked_for_or_those_of_all_boxes() -> None:
    rows = [row({}, box("b"), box("a")), row({}, box("b"))]
    assert box_labels(rows, DetectionConfig()) == ("a", "b")
    assert box_labels(rows, DetectionConfig(labels=("b",))) == ("b",)
    corners, numbers = read_boxes(rows[0], ("b",), 10)
    torch.testing.assert_close(corners, torch.tensor([[0.1, 0.2, 0.4, 0.6]]))
    assert numbers.tolist() == [0]
    assert true_boxes(rows[0], ("a", "b")).classes.tolist() == [1, 0]


def shifted(x: float, y: float, scale: float = 1.0, degrees: float = 0.0) -> Augmentation:
    return dataclasses.replace(
        NEUTRAL,
        shift_x=torch.tensor([x]),
        shift_y=torch.tensor([y]),
        scale=torch.tensor([scale]),
        rotation=torch.tensor([math.radians(degrees)]),
    )


@pytest.mark.parametrize("turned", ["ellipse", "corners"])
def test_shift_scale_and_quarter_turn_in_closed_form(turned: Turned) -> None:
    corners = torch.tensor([[0.5, 0.25, 0.75, 0.5]])

    def moved(augmentation: Augmentation) -> Tensor:
        return move_boxes(corners, augmentation, turned)

    torch.testing.assert_close(moved(shifted(0.1, -0.05)), corners + torch.tensor([0.1, -0.05, 0.1, -0.05]))
    torch.testing.assert_close(moved(shifted(0, 0, 2.0)), torch.tensor([[0.5, 0.0, 1.0, 0.5]]))
    # Clockwise by 90 degrees: right of the middle goes below it, above it goes right.
    torch.testing.assert_close(moved(shifted(0, 0, 1.0, 90)), torch.tensor([[0.5, 0.5, 0.75, 0.75]]))


@pytest.mark.parametrize(("turned", "half"), [("ellipse", 0.25), ("corners", 0.25 * math.sqrt(2))])
def test_half_a_quarter_turn_of_a_square(turned: Turned, half: float) -> None:
    moved = move_boxes(torch.tensor([[0.25, 0.25, 0.75, 0.75]]), shifted(0, 0, 1.0, 45), turned)
    torch.testing.assert_close(moved, torch.tensor([[0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half]]))


@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_corners_move_as_the_content_of_an_image_does(seed: int, strength: float) -> None:
    moved = draw(1, strength, torch.Generator().manual_seed(seed))
    corners = torch.tensor([[0.3, 0.4, 0.5, 0.7]])
    torch.testing.assert_close(move_boxes(corners, moved, "corners").clamp(0, 1), transform_content(corners, moved))


def bright_bounds(image: Tensor) -> tuple[float, float, float, float]:
    """Bounds of what is brighter than the ground, in pixels."""
    rows, columns = np.nonzero(image[0].numpy() > 0.0)
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)


@pytest.mark.parametrize("turned", ["ellipse", "corners"])
@pytest.mark.parametrize("seed", range(8))
def test_a_box_moves_with_the_pixels_under_it(seed: int, turned: Turned) -> None:
    """Held against the image itself: a bright ellipse or rectangle on gray, moved by `apply`, at half the frame's size."""
    drawn = draw(1, 1.0, torch.Generator().manual_seed(seed))
    still = {name: getattr(NEUTRAL, name) for name in ("gamma", "contrast", "brightness", "noise")}
    moves = dataclasses.replace(drawn, **still)
    frame = torch.full((1, 1, 128, 128), 60, dtype=torch.uint8)
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    across, down = (x - 68) / 28, (y - 60) / 15
    inside = across**2 + down**2 <= 1 if turned == "ellipse" else torch.maximum(across.abs(), down.abs()) <= 1
    frame[0, 0, inside] = 220
    seen = bright_bounds(apply(frame, 64, moves)[0])
    corners = torch.tensor([[40.0, 45, 96, 75]]) / 128
    target = place_boxes(corners, torch.tensor([0]), 64, moves, turned)
    # Half a pixel by the picture's raster, another by its interpolation.
    np.testing.assert_allclose(target.boxes[0].numpy(), seen, atol=1.2)


def test_what_leaves_the_frame_is_cut_and_dropped_when_little_is_left() -> None:
    corners = torch.tensor([[0.8, 0.4, 1.0, 0.6], [0.0, 0.4, 0.2, 0.6], [0.40, 0.4, 0.4 + 0.9 / 50, 0.6]])
    placed = place_boxes(corners, torch.tensor([5, 6, 7]), 50, shifted(0.1, 0))
    assert placed.labels.tolist() == [5, 6]  # the third is nine tenths of a pixel wide
    torch.testing.assert_close(placed.boxes, torch.tensor([[45.0, 20, 50, 30], [5, 20, 15, 30]]))
    # A quarter of it left is enough, less is not.
    assert place_boxes(corners[:1], torch.tensor([5]), 50, shifted(0.14, 0)).labels.tolist() == [5]
    assert place_boxes(corners[:1], torch.tensor([5]), 50, shifted(0.16, 0)).labels.tolist() == []
    assert place_boxes(corners[:0], torch.tensor([], dtype=torch.int64), 50, shifted(0.1, 0)).boxes.shape == (0, 4)


def test_a_prediction_is_in_pixels_of_the_frame_and_reads_back() -> None:
    found = FoundBoxes(
        torch.tensor([[2.0, 4, 10, 12], [60, 60, 80, 70], [70, 0, 72, 2]]),
        torch.tensor([0.9, 0.5, 0.4]),
        torch.tensor([1, 0, 0]),
    )
    made = to_prediction("i", found, ("a", "b"), 128 / 64, 128)
    assert [each["label"] for each in made["boxes"]] == ["b", "a"]  # the third lies outside
    assert [made["boxes"][0][key] for key in ("x", "y", "width", "height")] == [4.0, 8.0, 16.0, 16.0]
    assert [made["boxes"][1][key] for key in ("x", "y", "width", "height")] == [120.0, 120.0, 8.0, 8.0]
    read = predicted_boxes(made, ("a", "b"))
    assert read.boxes.tolist() == [[4, 8, 20, 24], [120, 120, 128, 128]]
    assert read.classes.tolist() == [1, 0]


GOOD = {"label": "a", "x": 1, "y": 2, "width": 3, "height": 4, "score": 0.5}


@pytest.mark.parametrize(
    "boxes",
    [
        {"label": "a"},
        "a",
        None,
        [1],
        [{**GOOD, "x": "left"}],
        [{**GOOD, "width": -1}],
        [{**GOOD, "score": float("nan")}],
        [{**GOOD, "x": float("inf")}],
        [{**GOOD, "y": None}],
        [GOOD, {key: value for key, value in GOOD.items() if key != "score"}],
    ],
)
def test_what_is_no_box_is_refused_with_the_form(boxes: object) -> None:
    with pytest.raises(PlaceError, match=r"docs/finetune\.md shows the form"):
        predicted_boxes({"image_id": "i", "boxes": boxes}, ("a",))


def test_a_label_that_nobody_asked_for_is_named() -> None:
    with pytest.raises(PlaceError, match='label "A", which is none of a'):
        predicted_boxes({"image_id": "i", "boxes": [{**GOOD, "label": "A"}]}, ("a",))
    assert len(predicted_boxes({"image_id": "i", "boxes": []}, ("a",)).boxes) == 0

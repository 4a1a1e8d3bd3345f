"""Masks of every kind against naive versions, and their place in the store's frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from placecli.config import PreprocessConfig
from placecli.data.decode import DecodedImage, PlannedImage, decode
from placecli.data.identity import Pseudonyms
from placecli.data.listing import Listing, fingerprint
from placecli.data.masks import agrees, draw_mask, draw_runs, draw_shapes
from placecli.records import Box, FileMask, InputRefused, Mask, Reject, RunMask, Shape, ShapeMask

CONFIG = PreprocessConfig(size=32, require_report=False)


def naive_runs(runs: Sequence[tuple[int, int]], width: int, height: int) -> NDArray[np.uint8]:
    inside = np.zeros((height, width), np.uint8)
    for start, length in runs:
        for place in range(start, start + length):
            inside[place % height, place // height] = 255
    return inside


def naive_polygon(points: Sequence[tuple[float, float]], width: int, height: int) -> NDArray[np.uint8]:
    """Sums of the angles under which each pixel's centre sees the edges: not zero inside, 1 for one on an edge."""
    inside = np.zeros((height, width), np.uint8)
    corners = np.asarray([*points, points[0]])
    for row in range(height):
        for column in range(width):
            rays = corners - (column + 0.5, row + 0.5)
            angles = np.angle(rays[:, 0] + 1j * rays[:, 1])
            turns = (np.diff(angles) + np.pi) % (2 * np.pi) - np.pi
            inside[row, column] = 255 * (round(turns.sum() / (2 * np.pi)) != 0)
            if np.abs(turns).max() > np.pi - 1e-6:
                inside[row, column] = 1
    return inside


@st.composite
def run_lists(draw: st.DrawFn) -> tuple[list[tuple[int, int]], int, int]:
    width, height = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    starts = draw(st.lists(st.integers(0, width * height - 1), max_size=5))
    return [(start, draw(st.integers(0, width * height - start))) for start in starts], width, height


@given(run_lists())
def test_runs_go_down_the_columns_and_are_united(case: tuple[list[tuple[int, int]], int, int]) -> None:
    runs, width, height = case
    assert np.array_equal(draw_runs(runs, (width, height)), naive_runs(runs, width, height))


def test_rectangle_of_whole_numbers_is_a_slice() -> None:
    drawn = draw_shapes([Shape("rectangle", ((30.0, 2.0), (10.0, 12.0)))], (40, 20))
    expected = np.zeros((20, 40), np.uint8)
    expected[2:12, 10:30] = 255
    assert np.array_equal(drawn, expected)
    # Half a pixel holds the centre, less does not.
    drawn = draw_shapes([Shape("rectangle", ((10.6, 2.4), (29.4, 11.6)))], (40, 20))
    expected[:, 10] = expected[:, 29] = 0
    assert np.array_equal(drawn, expected)


# No corner is at a pixel's centre.
coordinates = st.integers(-15, 45).map(lambda third: third / 3 + 0.1)


@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7))
def test_polygon_holds_what_it_winds_around(points: list[tuple[float, float]]) -> None:
    expected = naive_polygon(points, 11, 9)
    if (expected == 255).any():
        drawn = draw_shapes([Shape("polygon", tuple(points))], (11, 9))
        assert np.array_equal(drawn[expected != 1], expected[expected != 1])


def test_both_windings_of_a_polygon_and_its_loops_are_inside() -> None:
    star = [(5.0, 0.0), (8.0, 10.0), (0.0, 4.0), (10.0, 4.0), (2.0, 10.0)]
    drawn = draw_shapes([Shape("polygon", tuple(star))], (10, 10))
    assert drawn[5, 5] == 255, "the middle is wound around twice"
    assert np.array_equal(draw_shapes([Shape("polygon", tuple(star[::-1]))], (10, 10)), drawn)


def test_ellipse_fills_the_box_around_it() -> None:
    drawn = draw_shapes([Shape("ellipse", ((10.0, 5.0), (50.0, 25.0)))], (60, 30))
    ys, xs = np.nonzero(drawn)
    assert (xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) == (10, 50, 5, 25)
    assert drawn.astype(bool).sum() == pytest.approx(np.pi * 20 * 10, rel=0.01)
    assert np.array_equal(drawn, drawn[:, ::-1])


def test_shapes_are_united_cut_at_the_frame_and_never_lost() -> None:
    shapes = [Shape("rectangle", ((-5.0, -5.0), (2.0, 2.0))), Shape("ellipse", ((8.0, 8.0), (30.0, 30.0)))]
    drawn = draw_shapes(shapes, (10, 10))
    assert drawn[:2, :2].all()
    assert drawn[9, 9] == 0
    thin = Shape("polygon", ((2.1, 3.1), (2.2, 3.1), (2.2, 3.2)))
    assert np.argwhere(draw_shapes([thin], (10, 10))).tolist() == [[3, 2]]
    outside = Shape("rectangle", ((50.0, 50.0), (60.0, 60.0)))
    assert not draw_shapes([outside], (10, 10)).any()
    assert not draw_shapes([], (10, 10)).any()


def test_proportions_agree_up_to_a_pixel() -> None:
    assert agrees((2544, 3056), (426, 512))
    assert agrees((426, 512), (2544, 3056))
    assert agrees((1024, 1024), (1024, 1023))
    assert not agrees((1024, 1024), (1024, 1000))
    assert not agrees((2544, 3056), (224, 224))


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path


def plan(folder: Path, mask: Mask | None, frame: tuple[int, int] | None = None) -> PlannedImage:
    """An image of 80 x 40 with one box in pixels of `frame`."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 80), dtype=np.uint8)
    path = write_picture(folder / "image.png", noise)
    box = Box("Nodule", 20.0, 10.0, 40.0, 20.0)
    return PlannedImage(path.name, str(path), "i", "s", "p", "train", "PA", (box,), mask, {}, "", {}, 1, frame)


def decoded(planned: PlannedImage) -> DecodedImage:
    result = decode(CONFIG, False, planned)
    assert isinstance(result, DecodedImage), result
    return result


def part(width: int, height: int, left: int, top: int, right: int, bottom: int) -> NDArray[np.uint8]:
    pixels = np.zeros((height, width), np.uint8)
    pixels[top:bottom, left:right] = 255
    return pixels


def test_every_kind_of_mask_lands_where_the_box_does(tmp_path: Path) -> None:
    """80 x 40 becomes 32 x 16 with eight rows of padding above: the box is (8, 12) to (24, 20)."""
    left = write_picture(tmp_path / "left.png", part(80, 40, 20, 10, 45, 30))
    right = write_picture(tmp_path / "right.png", part(80, 40, 40, 10, 60, 30))
    whole = write_picture(tmp_path / "whole.png", part(80, 40, 20, 10, 60, 30))
    masks: list[Mask] = [
        whole,
        FileMask((left, right)),
        RunMask((80, 40), tuple((column * 40 + 10, 20) for column in range(20, 60))),
        ShapeMask((Shape("rectangle", ((20.0, 10.0), (60.0, 30.0))),)),
        ShapeMask((Shape("polygon", ((20.0, 10.0), (60.0, 10.0), (60.0, 30.0), (20.0, 30.0))),)),
    ]
    for mask in masks:
        result = decoded(plan(tmp_path, mask))
        assert result.mask is not None
        assert np.array_equal(result.mask, part(32, 32, 8, 12, 24, 20)), mask
        assert result.boxes == (Box("Nodule", 8.0, 12.0, 16.0, 8.0),)


def test_no_mask_is_not_an_empty_mask(tmp_path: Path) -> None:
    assert decoded(plan(tmp_path, None)).mask is None
    for empty in (RunMask((80, 40), ()), ShapeMask(())):
        result = decoded(plan(tmp_path, empty))
        assert result.mask is not None
        assert not result.mask.any()


def test_annotations_of_a_larger_original_are_scaled(tmp_path: Path) -> None:
    """The box and the shape are in pixels of 160 x 80, the file is a copy at half that size."""
    shape = ShapeMask((Shape("rectangle", ((20.0, 10.0), (60.0, 30.0))),))
    result = decoded(plan(tmp_path, shape, (160, 80)))
    assert result.boxes == (Box("Nodule", 4.0, 10.0, 8.0, 4.0),)
    assert np.array_equal(result.mask, part(32, 32, 4, 10, 12, 14))


@pytest.mark.parametrize(
    ("mask", "frame", "words"),
    [
        (RunMask((64, 64), ((0, 5),)), None, "the mask is 64 x 64, its image 80 x 40"),
        (None, (80, 80), "the image is 80 x 40, its annotations are for 80 x 80"),
    ],
)
def test_other_proportions_are_refused(
    tmp_path: Path, mask: Mask | None, frame: tuple[int, int] | None, words: str
) -> None:
    assert decode(CONFIG, False, plan(tmp_path, mask, frame)) == Reject("image.png", "frame_differs", words)


def test_mask_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    whole = write_picture(tmp_path / "whole.png", part(80, 40, 0, 0, 9, 9))
    small = write_picture(tmp_path / "small.png", part(40, 20, 0, 0, 9, 9))
    square = write_picture(tmp_path / "square.png", part(40, 40, 0, 0, 9, 9))
    for mask, code in (
        (FileMask((whole, small)), "frame_differs"),
        (square, "frame_differs"),
        (FileMask((whole, tmp_path / "absent.png")), "file_missing"),
    ):
        with pytest.raises(InputRefused) as caught:
            draw_mask(mask, (80, 40), (0, 8, 32, 24), 32)
        assert caught.value.code == code
    assert draw_mask(small, (80, 40), (0, 8, 32, 24), 32).any(), "a copy at another size is the same mask"


def test_fingerprint_follows_every_change_of_a_mask(tmp_path: Path) -> None:
    file = write_picture(tmp_path / "mask.png", part(80, 40, 0, 0, 9, 9))
    longer = tmp_path / "longer.png"
    longer.write_bytes(file.read_bytes() + b"\0")

    def fingerprint_of(mask: Mask | None, frame: tuple[int, int] | None = None) -> str:
        listing = Listing((plan(tmp_path, mask, frame),), (), 1)
        return fingerprint(CONFIG, listing, Pseudonyms(None)).listing

    square = Shape("rectangle", ((1.0, 2.0), (3.0, 4.0)))
    masks: list[Mask | None] = [
        *(None, file, longer, FileMask((file, longer)), FileMask((longer, file))),
        *(RunMask((80, 40), ()), RunMask((80, 40), ((1, 2),)), RunMask((40, 80), ((1, 2),))),
        *(ShapeMask(()), ShapeMask((square,)), ShapeMask((Shape("ellipse", square.points),))),
    ]
    found = [*map(fingerprint_of, masks), fingerprint_of(None, (160, 80))]
    assert len(set(found)) == len(found)
    assert fingerprint_of(ShapeMask((square,))) == fingerprint_of(ShapeMask((square,)))
    assert fingerprint_of(file) == fingerprint_of(FileMask((file,)))

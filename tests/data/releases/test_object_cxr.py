"""object-CXR: five made-up studies, the annotation's grammar by hypothesis, each trap, and the published split and boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marked_releases import OBJECT_ROWS, make_store, read, rectangle, write_object_cxr, write_table
from sklearn.model_selection import train_test_split

from placecli.data.releases.object_cxr_shapes import box_around, compat_box_around, parse_annotation
from placecli.data.releases.outline_pole import find_pole
from placecli.records import Box, PlaceError, Shape, ShapeMask

OBJECT = "Foreign Object"

numbers = st.integers(0, 4000)
shapes = st.one_of(
    st.builds(lambda values: ("0", values), st.lists(numbers, min_size=4, max_size=4)),
    st.builds(lambda values: ("1", values), st.lists(numbers, min_size=4, max_size=4)),
    st.builds(lambda values: ("2", values[: len(values) // 2 * 2]), st.lists(numbers, min_size=6, max_size=20)),
)


@given(st.lists(shapes, max_size=5))
def test_annotation_says_what_was_written(written: list[tuple[str, list[int]]]) -> None:
    text = ";".join(" ".join([kind, *map(str, values)]) for kind, values in written)
    found = parse_annotation(text)
    assert [(("rectangle", "ellipse", "polygon").index(shape.kind), [*sum(shape.points, ())]) for shape in found] == [
        (int(kind), values) for kind, values in written
    ]
    for shape, (_, values) in zip(found, written, strict=True):
        left, top = min(values[::2]), min(values[1::2])
        assert box_around(shape) == Box(OBJECT, left, top, max(values[::2]) - left, max(values[1::2]) - top)


@given(st.text(alphabet="012 ;.-x", max_size=30))
def test_any_text_is_shapes_or_an_error_that_does_not_quote_it(text: str) -> None:
    problem = ""
    try:
        assert len(parse_annotation(text)) == sum(bool(part.strip()) for part in text.split(";"))
    except ValueError as error:
        problem = str(error)
    assert "x" not in problem.replace("pixel", "")


@pytest.mark.parametrize("text", ["0 1 2 3", "1 1 2 3 4 5", "2 1 2 3 4", "2 1 2 3 4 5 6 7", "3 1 2 3 4", "0 1 2 3 nan"])
def test_shapes_with_numbers_missing(text: str) -> None:
    with pytest.raises(ValueError, match=r"a (shape|rectangle|ellipse|polygon|coordinate) "):
        parse_annotation(text)


def test_labels_boxes_and_masks_of_five_studies(tmp_path: Path) -> None:
    write_object_cxr(tmp_path)
    studies, rejects = read(tmp_path, "object-cxr", validate_fraction=0.5)
    assert rejects == []
    assert list(studies) == ["train-00001", "train-00002", "train-00003", "dev-09001", "dev-09002"]
    assert [study.labels[OBJECT] for study in studies.values()] == [1.0, 0.0, 1.0, 1.0, 0.0]
    image = studies["train-00003"].images[0]
    assert image.boxes == (Box(OBJECT, 40, 40, 40, 20), Box(OBJECT, 8, 8, 16, 32))
    polygon = Shape("polygon", ((8, 8), (24, 8), (24, 40), (8, 40)))
    assert image.mask == ShapeMask((Shape("ellipse", ((40, 40), (80, 60))), polygon))
    assert studies["train-00002"].images[0].mask == ShapeMask(())
    assert [studies[name].split for name in ("dev-09001", "dev-09002")] == ["test", "test"]
    assert {studies[name].split for name in studies if name.startswith("train")} == {"train", "validate"}


def test_store_has_them_in_its_own_pixels(tmp_path: Path) -> None:
    """120 x 80 becomes 60 x 40 with ten rows of padding above."""
    write_object_cxr(tmp_path / "o")
    store = make_store(tmp_path / "o", tmp_path / "s", "object-cxr", 60)
    rows = {row.image_id: row for row in store.rows}
    masks = dict(zip(rows, store.masks(list(rows.values())), strict=True))
    assert rows["train-00001"].boxes == (Box(OBJECT, 5, 20, 10, 20),)
    assert np.array_equal(masks["train-00001"], rectangle(60, 5, 20, 15, 40))
    assert rows["train-00003"].boxes == (Box(OBJECT, 20, 30, 20, 10), Box(OBJECT, 4, 14, 8, 16))
    ellipse = masks["train-00003"] - rectangle(60, 4, 14, 12, 30)
    ys, xs = np.nonzero(ellipse)
    assert (xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) == (20, 40, 30, 40)
    assert len(xs) == pytest.approx(np.pi * 10 * 5, rel=0.05)
    assert not masks["dev-09002"].any()
    assert rows["dev-09002"].mask_row >= 0


def test_with_a_table_of_the_test_part_dev_is_for_validation(tmp_path: Path) -> None:
    write_object_cxr(tmp_path)
    write_table(tmp_path / "test.csv", [("image_path", "annotation"), ("/data/test/00007.jpg", "0 1 1 5 5")])
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "00007.jpg").write_bytes((tmp_path / "dev" / "09001.jpg").read_bytes())
    studies, _ = read(tmp_path, "object-cxr", validate_fraction=0.5)
    splits = {"train": "train", "dev": "validate", "test": "test"}
    assert {name: study.split for name, study in studies.items()} == {
        name: splits[name.split("-")[0]] for name in studies
    }
    compat, _ = read(tmp_path, "object-cxr", splits="compat")
    assert {study.split for name, study in compat.items() if name.startswith("dev")} == {"test"}
    assert "test-00007" not in compat


def test_rows_that_do_not_hold_and_images_that_are_not_here(tmp_path: Path) -> None:
    write_object_cxr(tmp_path)
    rows = [*OBJECT_ROWS["train"], ("00004.jpg", "0 1 2 3"), ("00001.jpg", ""), ("..", ""), ("00005.jpg", "")]
    write_table(tmp_path / "train.csv", [("image_name", "annotation"), *rows])
    studies, rejects = read(tmp_path, "object-cxr")
    assert len(studies) == 5
    assert [(reject.source, reject.code) for reject in rejects] == [
        *((f"train.csv:{line}", "row_invalid") for line in (5, 6, 7)),
        ("train/00005.jpg", "image_missing"),
    ]
    (tmp_path / "dev.csv").unlink()
    with pytest.raises(PlaceError, match=r"dev\.csv: not found"):
        read(tmp_path, "object-cxr")


def test_published_split_is_that_of_scikit_learn(tmp_path: Path) -> None:
    """Over the rows in their order, of which some do not hold."""
    names = [f"{number:05d}.jpg" for number in np.random.default_rng(1).permutation(200)]
    rows = [(name, "9 1" if number % 17 == 0 else "") for number, name in enumerate(names)]
    write_table(tmp_path / "train.csv", [("image_name", "annotation"), *rows])
    write_table(tmp_path / "dev.csv", [("image_name", "annotation")])
    (tmp_path / "train").mkdir()
    for name in names:
        (tmp_path / "train" / name).touch()
    studies, _ = read(tmp_path, "object-cxr", splits="compat")
    train, validate = train_test_split(names, test_size=0.1, random_state=0)
    expected = dict.fromkeys(train, "train") | dict.fromkeys(validate, "validate")
    assert len(studies) == 200 - 12
    assert all(study.split == expected[f"{name[6:]}.jpg"] for name, study in studies.items())


SHAPELY = [
    ([(100, 100), (400, 120), (380, 300), (90, 310)], (195.06, 205.0)),
    ([(0, 0), (600, 0), (600, 80), (80, 80), (80, 500), (0, 500)], (64.06, 64.06)),
    ([(1000, 500), (1010, 505), (1600, 900), (1590, 905)], (1585.3, 896.28)),
    ([(300, 300), (340, 290), (360, 330), (330, 380), (290, 350)], (324.29, 332.67)),
]
"""polylabel(LineString(closed polygon).buffer(100), tolerance=10) by Shapely 2.0.6."""


@pytest.mark.parametrize(("polygon", "expected"), SHAPELY)
def test_pole_is_the_one_that_shapely_finds(polygon: list[tuple[float, float]], expected: tuple[float, float]) -> None:
    assert find_pole(polygon) == pytest.approx(expected, abs=0.2)


def test_pole_of_a_square_is_its_middle() -> None:
    x, y = find_pole([(1000, 1000), (1080, 1000), (1080, 1080), (1000, 1080)])
    assert (x, y) == pytest.approx((1040, 1040), abs=0.5)
    # 400 wide, the fattened outline is hollow: the pole lies in the band of 200, where the middle is nearly 100 away.
    ring = [(1000, 1000), (1400, 1000), (1400, 1400), (1000, 1400)]
    x, y = find_pole(ring)
    distance = abs(cv2.pointPolygonTest(np.asarray(ring, np.float32), (x, y), True))
    assert distance < 30


def test_compat_box_is_around_the_pole(tmp_path: Path) -> None:
    polygon = Shape("polygon", tuple(SHAPELY[0][0]))
    box = compat_box_around(polygon)
    x, y = SHAPELY[0][1]
    assert (box.x + box.width / 2, box.y + box.height / 2) == pytest.approx((x, y), abs=0.2)
    assert (box.width, box.height) == pytest.approx((2 * (400 - x), 2 * (310 - y)), abs=0.5)
    for kind in ("rectangle", "ellipse"):
        other = Shape(kind, ((1, 2), (5, 8)))
        assert compat_box_around(other) == box_around(other)
    write_object_cxr(tmp_path)
    clean, compat = (read(tmp_path, "object-cxr", splits=splits)[0] for splits in ("clean", "compat"))
    assert clean["dev-09001"].images[0].boxes == (Box(OBJECT, 0, 0, 30, 30),)
    assert compat["dev-09001"].images[0].boxes != clean["dev-09001"].images[0].boxes
    assert compat["dev-09001"].images[0].mask == clean["dev-09001"].images[0].mask

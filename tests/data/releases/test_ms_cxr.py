"""MS-CXR: five made-up rows over three images, each trap, and the store's frame."""

from __future__ import annotations

from pathlib import Path

import pytest
from marked_releases import MS_HEADER, MS_ROWS, make_store, ms_id, ms_row, read, write_ms_cxr, write_table

from placecli.records import Box, PlaceError

ONE, TWO, THREE = (ms_id(number) for number in (1, 2, 3))


def test_a_study_is_an_image_and_a_phrase(tmp_path: Path) -> None:
    write_ms_cxr(tmp_path)
    studies, rejects = read(tmp_path, "ms-cxr")
    assert rejects == []
    assert list(studies) == [ONE, f"{ONE}#2", TWO, THREE]
    assert {name: study.sections["findings"] for name, study in studies.items()} == {
        ONE: "Right lower lobe opacity, concerning for pneumonia",
        f"{ONE}#2": "cardiomegaly",
        TWO: "Small left apical pneumothorax.",
        THREE: "Mild edema. It is 1.5 cm, new.",
    }
    assert studies[ONE].labels == {"Pneumonia": 1.0}
    assert studies[ONE].images[0].boxes == (
        Box("Pneumonia", 0, 1528, 636, 764),
        Box("Pneumonia", 636, 1528, 636, 764),
    )
    assert studies[f"{ONE}#2"].images[0].boxes == (Box("Cardiomegaly", 636, 1528, 1272, 764),)
    assert {name: (study.patient_id, study.split) for name, study in studies.items()} == {
        ONE: ("10000001", "validate"),
        f"{ONE}#2": ("10000001", "validate"),
        TWO: ("10000002", "test"),
        THREE: ("10000003", "train"),
    }


def test_store_has_phrases_as_sentences_and_boxes_in_its_own_pixels(tmp_path: Path) -> None:
    """2544 x 3056, at hand as 318 x 382, becomes 53 x 64 with five columns of padding on the left."""
    write_ms_cxr(tmp_path / "m")
    store = make_store(tmp_path / "m", tmp_path / "s", "ms-cxr", 64)
    rows = {row.image_id: row for row in store.rows}
    assert rows[f"{ONE}#2"].sentences == ("cardiomegaly",)
    assert rows[ONE].sentences == ("Right lower lobe opacity, concerning for pneumonia",)
    assert rows[THREE].sentences == ("Mild edema.", "It is 1.5 cm, new.")
    assert rows[THREE].content == (5, 0, 58, 64)
    (whole,) = rows[THREE].boxes
    assert (whole.x, whole.y, whole.width, whole.height) == pytest.approx((5, 0, 53, 64))
    (apical,) = rows[TWO].boxes
    assert (apical.x, apical.y) == pytest.approx((5 + 53 / 2, 0))
    assert (apical.width, apical.height) == pytest.approx((53 / 8, 8), abs=0.01)
    assert {row.mask_row for row in store.rows} == {-1}


def test_table_lies_elsewhere_or_is_the_first_version(tmp_path: Path) -> None:
    write_ms_cxr(tmp_path)
    table = tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv"
    moved = tmp_path / "elsewhere.csv"
    table.rename(moved)
    with pytest.raises(PlaceError, match=r"v1\.1\.0\.csv: not found; .*preprocess\.labels=FILE"):
        read(tmp_path, "ms-cxr")
    assert len(read(tmp_path, "ms-cxr", labels=moved)[0]) == 4
    write_table(tmp_path / "MS_CXR_Local_Alignment_v1.0.0.csv", [row[:-1] for row in (MS_HEADER, *MS_ROWS)])
    studies, _ = read(tmp_path, "ms-cxr")
    assert {study.split for study in studies.values()} == {"test"}


def test_images_of_the_dicom_release_and_images_that_are_not_here(tmp_path: Path) -> None:
    write_ms_cxr(tmp_path)
    first, second = (next(tmp_path.glob(f"files/p10/p1000000{number}/*/*.jpg")) for number in (1, 2))
    first.rename(first.with_suffix(".dcm"))
    second.unlink()
    studies, rejects = read(tmp_path, "ms-cxr")
    assert list(studies) == [ONE, f"{ONE}#2", THREE]
    assert studies[ONE].images[0].path == first.with_suffix(".dcm")
    assert [(reject.source, reject.code) for reject in rejects] == [
        (f"files/p10/p10000002/s50000002/{TWO}.jpg", "image_missing")
    ]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("path", "files/p10/../../etc/passwd", "not those of an image of MIMIC-CXR"),
        ("dicom_id", ONE, "not those of an image of MIMIC-CXR"),
        ("label_text", "", "no category or no phrase"),
        ("x", "abc", "the box is not inside the image"),
        ("x", "nan", "the box is not inside the image"),
        ("w", "0", "the box is not inside the image"),
        ("y", "3000", "the box is not inside the image"),
        ("image_width", "0", "the box is not inside the image"),
        ("image_height", "1e999", "the box is not inside the image"),
    ],
)
def test_a_row_that_does_not_hold_is_rejected(tmp_path: Path, column: str, value: str, words: str) -> None:
    row = ms_row(2, "Edema", "Edema.", (0, 0, 100, 100))
    row[MS_HEADER.index(column)] = value
    write_ms_cxr(tmp_path, [*MS_ROWS, row])
    studies, rejects = read(tmp_path, "ms-cxr")
    assert len(studies) == 4
    assert [(reject.source, reject.code) for reject in rejects] == [
        ("MS_CXR_Local_Alignment_v1.1.0.csv:7", "row_invalid")
    ]
    assert words in rejects[0].message


def test_splits_that_do_not_fit(tmp_path: Path) -> None:
    write_ms_cxr(tmp_path, [*MS_ROWS, ms_row(2, "Edema", "Edema.", (0, 0, 9, 9), "dev")])
    with pytest.raises(PlaceError, match="line 7: split 'dev' is none of train, val, test"):
        read(tmp_path, "ms-cxr")
    write_ms_cxr(tmp_path, [*MS_ROWS, ms_row(2, "Edema", "Edema.", (0, 0, 9, 9), "val")])
    with pytest.raises(PlaceError, match="is there with two paths, sizes or splits"):
        read(tmp_path, "ms-cxr")

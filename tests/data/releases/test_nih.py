"""NIH ChestX-ray14: five made-up images under both headers, and the real ones where they are present."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_pictures import write_picture

from placecli.config import PreprocessConfig, load_preset
from placecli.data.identity import split_of
from placecli.data.preprocess import plan, preprocess
from placecli.data.releases import read_studies
from placecli.data.releases.nih import FINDINGS, _labels
from placecli.data.store import open_store
from placecli.records import Box, PlaceError, Reject, Study

CONFIG = PreprocessConfig(release="nih", require_report=False)

HEADER_2020 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
HEADER_2017 = HEADER_2020 + ","
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"

# (name, labels, patient, view)
ROWS = (
    ("00000001_000.png", "Cardiomegaly", 1, "PA"),
    ("00000001_001.png", "Cardiomegaly|Emphysema", 1, "PA"),
    ("00000002_000.png", "No Finding", 2, "AP"),
    ("00000003_000.png", "Infiltration|Pleural_Thickening", 3, "PA"),
    ("00000013_005.png", "Hernia", 13, "AP"),
)
FOLDERS = ("images_001", "images_001", "images_002", "images_012", "images_012")


def write_entries(root: Path, year: int = 2020, end: str = "") -> None:
    if year == 2020:
        lines = [
            f"{name},{labels},0,{patient},57,M,{view},2682,2749,0.143,0.143" for name, labels, patient, view in ROWS
        ]
        (root / "Data_Entry_2017_v2020.csv").write_text("\n".join([HEADER_2020, *lines, ""]), encoding="utf-8")
        return
    lines = [
        f"{name},{labels},0,{patient},058Y,M,{view},2682,2749,0.143,0.143{end}" for name, labels, patient, view in ROWS
    ]
    (root / "Data_Entry_2017.csv").write_text("\n".join([HEADER_2017, *lines, ""]), encoding="utf-8")


def write_boxes(root: Path, end: str = "") -> None:
    lines = [
        f"00000001_000.png,Cardiomegaly,256.0,512.0,128.0,64.5{end}",
        f"00000003_000.png,Infiltrate,0,0,1024,1024{end}",
        f"00000003_000.png,Infiltrate,10.5,20.25,30,40{end}",
    ]
    (root / "BBox_List_2017.csv").write_text("\n".join([BOX_HEADER, *lines, ""]), encoding="utf-8")


def write_lists(root: Path, test: tuple[str, ...] = ("00000003_000.png", "00000013_005.png")) -> None:
    rest = [name for name, *_ in ROWS if name not in test]
    (root / "train_val_list.txt").write_text("\n".join(rest), encoding="utf-8")
    (root / "test_list.txt").write_text("\r\n".join(test) + "\r\n", encoding="utf-8")


def write_release(root: Path) -> None:
    root.mkdir(exist_ok=True)
    write_entries(root)
    write_boxes(root)
    write_lists(root)
    for seed, (folder, (name, *_)) in enumerate(zip(FOLDERS, ROWS, strict=True)):
        write_picture(root / folder / "images" / name, seed, height=64, width=64)


def read(root: Path, config: PreprocessConfig = CONFIG) -> tuple[dict[str, Study], list[Reject]]:
    entries = list(read_studies(config, root))
    studies = {entry.study_id: entry for entry in entries if isinstance(entry, Study)}
    return studies, [entry for entry in entries if isinstance(entry, Reject)]


def test_images_are_found_in_all_folders_with_labels_views_and_patients(tmp_path: Path) -> None:
    write_release(tmp_path)
    studies, rejects = read(tmp_path)
    assert rejects == []
    assert list(studies) == [name.removesuffix(".png") for name, *_ in ROWS]
    assert [study.images[0].view for study in studies.values()] == ["PA", "PA", "AP", "PA", "AP"]
    assert studies["00000001_000"].patient_id == studies["00000001_001"].patient_id == "00000001"
    labels = studies["00000001_001"].labels
    assert {name for name, value in labels.items() if value} == {"Cardiomegaly", "Emphysema"}
    assert len(labels) == 15
    assert {name for name, value in studies["00000002_000"].labels.items() if value} == {"No Finding"}


@pytest.mark.parametrize("end", ["", ","])
def test_both_years_of_the_table_say_the_same(tmp_path: Path, end: str) -> None:
    """The header of 2017 ends in a comma, its ages have a letter, and some copies end every row in a comma."""
    write_release(tmp_path)
    expected = read(tmp_path)
    (tmp_path / "Data_Entry_2017_v2020.csv").unlink()
    write_entries(tmp_path, 2017, end)
    assert read(tmp_path) == expected


@pytest.mark.parametrize("end", ["", ",,,"])
def test_boxes_have_another_word_for_infiltration_and_the_size_of_the_published_image(tmp_path: Path, end: str) -> None:
    write_release(tmp_path)
    write_boxes(tmp_path, end)
    images = {key: study.images[0] for key, study in read(tmp_path)[0].items()}
    assert images["00000001_000"].boxes == (Box("Cardiomegaly", 256.0, 512.0, 128.0, 64.5),)
    assert [box.label for box in images["00000003_000"].boxes] == ["Infiltration", "Infiltration"]
    assert images["00000003_000"].frame == (1024, 1024)
    assert images["00000002_000"].boxes == ()


def test_official_lists_decide_and_the_rest_is_divided_by_patient(tmp_path: Path) -> None:
    write_release(tmp_path)
    config = CONFIG.model_copy(update={"validate_fraction": 0.6})
    splits = {key: study.split for key, study in read(tmp_path, config)[0].items()}
    assert splits["00000003_000"] == splits["00000013_005"] == "test"
    for patient in ("00000001", "00000002"):
        assert splits[f"{patient}_000"] == split_of(patient, 0, 0.6, 0.0)
    assert splits["00000001_000"] == splits["00000001_001"]


def test_a_patient_that_no_list_has_is_not_added_to_the_test(tmp_path: Path) -> None:
    write_release(tmp_path)
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\n", encoding="utf-8")
    for seed in range(20):
        splits = {
            key: study.split for key, study in read(tmp_path, CONFIG.model_copy(update={"split_seed": seed}))[0].items()
        }
        assert splits["00000002_000"] in ("train", "validate")
        assert splits["00000001_001"] == splits["00000001_000"]


def test_without_lists_the_store_decides(tmp_path: Path) -> None:
    write_release(tmp_path)
    for name in ("train_val_list.txt", "test_list.txt"):
        (tmp_path / name).unlink()
    assert {study.split for study in read(tmp_path)[0].values()} == {""}


def test_lists_that_do_not_fit(tmp_path: Path) -> None:
    write_release(tmp_path)
    write_lists(tmp_path, ("00000001_001.png",))
    with pytest.raises(PlaceError, match=r"test_list\.txt: the patient of name 1 is in train_val_list\.txt too"):
        read(tmp_path)
    (tmp_path / "test_list.txt").unlink()
    with pytest.raises(PlaceError, match=r"test_list\.txt: not there, and train_val_list\.txt is"):
        read(tmp_path)


def test_rows_that_cannot_be_used_are_rejected_one_by_one(tmp_path: Path) -> None:
    write_release(tmp_path)
    (tmp_path / "images_002/images/00000002_000.png").unlink()
    end = ",0,1,57,M,PA,1,1,0.1,0.1"
    with (tmp_path / "Data_Entry_2017_v2020.csv").open("a", encoding="utf-8") as stream:
        stream.write(f"../00000001_000.png,Mass{end}\n00000001_000.png,Mass{end}\n00000001_009.png,Massive{end}\n")
        stream.write(f"00000001_008.png,No Finding|Mass{end}\n00000002_001.png,Mass{end}\n")
    with (tmp_path / "BBox_List_2017.csv").open("a", encoding="utf-8") as stream:
        stream.write(
            "00000001_000.png,Massive,1,1,1,1\n00000001_000.png,Mass,1,1,nan,1\n00000001_000.png,Mass,1,1,x,1\n"
        )
    studies, rejects = read(tmp_path)
    assert len(studies) == 4
    assert Counter((reject.source.split(":")[0], reject.code) for reject in rejects) == {
        ("Data_Entry_2017_v2020.csv", "row_invalid"): 5,
        ("BBox_List_2017.csv", "row_invalid"): 3,
        ("00000002_000.png", "image_missing"): 1,
    }


def test_tables_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"neither Data_Entry_2017_v2020\.csv nor Data_Entry_2017\.csv"):
        read(tmp_path)
    write_release(tmp_path)
    path = tmp_path / "Data_Entry_2017_v2020.csv"
    text = path.read_text("utf-8")
    path.write_text(text + "00000004_000.png,Mass,0\n", "utf-8")
    with pytest.raises(PlaceError, match="line 7: 3 fields where the header has 11"):
        read(tmp_path)
    path.write_text(text.partition("\n")[2], "utf-8")
    with pytest.raises(PlaceError, match=r"its first line is not the published header \(Image Index") as caught:
        read(tmp_path)
    assert "00000001" not in str(caught.value)


@given(st.lists(st.sampled_from(FINDINGS), min_size=1, unique=True))
def test_labels_are_those_that_are_named(names: list[str]) -> None:
    labels = _labels("|".join(names))
    assert labels is not None
    assert {name for name, value in labels.items() if value == 1.0} == set(names)
    assert set(labels.values()) <= {0.0, 1.0}


@given(st.text())
def test_any_other_text_has_no_labels(text: str) -> None:
    known = {*FINDINGS, "No Finding"}
    if not set(text.split("|")) <= known:
        assert _labels(text) is None


def test_through_preprocess_into_a_store(tmp_path: Path) -> None:
    """The made-up files are smaller than the published ones, as copies are; boxes follow."""
    write_release(tmp_path / "release")
    preset = load_preset("nih", ["preprocess.size=32"])
    summary = preprocess(preset, tmp_path / "release", tmp_path / "store", workers=1)
    rows = {row.image_id: row for row in open_store(tmp_path / "store").rows}
    assert len(rows) == 5
    (box,) = rows["00000001_000"].boxes
    assert (box.x, box.y, box.width, box.height) == pytest.approx((8.0, 16.0, 4.0, 64.5 / 32))
    assert rows["00000013_005"].split == "test"
    assert summary.published["boxes"]["here"] == 3
    assert summary.published["images"] == {
        "published": 112_120,
        "here": 5,
        "basis": "published",
        "note": "fewer: a part of the release, or some files are missing",
    }


def test_real_images(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("nih_chestxray14")
    studies, rejects = read(root)
    assert (len(studies), rejects) == (440, [])
    assert sum(len(study.images[0].boxes) for study in studies.values()) == 7
    planned = plan(load_preset("nih"), root, tmp_path / "store")
    assert planned.images == 440
    assert planned.published["boxes"]["here"] == 7


def test_real_images_of_two_sizes_in_a_store(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """A part of the real set, in which images with boxes are 1024 pixels wide and others 256, one of them in colour."""
    root = real_data("nih_chestxray14")
    large = (root / "images_1024.txt").read_text("utf-8").split()
    small = sorted(path.name for path in (root / "images").iterdir() if path.name not in large)[:8]
    (tmp_path / "release" / "images").mkdir(parents=True)
    for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"):
        (tmp_path / "release" / name).symlink_to(root / name)
    for name in [*large, *small]:
        (tmp_path / "release" / "images" / name).symlink_to(root / "images" / name)
    summary = preprocess(
        load_preset("nih", ["preprocess.size=64"]), tmp_path / "release", tmp_path / "store", workers=1
    )
    rows = open_store(tmp_path / "store").rows
    assert len(rows) == len(large) + len(small)
    assert summary.counts["rejects"] == {"image_missing": 440 - len(rows)}
    boxes = [box for row in rows for box in row.boxes]
    assert len(boxes) == 7
    assert all(box.x >= 0 and box.x + box.width <= 64 and box.y >= 0 and box.y + box.height <= 64 for box in boxes)
    assert max(box.width for box in boxes) > 8

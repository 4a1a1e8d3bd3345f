"""Published counts beside what is found, and what a dry run says of a release that is not whole."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_pictures import write_picture
from small_releases import write_csv, write_openi

from placecli import results
from placecli.config import PreprocessConfig, load_preset
from placecli.data.decode import PlannedImage
from placecli.data.preprocess import plan, preprocess
from placecli.data.published_counts import COVIDX_COUNTS, ComparedCount, Found, compare_counts
from placecli.data.releases import chexpert
from placecli.data.store import open_store
from placecli.records import Box, PlaceError, Reject

IMAGE = PlannedImage(
    source="images/a.png",
    path="/x/images/a.png",
    image_id="a",
    study_id="s",
    patient_id="p",
    split="train",
    view="PA",
    boxes=(Box("Mass", 0, 0, 1, 1), Box("Mass", 2, 2, 1, 1)),
    mask=None,
    sections={},
    report_path="",
    labels={"Pneumonia": 1.0, "Normal": 0.0},
    num_bytes=1,
)


def compare(
    release: str, *images: PlannedImage, rejects: tuple[Reject, ...] = (), splits: str = "clean"
) -> dict[str, int]:
    config = PreprocessConfig.model_validate({"release": release, "splits": splits})
    return {count.name: count.here for count in compare_counts(config, Path(__file__).parent, Found(images, rejects))}


def test_images_patients_views_and_boxes_are_counted() -> None:
    images = (
        IMAGE,
        replace(IMAGE, source="images/b.png", view="AP", boxes=()),
        replace(IMAGE, source="c", patient_id="q"),
    )
    assert compare("nih", *images) == {"images": 3, "patients": 2, "PA images": 2, "AP images": 1, "boxes": 4}
    assert compare("nih") == dict.fromkeys(("images", "patients", "PA images", "AP images", "boxes"), 0)


def test_an_image_that_a_split_has_twice_is_one_file_and_two_rows() -> None:
    twice = (
        replace(IMAGE, source="train/a"),
        replace(IMAGE, source="train/a", image_id="a@validate", split="validate"),
    )
    assert compare("chexpert", *twice)["images of train.csv"] == 1
    compat = compare("chexpert", *twice, splits="compat")
    assert (compat["train images"], compat["validate images"]) == (1, 1)
    assert "images of train.csv" not in compat


def test_each_published_split_has_its_own_numbers() -> None:
    counts = compare(
        "rsna", IMAGE, replace(IMAGE, source="b", split="test", labels={"Pneumonia": 0.0}), splits="compat"
    )
    assert (counts["train images"], counts["positive train images"], counts["positive test images"]) == (1, 1, 0)
    published = {
        splits: [
            count.published
            for count in compare_counts(
                PreprocessConfig.model_validate({"release": "rsna", "splits": splits}), Path(), Found((), ())
            )
            if count.name in ("train images", "validate images", "test images")
        ]
        for splits in ("clean", "compat", "compat-detection")
    }
    assert published == {"clean": [], "compat": [18_678, 4_003, 4_003], "compat-detection": [16_010, 5_337, 5_337]}
    assert {sum(numbers) for numbers in published.values()} == {0, 26_684}


def test_labels_and_rejects_are_counted_where_the_number_is_about_them() -> None:
    negative = replace(IMAGE, source="b", labels={"Pneumonia": 0.0, "Normal": 1.0})
    counts = compare("rsna", IMAGE, negative)
    assert (counts["images"], counts["positive images"], counts["Normal"], counts["boxes"]) == (2, 1, 1, 4)
    assert compare("ms-cxr", IMAGE, IMAGE) == {"pairs of image and sentence": 2, "patients": 1}
    rejects = (Reject("CXR3", "report_without_image", ""), Reject("CXR4", "row_invalid", ""))
    assert compare("openi", IMAGE, rejects=rejects) == {"reports": 2}
    left_out = (Reject("train/x.png", "patient_elsewhere", ""), Reject("val/x.png", "patient_elsewhere", ""))
    listed = {c.name: c.count(Found((replace(IMAGE, source="train/a"),), left_out)) for c in COVIDX_COUNTS["CXR-4"]}
    assert listed == {"images of train.txt": 2, "images of val.txt": 1, "images of test.txt": 0}


def test_nothing_is_said_of_a_folder_of_ones_own() -> None:
    assert compare("folder", IMAGE) == {}
    assert compare("covidx", IMAGE) == {}


@pytest.mark.parametrize(("here", "start"), [(26_684, "equal"), (55, "fewer: a part of"), (26_685, "more: another")])
def test_the_note_says_what_a_difference_may_mean(here: int, start: str) -> None:
    assert ComparedCount("images", 26_684, here, "published").note.startswith(start)


def test_a_table_shows_a_count_on_one_line() -> None:
    record = {"published": {"images": ComparedCount("images", 26_684, 55, "published").to_record()}}
    assert list(results.flatten(record)) == [
        (
            "published.images",
            "published 26,684, here 55 (fewer: a part of the release, or some files are missing)",
        )
    ]


def test_a_dry_run_of_a_release_without_its_tables_lists_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "mimic-cxr-2.0.0-split.csv.gz").touch()
    planned = plan(load_preset("mimic"), tmp_path, tmp_path / "store")
    found = {Path(name).name: is_there for name, is_there in planned.looked_for.items()}
    assert found["mimic-cxr-*-split.csv*"] is True
    assert found["mimic-cxr-*-metadata.csv*"] is found["cxr-record-list.csv*"] is False
    assert planned.images == planned.parts == 0
    assert "neither mimic-cxr-2.0.0-metadata.csv" in planned.problem
    assert json.loads(json.dumps(planned.to_record()))["problem"] == planned.problem
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("preset", ["chexpert", "nih", "vindr", "covidx", "iu-xray", "mimic-r2gen", "openi", "mimic"])
def test_an_empty_folder_is_a_list_of_what_is_not_there(preset: str, tmp_path: Path) -> None:
    planned = plan(load_preset(preset), tmp_path, tmp_path / "store")
    assert planned.looked_for
    assert not any(planned.looked_for.values())
    assert "\n" not in planned.problem


def test_a_folder_that_is_none_stays_an_error(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="not a folder"):
        plan(load_preset("mimic"), tmp_path / "absent", tmp_path / "store")


def test_dry_run_and_summary_compare_the_same(tmp_path: Path) -> None:
    write_openi(tmp_path / "release")
    preset = load_preset("openi", ["preprocess.size=32"])
    planned = plan(preset, tmp_path / "release", tmp_path / "store")
    assert planned.problem == ""
    summary = preprocess(preset, tmp_path / "release", tmp_path / "store", workers=1)
    assert planned.published == summary.published
    assert summary.published["reports"]["here"] == 10


def test_an_image_in_two_parts_of_a_published_split_is_two_rows_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MGCA's split of CheXpert at a fifth of its numbers, since its rule needs thousands of rows."""
    monkeypatch.setattr(chexpert, "COMPAT_VALIDATE", 6)
    monkeypatch.setattr(chexpert, "exclusive_sets", lambda labels, seed: {"Edema": (0, 1)})
    root = tmp_path / "release"
    root.mkdir()
    rows = []
    for number in range(20):
        path = f"train/patient{number // 3:05d}/study1/view{number}_frontal.jpg"
        write_picture(root / path, number)
        rows.append([f"CheXpert-v1.0-small/{path}", "Frontal", "AP", *[""] * 14])
    header = ["Path", "Frontal/Lateral", "AP/PA", *chexpert.LABELS]
    write_csv(root / "train.csv", header, rows)
    write_csv(root / "valid.csv", header, [])
    preset = load_preset("chexpert", ["preprocess.size=32", "preprocess.splits=compat"])
    counts = preprocess(preset, root, tmp_path / "store", workers=1).counts
    stored = open_store(tmp_path / "store").rows
    assert Counter(row.split for row in stored)["validate"] == 6
    copies = [row for row in stored if row.image_id.endswith("@validate")]
    assert copies
    assert counts["same_pixels_across_splits"] == len(copies)
    assert counts["patients_across_splits"] > 0
    by_id = {row.image_id: row for row in stored}
    for copy in copies:
        original = by_id[copy.image_id.removesuffix("@validate")]
        assert (original.split, copy.split, original.source) == ("train", "validate", copy.source)
    parts = chexpert.compat_parts(chexpert._read(root, "train.csv", []))
    assert sum(not part for part in parts) == counts["rejects"]["not_in_split"]


def test_the_real_part_of_rsna(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    planned = plan(load_preset("rsna"), real_data("rsna_pneumonia"), tmp_path / "store")
    record = dict(results.flatten(planned.to_record()))
    assert record["published.images"].startswith("published 26,684, here 55 (fewer: a part of the release")
    assert record["published.boxes"].startswith("published 9,555, here 32 (")

"""RSNA: five made-up studies, each trap, the published splits, and the real files where they are present."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from marked_releases import RSNA_IDS, make_store, read, rectangle, write_rsna, write_table
from sklearn.model_selection import train_test_split

from placecli.data.releases.rsna import MAPPING
from placecli.records import Box, PlaceError

A, B, C, D, E = RSNA_IDS


def test_labels_boxes_and_masks_of_five_studies(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    studies, rejects = read(tmp_path, "rsna")
    assert rejects == []
    assert list(studies) == list(RSNA_IDS)
    assert {name: dict(study.labels) for name, study in studies.items() if name in (A, D)} == {
        A: {"Pneumonia": 1.0, "Lung Opacity": 1.0, "No Lung Opacity / Not Normal": 0.0, "Normal": 0.0},
        D: {"Pneumonia": 0.0, "Lung Opacity": 0.0, "No Lung Opacity / Not Normal": 1.0, "Normal": 0.0},
    }
    assert studies[A].images[0].boxes == (Box("Pneumonia", 256, 128, 128, 512), Box("Pneumonia", 640, 128, 256, 256))
    assert all((study.patient_id, study.study_id, study.split) == (n, n, "") for n, study in studies.items())


def test_store_has_them_in_its_own_pixels(tmp_path: Path) -> None:
    """1024 becomes 32, by way of files of 64."""
    write_rsna(tmp_path / "rsna")
    store = make_store(tmp_path / "rsna", tmp_path / "s", "rsna", 32)
    rows = {row.image_id: row for row in store.rows}
    assert rows.keys() == set(RSNA_IDS)
    assert rows[A].boxes == (Box("Pneumonia", 8, 4, 4, 16), Box("Pneumonia", 20, 4, 8, 8))
    masks = dict(zip(rows, store.masks(list(rows.values())), strict=True))
    assert np.array_equal(masks[A], rectangle(32, 8, 4, 12, 20) | rectangle(32, 20, 4, 28, 12))
    assert np.array_equal(masks[B], rectangle(32, 0, 0, 32, 2))
    assert rows[C].mask_row >= 0, "a negative image was looked at"
    assert not masks[C].any()
    assert {row.view for row in store.rows} == {"PA"}


def test_mapping_to_nih_tells_who_is_one_patient(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    images = {A: "00000284_000.png", B: "00000284_013.png", C: "00028974_016.png"}
    entries = [{"subset_img_id": name, "img_id": image, "SOPInstanceUID": "1.2"} for name, image in images.items()]
    (tmp_path / MAPPING).write_text(json.dumps(entries), "utf-8")
    studies, _ = read(tmp_path, "rsna")
    assert [study.patient_id for study in studies.values()] == ["00000284", "00000284", "00028974", D, E]
    store = make_store(tmp_path, tmp_path / "s", "rsna", 32)
    assert len({row.split for row in store.rows if row.patient_id == "00000284"}) == 1
    compat, _ = read(tmp_path, "rsna", splits="compat")
    assert [study.patient_id for study in compat.values()] == list(RSNA_IDS), "the published split knows images alone"
    (tmp_path / MAPPING).write_text('[{"subset_img_id": 1}]', "utf-8")
    with pytest.raises(PlaceError, match=r"mappings_2018\.json: not RSNA's mapping \(KeyError\)"):
        read(tmp_path, "rsna")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((A, "x", 1, 1, 1, 1), "Target is 1 and the box is not four numbers"),
        ((A, "", "", "", "", 1), "Target is 1 and the box is not four numbers"),
        ((A, 1000, 0, 100, 100, 1), "the box is not inside 1024 x 1024"),
        ((A, 10, 10, 0, 10, 1), "the box is not inside"),
        ((A, "nan", 10, 10, 10, 1), "the box is not inside"),
        ((A, 1, 1, 1, 1, 0), "Target is 0 and there is a box"),
        ((A, "", "", "", "", 2), "Target is neither 0 nor 1"),
        (("../x", "", "", "", "", 0), "patientId is not an id"),
    ],
)
def test_a_row_that_does_not_hold_costs_its_image(tmp_path: Path, row: tuple[object, ...], words: str) -> None:
    write_rsna(tmp_path)
    with (tmp_path / "stage_2_train_labels.csv").open("a", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerow(row)
    studies, rejects = read(tmp_path, "rsna")
    assert studies.keys() == set(RSNA_IDS) - {row[0]}
    assert [(reject.source, reject.code) for reject in rejects] == [("stage_2_train_labels.csv:8", "row_invalid")]
    assert words in rejects[0].message


def test_files_and_rows_without_each_other_are_told(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    images = tmp_path / "stage_2_train_images"
    (images / f"{B}.dcm").rename(images / "ffff.dcm")
    studies, rejects = read(tmp_path, "rsna")
    assert studies.keys() == set(RSNA_IDS) - {B}
    assert [(reject.source, reject.code) for reject in rejects] == [
        (f"stage_2_train_images/{B}.dcm", "image_missing"),
        ("stage_2_train_images/ffff.dcm", "image_unannotated"),
    ]


def test_tables_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"stage_2_train_labels\.csv: not found"):
        read(tmp_path, "rsna")
    write_rsna(tmp_path)
    (tmp_path / "stage_2_detailed_class_info.csv").unlink()
    studies, _ = read(tmp_path, "rsna")
    assert studies[A].labels == {"Pneumonia": 1.0}
    write_table(tmp_path / "stage_2_detailed_class_info.csv", [("patientId", "class"), (A, "Opacity")])
    with pytest.raises(PlaceError, match="line 2: class 'Opacity' is none of Lung Opacity"):
        read(tmp_path, "rsna")


@pytest.mark.parametrize(("splits", "held_out"), [("compat", 0.15 * 2), ("compat-detection", 5337 * 2)])
def test_published_splits_are_those_of_scikit_learn(tmp_path: Path, splits: str, held_out: float | int) -> None:
    """Over the sorted ids, whatever the order of the rows; the first half of what is held out is test."""
    names = [f"{number:04x}-0000" for number in np.random.default_rng(0).permutation(12_000 if held_out > 1 else 400)]
    rows = [("patientId", "x", "y", "width", "height", "Target"), *((name, "", "", "", "", 0) for name in names)]
    write_table(tmp_path / "stage_2_train_labels.csv", rows)
    (tmp_path / "stage_2_train_images").mkdir()
    for name in names[:300]:
        (tmp_path / "stage_2_train_images" / f"{name}.dcm").touch()
    studies, _ = read(tmp_path, "rsna", splits=splits)
    train, held = train_test_split(sorted(names), test_size=held_out, random_state=0)
    test, validate = train_test_split(held, test_size=0.5, random_state=0)
    expected = {n: s for s, part in (("train", train), ("validate", validate), ("test", test)) for n in part}
    assert len(studies) == 300
    assert {name: study.split for name, study in studies.items()} == {name: expected[name] for name in studies}


def test_real_files_and_boxes(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("rsna_pneumonia")
    store = make_store(root, tmp_path / "s", "rsna", 64)
    assert len(store.rows) == 55
    assert sum(len(row.boxes) for row in store.rows) == 32
    assert sum(row.labels["Pneumonia"] for row in store.rows) == 25
    masks = store.masks(store.rows)
    cells = np.arange(64)
    for row, mask in zip(store.rows, masks, strict=True):
        covered = np.zeros((64, 64))
        for box in row.boxes:
            down = np.clip(np.minimum(cells + 1, box.y + box.height) - np.maximum(cells, box.y), 0, 1)
            across = np.clip(np.minimum(cells + 1, box.x + box.width) - np.maximum(cells, box.x), 0, 1)
            covered = np.maximum(covered, np.outer(down, across))
        assert row.mask_row >= 0
        is_clear = np.abs(covered - 0.5) > 0.01
        assert np.array_equal((mask > 0)[is_clear], (covered > 0.5)[is_clear]), row.image_id

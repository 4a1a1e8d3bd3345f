"""What a clean score of a tuned model refuses, leaves out and warns of, on made-up stores with planted leaks."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_run import make_rows, write_rows

from placecli.data.store import Store, open_store
from placecli.engine.checkpoint import DATA
from placecli.records import PlaceError, Row
from placecli.tasks.leaks import clean_rows, report_leaks


def leaky_store(folder: Path, *, with_leaks: bool = True) -> Store:
    """Train 12, test 8 images. Leaked: the patient of test images 0 and 1, the frame of test image 4; a text."""
    rows, images, masks = make_rows({"train": 12, "test": 8}, seed=5)
    rows = [dataclasses.replace(row, sentences=(f"Report {row.row}.",)) for row in rows]
    if with_leaks:
        first = rows[12].patient_id
        rows[3] = dataclasses.replace(rows[3], patient_id=first, study_id=rows[12].study_id)
        images[16] = images[7]
        normal = ("The lungs are clear.",)
        rows[1], rows[18] = (dataclasses.replace(rows[i], sentences=normal) for i in (1, 18))
    return open_store(write_rows(folder, rows, images, masks))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return leaky_store(tmp_path / "store")


def score(store: Store, how: str, task: str = "classification", run: Path | None = None) -> list[Row]:
    return clean_rows(store.select("test"), store, "test", task, run, how)  # type: ignore[arg-type]


def test_a_leaked_patient_or_frame_is_refused_in_one_line_without_an_id(store: Store) -> None:
    with pytest.raises(PlaceError, match=r"3 of 8 images of split test \(2 patients\) leak from train") as caught:
        score(store, "refuse")
    message = str(caught.value).removeprefix(str(store.path))
    assert "--protocol compat" in message
    assert "evaluate.leaks=leave-out" in message
    assert not any(row.patient_id in message or row.image_id in message for row in store.rows)


def test_leave_out_scores_exactly_the_others(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        kept = score(store, "leave-out")
    rows = store.select("test")
    assert [row.image_id for row in kept] == [rows[i].image_id for i in (2, 3, 5, 6, 7)]
    assert "are left out" in caplog.text
    assert rows[0].image_id not in caplog.text


def test_a_store_without_leaks_is_scored_whole_and_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = leaky_store(tmp_path / "store", with_leaks=False)
    with caplog.at_level(logging.WARNING):
        assert score(store, "refuse", "report-generation") == store.select("test")
    assert caplog.text == ""


def test_equal_texts_are_a_warning_for_reports_alone(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        score(store, "leave-out")
        assert "word for word" not in caplog.text
        score(store, "leave-out", "report-generation")
    assert "1 images of split test have a report that is also in train" in caplog.text


def test_images_that_look_alike_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows, images, masks = make_rows({"train": 6, "test": 6}, seed=5)
    copy = images[8].astype(int) + 1
    images[2] = np.clip(copy, 0, 255)
    store = open_store(write_rows(tmp_path / "store", rows, images, masks))
    with caplog.at_level(logging.WARNING):
        assert len(score(store, "refuse")) == 6
    assert "1 images of split test look like one of train" in caplog.text


def test_the_store_that_a_run_was_tuned_on_counts_too(tmp_path: Path) -> None:
    learnt = leaky_store(tmp_path / "learnt", with_leaks=False)
    rows, images, masks = make_rows({"test": 6}, seed=9)
    rows = [dataclasses.replace(row, patient_id=f"other-{row.row}") for row in rows]
    images[5] = learnt.images(learnt.select("train")[3:4])[0]
    images[4] = learnt.images(learnt.select("test")[3:4])[0]  # a test image of the other store was not learnt from
    rows[0] = dataclasses.replace(rows[0], patient_id=learnt.select("train")[0].patient_id)
    store = open_store(write_rows(tmp_path / "other", rows, images, masks))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / DATA).write_text(json.dumps({"store": str(learnt.path), "digest": learnt.digest}))
    assert len(score(store, "refuse")) == 6
    kept = score(store, "leave-out", run=tmp_path / "run")
    assert [row.image_id for row in kept] == [row.image_id for row in store.select("test")[1:5]]


def test_report_names_what_leaked_and_how_much_of_the_text_is_normal(store: Store) -> None:
    record = report_leaks([store.path])
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    counts, found = record["counts"]["train-test"], record["found"]["train-test"]
    assert {kind: counts[kind]["shared"] for kind in ("patients", "studies", "images", "texts")} == {
        "patients": 1,
        "studies": 1,
        "images": 1,
        "texts": 1,
    }
    assert counts["texts_without_finding"] == 1
    assert found["images"] == [{"train": ["image-007"], "test": ["image-016"]}]
    assert found["patients"] == ["test-0"]
    with pytest.raises(PlaceError, match="one store or between two, not 3"):
        report_leaks([store.path] * 3)


def test_two_stores_of_one_name_are_told_apart(store: Store, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    other = leaky_store(tmp_path / "more" / "store")
    counts = report_leaks([store.path, other.path])["counts"]
    assert list(counts) == [
        "first:train-second:train",
        "first:train-second:test",
        "first:test-second:train",
        "first:test-second:test",
    ]
    assert counts["first:train-second:train"]["images"]["shared"] == 12


@pytest.mark.parametrize(
    ("release", "is_known"), [("iu-xray", True), ("openi", True), ("chexpert", False), ("mimic-cxr", False)]
)
def test_releases_of_one_collection_share_their_patients(tmp_path: Path, release: str, is_known: bool) -> None:
    learnt = leaky_store(tmp_path / "learnt", with_leaks=False)
    rename_release(learnt.path, "openi")
    rows, images, masks = make_rows({"test": 6}, seed=9)
    rows = [dataclasses.replace(row, patient_id=f"other-{row.row}") for row in rows]
    rows[0] = dataclasses.replace(rows[0], patient_id=learnt.select("train")[0].patient_id)
    other = write_rows(tmp_path / "other", rows, images, masks)
    rename_release(other, release)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / DATA).write_text(json.dumps({"store": str(learnt.path), "digest": learnt.digest}))
    kept = score(open_store(other), "leave-out", run=tmp_path / "run")
    assert len(kept) == 6 - is_known


def rename_release(store: Path, release: str) -> None:
    """Say in store.yaml that the store was made from another release."""
    content = yaml.safe_load((store / "store.yaml").read_text())
    content["preset"]["preprocess"]["release"] = release
    (store / "store.yaml").write_text(yaml.safe_dump(content))

"""Preprocessing of real releases: every file of the DICOM collection ends as its manifest says."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

from placecli.config import load_preset
from placecli.data.preprocess import preprocess
from placecli.data.store import Store, open_store

NOT_AS_DECODABLE = {
    "original/CR1_6154.dcm": "not_chest",
    "original/RG3_J2KI.dcm": "not_chest",
    "original/dx_image.dcm": "not_chest",
    "derived/wrong_modality_bodypart.dcm": "not_chest",
    "derived/multiframe_2.dcm": "multi_frame",
    "derived/jpeg_stream_corrupt.dcm": "pixels_corrupt",
}
"""Files whose pixels can be had and which the folder preset refuses by its rules."""

UNDECODABLE = {
    "original/chrJapMulti.dcm": "no_pixel_data",
    "original/chrKoreanMulti.dcm": "no_pixel_data",
    "derived/no_pixel_data.dcm": "no_pixel_data",
    "derived/wrong_rows.dcm": "pixels_wrong_length",
    "derived/truncated_pixels.dcm": "pixels_truncated",
    "derived/truncated_header.dcm": "header_truncated",
    "derived/zero_bytes.dcm": "empty_file",
    "derived/html_saved_as.dcm": "not_dicom",
    "derived/png_renamed.dcm": "not_dicom",
    "derived/random_bytes.dcm": "not_dicom",
}

REPAIRED = {
    "derived/missing_photometric.dcm": "photometric_missing",
    "derived/missing_bits_stored.dcm": "bits_stored_missing",
    "derived/wrong_transfer_syntax.dcm": "transfer_syntax_wrong",
    "original/CR-MONO1-10-chest": "preamble_missing",
    "original/Fake_MONOHR1.dcm": "image_id_repeated",
}


def make_store(root: Path, out: Path, *overrides: str) -> tuple[Store, dict[str, str]]:
    """The store of a folder release at 64 pixels, and reason codes by source."""
    preprocess(load_preset("folder", ["preprocess.size=64", *overrides]), root, out, workers=2)
    lines = (out / "rejects.jsonl").read_text("utf-8").splitlines()
    return open_store(out), {entry["source"]: entry["code"] for entry in map(json.loads, lines)}


def test_every_dicom_file_ends_as_the_manifest_says(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("dicom_cxr")
    store, rejects = make_store(root, tmp_path / "s")
    with (root / "manifest.csv").open(encoding="utf-8", newline="") as stream:
        decodable = {line["file"]: line["decodable"] for line in csv.DictReader(stream)}
    rows = {row.source: row for row in store.rows}
    assert rows.keys() | rejects.keys() == decodable.keys()
    assert not rows.keys() & rejects.keys()
    assert {file for file, answer in decodable.items() if answer == "no"} == set(UNDECODABLE)
    assert rejects == UNDECODABLE | NOT_AS_DECODABLE
    for file, flag in REPAIRED.items():
        assert flag in rows[file].flags, file
    # Every file that shows something shows it over much of the grey scale.
    spread = {row.source: float(image.std()) for row, image in zip(store.rows, store.images(store.rows), strict=True)}
    assert {file for file, value in spread.items() if value < 20} == set()


def test_every_rsna_file_is_kept_under_its_own_ids(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("rsna_pneumonia")
    store, rejects = make_store(root, tmp_path / "s")
    names = {path.stem for path in root.glob("stage_2_train_images/*.dcm")}
    assert rejects == {}
    assert {Path(row.source).stem for row in store.rows} == names == {row.patient_id for row in store.rows}
    assert {row.view for row in store.rows} == {"PA", "AP"}
    assert all(row.content == (0, 0, 64, 64) for row in store.rows)


def test_the_nlm_release_of_openi_joins_reports_and_images(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("openi_nlmcxr")
    overrides = ["preprocess.size=64", "preprocess.images_per_shard=50", "preprocess.require_report=false"]
    summary = preprocess(load_preset("openi", overrides), root, tmp_path / "s", workers=2)
    store = open_store(tmp_path / "s")
    assert summary.counts["images"] == len(store.rows) == len(store.images(store.rows)) > 50
    assert {row.study_id for row in store.rows} <= {f"CXR{path.stem}" for path in root.glob("ecgen-radiology/*.xml")}
    assert all(row.sentences for row in store.rows if row.findings)


def test_unusable_files_cost_no_neighbour(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    """Parts of good files and all kinds of bad ones, in one worker that meets them all."""
    root = real_data("dicom_cxr") / "derived"
    preset = load_preset("folder", ["preprocess.size=32", "preprocess.images_per_shard=7"])
    summary = preprocess(preset, root, tmp_path / "s", workers=1)
    assert summary.counts["images"] + summary.counts["rejected"] == len(list(root.iterdir()))

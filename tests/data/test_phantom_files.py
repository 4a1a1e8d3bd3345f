"""The phantom's folder: the same bytes for a seed, valid DICOM that our reader turns back into the picture, all labelled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from phantom_cases import SEED
from pydicom.uid import JPEGLosslessSV1, JPEGLSLossless
from small_releases import store_bytes

from placecli.config import load_preset
from placecli.data.dicom import read_dicom
from placecli.data.phantom import LABELS, PhantomStudy, make_study, write_phantoms
from placecli.data.phantom_dicom import ENCODINGS, Encoding, sample_encoding, write_dicom
from placecli.data.phantom_files import split_of
from placecli.data.phantom_study import make_patient
from placecli.data.releases import demo
from placecli.records import PlaceError, ShapeMask, Study

NUM_PATIENTS = 18
RULES = load_preset("demo", []).preprocess


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "p"
    write_phantoms(root, NUM_PATIENTS, SEED, workers=1)
    return root


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "phantom.jsonl").read_text("utf-8").splitlines()]


def test_same_seed_same_bytes_whatever_the_workers(folder: Path, tmp_path: Path) -> None:
    counted: list[tuple[int, int]] = []
    write_phantoms(tmp_path / "p", NUM_PATIENTS, SEED, workers=2, progress=lambda *now: counted.append(now))
    assert store_bytes(tmp_path / "p") == store_bytes(folder)
    assert counted == [(8, 18), (16, 18), (18, 18)]
    again = store_bytes(tmp_path / "p")
    write_phantoms(tmp_path / "p", NUM_PATIENTS, SEED, workers=1)
    assert store_bytes(tmp_path / "p") == again


def test_another_seed_other_bytes_in_every_study(folder: Path, tmp_path: Path) -> None:
    write_phantoms(tmp_path, 3, SEED + 1, workers=1)
    other, this = store_bytes(tmp_path), store_bytes(folder)
    assert [name for name in other if this.get(name) == other[name]] == []


def test_fewer_patients_are_the_same_patients(folder: Path, tmp_path: Path) -> None:
    """Only the split, which is drawn over all patients, may differ."""
    write_phantoms(tmp_path, 2, SEED, workers=1)
    few, all_of_them = store_bytes(tmp_path), store_bytes(folder)
    few.pop("phantom.jsonl")
    assert few == {name: content for name, content in all_of_them.items() if "/P00001" in name or "/P00002" in name}


def test_a_file_is_that_of_the_study_made_alone(folder: Path) -> None:
    record = lines(folder)[9]
    patient, number = int(record["patient_id"][1:]) - 1, int(record["study_id"].split("-S")[1]) - 1
    study = make_study(SEED, patient, number)
    encoding = sample_encoding(np.random.default_rng(study.pose.seed + 1))
    assert (folder / record["image"]).read_bytes() == write_dicom(study, record["image_id"], encoding)
    assert (folder / record["report"]).read_text("utf-8") == study.report.text


def test_annotations_are_those_of_the_studies(folder: Path) -> None:
    made = [study for patient in range(NUM_PATIENTS) for study in make_patient(SEED, patient)]
    records = lines(folder)
    assert [record["study_id"] for record in records] == [study.study_id for study in made]
    for record, study in zip(records, made, strict=True):
        assert set(record["labels"]) == set(LABELS)
        assert len(record["findings"]) == len(study.findings)
        union = np.zeros(study.image.shape, np.uint8)
        for written, finding in zip(record["findings"], study.findings, strict=True):
            mask = cv2.imread(str(folder / written["mask"]), cv2.IMREAD_GRAYSCALE)
            assert (mask == finding.mask).all()
            assert written["box"] == [finding.box.x, finding.box.y, finding.box.width, finding.box.height]
            assert (written["label"], written["side"]) == (finding.condition.label, finding.condition.side)
            union |= mask
        if study.findings:
            assert (cv2.imread(str(folder / record["mask"]), cv2.IMREAD_GRAYSCALE) == union).all()
        else:
            assert record["mask"] is None


def test_the_release_reader_finds_every_study_and_file(folder: Path) -> None:
    studies, records = list(demo.studies(folder, RULES)), lines(folder)
    assert 0 < sum(not record["findings"] for record in records) < len(records)
    for study, record in zip(studies, records, strict=True):
        assert isinstance(study, Study)
        assert study.images[0].path.is_file()
        # Nothing is planted: an empty mask, which is not the same as none.
        assert study.images[0].mask == (folder / record["mask"] if record["findings"] else ShapeMask(()))
        assert study.report_path is not None
        assert study.report_path.is_file()


def test_one_split_a_patient_in_exact_shares() -> None:
    splits = [split_of(patient, 100, 3) for patient in range(100)]
    assert Counter(splits) == {"train": 70, "validate": 10, "test": 20}
    assert splits != [split_of(patient, 100, 4) for patient in range(100)]


def test_everything_is_called_synthetic(folder: Path) -> None:
    for record in lines(folder):
        assert record["synthetic"] is True
        header = pydicom.dcmread(folder / record["image"], stop_before_pixels=True)
        for keyword in ("PatientName", "StudyDescription", "SeriesDescription", "ImageComments"):
            assert "SYNTHETIC" in str(header[keyword].value), keyword
        assert "phantom" in header.Manufacturer
        assert "SYNTHETIC" in (folder / record["report"]).read_text("utf-8")


def test_headers_agree_with_the_study(folder: Path) -> None:
    unique = set()
    for record in lines(folder):
        header = pydicom.dcmread(folder / record["image"], stop_before_pixels=True)
        patient, number = int(record["patient_id"][1:]) - 1, int(record["study_id"].split("-S")[1]) - 1
        study = make_study(SEED, patient, number)
        assert (header.PatientID, header.ViewPosition) == (study.patient_id, study.pose.view)
        assert (header.Rows, header.Columns) == study.image.shape
        assert float(header.ImagerPixelSpacing[0]) * study.pose.pixels_per_cm == pytest.approx(10.0, rel=1e-3)
        # Rows run to the patient's left: the image's left is the patient's right.
        assert list(header.PatientOrientation) == ["L", "F"]
        unique.add(header.SOPInstanceUID)
    assert len(unique) == len(lines(folder))


def test_several_transfer_syntaxes_and_conventions_are_drawn() -> None:
    drawn = [sample_encoding(np.random.default_rng(seed)) for seed in range(400)]
    assert {str(encoding.syntax) for encoding in drawn} == {str(syntax) for syntax, _ in ENCODINGS}
    assert {encoding.voi for encoding in drawn} == {"window", "sigmoid", "table", "none"}
    assert {encoding.is_inverted for encoding in drawn} == {True, False}
    assert {(encoding.intercept, encoding.slope) for encoding in drawn} == {(0, 1), (-1024, 1), (0, 2)}


@pytest.fixture(scope="module")
def study() -> PhantomStudy:
    return make_study(SEED, 1)


def read_back(study: PhantomStudy, encoding: Encoding, path: Path) -> NDArray[np.float64]:
    path.write_bytes(write_dicom(study, "I", encoding))
    radiograph = read_dicom(path, max(study.image.shape), RULES)
    assert radiograph.pixels.shape == study.image.shape
    return radiograph.pixels.astype(np.float64)


@pytest.mark.parametrize("is_inverted", [False, True])
@pytest.mark.parametrize("syntax", [syntax for syntax, _ in ENCODINGS], ids=lambda syntax: syntax.name)
def test_every_transfer_syntax_reads_back_to_the_picture(
    syntax: pydicom.uid.UID, is_inverted: bool, study: PhantomStudy, tmp_path: Path
) -> None:
    for intercept, slope in ((0, 1), (-1024, 1), (0, 2)):
        encoding = Encoding(syntax, is_inverted, intercept, slope, "window", 300, 3600)
        pixels = read_back(study, encoding, tmp_path / "x.dcm")
        # One grey level: rounded once to 12 bits and once to 8.
        assert np.abs(pixels - 255.0 * study.image).max() <= 1.0
        written = pydicom.dcmread(tmp_path / "x.dcm")
        assert written.file_meta.TransferSyntaxUID == syntax
        assert written.PhotometricInterpretation == ("MONOCHROME1" if is_inverted else "MONOCHROME2")
        if syntax in (JPEGLosslessSV1, JPEGLSLossless):
            continue  # pydicom has no decoder of its own for these two
        stored = written.pixel_array.astype(float)
        assert np.abs((4095 - stored if is_inverted else stored) - (300 + 3300.0 * study.image)).max() <= 0.51


@pytest.mark.parametrize("voi", ["window", "table", "none", "sigmoid"])
def test_every_grey_scale_convention_reads_back_to_the_picture(voi: str, study: PhantomStudy, tmp_path: Path) -> None:
    """A sigmoid window bends the scale as PS3.3 C.11.2.1.3.1 says; the others give the picture itself."""
    wanted = 255.0 * study.image.astype(np.float64)
    if voi == "sigmoid":
        wanted = 255.0 / (1.0 + np.exp(-4.0 * (study.image.astype(np.float64) - 0.5)))
    for is_inverted in (False, True):
        for syntax, _ in ENCODINGS[::3]:
            pixels = read_back(study, Encoding(syntax, is_inverted, -1024, 1, voi, 250, 3700), tmp_path / "x.dcm")
            assert np.abs(pixels - wanted).max() <= 1.5


def test_no_patients_and_a_folder_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="at least 1"):
        write_phantoms(tmp_path, 0, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(PlaceError, match="cannot be written"):
        write_phantoms(tmp_path / "file" / "below", 1, 1, workers=1)


def test_annotations_come_last(tmp_path: Path) -> None:
    """A run that stopped half-way leaves no phantom.jsonl, so that nobody takes it for whole."""
    write_phantoms(tmp_path, 1, SEED, workers=1)
    (tmp_path / "files").rename(tmp_path / "elsewhere")
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(PlaceError):
        write_phantoms(tmp_path, 1, SEED, workers=1)
    assert not (tmp_path / "phantom.jsonl").exists()

"""MIMIC-CXR: five made-up studies in the layouts of the DICOM and the JPG release."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import pytest

from placecli.config import PreprocessConfig
from placecli.data.releases import read_studies
from placecli.data.releases.mimic_cxr_rules import SECTION_OF_STUDY, SLICE_OF_STUDY
from placecli.records import PlaceError, Reject, Study

CONFIG = PreprocessConfig(release="mimic-cxr")

# (subject, study, images with their views, split)
STUDIES = (
    ("10000001", "50000001", ("PA", "LATERAL"), "train"),
    ("10000001", "50000002", ("AP",), "train"),
    ("10000002", "50000003", ("LL", "PA"), "validate"),
    ("11000003", "50000004", ("",), "test"),
    ("11000003", "50000005", ("AP LLD",), "test"),
)
REPORT = " FINAL REPORT\n INDICATION: ___.\n FINDINGS: Lungs clear.\n IMPRESSION: Normal chest.\n"
LABELS = ("Atelectasis", "Cardiomegaly", "Lung Opacity", "No Finding")


def image_id(study: str, number: int) -> str:
    return f"{study}-0000000a-0000000b-0000000c-{number:08x}"


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def image_rows() -> list[tuple[str, str, str, str, str]]:
    """(subject, study, dicom, view, split) in an order that is not the sorted one."""
    rows = [
        (subject, study, image_id(study, number), view, split)
        for subject, study, views, split in STUDIES
        for number, view in enumerate(views, start=1)
    ]
    return rows[::-1]


def write_files(root: Path, suffix: str, reports: str) -> None:
    for subject, study, dicom, _, _ in image_rows():
        folder = root / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{dicom}{suffix}").write_bytes(b"not looked into")
        report = root / reports / f"p{subject[:2]}" / f"p{subject}" / f"s{study}.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(REPORT, encoding="utf-8")


def write_metadata(root: Path, ending: str = "csv") -> None:
    description = "PerformedProcedureStepDescription"
    header = ("dicom_id", "subject_id", "study_id", description, "ViewPosition", "Rows", "Columns")
    rows = [(d, p, s, "CHEST (PA AND LAT)", view, "2544", "3056") for p, s, d, view, _ in image_rows()]
    write_table(root / f"mimic-cxr-2.0.0-metadata.{ending}", header, rows)


def write_split(root: Path) -> None:
    rows = [(d, s, p, split) for p, s, d, _, split in image_rows()]
    write_table(root / "mimic-cxr-2.0.0-split.csv.gz", ("dicom_id", "study_id", "subject_id", "split"), rows)


def write_labels(root: Path) -> None:
    header = ("subject_id", "study_id", *LABELS)
    rows = [("10000001", "50000001", "", "1.0", "-1.0", ""), ("11000003", "50000004", "1.0", "", "", "0.0")]
    write_table(root / "mimic-cxr-2.0.0-chexpert.csv", header, rows)
    test_header = ("study_id", "Atelectasis", "Airspace Opacity")
    write_table(root / "mimic-cxr-2.1.0-test-set-labeled.csv", test_header, [("50000004", "0", "1")])


def write_record_list(root: Path) -> None:
    rows = [(p, s, d, f"files/p{p[:2]}/p{p}/s{s}/{d}.dcm") for p, s, d, _, _ in image_rows()]
    write_table(root / "cxr-record-list.csv.gz", ("subject_id", "study_id", "dicom_id", "path"), rows)


@pytest.fixture
def jpg_root(tmp_path: Path) -> Path:
    write_files(tmp_path, ".jpg", "mimic-cxr-reports/files")
    write_metadata(tmp_path)
    write_split(tmp_path)
    write_labels(tmp_path)
    return tmp_path


@pytest.fixture
def dicom_root(tmp_path: Path) -> Path:
    write_files(tmp_path, ".dcm", "files")
    write_record_list(tmp_path)
    return tmp_path


def read(root: Path, config: PreprocessConfig = CONFIG) -> tuple[list[Study], list[Reject]]:
    entries = list(read_studies(config, root))
    return [e for e in entries if isinstance(e, Study)], [e for e in entries if isinstance(e, Reject)]


def report_of(root: Path, reports: str, subject: str, study: str) -> Path:
    return root / reports / f"p{subject[:2]}" / f"p{subject}" / f"s{study}.txt"


def test_jpg_release(jpg_root: Path) -> None:
    studies, rejects = read(jpg_root)
    assert rejects == []
    assert [(s.patient_id, s.study_id, s.split) for s in studies] == [(p, s, split) for p, s, _, split in STUDIES]
    views = [[image.view for image in study.images] for study in studies]
    assert views == [["PA", "LATERAL"], ["AP"], ["LATERAL", "PA"], [""], ["OTHER"]]
    first = studies[0]
    assert first.images[0].image_id == image_id("50000001", 1)
    assert first.images[0].path == jpg_root / f"files/p10/p10000001/s50000001/{image_id('50000001', 1)}.jpg"
    assert first.report_path == report_of(jpg_root, "mimic-cxr-reports/files", "10000001", "50000001")
    assert first.sections == {}
    assert first.labels == {"Cardiomegaly": 1.0, "Lung Opacity": -1.0}
    assert studies[1].labels == {}
    # what radiologists read replaces the automatic labels, under the name that these use
    assert studies[3].labels == {"Atelectasis": 0.0, "Lung Opacity": 1.0}


def test_every_view_position_of_the_metadata(jpg_root: Path) -> None:
    views = {
        "PA": "PA",
        "AP": "AP",
        "ap": "AP",
        "LATERAL": "LATERAL",
        "LL": "LATERAL",
        "RL": "LATERAL",
        "XTABLE LATERAL": "LATERAL",
        "LAO": "OTHER",
        "AP AXIAL": "OTHER",
        "PA LLD": "OTHER",
        "SWIMMERS": "OTHER",
        "": "",
    }
    header = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    name = image_id("50000002", 1)
    for position, view in views.items():
        write_table(jpg_root / "mimic-cxr-2.0.0-metadata.csv", header, [(name, "10000001", "50000002", position)])
        assert [image.view for study in read(jpg_root)[0] for image in study.images] == [view], position


def test_gzipped_metadata_and_negbio_labels(jpg_root: Path) -> None:
    plain, _ = read(jpg_root)
    (jpg_root / "mimic-cxr-2.0.0-metadata.csv").unlink()
    write_metadata(jpg_root, "csv.gz")
    (jpg_root / "mimic-cxr-2.0.0-chexpert.csv").rename(jpg_root / "mimic-cxr-2.0.0-negbio.csv")
    assert read(jpg_root)[0] == plain


def test_dicom_release(dicom_root: Path) -> None:
    studies, rejects = read(dicom_root)
    assert rejects == []
    assert [study.study_id for study in studies] == [study for _, study, _, _ in STUDIES]
    assert {study.split for study in studies} == {""}
    assert {image.view for study in studies for image in study.images} == {""}
    assert studies[0].images[0].path.suffix == ".dcm"
    assert studies[0].report_path == report_of(dicom_root, "files", "10000001", "50000001")


def test_tables_of_the_jpg_release_beside_dicom_files(dicom_root: Path) -> None:
    write_metadata(dicom_root)
    write_split(dicom_root)
    write_labels(dicom_root)
    studies, _ = read(dicom_root)
    assert [study.split for study in studies] == [split for *_, split in STUDIES]
    assert studies[0].images[0].view == "PA"
    assert studies[0].images[0].path.suffix == ".dcm"
    assert studies[0].labels == {"Cardiomegaly": 1.0, "Lung Opacity": -1.0}


def test_record_list_beside_jpg_files(jpg_root: Path) -> None:
    write_record_list(jpg_root)
    studies, rejects = read(jpg_root)
    assert rejects == []
    assert studies[0].images[0].path.suffix == ".jpg"


def test_missing_files_are_one_reject_each_and_missing_groups_one_for_all(jpg_root: Path) -> None:
    gone = jpg_root / f"files/p10/p10000001/s50000001/{image_id('50000001', 2)}.jpg"
    gone.unlink()
    report_of(jpg_root, "mimic-cxr-reports/files", "10000002", "50000003").unlink()
    (jpg_root / "files/p11").rename(jpg_root / "elsewhere")
    studies, rejects = read(jpg_root)
    assert [study.study_id for study in studies] == ["50000001", "50000002"]
    assert [image.view for image in studies[0].images] == ["PA"]
    assert [(reject.source, reject.code) for reject in rejects] == [
        ("files/p11", "group_missing"),
        (str(gone.relative_to(jpg_root)), "image_missing"),
        ("files/p10/p10000002/s50000003.txt", "report_missing"),
    ]
    assert "2 listed images" in rejects[0].message


def test_without_required_reports_a_study_comes_without(jpg_root: Path) -> None:
    report_of(jpg_root, "mimic-cxr-reports/files", "10000002", "50000003").unlink()
    studies, rejects = read(jpg_root, CONFIG.model_copy(update={"require_report": False}))
    assert rejects == []
    assert studies[2].report_path is None


def test_sectioned_reports_are_used_where_they_are_given(jpg_root: Path) -> None:
    header = ("study", "impression", "findings", "last_paragraph", "comparison")
    write_table(jpg_root / "mimic_cxr_sectioned.csv", header, [("s50000001", "Normal.", "", "", "None.")])
    studies, _ = read(jpg_root)
    assert studies[0].sections == {"impression": "Normal.", "comparison": "None."}
    assert studies[0].report_path is None
    assert studies[1].report_path is not None


def test_reports_that_the_general_rules_miss(tmp_path: Path) -> None:
    assert (len(SECTION_OF_STUDY), len(SLICE_OF_STUDY)) == (23, 31)
    assert sorted(SLICE_OF_STUDY.values()).count((0, 0)) == 8
    # s56451190: the findings stand under NOTE; s51410602: characters 47 to 320; s58235663: there are none.
    for study in ("56451190", "51410602", "58235663"):
        path = report_of(tmp_path, "mimic-cxr-reports", "10000001", study)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" x\n NOTE: Lungs clear.\n " + "".join(chr(97 + i % 26) for i in range(400)), encoding="utf-8")
        folder = tmp_path / f"files/p10/p10000001/s{study}"
        folder.mkdir(parents=True)
        (folder / f"{image_id(study, 1)}.jpg").write_bytes(b"")
    rows = [(image_id(study, 1), "10000001", study, "PA") for study in ("56451190", "51410602", "58235663")]
    write_table(tmp_path / "mimic-cxr-2.0.0-metadata.csv", ("dicom_id", "subject_id", "study_id", "ViewPosition"), rows)
    studies, _ = read(tmp_path)
    by_id = {study.study_id: study for study in studies}
    assert {study.report_path for study in studies} == {None}
    assert by_id["56451190"].sections["findings"].startswith("Lungs clear.")
    text = path.read_text(encoding="utf-8")
    assert by_id["51410602"].sections == {"findings": text[47:320].strip()}
    assert by_id["58235663"].sections == {}


def test_ids_that_are_not_of_the_release_never_become_paths(jpg_root: Path) -> None:
    header = ("dicom_id", "subject_id", "study_id", "ViewPosition")
    rows = [("../../secret", "10000001", "50000001", "PA"), (image_id("50000002", 1), "10000001", "50000002", "AP")]
    write_table(jpg_root / "mimic-cxr-2.0.0-metadata.csv", header, rows)
    studies, rejects = read(jpg_root)
    assert [study.study_id for study in studies] == ["50000002"]
    assert [(reject.source, reject.code) for reject in rejects] == [("mimic-cxr-2.0.0-metadata.csv:2", "row_invalid")]


def test_errors_name_the_file_and_the_remedy(jpg_root: Path) -> None:
    def message() -> str:
        with pytest.raises(PlaceError) as caught:
            read(jpg_root)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    split = jpg_root / "mimic-cxr-2.0.0-split.csv.gz"
    published = split.read_bytes()
    write_table(split, ("dicom_id", "split"), [(image_id("50000001", 1), "holdout")])
    assert "line 2: split 'holdout' is none of train, validate, test" in message()
    write_table(
        split, ("dicom_id", "split"), [(image_id("50000001", n), name) for n, name in ((1, "train"), (2, "test"))]
    )
    assert "study 50000001: its images are in the splits test, train" in message()
    split.write_bytes(published[:-20])
    assert "not readable as CSV" in message()
    split.write_bytes(published)
    labels = jpg_root / "mimic-cxr-2.0.0-chexpert.csv"
    write_table(labels, ("study_id", "Edema"), [("50000001", "yes")])
    assert "column Edema holds 'yes'; a label is 1, 0, -1 or blank" in message()
    labels.unlink()
    write_table(jpg_root / "mimic-cxr-2.0.0-metadata.csv", ("dicom_id", "study_id"), [])
    assert "no column subject_id, ViewPosition; the columns are dicom_id, study_id" in message()
    write_table(jpg_root / "mimic-cxr-2.0.0-metadata.csv", (image_id("50000001", 1), "50000001"), [])
    assert "its first line is not that header" in message(), "a line of data is not for the screen"
    assert "50000001" not in message()
    (jpg_root / "mimic-cxr-2.0.0-metadata.csv").unlink()
    assert "neither mimic-cxr-2.0.0-metadata.csv (JPG release) nor cxr-record-list.csv" in message()
    write_metadata(jpg_root)
    (jpg_root / "mimic-cxr-reports").rename(jpg_root / "elsewhere")
    assert "unpack mimic-cxr-reports.zip there" in message()

"""CheXpert: five made-up studies in both forms of the release, and MGCA's split on the published table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from chexpert_table import published_table
from small_pictures import write_picture
from small_releases import write_csv

from placecli.config import PreprocessConfig, load_preset
from placecli.data.identity import split_of
from placecli.data.preprocess import preprocess
from placecli.data.releases import chexpert, read_studies
from placecli.data.store import open_store
from placecli.records import PlaceError, Reject, Study

HEADER = (
    *("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly"),
    *("Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax"),
    *("Pleural Effusion", "Pleural Other", "Fracture", "Support Devices"),
)
"""As published, written out once more."""
CONFIG = PreprocessConfig(release="chexpert", require_report=False)

# (patient, study, file, sex, Frontal/Lateral, AP/PA, labels)
TRAIN = (
    ("patient00001", "study1", "view1_frontal.jpg", "Female", "Frontal", "AP", {"No Finding": "1.0"}),
    ("patient00002", "study2", "view1_frontal.jpg", "Male", "Frontal", "PA", {"Edema": "1.0", "Fracture": "0.0"}),
    ("patient00002", "study2", "view2_lateral.jpg", "Male", "Lateral", "", {"Edema": "1.0", "Fracture": "0.0"}),
    ("patient00002", "study10", "view1_frontal.jpg", "Unknown", "Frontal", "LL", {"Consolidation": "-1.0"}),
    ("patient00003", "study1", "view1_frontal.jpg", "Male", "Frontal", "", {}),
)
VALID = (("patient64541", "study1", "view1_frontal.jpg", "Male", "Frontal", "AP", {"Edema": "0.0", "Fracture": "1.0"}),)


def rows_of(folder: str, lines: tuple[tuple[object, ...], ...], release: str) -> list[list[str]]:
    rows = []
    for patient, study, name, sex, side, view, labels in lines:
        assert isinstance(labels, dict)
        path = f"{release}/{folder}/{patient}/{study}/{name}"
        rows.append([path, str(sex), "68", str(side), str(view), *(labels.get(label, "") for label in HEADER[5:])])
    return rows


def write_release(root: Path, release: str = "CheXpert-v1.0-small") -> None:
    root.mkdir(exist_ok=True)
    for folder, lines in (("train", TRAIN), ("valid", VALID)):
        write_csv(root / f"{folder}.csv", HEADER, rows_of(folder, lines, release))
        for number, (patient, study, name, *_) in enumerate(lines):
            write_picture(root / folder / str(patient) / str(study) / str(name), number + len(folder) * 10)


def read(root: Path, config: PreprocessConfig = CONFIG) -> tuple[list[Study], list[Reject]]:
    entries = list(read_studies(config, root))
    return [e for e in entries if isinstance(e, Study)], [e for e in entries if isinstance(e, Reject)]


@pytest.mark.parametrize("release", ["CheXpert-v1.0-small", "CheXpert-v1.0"])
def test_both_forms_of_the_release(tmp_path: Path, release: str) -> None:
    write_release(tmp_path, release)
    studies, rejects = read(tmp_path)
    assert rejects == []
    by_id = {study.study_id: study for study in studies}
    assert list(by_id) == [
        *("patient00001_study1", "patient00002_study2", "patient00002_study10", "patient00003_study1"),
        "patient64541_study1",
    ]
    assert by_id["patient00002_study2"].patient_id == by_id["patient00002_study10"].patient_id == "patient00002"
    assert [image.image_id for image in by_id["patient00002_study2"].images] == [
        "patient00002_study2_view1_frontal",
        "patient00002_study2_view2_lateral",
    ]
    assert all(image.path.is_file() for study in studies for image in study.images)


def test_labels_stay_as_they_are_and_blanks_are_left_out(tmp_path: Path) -> None:
    write_release(tmp_path)
    labels = {study.study_id: study.labels for study in read(tmp_path)[0]}
    assert labels["patient00002_study2"] == {"Edema": 1.0, "Fracture": 0.0}
    assert labels["patient00002_study10"] == {"Consolidation": -1.0}
    assert labels["patient00003_study1"] == {}


def test_columns_are_read_by_name_not_by_place(tmp_path: Path) -> None:
    write_release(tmp_path)
    order = [*HEADER[:5], *sorted(HEADER[5:])]  # MIMIC-CXR's order
    rows = [[dict(zip(HEADER, row, strict=True))[name] for name in order] for row in rows_of("train", TRAIN, "x")]
    expected = {study.study_id: study.labels for study in read(tmp_path)[0]}
    write_csv(tmp_path / "train.csv", order, rows)
    assert {study.study_id: study.labels for study in read(tmp_path)[0]} == expected


def test_views_come_from_two_columns(tmp_path: Path) -> None:
    write_release(tmp_path)
    views = {image.image_id: image.view for study in read(tmp_path)[0] for image in study.images}
    assert views == {
        "patient00001_study1_view1_frontal": "AP",
        "patient00002_study2_view1_frontal": "PA",
        "patient00002_study2_view2_lateral": "LATERAL",
        "patient00002_study10_view1_frontal": "FRONTAL",  # LL in one column, Frontal in the other
        "patient00003_study1_view1_frontal": "FRONTAL",
        "patient64541_study1_view1_frontal": "AP",
    }


def test_clean_divides_the_patients_of_train_and_tests_on_valid(tmp_path: Path) -> None:
    write_release(tmp_path)
    config = CONFIG.model_copy(update={"validate_fraction": 0.5})
    splits = {(study.patient_id, study.split) for study in read(tmp_path, config)[0]}
    assert splits == {
        *((patient, split_of(patient, 0, 0.5, 0.0)) for patient in ("patient00001", "patient00002", "patient00003")),
        ("patient64541", "test"),
    }


@pytest.mark.parametrize("path", ["CheXpert-v1.0/train/../../x.jpg", "patient00001/study1/view1_frontal.jpg", ""])
def test_a_path_of_another_shape_is_one_reject(tmp_path: Path, path: str) -> None:
    write_release(tmp_path)
    rows = rows_of("train", TRAIN, "CheXpert-v1.0")
    rows[0][0] = path
    write_csv(tmp_path / "train.csv", HEADER, rows)
    studies, rejects = read(tmp_path)
    assert [(reject.source, reject.code) for reject in rejects] == [("train.csv:2", "row_invalid")]
    assert len(studies) == 4
    with pytest.raises(PlaceError, match=r"train\.csv:2: this row is not one of the release"):
        read(tmp_path, CONFIG.model_copy(update={"splits": "compat"}))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_release(tmp_path)
    with pytest.raises(PlaceError, match=r"exclusive sets: 200 images"):
        read(tmp_path, CONFIG.model_copy(update={"splits": "compat"}))
    write_csv(tmp_path / "train.csv", [name for name in HEADER if name != "Edema"], [])
    with pytest.raises(PlaceError, match=r"no column Edema"):
        read(tmp_path)
    (tmp_path / "valid.csv").unlink()
    write_release(tmp_path / "other")
    (tmp_path / "other" / "valid.csv").unlink()
    with pytest.raises(PlaceError, match=r"valid\.csv: not there; give the folder"):
        read(tmp_path / "other")


def many_lines(count: int) -> list[chexpert.Line]:
    """Rows of which every third shows one of the five findings alone, with a lateral now and then."""
    classes = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
    return [
        chexpert.Line(
            "train",
            f"patient{number // 3:05d}",
            "study1",
            f"view{number}_frontal.jpg",
            "LATERAL" if number % 7 == 0 else "AP",
            {classes[number // 3 % 5]: 1.0} if number % 3 == 0 else {"Fracture": 1.0, "Edema": 1.0},
        )
        for number in range(count)
    ]


def test_compat_is_the_published_procedure() -> None:
    """Against the steps of the published code on a table of labels and positions, its error included."""
    lines = many_lines(9000)
    np_random = np.random.RandomState(0)
    pools: dict[str, list[int]] = {}
    for number, line in enumerate(lines):
        if line.view != "LATERAL" and len(line.labels) == 1:
            pools.setdefault(next(iter(line.labels)), []).append(number)
    queries = {pool[at] for pool in pools.values() for at in np.random.RandomState(0).permutation(len(pool))[:200]}
    table = [number for number in range(len(lines)) if number not in queries]
    drawn = np_random.permutation(len(table))[:5000]
    validate = {table[position] for position in drawn}  # df.iloc[drawn]
    train = set(table) - set(drawn.tolist())  # df.drop(drawn, errors="ignore")
    parts = chexpert.compat_parts(lines)
    assert {number for number, part in enumerate(parts) if "train" in part} == train
    assert {number for number, part in enumerate(parts) if "validate" in part} == validate
    assert len(queries) == 1000
    assert train & validate
    assert {number for number, part in enumerate(parts) if not part} > queries


def test_compat_on_the_published_table(tmp_path: Path) -> None:
    (tmp_path / "train.csv.gz").symlink_to(published_table())
    write_csv(tmp_path / "valid.csv", HEADER, rows_of("valid", VALID, "CheXpert-v1.0"))
    studies, rejects = read(tmp_path, CONFIG.model_copy(update={"splits": "compat"}))
    images = Counter(study.split for study in studies for _ in study.images)
    assert images == {"train": 217_433, "validate": 5_000, "test": 1}
    assert Counter(reject.code for reject in rejects) == {"not_in_split": 1_000 + 4_888}
    ids = [image.image_id for study in studies for image in study.images]
    assert len(ids) == len(set(ids))
    assert sum(name.endswith("@validate") for name in ids) == 4_907
    patients = {part: {study.patient_id for study in studies if study.split == part} for part in ("train", "validate")}
    assert len(patients["validate"]) == 4_576
    assert len(patients["validate"] & patients["train"]) == 4_566


def test_through_preprocess_into_a_store(tmp_path: Path) -> None:
    write_release(tmp_path / "release")
    (tmp_path / "release/train/patient00003/study1/view1_frontal.jpg").unlink()
    summary = preprocess(
        load_preset("chexpert", ["preprocess.size=32", "preprocess.validate_fraction=0.5"]),
        tmp_path / "release",
        tmp_path / "store",
        workers=1,
    )
    rows = {row.image_id: row for row in open_store(tmp_path / "store").rows}
    assert set(rows) == {
        *("patient00001_study1_view1_frontal", "patient00002_study2_view1_frontal"),
        *("patient00002_study10_view1_frontal", "patient64541_study1_view1_frontal"),
    }
    assert rows["patient00002_study2_view1_frontal"].labels == {"Edema": 1.0, "Fracture": 0.0}
    assert rows["patient64541_study1_view1_frontal"].split == "test"
    assert summary.counts["rejects"] == {"file_missing": 1, "view_excluded": 1}

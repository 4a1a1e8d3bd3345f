"""R2Gen's annotations: five made-up studies of IU X-Ray and of MIMIC-CXR, and the real IU studies where present."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_pictures import write_picture

from placecli.config import PreprocessConfig, load_preset
from placecli.data.preprocess import plan, preprocess
from placecli.data.releases import read_studies
from placecli.data.releases.r2gen import _mimic_study
from placecli.data.releases.r2gen_annotation import Entry
from placecli.data.store import open_store
from placecli.records import PlaceError, Reject, Study

IU = PreprocessConfig(release="iu-xray", require_report=False)
MIMIC = PreprocessConfig(release="mimic-r2gen", require_report=False)

IU_IDS = {
    "train": ("CXR2384_IM-0942", "CXR10_IM-0002-1001"),
    "val": ("CXR1_1_IM-0001",),
    "test": ("CXR4_IM-2050", "CXR5_IM-1"),
}
REPORT = "The heart is normal . 1.5 cm nodule &lt; XXXX..  Clear lungs."


def iu_annotation() -> dict[str, list[dict[str, Any]]]:
    return {
        split: [
            {"id": name, "report": f"{REPORT} {name}", "image_path": [f"{name}/0.png", f"{name}/1.png"], "split": split}
            for name in ids
        ]
        for split, ids in IU_IDS.items()
    }


def write_annotation(root: Path, annotation: object) -> None:
    root.mkdir(exist_ok=True)
    (root / "annotation.json").write_text(json.dumps(annotation), encoding="utf-8")


def write_iu(root: Path) -> None:
    write_annotation(root, iu_annotation())
    for seed, name in enumerate(name for ids in IU_IDS.values() for name in ids):
        for number in (0, 1):
            write_picture(root / "images" / name / f"{number}.png", seed * 2 + number)


def dicom_id(number: int) -> str:
    return f"02aa804e-bde0afdd-112c0b34-7bc16630-{number:08x}"


def mimic_annotation(is_whole: bool = True) -> dict[str, list[dict[str, Any]]]:
    """Two images of one study are two entries, as published. `is_whole`: with subject and study beside the path."""
    entries: dict[str, list[dict[str, Any]]] = {"train": [], "val": [], "test": []}
    rows = (
        *(("train", 1, 10000032, 50414267), ("train", 2, 10000032, 50414267), ("train", 3, 10000032, 53189527)),
        *(("val", 4, 11000011, 51029426), ("test", 5, 19999987, 58971208)),
    )
    for split, number, subject, study in rows:
        path = f"p{subject // 10**6}/p{subject}/s{study}/{dicom_id(number)}.jpg"
        entry = {
            "id": dicom_id(number),
            "report": f"No effusion.\n Study {study}.",
            "image_path": [path],
            "split": split,
        }
        entries[split].append({**entry, "subject_id": subject, "study_id": study} if is_whole else entry)
    return entries


def write_mimic(root: Path, folder: str = "images") -> None:
    write_annotation(root, mimic_annotation())
    for seed, entry in enumerate(entry for entries in mimic_annotation().values() for entry in entries):
        write_picture(root / folder / entry["image_path"][0], seed)


def read(root: Path, config: PreprocessConfig) -> tuple[list[Study], list[Reject]]:
    entries = list(read_studies(config, root))
    return [e for e in entries if isinstance(e, Study)], [e for e in entries if isinstance(e, Reject)]


def test_iu_keeps_split_and_both_images_and_changes_no_text(tmp_path: Path) -> None:
    write_iu(tmp_path)
    studies, rejects = read(tmp_path, IU)
    assert rejects == []
    assert {study.study_id: study.split for study in studies} == {
        "CXR2384": "train",
        "CXR10": "train",
        "CXR1": "validate",
        "CXR4": "test",
        "CXR5": "test",
    }
    by_id = {study.study_id: study for study in studies}
    assert [image.image_id for image in by_id["CXR1"].images] == ["CXR1_IM-0001_0", "CXR1_IM-0001_1"]
    assert [image.path.name for image in by_id["CXR10"].images] == ["0.png", "1.png"]
    assert by_id["CXR4"].sections == {"findings": f"{REPORT} CXR4_IM-2050"}
    assert all(study.patient_id == study.study_id for study in studies)


def test_iu_study_with_one_image_is_left_out(tmp_path: Path) -> None:
    write_iu(tmp_path)
    (tmp_path / "images/CXR5_IM-1/1.png").unlink()
    for number in (0, 1):
        (tmp_path / f"images/CXR4_IM-2050/{number}.png").unlink()
    studies, rejects = read(tmp_path, IU)
    assert len(studies) == 3
    assert {(reject.source, reject.code) for reject in rejects} == {
        ("CXR5_IM-1/1.png", "image_missing"),
        ("annotation.json:CXR5_IM-1", "study_incomplete"),
        ("CXR4_IM-2050/0.png", "image_missing"),
        ("CXR4_IM-2050/1.png", "image_missing"),
    }


@pytest.mark.parametrize(
    "paths",
    [
        *([], ["CXR4_IM-2050/0.png"], ["CXR4_IM-2050/../../x.png", "CXR4_IM-2050/1.png"]),
        *(["CXR5_IM-1/0.png", "CXR5_IM-1/1.png"], ["CXR4_IM-2050/0.png"] * 3),
    ],
)
def test_iu_entry_with_other_paths_is_one_reject(tmp_path: Path, paths: list[str]) -> None:
    write_iu(tmp_path)
    annotation = iu_annotation()
    annotation["test"][0]["image_path"] = paths
    write_annotation(tmp_path, annotation)
    studies, rejects = read(tmp_path, IU)
    assert len(studies) == 4
    assert [(reject.source, reject.code) for reject in rejects] == [("annotation.json:CXR4_IM-2050", "row_invalid")]


@pytest.mark.parametrize("folder", ["images", "files", "."])
def test_mimic_entries_are_studies_of_one_image(tmp_path: Path, folder: str) -> None:
    write_mimic(tmp_path, folder)
    studies, rejects = read(tmp_path, MIMIC)
    assert rejects == []
    assert [(study.patient_id, study.study_id, study.split) for study in studies] == [
        ("10000032", "50414267", "train"),
        ("10000032", "50414267", "train"),
        ("10000032", "53189527", "train"),
        ("11000011", "51029426", "validate"),
        ("19999987", "58971208", "test"),
    ]
    assert [image.image_id for study in studies for image in study.images] == [
        dicom_id(number) for number in range(1, 6)
    ]
    assert all(study.images[0].path.is_file() for study in studies)
    assert studies[3].sections == {"findings": "No effusion.\n Study 51029426."}


def test_mimic_ids_come_from_the_path_and_are_checked_where_they_stand_beside_it(tmp_path: Path) -> None:
    write_mimic(tmp_path)
    expected = read(tmp_path, MIMIC)
    write_annotation(tmp_path, mimic_annotation(is_whole=False))
    assert read(tmp_path, MIMIC) == expected
    annotation = mimic_annotation()
    annotation["val"][0]["study_id"] = 51029427
    annotation["test"][0]["image_path"] = ["../../etc/passwd"]
    annotation["train"][0]["image_path"].append("p10/another.jpg")
    write_annotation(tmp_path, annotation)
    studies, rejects = read(tmp_path, MIMIC)
    assert len(studies) == 3  # the first image of several is taken
    assert Counter(reject.code for reject in rejects) == {"row_invalid": 2}


@given(st.text(alphabet="p10/s5.jpgabcdef-", max_size=60))
def test_no_other_path_is_one_of_mimic(path: str) -> None:
    answer = _mimic_study(Path("r"), Path("r/images"), Entry("train", "x", "", (path,)))
    assert isinstance(answer, Reject)


def test_annotations_of_the_other_set_and_none(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"annotation\.json: not there"):
        read(tmp_path, IU)
    write_annotation(tmp_path, mimic_annotation())
    with pytest.raises(PlaceError, match="for MIMIC-CXR use --preset mimic-r2gen"):
        read(tmp_path, IU)
    write_annotation(tmp_path, iu_annotation())
    with pytest.raises(PlaceError, match="use --preset iu-xray"):
        read(tmp_path, MIMIC)
    for content in (
        [],
        {"train": []},
        {"train": [{"id": "x"}], "val": [], "test": []},
        {"train": [1], "val": [], "test": []},
    ):
        write_annotation(tmp_path, content)
        with pytest.raises(PlaceError, match="not R2Gen's annotation"):
            read(tmp_path, MIMIC)


def test_iu_through_preprocess_into_a_store(tmp_path: Path) -> None:
    write_iu(tmp_path / "release")
    preset = load_preset("iu-xray", ["preprocess.size=32"])
    summary = preprocess(preset, tmp_path / "release", tmp_path / "store", workers=1)
    rows = open_store(tmp_path / "store").rows
    assert len(rows) == 10
    assert Counter(row.study_id for row in rows)["CXR4"] == 2
    row = next(row for row in rows if row.study_id == "CXR4")
    assert row.findings == "The heart is normal . 1.5 cm nodule &lt; XXXX.. Clear lungs. CXR4_IM-2050"
    assert {name: count["here"] for name, count in summary.published.items()} == {
        "train studies": 2,
        "validate studies": 1,
        "test studies": 2,
    }


def test_mimic_through_preprocess_into_a_store(tmp_path: Path) -> None:
    write_mimic(tmp_path / "release")
    (tmp_path / "release/images" / mimic_annotation()["test"][0]["image_path"][0]).unlink()
    preset = load_preset("mimic-r2gen", ["preprocess.size=32"])
    summary = preprocess(preset, tmp_path / "release", tmp_path / "store", workers=1)
    rows = open_store(tmp_path / "store").rows
    assert [row.split for row in rows] == ["train", "train", "train", "validate"]
    assert rows[0].findings == "No effusion. Study 50414267."
    assert summary.counts["rejects"] == {"file_missing": 1}
    assert summary.published == {}


def test_real_iu_studies(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("iu_xray_r2gen")
    planned = plan(load_preset("iu-xray"), root, tmp_path / "store")
    assert (planned.studies, planned.images) == (40, 80)
    assert sum(planned.published[f"{part} studies"]["here"] for part in ("train", "validate", "test")) == 40
    annotation = json.loads((root / "annotation.json").read_text("utf-8"))
    reports = {entry["id"]: entry["report"] for entries in annotation.values() for entry in entries}
    studies, _ = read(root, IU)
    assert all(study.sections["findings"] == reports[study.images[0].path.parent.name] for study in studies)
    preset = load_preset("iu-xray", ["preprocess.size=32"])
    counts = preprocess(preset, root, tmp_path / "store", workers=1).counts
    assert (counts["images"], counts["studies"], counts["reports"]["empty"]) == (80, 40, 0)

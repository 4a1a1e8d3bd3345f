"""COVIDx: made-up images under the lists of several versions, and lines read from the right."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split
from small_pictures import write_picture

from placecli.config import PreprocessConfig, load_preset
from placecli.data.identity import split_of
from placecli.data.preprocess import plan, preprocess
from placecli.data.releases import read_studies
from placecli.data.releases.covidx import Line, find_version, labels_of, parse_line
from placecli.data.store import open_store
from placecli.records import PlaceError, Reject, Study

CONFIG = PreprocessConfig(release="covidx", require_report=False)

TRAIN = (
    "3 SARS-Fig8a-day0.jpeg pneumonia cohen",
    "3 SARS-Fig8b-day5.jpeg pneumonia cohen",
    "COVID-19 (12) 000004.JPG COVID-19 sirm",
    "311a 000004.png COVID-19 cohen",
    "ANON24 ANON24-1.png COVID-19 actmed",
    "47c78742-4998 47c78742-4998.png normal rsna",
)
TEST = ("8 SARS-Fig5-day9.jpeg pneumonia", "COVID00003 X_1.png COVID-19", "f6236cb5-cc36 f6236cb5-cc36.png normal")


def write_lists(root: Path, version: str = "9A", train: tuple[str, ...] = TRAIN, test: tuple[str, ...] = TEST) -> None:
    root.mkdir(exist_ok=True)
    for part, lines in (("train", train), ("test", test)):
        (root / f"{part}{version and f'_COVIDx{version}'}.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


def write_images(root: Path) -> None:
    for folder, lines in (("train", TRAIN), ("test", TEST)):
        for seed, line in enumerate(lines):
            name = re.findall(r"\S+\.(?:jpe?g|png)", line, re.IGNORECASE)[0]
            write_picture(root / folder / name, seed + len(folder) * 20)


def read(root: Path, config: PreprocessConfig = CONFIG) -> tuple[list[Study], list[Reject]]:
    entries = list(read_studies(config, root))
    return [e for e in entries if isinstance(e, Study)], [e for e in entries if isinstance(e, Reject)]


def test_images_patients_and_labels(tmp_path: Path) -> None:
    write_lists(tmp_path)
    studies, rejects = read(tmp_path)
    assert rejects == []
    found = {study.study_id: (study.patient_id, study.split == "test") for study in studies}
    assert found == {
        "SARS-Fig8a-day0.jpeg": ("3", False),
        "SARS-Fig8b-day5.jpeg": ("3", False),
        "000004.JPG": ("COVID-19 (12)", False),  # spaces in the id
        "000004.png": ("311a", False),
        "ANON24-1.png": ("ANON24", False),
        "47c78742-4998.png": ("47c78742-4998", False),
        "SARS-Fig5-day9.jpeg": ("8", True),  # lists without a source
        "X_1.png": ("COVID00003", True),
        "f6236cb5-cc36.png": ("f6236cb5-cc36", True),
    }
    labels = {study.study_id: study.labels for study in studies}
    assert labels["000004.JPG"] == {"normal": 0.0, "pneumonia": 0.0, "COVID-19": 1.0}
    assert labels["SARS-Fig5-day9.jpeg"] == {"normal": 0.0, "pneumonia": 1.0, "COVID-19": 0.0}


def test_two_classes_are_one_label(tmp_path: Path) -> None:
    lines = ("1 a.png positive cohen", "2 b.png negative rsna")
    write_lists(tmp_path, "8B", lines, ("3 c.png negative",))
    assert [study.labels for study in read(tmp_path)[0]] == [{"COVID-19": 0.0}, {"COVID-19": 1.0}, {"COVID-19": 0.0}]


def test_clean_keeps_the_test_set_and_takes_its_patients_out_of_training(tmp_path: Path) -> None:
    write_lists(tmp_path, "9A", (*TRAIN, "8 SARS-Fig5-day20.jpeg pneumonia cohen"))
    config = CONFIG.model_copy(update={"validate_fraction": 0.5})
    studies, rejects = read(tmp_path, config)
    assert [(reject.source, reject.code) for reject in rejects] == [("train/SARS-Fig5-day20.jpeg", "patient_elsewhere")]
    for study in studies:
        if study.split != "test":
            assert study.split == split_of(study.patient_id, 0, 0.5, 0.0)
    patients = {part: {s.patient_id for s in studies if s.split == part} for part in ("train", "validate", "test")}
    assert not patients["train"] & patients["validate"]
    assert not patients["test"] & (patients["train"] | patients["validate"])


@pytest.mark.parametrize("count", [10, 11, 57])
def test_compat_divides_rows_as_scikit_learn_does(tmp_path: Path, count: int) -> None:
    lines = tuple(f"{number // 3} {number}.png COVID-19 cohen" for number in range(count))
    write_lists(tmp_path, "9A", (*lines, "8 x.png normal rsna"), TEST)
    studies, rejects = read(tmp_path, CONFIG.model_copy(update={"splits": "compat"}))
    assert rejects == []  # patient 8 is in the test list too, and stays
    names = [*(f"{number}.png" for number in range(count)), "x.png"]
    train, validate = train_test_split(names, train_size=0.8, random_state=0)
    assert {study.study_id for study in studies if study.split == "train"} == set(train)
    assert {study.study_id for study in studies if study.split == "validate"} == set(validate)


def test_cxr_4_has_three_lists_and_folders(tmp_path: Path) -> None:
    write_lists(tmp_path, "", ("1 a.png positive cohen", "5 d.png negative cohen", "7 g.png negative bimcv"), TEST)
    (tmp_path / "val.txt").write_text("5 e.png positive cohen\n8 f.png negative bimcv\n", encoding="utf-8")
    studies, rejects = read(tmp_path)
    assert {study.study_id: study.split for study in studies if study.split != "test"} == {
        "a.png": "train",
        "g.png": "train",
        "e.png": "validate",
    }
    assert {study.images[0].path.parent.name for study in studies} == {"train", "val", "test"}
    assert {(reject.source, reject.code) for reject in rejects} == {
        ("train/d.png", "patient_elsewhere"),
        ("val/f.png", "patient_elsewhere"),
    }
    compat, none = read(tmp_path, CONFIG.model_copy(update={"splits": "compat"}))
    assert Counter(study.split for study in compat) == {"train": 3, "validate": 2, "test": 3}
    assert none == []


def test_one_version_has_to_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"one training list of COVIDx is needed .* found none"):
        read(tmp_path)
    write_lists(tmp_path, "9A")
    write_lists(tmp_path, "9B", ("1 a.png positive cohen",), ("2 b.png negative cohen",))
    with pytest.raises(
        PlaceError, match=r"found train_COVIDx9A\.txt, train_COVIDx9B\.txt; .* --set preprocess\.labels"
    ):
        read(tmp_path)
    chosen = CONFIG.model_copy(update={"labels": tmp_path / "train_COVIDx9B.txt"})
    assert {study.study_id for study in read(tmp_path, chosen)[0]} == {"a.png", "b.png"}
    (tmp_path / "test_COVIDx9B.txt").unlink()
    with pytest.raises(PlaceError, match=r"test_COVIDx9B\.txt: not there"):
        read(tmp_path, chosen)


@pytest.mark.parametrize("version", ["2", "5", "6", "7A", "7B", "8A", "8B", "9A", "9B", "_CXR-3A", "_CXR-3B"])
def test_lists_are_found_under_the_name_of_every_version(tmp_path: Path, version: str) -> None:
    write_lists(tmp_path, version)
    assert find_version(tmp_path, CONFIG).name == version.removeprefix("_")
    assert len(read(tmp_path)[0]) == len(TRAIN) + len(TEST)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("COVID 12 COVID(12).png COVID-19 sirm", Line("COVID 12", "COVID(12).png", "COVID-19", "sirm")),
        ("331b x_Fig4_HTML.jpg COVID-19 cohen", Line("331b", "x_Fig4_HTML.jpg", "COVID-19", "cohen")),
        ("440808-000020 C-000020-8.458-0.png positive", Line("440808-000020", "C-000020-8.458-0.png", "positive", "")),
        ("7 10.1016-slash-j.x.2020.04.png normal", Line("7", "10.1016-slash-j.x.2020.04.png", "normal", "")),
        ("10 Fig9a-day17.jpeg viral", None),  # the first list of all had four classes
        ("29 pneumonia-1.jpg bacteria", None),
    ],
)
def test_lines_of_the_forms_that_were_published(text: str, line: Line | None) -> None:
    assert parse_line(text) == line


def test_a_line_that_is_none_is_one_reject(tmp_path: Path) -> None:
    write_lists(
        tmp_path, "9A", (*TRAIN, "", "1 a.png", "1 ../a.png normal rsna", "a.png normal rsna", "1 a.gif normal")
    )
    studies, rejects = read(tmp_path)
    assert len(studies) == len(TRAIN) + len(TEST)
    assert [(reject.source, reject.code) for reject in rejects] == [
        (f"train_COVIDx9A.txt:{line}", "line_invalid") for line in (8, 9, 10, 11)
    ]
    with pytest.raises(PlaceError, match=r"train_COVIDx9A\.txt:8: this line is not one of the release"):
        read(tmp_path, CONFIG.model_copy(update={"splits": "compat"}))


WORD = st.text(st.characters(whitelist_categories=("L", "N", "P"), blacklist_characters="/\\"), min_size=1, max_size=12)
CLASS = st.sampled_from(["normal", "pneumonia", "COVID-19", "positive", "negative"])


@given(st.lists(WORD, min_size=1, max_size=4), WORD, st.sampled_from(["png", "jpg", "JPEG"]), CLASS, st.data())
def test_any_patient_is_read_from_the_right(
    patient: list[str], stem: str, ending: str, category: str, data: st.DataObject
) -> None:
    classes = ("normal", "pneumonia", "COVID-19", "positive", "negative")
    source = data.draw(st.just("") | WORD.filter(lambda word: word not in classes))
    name = f"{stem}.{ending}"
    line = parse_line(" ".join([*patient, name, category, *([source] if source else [])]))
    assert line == Line(" ".join(patient), name, category, source)
    assert sum(value == 1.0 for value in labels_of(category).values()) == (category != "negative")


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    line = parse_line(text)
    if line is not None:
        assert line.patient
        assert "/" not in line.name


def test_through_preprocess_into_a_store(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_lists(root)
    write_images(root)
    (root / "train" / "ANON24-1.png").unlink()
    preset = load_preset("covidx", ["preprocess.size=32"])
    planned = plan(preset, root, tmp_path / "store")
    assert planned.published["images of the training list"]["here"] == 5
    assert planned.published["COVID-19 in the test list"]["here"] == 1
    summary = preprocess(preset, root, tmp_path / "store", workers=1)
    rows = {row.image_id: row for row in open_store(tmp_path / "store").rows}
    assert len(rows) == 8
    assert rows["000004.JPG"].patient_id == "COVID-19 (12)"
    assert rows["X_1.png"].labels == {"normal": 0.0, "pneumonia": 0.0, "COVID-19": 1.0}
    assert summary.counts["rejects"] == {"file_missing": 1}


def test_a_compat_store_holds_patients_in_two_parts_and_counts_them(tmp_path: Path) -> None:
    root = tmp_path / "release"
    lines = tuple(f"{number // 2} {number}.png COVID-19 cohen" for number in range(20))
    write_lists(root, "9A", lines, ("0 t.png normal rsna",))
    for number in range(20):
        write_picture(root / "train" / f"{number}.png", number)
    write_picture(root / "test" / "t.png", 99)
    preset = load_preset("covidx", ["preprocess.size=32", "preprocess.splits=compat"])
    counts = preprocess(preset, root, tmp_path / "store", workers=1).counts
    assert {part: counts["splits"][part]["images"] for part in counts["splits"]} == {
        "train": 16,
        "validate": 4,
        "test": 1,
    }
    rows = open_store(tmp_path / "store").rows
    parts = {
        patient: {row.split for row in rows if row.patient_id == patient} for patient in {r.patient_id for r in rows}
    }
    assert counts["patients_across_splits"] == sum(len(found) > 1 for found in parts.values()) > 1
    assert counts["patients"] == 10
    assert counts["splits"]["validate"]["patients"] == sum("validate" in found for found in parts.values())

"""The COVID-19 image data collection: five made-up studies, each trap, and the real part where it is present."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marked_releases import make_store, rectangle
from small_covid import (
    ACCENT,
    APRIL,
    JUNE,
    LATER,
    NOTE,
    NOVEMBER,
    PATHS,
    ROWS,
    row,
    write_boxes,
    write_covid_chestxray,
    write_table,
)
from small_pictures import write_picture

from placecli.config import PreprocessConfig, load_preset
from placecli.data.leaks import near_pairs, read_contents
from placecli.data.preprocess import plan
from placecli.data.releases import read_studies
from placecli.data.releases.covid_findings import known_paths, labels_of, parse_finding
from placecli.data.releases.tables import find_encoding
from placecli.records import Box, FileMask, PlaceError, Reject, Study
from placecli.tasks.evaluation import label_values
from placecli.tasks.targets import read_targets

CONFIG = PreprocessConfig(release="covid-chestxray", require_report=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_covid_chestxray(tmp_path / "release")
    return tmp_path / "release"


def read(root: Path) -> tuple[list[Study], list[tuple[str, str]]]:
    """Studies, and (source, code) of the rejects."""
    entries = list(read_studies(CONFIG, root))
    rejects = [(entry.source, entry.code) for entry in entries if isinstance(entry, Reject)]
    return [entry for entry in entries if isinstance(entry, Study)], rejects


def names(study: Study) -> list[str]:
    return [image.image_id for image in study.images]


def test_studies_patients_views_and_text(root: Path) -> None:
    studies, rejects = read(root)
    assert [names(study) for study in studies] == [
        ["a-day0-PA.png", "a-day0-L.png"],
        ["a-day3.jpg"],
        ["000004.jpg"],
        ["000005.png"],
        ["6.jpeg"],
    ]
    assert [study.study_id for study in studies] == [names(study)[0] for study in studies]
    assert [study.patient_id for study in studies] == ["2", "2", "331b", "5", "6"]
    assert [image.view for study in studies for image in study.images] == ["PA", "LATERAL", "AP", "PA", "AP", ""]
    assert [study.sections.get("full report", "") for study in studies] == [NOTE, LATER, ACCENT, "", NOTE]
    assert {study.split for study in studies} == {""}
    assert rejects == [("metadata.csv:7", "modality_excluded"), ("metadata.csv:8", "modality_excluded")]
    assert sum(len(study.images) for study in studies) + len(rejects) == len(ROWS)


def test_masks_and_boxes_belong_to_their_images(root: Path) -> None:
    studies, _ = read(root)
    images = {image.image_id: image for study in studies for image in study.images}
    folder = root / "annotations" / "lungVAE-masks"
    masks = {name: image.mask for name, image in images.items() if image.mask is not None}
    assert masks == {"a-day0-PA.png": folder / "a-day0-PA_mask.png", "000004.jpg": folder / "000004_mask.png.png"}
    assert images["a-day0-PA.png"].boxes == (Box("Right Lung", 2, 4, 12, 30), Box("Left Lung", 20, 4, 12.5, 28))
    assert images["a-day0-PA.png"].frame == (36, 40)
    assert images["a-day3.jpg"].boxes == (Box("Right Lung", 0, 0, 16, 40),)
    assert images["000005.png"].frame is None
    assert {study.study_id for study in studies if study.labels.get("Lungs") == 1.0} == {"a-day0-PA.png", "000004.jpg"}


def test_bare_names_say_nothing_of_what_a_pneumonia_is(root: Path) -> None:
    studies, _ = read(root)
    labels = [{name: value for name, value in study.labels.items() if name != "Lungs"} for study in studies]
    assert labels == [
        {"ARDS": 0.0, "COVID-19": 1.0, "No Finding": 0.0, "Pneumonia": -1.0},
        {"ARDS": 1.0, "COVID-19": 1.0, "No Finding": 0.0, "Pneumonia": -1.0},
        {"ARDS": -1.0, "COVID-19": -1.0, "No Finding": 0.0, "Pneumonia": 1.0},
        {"ARDS": 0.0, "COVID-19": 0.0, "No Finding": 1.0, "Pneumonia": 0.0},
        {},
    ]


def test_paths_are_all_of_their_names_and_leave_open_what_lies_below(root: Path) -> None:
    others = [
        row("b.png", "7", "", "Pneumonia/Viral", "PA", NOTE),
        row("c.png", "8", "", "Pneumonia/Viral/Herpes ", "PA", NOTE),
        row("d.png", "9", "", "Tuberculosis", "PA", NOTE),
        row("e.png", "9", "", "Unknown", "PA", NOTE),
    ]
    write_table(root, [*({**cells, "finding": PATHS[cells["finding"]]} for cells in ROWS), *others], NOVEMBER, "utf-8")
    for seed, cells in enumerate(others, start=20):
        write_picture(root / "images" / cells["filename"], seed)
    labels = {study.study_id: study.labels for study in read(root)[0]}
    none = dict.fromkeys(("COVID-19", "Herpes", "No Finding", "Pneumonia", "Tuberculosis", "Viral"), 0.0)
    assert labels["a-day3.jpg"] == {**none, "Pneumonia": 1.0, "Viral": 1.0, "COVID-19": 1.0}
    assert labels["c.png"] == {**none, "Pneumonia": 1.0, "Viral": 1.0, "Herpes": 1.0}
    assert labels["b.png"] == {**none, "Pneumonia": 1.0, "Viral": 1.0, "COVID-19": -1.0, "Herpes": -1.0}
    assert labels["d.png"] == {**none, "Tuberculosis": 1.0}
    assert labels["000005.png"] == {**none, "No Finding": 1.0}
    open_kinds = dict.fromkeys(("COVID-19", "Herpes", "Viral"), -1.0)
    assert labels["000004.jpg"] == {**none, **open_kinds, "Pneumonia": 1.0, "Lungs": 1.0}
    assert labels["6.jpeg"] == labels["e.png"] == {}


NAMES = st.sampled_from(("Pneumonia", "Viral", "COVID-19", "ARDS", "No Finding", "E.Coli"))
FINDINGS = st.lists(st.lists(NAMES, min_size=1, max_size=3).map("/".join), min_size=1, max_size=3).map(", ".join)


@given(st.lists(FINDINGS, min_size=1, max_size=6))
def test_labels_are_what_the_cell_names_and_never_contradict_it(cells: list[str]) -> None:
    parsed = [paths for cell in cells if (paths := parse_finding(cell)) is not None]
    known = known_paths(parsed)
    for paths in parsed:
        labels = labels_of(paths, known)
        assert {name for name, value in labels.items() if value == 1.0} == {name for path in paths for name in path}
        assert set(labels.values()) <= {-1.0, 0.0, 1.0}
        assert set(labels) == {path[-1] for path in known}


@given(st.text())
def test_any_finding_is_paths_or_none(text: str) -> None:
    paths = parse_finding(text)
    assert paths is None or all(name and name == name.strip() for path in paths for name in path)


@pytest.mark.parametrize("text", ["COVID-19,", "Pneumonia//COVID-19", "/", "No Finding, COVID-19", ", "])
def test_a_finding_that_is_no_list_of_names(text: str) -> None:
    assert parse_finding(text) is None


@pytest.mark.parametrize(("header", "encoding"), [(JUNE, "latin-1"), (NOVEMBER, "utf-8-sig"), (APRIL, "utf-8")])
def test_every_version_of_the_table_gives_the_same_studies(root: Path, header: str, encoding: str) -> None:
    before = read(root)
    write_table(root, ROWS, header, encoding)
    assert read(root) == before
    table = root / "metadata.csv"
    (root / "metadata.csv.gz").write_bytes(gzip.compress(table.read_bytes()))
    table.unlink()
    gzipped, rejects = read(root)
    assert gzipped == before[0]
    assert [source for source, _ in rejects] == ["metadata.csv.gz:7", "metadata.csv.gz:8"]


def test_encoding_is_told_from_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"x" * 100_000 + "é".encode())
    assert find_encoding(path) == "utf-8-sig"
    path.write_bytes(b"x" * 100_000 + b"\xe9")
    assert find_encoding(path) == "latin-1"
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes()))
    assert find_encoding(path.with_suffix(".gz")) == "latin-1"
    path.with_suffix(".gz").write_bytes(b"no gzip")
    assert find_encoding(path.with_suffix(".gz")) == "utf-8-sig"


def test_a_day_makes_a_study_and_a_blank_day_does_not(root: Path) -> None:
    same = row("b1.png", "7", "4", "COVID-19", "PA", NOTE)
    others = [
        same,
        {**same, "filename": "b2.png", "view": "L"},
        {**same, "filename": "b3.png", "clinical_notes": LATER},
        {**same, "filename": "b4.png", "patientid": "8"},
        {**same, "filename": "b5.png", "date": "January 23, 2020"},
        {**same, "filename": "b6.png", "finding": "ARDS"},
        {**same, "filename": "b7.png", "offset": ""},
        {**same, "filename": "b8.png", "offset": ""},
    ]
    write_table(root, others)
    for seed, cells in enumerate(others):
        write_picture(root / "images" / cells["filename"], seed)
    groups = [names(study) for study in read(root)[0]]
    assert groups == [["b1.png", "b2.png"], ["b3.png"], ["b4.png"], ["b5.png"], ["b6.png"], ["b7.png"], ["b8.png"]]


def test_rows_and_files_that_do_not_fit_are_told(root: Path) -> None:
    extra = [
        row("000004.jpg", "9", "", "COVID-19", "PA", NOTE),
        row("f.png", "", "", "COVID-19", "PA", NOTE),
        row("../f.png", "9", "", "COVID-19", "PA", NOTE),
        row("f.png", "9", "", "COVID-19", "PA", NOTE, folder="../images"),
        row("g.png", "9", "", "No Finding, ARDS", "PA", NOTE),
        row("gone.png", "9", "", "COVID-19", "PA", NOTE),
    ]
    write_table(root, [*ROWS, *extra])
    write_picture(root / "images" / "nobody.png", 30)
    (root / "images" / ".DS_Store").write_bytes(b"")
    write_boxes(root, {"elsewhere.png": ((0, 0, 4, 4),)})
    _, rejects = read(root)
    assert rejects == [
        ("metadata.csv:7", "modality_excluded"),
        ("metadata.csv:8", "modality_excluded"),
        *((f"metadata.csv:{line}", "row_invalid") for line in range(10, 15)),
        ("annotations/imageannotation_ai_lung_bounding_boxes.json:elsewhere.png", "boxes_unused"),
        ("images/gone.png", "image_missing"),
        ("images/nobody.png", "image_unannotated"),
    ]


def test_a_mask_that_two_could_own_is_given_to_none(root: Path) -> None:
    write_table(root, [*ROWS, row("000004.png", "9", "", "COVID-19", "PA", NOTE)])
    write_picture(root / "images" / "000004.png", 31)
    masks = root / "annotations" / "lungVAE-masks"
    (masks / "a-day0-PA_mask.png.png").write_bytes((masks / "a-day0-PA_mask.png").read_bytes())
    (masks / "ghost_mask.png").write_bytes((masks / "a-day0-PA_mask.png").read_bytes())
    (masks / "a-day0-L.png").write_bytes((masks / "a-day0-PA_mask.png").read_bytes())
    studies, rejects = read(root)
    assert all(image.mask is None for study in studies for image in study.images)
    assert rejects[2:] == [
        ("annotations/lungVAE-masks/000004_mask.png.png", "mask_ambiguous"),
        ("annotations/lungVAE-masks/a-day0-L.png", "mask_unused"),
        ("annotations/lungVAE-masks/a-day0-PA_mask.png", "mask_ambiguous"),
        ("annotations/lungVAE-masks/a-day0-PA_mask.png.png", "mask_ambiguous"),
        ("annotations/lungVAE-masks/ghost_mask.png", "mask_unused"),
    ]


@pytest.mark.parametrize(
    "box", [(30, 0, 7, 10), (-1, 0, 4, 4), (0, 0, 0, 4), (0, 0, float("nan"), 4), (0, 0, 4), ("a", 0, 4, 4)]
)
def test_a_box_that_does_not_hold_costs_its_image_the_boxes(root: Path, box: tuple[float, ...]) -> None:
    write_boxes(root, {"a-day0-PA.png": ((2, 4, 12, 30), box), "a-day3.jpg": ((0, 0, 16, 40),)})
    studies, rejects = read(root)
    assert {image.image_id for study in studies for image in study.images if image.boxes} == {"a-day3.jpg"}
    assert rejects[2:] == [("annotations/imageannotation_ai_lung_bounding_boxes.json:31", "row_invalid")]


def test_boxes_of_no_category_or_image(root: Path) -> None:
    write_boxes(root, {"a-day0-PA.png": ((2, 4, 12, 30),)}, category=3)
    assert read(root)[1][2:] == [("annotations/imageannotation_ai_lung_bounding_boxes.json:31", "row_invalid")]
    path = root / "annotations" / "imageannotation_ai_lung_bounding_boxes.json"
    content = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**content, "images": []}), "utf-8")
    assert read(root)[1][2:] == [("annotations/imageannotation_ai_lung_bounding_boxes.json", "row_invalid")]


def test_what_cannot_be_read_is_named(root: Path, tmp_path: Path) -> None:
    path = root / "annotations" / "imageannotation_ai_lung_bounding_boxes.json"
    for content in ("{", "[]", '{"images": []}', '{"images": [1], "annotations": [], "categories": []}'):
        path.write_text(content, "utf-8")
        with pytest.raises(PlaceError, match="not readable as COCO annotations"):
            read(root)
    write_table(root, ROWS, JUNE.replace("clinical_notes", "notes"))
    with pytest.raises(PlaceError, match=r"no column clinical_notes or clinical notes"):
        read(root)
    write_table(root, ROWS, JUNE.replace("modality,", ""))
    with pytest.raises(PlaceError, match="no column modality"):
        read(root)
    with pytest.raises(PlaceError, match=r"metadata\.csv: not there"):
        read(tmp_path)


def test_without_annotations_there_are_images_and_text(root: Path) -> None:
    for path in sorted((root / "annotations").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    studies, rejects = read(root)
    assert len(studies) == 5
    assert len(rejects) == 2
    assert all(not image.boxes and image.mask is None for study in studies for image in study.images)


def test_store_has_notes_as_sentences_and_lungs_in_its_own_pixels(root: Path, tmp_path: Path) -> None:
    store = make_store(root, tmp_path / "s", "covid-chestxray", 40)
    rows = {stored.image_id: stored for stored in store.rows}
    assert set(rows) == {"a-day0-PA.png", "a-day3.jpg", "000004.jpg", "000005.png", "6.jpeg"}
    assert rows["a-day0-PA.png"].sentences == tuple(NOTE.replace(". ", ".|").split("|"))
    assert rows["a-day0-PA.png"].findings == NOTE
    assert rows["000005.png"].sentences == ()
    assert rows["a-day3.jpg"].flags == ("colour_reduced", "image_small")
    # 36 x 40 stands two pixels from the left.
    assert (store.masks([rows["a-day0-PA.png"]])[0] == rectangle(40, 6, 4, 34, 30)).all()
    assert (store.masks([rows["000004.jpg"]])[0] == rectangle(40, 10, 8, 30, 32)).all()
    assert rows["a-day3.jpg"].mask_row == -1
    assert rows["a-day0-PA.png"].boxes[1] == Box("Left Lung", 22, 4, 12.5, 28)
    # What a finding leaves open is not known, here and in zero-shot, and not absent.
    preset = load_preset("covid-chestxray").finetune.classification
    targets = read_targets(list(rows.values()), preset.labels, preset)
    assert {name: str(value[0]) for name, value in zip(rows, targets, strict=True)} == {
        "a-day0-PA.png": "1.0",
        "a-day3.jpg": "1.0",
        "000004.jpg": "nan",
        "000005.png": "0.0",
        "6.jpeg": "nan",
    }
    assert label_values(list(rows.values()), "COVID-19").tolist() == pytest.approx(targets[:, 0].tolist(), nan_ok=True)


def test_published_counts_are_those_of_radiographs(root: Path, tmp_path: Path) -> None:
    planned = plan(load_preset("covid-chestxray"), root, tmp_path / "store")
    assert {name: count["here"] for name, count in planned.published.items()} == {
        "radiographs": 6,
        "PA images": 2,
        "lateral images": 1,
    }
    assert all(planned.looked_for.values())


def test_the_real_part(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    collection = real_data("covid_chestxray")
    studies, rejects = read(collection)
    assert rejects == []
    assert len(studies) == 67
    assert len({study.patient_id for study in studies}) == 36
    images = [image for study in studies for image in study.images]
    assert Counter(image.view for image in images) == {"PA": 48, "AP": 15, "LATERAL": 9}
    assert sum(isinstance(image.mask, Path | FileMask) for image in images) == 38
    assert Counter(box.label for image in images for box in image.boxes) == {"Right Lung": 24, "Left Lung": 24}
    values = [study.labels.get("COVID-19") for study in studies for _ in study.images]
    assert Counter(values) == {1.0: 52, 0.0: 16, -1.0: 4}
    assert {view for study in studies if len(study.images) > 1 for view in (study.images[1].view,)} == {"LATERAL"}
    store = make_store(collection, tmp_path / "s", "covid-chestxray", 64)
    assert len(store.rows) == 63
    assert sum(stored.mask_row >= 0 for stored in store.rows) == 38
    assert min(len(stored.sentences) for stored in store.rows) >= 1
    masked = [stored for stored in store.rows if stored.mask_row >= 0]
    inside = [0.05 < mask.mean() < 0.6 for mask in store.masks(masked) > 0]
    assert all(inside)
    # Two case collections showed one person: four radiographs under two patients, as leaks between splits would be.
    contents = read_contents(store.path, store.rows)
    patients = [stored.patient_id for stored in store.rows]
    alike = [(i, j) for i, j, _ in near_pairs(contents.thumbnails, contents.thumbnails, 0.97) if i < j]
    assert {tuple(sorted((patients[i], patients[j]))) for i, j in alike} == {("178", "97")}
    assert len(alike) == 4

"""VinDr-CXR: five made-up images in both layouts, and how the answers of three readers become one."""

from __future__ import annotations

import csv
import gzip
import importlib.util
import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_releases import write_csv, write_dicom

from placecli.config import PreprocessConfig, load_preset
from placecli.data.identity import split_of
from placecli.data.preprocess import plan, preprocess
from placecli.data.releases import read_studies
from placecli.data.releases.vindr import MATCHING_OVERLAP, ReadBox, fuse_boxes, merge_labels, overlap
from placecli.data.store import open_store
from placecli.records import Box, PlaceError, Reject, Study

CONFIG = PreprocessConfig(release="vindr", require_report=False)
KAGGLE_HEADER = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
TRAIN_HEADER = ["image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max"]

A, B, C, D, E = (letter * 32 for letter in "abcde")
"""Ids as published: 32 hexadecimal digits."""

# image -> reader -> (class, box or None)
MARKS: dict[str, dict[str, tuple[tuple[str, tuple[float, ...] | None], ...]]] = {
    A: {
        "R8": (("Cardiomegaly", (10, 10, 30, 30)), ("Nodule/Mass", (2, 2, 6, 6))),
        "R9": (("Cardiomegaly", (12, 10, 32, 30)),),
        "R10": (("No finding", None),),
    },
    B: {"R8": (("No finding", None),), "R9": (("No finding", None),), "R10": (("No finding", None),)},
    C: {
        "R1": (("Nodule/Mass", (0, 0, 4, 4)),),
        "R2": (("Nodule/Mass", (20, 20, 24, 24)),),
        "R3": (("No finding", None),),
    },
    D: {"R1": (("No finding", None),), "R2": (("No finding", None),), "R3": (("Cardiomegaly", (1, 1, 2, 2)),)},
}
NUMBERS = {"Cardiomegaly": "3", "Nodule/Mass": "8", "No finding": "14"}
LABELS = ("Cardiomegaly", "Nodule/Mass", "Other diseases", "No finding")


def marks() -> list[tuple[str, str, str, tuple[object, ...]]]:
    return [
        (image, reader, name, box or ("", "", "", ""))
        for image, readers in MARKS.items()
        for reader, found in readers.items()
        for name, box in found
    ]


def write_kaggle(root: Path) -> None:
    rows = [(image, name, NUMBERS[name], reader, *box) for image, reader, name, box in marks()]
    write_csv(root / "train.csv", KAGGLE_HEADER, rows)


def write_physionet(root: Path) -> None:
    folder = root / "annotations"
    folder.mkdir(parents=True)
    write_csv(folder / "annotations_train.csv", TRAIN_HEADER, [(i, r, name, *box) for i, r, name, box in marks()])
    rows = [
        (image, reader, *(int(name in {each for each, _ in found}) for name in LABELS))
        for image, readers in MARKS.items()
        for reader, found in readers.items()
    ]
    write_csv(folder / "image_labels_train.csv", ["image_id", "rad_id", *LABELS], rows)
    test_labels = [name.replace("Other diseases", "Other disease") for name in LABELS]
    write_csv(folder / "image_labels_test.csv", ["image_id", *test_labels], [(E, "1.0", "", "1", "0")])
    test_header = [name for name in TRAIN_HEADER if name != "rad_id"]
    drawn = [(E, "Cardiomegaly", 5, 5, 20, 20), (E, "Cardiomegaly", 5, 5, 20, 21)]
    write_csv(folder / "annotations_test.csv", test_header, drawn)


def write_images(root: Path) -> None:
    for seed, name in enumerate((A, B, C, D)):
        write_dicom(root / "train" / f"{name}.dicom", seed, PatientID="", StudyInstanceUID="", ViewPosition="")
    write_dicom(root / "test" / f"{E}.dicom", 9, PatientID="", StudyInstanceUID="", ViewPosition="")


def read(root: Path, config: PreprocessConfig = CONFIG) -> tuple[dict[str, Study], list[Reject]]:
    entries = list(read_studies(config, root))
    studies = {entry.study_id: entry for entry in entries if isinstance(entry, Study)}
    return studies, [entry for entry in entries if isinstance(entry, Reject)]


def test_kaggle_layout(tmp_path: Path) -> None:
    write_kaggle(tmp_path)
    studies, rejects = read(tmp_path)
    assert rejects == []
    assert list(studies) == [A, B, C, D]
    assert studies[A].labels == {"Cardiomegaly": 1.0, "Nodule/Mass": 0.0, "No finding": 0.0}
    assert studies[A].images[0].boxes == (Box("Cardiomegaly", 11.0, 10.0, 20.0, 20.0),)  # the mean of two
    assert studies[B].labels == {"Cardiomegaly": 0.0, "Nodule/Mass": 0.0, "No finding": 1.0}
    # Two readers say nodule and mark other places: the label has its majority and both boxes stay.
    assert studies[C].labels["Nodule/Mass"] == 1.0
    assert [box.x for box in studies[C].images[0].boxes] == [0.0, 20.0]
    # One reader alone: neither label nor box.
    assert (studies[D].labels["Cardiomegaly"], studies[D].images[0].boxes) == (0.0, ())
    assert {study.split for study in studies.values()} == {""}
    assert studies[A].patient_id == A
    assert studies[A].images[0].path == tmp_path / "train" / f"{A}.dicom"


def test_physionet_layout_keeps_its_test_set_and_has_the_same_training_images(tmp_path: Path) -> None:
    write_physionet(tmp_path / "physionet")
    (tmp_path / "kaggle").mkdir()
    write_kaggle(tmp_path / "kaggle")
    studies, rejects = read(tmp_path / "physionet", CONFIG.model_copy(update={"validate_fraction": 0.4}))
    kaggle, _ = read(tmp_path / "kaggle")
    assert rejects == []
    for image in (A, B, C, D):
        assert studies[image].images[0].boxes == kaggle[image].images[0].boxes
        assert kaggle[image].labels.items() <= studies[image].labels.items()
        assert studies[image].split == split_of(image, 0, 0.4, 0.0)
    assert studies[E].split == "test"
    assert studies[E].images[0].path == tmp_path / "physionet" / "test" / f"{E}.dicom"
    # The test set has no readers, other words for one label and blanks for 0.
    assert studies[E].labels == {"Cardiomegaly": 1.0, "Nodule/Mass": 0.0, "Other diseases": 1.0, "No finding": 0.0}
    # What a consensus drew is not fused again.
    assert len(studies[E].images[0].boxes) == 2


def test_rows_that_cannot_be_used_are_rejected_one_by_one(tmp_path: Path) -> None:
    write_kaggle(tmp_path)
    with (tmp_path / "train.csv").open("a", encoding="utf-8") as stream:
        stream.write(
            f"../x,Cardiomegaly,3,R1,1,1,2,2\n{A},Cardiomegaly,3,R1,9,1,2,2\n{A},Cardiomegaly,3,R1,nan,1,2,2\n"
        )
        stream.write(f"{A},Cardiomegaly,3,R1,,1,2,2\n")
    studies, rejects = read(tmp_path)
    assert len(studies) == 4
    assert [(reject.source, reject.code) for reject in rejects] == [
        (f"train.csv:{line}", "row_invalid") for line in range(15, 19)
    ]


def test_neither_layout(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"neither annotations/image_labels_train\.csv \(PhysioNet\) nor train\.csv"):
        read(tmp_path)
    write_csv(tmp_path / "train.csv", KAGGLE_HEADER[:4], [])
    with pytest.raises(PlaceError, match="no column x_min"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("votes", "value"), [("000", 0.0), ("100", 0.0), ("110", 1.0), ("111", 1.0), ("1", 1.0), ("10", 0.0)]
)
def test_a_label_needs_more_than_half_of_the_readers(votes: str, value: float) -> None:
    readings = [frozenset(("Edema",)) if vote == "1" else frozenset[str]() for vote in votes]
    assert merge_labels(readings, ("Edema", "Mass")) == {"Edema": value, "Mass": 0.0}


def test_overlap_of_known_boxes() -> None:
    assert overlap((0, 0, 2, 2), (0, 0, 2, 2)) == 1.0
    assert overlap((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(2 / 6)
    assert overlap((0, 0, 2, 2), (2, 2, 3, 3)) == 0.0
    assert overlap((0, 0, 4, 4), (1, 1, 2, 2)) == pytest.approx(1 / 16)


BOXES = st.lists(
    st.builds(
        lambda reader, label, x, y, width, height: ReadBox(reader, label, (x, y, x + width, y + height)),
        st.sampled_from(["R1", "R2", "R3"]),
        st.sampled_from(["Edema", "Mass"]),
        *(st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.integers(1, 30)),
    ),
    max_size=8,
)


@given(BOXES, st.randoms(use_true_random=False))
def test_fusing_does_not_depend_on_the_order_and_invents_nothing(boxes: list[ReadBox], random: object) -> None:
    fused = fuse_boxes(boxes)
    shuffled = list(boxes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fuse_boxes(shuffled) == fused
    counts = Counter(box.label for box in fused)
    for label, count in counts.items():
        drawn = Counter(box.reader for box in boxes if box.label == label)
        # No reader's two boxes become one; none is lost for nothing.
        assert max(drawn.values()) <= count <= drawn.total()
    for box in fused:
        corners = [other.corners for other in boxes if other.label == box.label]
        assert min(c[0] for c in corners) <= box.x
        assert box.x + box.width <= max(c[2] for c in corners) + 1e-9


def test_boxes_join_from_the_threshold_on() -> None:
    base = ReadBox("R1", "Mass", (0.0, 0.0, 10.0, 10.0))
    for width, joined in ((5.0, True), (4.9, False)):
        other = ReadBox("R2", "Mass", (0.0, 0.0, width, 10.0))
        assert (overlap(base.corners, other.corners) >= MATCHING_OVERLAP) == joined
        assert (len(fuse_boxes([base, other])) == 1) == joined
    assert len(fuse_boxes([base, ReadBox("R1", "Mass", (0.0, 0.0, 10.0, 10.0))])) == 2
    assert len(fuse_boxes([base, ReadBox("R2", "Edema", (0.0, 0.0, 10.0, 10.0))])) == 2


def test_through_preprocess_into_a_store(tmp_path: Path) -> None:
    root = tmp_path / "release"
    write_physionet(root)
    write_images(root)
    (root / "train" / f"{D}.dicom").unlink()
    preset = load_preset("vindr", ["preprocess.size=32"])
    assert plan(preset, root, tmp_path / "store").published["images of train"]["here"] == 3
    summary = preprocess(preset, root, tmp_path / "store", workers=1)
    rows = {row.image_id: row for row in open_store(tmp_path / "store").rows}
    assert set(rows) == {A, B, C, E}
    assert rows[A].patient_id == rows[A].study_id == A
    (box,) = rows[A].boxes
    # 48 x 40 pixels (height, width) become 32 x 27 with 2 or 3 columns of padding on the left.
    left = rows[A].content[0]
    across = (rows[A].content[2] - left) / 40
    assert (box.x, box.y, box.width, box.height) == pytest.approx((left + 11 * across, 10 / 1.5, 20 * across, 20 / 1.5))
    assert rows[E].split == "test"
    assert summary.counts["rejects"] == {"file_missing": 1}


def test_the_published_kaggle_table(tmp_path: Path) -> None:
    found = importlib.util.find_spec("torchxrayvision")
    if found is None or found.origin is None:
        pytest.skip("the label tables of torchxrayvision are not installed (pip install torchxrayvision)")
    table = Path(found.origin).parent / "data" / "vinbigdata-train.csv.gz"
    (tmp_path / "train.csv.gz").symlink_to(table)
    studies, rejects = read(tmp_path)
    assert (len(studies), rejects) == (15_000, [])
    with gzip.open(table, "rt", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 67_914
    votes = Counter({(row["image_id"], row["class_name"], row["rad_id"]) for row in rows})
    naive = Counter((image, name) for image, name, _ in votes)
    sample = list(itertools.islice(studies.values(), 0, None, 50))
    for study in sample:
        for name, value in study.labels.items():
            assert value == float(naive[study.study_id, name] >= 2)
    assert sum(study.labels["No finding"] for study in studies.values()) >= 10_606

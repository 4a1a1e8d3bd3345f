"""SIIM-ACR: five made-up studies, run lengths by hypothesis, each trap, the published split, and the real file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from marked_releases import column_run, make_store, read, rectangle, siim_id, write_siim
from sklearn.model_selection import train_test_split

from placecli.data.masks import draw_runs
from placecli.data.releases.siim import COMPAT_NEGATIVES_SEED, parse_runs
from placecli.records import PlaceError, RunMask

LEFT, RIGHT = column_run(128, 256, 384, 512), column_run(640, 0, 768, 1024)
ROWS = [(3, "-1"), (0, LEFT), (1, " -1"), (0, RIGHT), (2, RIGHT), (4, " -1")]
"""Image 0 has two rows; 1, 3 and 4 are negative, in both spellings."""


def published_decoder(text: str) -> np.ndarray:
    """The competition's rule, pixel by pixel: gaps from the end of the run before, columns first."""
    mask = np.zeros(1024 * 1024, np.uint8)
    place = 0
    numbers = [int(number) for number in text.split()]
    for i in range(0, len(numbers), 2):
        place += numbers[i]
        for pixel in range(place, place + numbers[i + 1]):
            mask[pixel] = 255
        place += numbers[i + 1]
    return mask.reshape(1024, 1024).T


pairs = st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 400)), min_size=1, max_size=20)


@given(pairs)
def test_run_lengths_are_relative_and_column_major(numbers: list[tuple[int, int]]) -> None:
    text = " ".join(f"{gap} {length}" for gap, length in numbers)
    assert np.array_equal(draw_runs(parse_runs(text), (1024, 1024)), published_decoder(text))


@given(st.text(max_size=30))
def test_any_text_is_runs_in_the_frame_or_an_error(text: str) -> None:
    try:
        runs = parse_runs(text)
    except ValueError:
        return
    assert text.strip() == "-1" or len(runs) == len(text.split()) / 2 > 0
    assert all(0 <= start <= start + length <= 1024 * 1024 for start, length in runs)


def test_labels_and_masks_of_five_studies(tmp_path: Path) -> None:
    write_siim(tmp_path, ROWS)
    studies, rejects = read(tmp_path, "siim")
    assert rejects == []
    assert {name: study.labels["Pneumothorax"] for name, study in studies.items()} == {
        siim_id(number): float(number in (0, 2)) for number in range(5)
    }
    empty = studies[siim_id(1)].images[0].mask
    assert empty == RunMask((1024, 1024), ())
    assert {(study.patient_id, study.study_id, study.split) for study in studies.values()} == {("", "", "")}


def test_store_has_them_in_its_own_pixels(tmp_path: Path) -> None:
    """1024 becomes 32, by way of files of 64; rows of one image are united."""
    write_siim(tmp_path / "siim", ROWS)
    store = make_store(tmp_path / "siim", tmp_path / "s", "siim", 32)
    masks = {row.image_id: mask for row, mask in zip(store.rows, store.masks(store.rows), strict=True)}
    assert np.array_equal(masks[siim_id(0)], rectangle(32, 4, 8, 12, 16) | rectangle(32, 20, 0, 24, 32))
    assert np.array_equal(masks[siim_id(2)], rectangle(32, 20, 0, 24, 32))
    assert not masks[siim_id(1)].any()
    assert min(row.mask_row for row in store.rows) >= 0
    assert {row.patient_id for row in store.rows} == {f"person-{number}" for number in range(5)}


def test_table_under_every_spelling_that_goes_round(tmp_path: Path) -> None:
    write_siim(tmp_path, ROWS)
    studies = read(tmp_path, "siim")
    table = tmp_path / "train-rle.csv"
    lines = table.read_text("utf-8").replace("ImageId, EncodedPixels", "ImageId,EncodedPixels").replace(" -1", "-1")
    table.write_text(lines, "utf-8")
    assert read(tmp_path, "siim") == studies


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ("", "not pairs of numbers"),
        ("1 2 3", "not pairs of numbers"),
        ("1 x", "the run lengths are not numbers"),
        ("5 -3", "a run length is negative"),
        ("1048570 20", "the runs leave the frame"),
    ],
)
@pytest.mark.parametrize("splits", ["clean", "compat"])
def test_a_row_that_does_not_hold_costs_its_image(tmp_path: Path, runs: str, words: str, splits: str) -> None:
    write_siim(tmp_path, [*ROWS, (0, runs)])
    studies, rejects = read(tmp_path, "siim", splits=splits)
    assert not any(name.startswith(siim_id(0)) for name in studies)
    bad = [reject for reject in rejects if reject.code == "row_invalid"]
    assert [reject.source for reject in bad] == ["train-rle.csv:8"]
    assert words in bad[0].message


def test_files_and_rows_without_each_other_are_told(tmp_path: Path) -> None:
    write_siim(tmp_path, [*ROWS, (6, "-1")], (0, 1, 2, 3, 4, 5))
    again = tmp_path / "dicom-images-train" / "1.9" / "1.9" / f"{siim_id(2)}.dcm"
    again.parent.mkdir(parents=True)
    again.write_bytes(b"")
    studies, rejects = read(tmp_path, "siim")
    assert studies.keys() == {siim_id(number) for number in range(5)}
    assert studies[siim_id(2)].images[0].path.parent.name == "1.3.2"
    assert [(reject.source, reject.code) for reject in rejects] == [
        (again.relative_to(tmp_path).as_posix(), "image_repeated"),
        (f"dicom-images-train/{siim_id(6)}", "image_missing"),
        (f"dicom-images-train/1.2.5/1.3.5/{siim_id(5)}.dcm", "image_unannotated"),
    ]


def test_a_root_without_the_table(tmp_path: Path) -> None:
    (tmp_path / "stage_1_train_images.csv").touch()
    with pytest.raises(PlaceError, match=r"train-rle\.csv: not found; .* not a repack"):
        read(tmp_path, "siim")


def test_published_split_is_over_rows_with_its_leaks(tmp_path: Path) -> None:
    """Against scikit-learn on a table of 60 images, a third of them positive with one to four rows."""
    random = np.random.default_rng(3)
    rows = [(number, "-1") for number in range(40)]
    rows += [(number, f"{100 * k} 5") for number in range(40, 60) for k in range(int(random.integers(1, 5)))]
    rows = [rows[i] for i in random.permutation(len(rows))]
    write_siim(tmp_path, rows, range(60))
    studies, rejects = read(tmp_path, "siim", splits="compat")
    train, held = train_test_split(rows, test_size=0.15 * 2, random_state=0)
    test, validate = train_test_split(held, test_size=0.5, random_state=0)
    negatives = list(dict.fromkeys(number for number, runs in train if runs == "-1"))
    positives = {number for number, runs in train if runs != "-1"}
    np.random.seed(COMPAT_NEGATIVES_SEED)
    sampled = set(np.random.choice(negatives, size=len(positives), replace=False).tolist())
    expected: dict[tuple[str, str], list[str]] = defaultdict(list)
    for split, part in (("train", train), ("validate", validate), ("test", test)):
        for number, runs in part:
            if split != "train" or runs != "-1" or number in sampled:
                expected[siim_id(number), split].append(runs)
    found = {(study.patient_id, study.split): study for study in studies.values()}
    assert found.keys() == expected.keys()
    for key, texts in expected.items():
        mask = found[key].images[0].mask
        assert isinstance(mask, RunMask)
        assert sorted(mask.runs) == sorted(run for text in texts for run in parse_runs(text))
    assert Counter(reject.code for reject in rejects) == {"not_sampled": len(negatives) - len(sampled)}
    leaks = Counter(patient for patient, _ in found)
    assert max(leaks.values()) > 1, "the table is to hold an image with rows in two parts"
    for (patient, split), study in found.items():
        name = f"{patient}@{split}" if leaks[patient] > 1 else patient
        assert (study.images[0].image_id, study.study_id) == (name, name)


def test_store_of_the_published_split_counts_its_leaks(tmp_path: Path) -> None:
    rows = [(number % 6, f"{1000 * number} 300") for number in range(18)]
    write_siim(tmp_path / "siim", rows, range(6))
    store = make_store(tmp_path / "siim", tmp_path / "s", "siim", 32, splits="compat")
    splits = defaultdict(set)
    for row in store.rows:
        splits[row.patient_id].add(row.split)
    num_leaks = sum(len(found) > 1 for found in splits.values())
    assert num_leaks > 0
    assert store.description["counts"]["patients_across_splits"] == num_leaks
    assert len({row.image_id for row in store.rows}) == len(store.rows) > 6


def test_real_file(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    store = make_store(real_data("siim_acr_sample"), tmp_path / "s", "siim", 64)
    (row,) = store.rows
    assert row.image_id == "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819"
    assert row.labels == {"Pneumothorax": 0.0}
    assert row.content == (0, 0, 64, 64)
    assert (row.mask_row, store.masks([row]).any()) == (0, False)

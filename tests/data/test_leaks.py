"""What two splits share is found exactly: planted leaks, thumbnails against plain NumPy, real copies under other names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from placecli.config import load_preset
from placecli.data import leaks
from placecli.data.leaks import LEAKS, Contents, find_leaks, make_thumbnail, near_pairs, read_contents
from placecli.data.preprocess import preprocess
from placecli.data.store import open_store


def make_contents(rows: list[tuple[str, str, str, str, str]], thumbnails: np.ndarray | None = None) -> Contents:
    """Contents of rows (split, patient, study, pixels, text); images are called i0, i1, ..."""
    splits, patients, studies, pixels, texts = (list(column) for column in zip(*rows, strict=True))
    keys = {"patients": patients, "studies": studies, "images": pixels, "texts": texts}
    if thumbnails is None:
        thumbnails = np.eye(len(rows), 1024, dtype=np.int8) * 100
    return Contents([f"i{i}" for i in range(len(rows))], splits, keys, thumbnails)


def test_planted_leaks_are_found_exactly_and_nothing_else() -> None:
    thumbnails = np.eye(6, 1024, dtype=np.int8) * 100
    thumbnails[5] = thumbnails[1]
    found = find_leaks(
        make_contents(
            [
                ("train", "p0", "s0", "a", "normal"),
                ("train", "p1", "s1", "b", ""),
                ("train", "p1", "s1", "c", "normal"),
                ("test", "p1", "s1", "d", "normal"),
                ("test", "p3", "s3", "a", ""),
                ("validate", "p4", "s4", "e", "odd"),
            ],
            thumbnails,
        )
    )
    assert list(found["counts"]) == ["train-validate", "train-test", "validate-test"]
    nothing = {"shared": 0, "train": 0, "test": 0}
    assert found["counts"]["train-test"] == {
        "patients": {"shared": 1, "train": 2, "test": 1},
        "studies": {"shared": 1, "train": 2, "test": 1},
        "images": {"shared": 1, "train": 1, "test": 1},
        "near_images": nothing,
        "texts": {"shared": 1, "train": 2, "test": 1},
    }
    assert found["found"]["train-test"] == {
        "patients": ["p1"],
        "studies": ["s1"],
        "images": [{"train": ["i0"], "test": ["i4"]}],
        "near_images": [],
        "texts": [{"train": ["i0", "i2"], "test": ["i3"]}],
    }
    near = found["found"]["train-validate"]["near_images"]
    assert near == [{"train": "i1", "validate": "i5", "correlation": 1.0}]
    assert all(count["shared"] == 0 for count in found["counts"]["validate-test"].values())


def test_equal_frames_are_exact_and_not_also_near() -> None:
    thumbnails = np.full((2, 1024), 7, np.int8)
    rows = [("train", "a", "a", "same", ""), ("test", "b", "b", "same", "")]
    counts = find_leaks(make_contents(rows, thumbnails))["counts"]["train-test"]
    assert (counts["images"]["shared"], counts["near_images"]["shared"]) == (1, 0)


def test_two_stores_are_compared_split_by_split_and_not_with_themselves() -> None:
    first = make_contents([("train", "p", "s", "a", "t"), ("test", "p", "s", "a", "t")])
    second = make_contents([("test", "q", "r", "a", "")])
    one, two = (Contents(c.image_ids, c.splits, c.keys, c.thumbnails, n) for c, n in ((first, "A"), (second, "B")))
    counts = find_leaks(one, two)["counts"]
    assert list(counts) == ["A:train-B:test", "A:test-B:test"]
    assert [count["images"]["shared"] for count in counts.values()] == [1, 1]
    assert [count["patients"]["shared"] for count in counts.values()] == [0, 0]


def test_near_pairs_are_those_of_plain_correlation_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(0, 40, (30, 1024))
    first = np.clip(np.rint(base), -127, 127).astype(np.int8)
    second = np.clip(np.rint(base[10:] + generator.normal(0, 1, (20, 1)) * 15), -127, 127).astype(np.int8)
    second[3] = 0  # a flat frame looks like nothing
    expected = {}
    for j, b in enumerate(second.astype(float)):
        for i, a in enumerate(first.astype(float)):
            value = a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) if b.any() else 0.0
            if value >= 0.9:
                expected[i, j] = value
    assert 5 < len(expected) < 20
    for block in ((512, 8192), (3, 7)):
        monkeypatch.setattr(leaks, "_BLOCK", block)
        found = list(near_pairs(first, second, 0.9))
        assert {(i, j): pytest.approx(value) for i, j, value in found} == expected
        assert [pair[1] for pair in found] == sorted(pair[1] for pair in found)


def test_products_of_thumbnails_are_whole_numbers_that_float32_holds() -> None:
    assert leaks.SIDE**2 * 127**2 < 2**24


def test_thumbnail_knows_a_copy_and_no_other_picture() -> None:
    generator = np.random.default_rng(1)
    small = generator.uniform(30, 220, (2, 20, 20)).astype(np.float32)
    frame, other = (cv2.resize(each, (256, 256), interpolation=cv2.INTER_CUBIC).clip(0, 255) for each in small)
    copy = cv2.imdecode(cv2.imencode(".jpg", frame.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 0)
    brighter = (255 * (frame / 255) ** 0.8).astype(np.uint8)
    thumbnails = [make_thumbnail(np.asarray(each, np.uint8)) for each in (frame, copy, brighter, other)]
    found = list(near_pairs(thumbnails[0][None], np.stack(thumbnails[1:])))
    assert [pair[1] for pair in found] == [0, 1]
    assert abs(float(thumbnails[0].mean())) < 0.5
    assert not make_thumbnail(np.full((64, 64), 9, np.uint8)).any()


@pytest.fixture(scope="module")
def real_stores(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stores of the real NIH and RSNA parts at 64 pixels, by preset."""
    folder = tmp_path_factory.mktemp("real")
    roots = {"nih": real_data("nih_chestxray14"), "rsna": real_data("rsna_pneumonia")}
    for preset, root in roots.items():
        preprocess(load_preset(preset, ["preprocess.size=64"]), root, folder / preset, workers=1)
    return {preset: folder / preset for preset in roots}


def test_real_copies_under_other_names_are_all_found(
    real_stores: dict[str, Path], real_data: Callable[[str], Path]
) -> None:
    first, second = (read_contents(path, open_store(path).rows, name=preset) for preset, path in real_stores.items())
    found = find_leaks(first, second)["found"]
    pairs = {
        (next(v for k, v in pair.items() if k.startswith("nih:")), next(v for k, v in pair.items() if "rsna:" in k))
        for part in found.values()
        for pair in part["near_images"]
    }
    mapping: list[dict[str, str]] = json.loads((real_data("rsna_pneumonia") / "nih_mapping.json").read_text("utf-8"))
    known = {(each["subset_img_id"].removesuffix(".png"), each["patientId"]) for each in mapping}
    assert pairs == {(a, b) for a, b in known if a in first.image_ids and b in second.image_ids}
    assert len(pairs) > 40


def test_preprocess_writes_what_it_found_and_puts_the_counts_into_the_description(real_stores: dict[str, Path]) -> None:
    store = open_store(real_stores["nih"])
    written = json.loads((store.path / LEAKS).read_text("utf-8"))
    description = yaml.safe_load((store.path / "store.yaml").read_text("utf-8"))
    assert LEAKS in description["files"]
    assert description["leaks"] == written["counts"]
    assert written == find_leaks(read_contents(store.path, store.rows))
    assert written["counts"]["train-test"]["patients"]["shared"] == 0

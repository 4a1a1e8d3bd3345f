"""Opening a store, gathering its pixels, and what is said about one that is damaged or none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from small_releases import openi_preset, write_csv, write_openi, write_png

from placecli.config import load_preset, parse_preset
from placecli.data.decode import PlannedImage, decode
from placecli.data.identity import Pseudonyms
from placecli.data.job import Job
from placecli.data.listing import Listing, fingerprint
from placecli.data.merge import merge_parts
from placecli.data.parts import PartWriter
from placecli.data.preprocess import preprocess
from placecli.data.store import Store, open_store, store_digest
from placecli.records import Box, PlaceError


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("openi")
    write_openi(root)
    header = ["filename", "Atelectasis", "Edema"]
    write_csv(root / "gold.csv", header, [["CXR1", 1, 0], ["CXR2", 0, 1]])
    out = tmp_path_factory.mktemp("stores") / "s"
    preprocess(openi_preset(f"preprocess.labels={root / 'gold.csv'}"), root, out, workers=1)
    return out


@pytest.fixture
def store(path: Path) -> Store:
    return open_store(path)


def test_images_come_in_the_order_asked(store: Store) -> None:
    rows = list(store.rows)
    assert {row.shard for row in rows} == {0, 1, 2}
    shuffled = [rows[index] for index in (5, 0, 6, 2, 2, 1)]
    images = store.images(shuffled)
    for row, image in zip(shuffled, images, strict=True):
        np.testing.assert_array_equal(image, np.load(store.path / f"images-{row.shard:05d}.npy")[row.row])
    assert images.dtype == np.uint8
    assert store.images([]).shape == (0, 32, 32)


def test_pixels_are_read_only_and_mapped(store: Store) -> None:
    store.images(store.rows[:1])
    (array,) = store._arrays.values()
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


def test_select_takes_a_split(store: Store) -> None:
    selected = {split: store.select(split) for split in ("train", "validate", "test")}
    for split, rows in selected.items():
        assert rows == [row for row in store.rows if row.split == split]
    assert sum(map(len, selected.values())) == len(store.select("all")) == len(store.rows) == 7
    with pytest.raises(PlaceError, match='split "dev": choose one of train, validate, test or all'):
        store.select("dev")


def test_labels_config_and_size(store: Store) -> None:
    assert store.labels() == ("Atelectasis", "Edema")
    first = next(row for row in store.rows if row.study_id == "CXR1")
    assert first.labels == {"Atelectasis": 1.0, "Edema": 0.0}
    assert store.size == store.config.preprocess.size == 32
    assert parse_preset(yaml.safe_load((store.path / "store.yaml").read_text("utf-8"))["preset"], "") == store.config


def test_the_digest_is_over_the_checksums(store: Store) -> None:
    lines = []
    for file in sorted(store.path.iterdir()):
        if file.name != "store.yaml":
            lines.append(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n")
    assert store.digest == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert store.digest == store_digest(store.description["files"])


def test_a_store_travels_to_a_worker_by_its_path(store: Store) -> None:
    store.images(store.rows[:1])
    reopen, arguments = store.__reduce__()
    assert arguments == (store.path,)
    np.testing.assert_array_equal(reopen(*arguments).images(store.rows[:2]), store.images(store.rows[:2]))


def test_no_store_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"not a store .*place preprocess --preset NAME --root DIR --out"):
        open_store(tmp_path)
    with pytest.raises(PlaceError, match="not a store"):
        open_store(tmp_path / "nowhere")
    (tmp_path / "parts").mkdir()
    with pytest.raises(PlaceError, match="unfinished; run the same"):
        open_store(tmp_path)


@pytest.mark.parametrize("content", ["", "[1, 2", "format: 1", "!!python/object:os.system {}", "\0"])
def test_another_store_yaml_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "store.yaml").write_text(content, "utf-8")
    with pytest.raises(PlaceError, match="not a description of a store"):
        open_store(tmp_path)


def copy(path: Path, target: Path) -> Path:
    target.mkdir()
    for file in path.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_a_missing_or_short_file_is_named(path: Path, tmp_path: Path) -> None:
    damaged = copy(path, tmp_path / "s")
    pixels = damaged / "images-00001.npy"
    pixels.write_bytes(pixels.read_bytes()[:-1])
    with pytest.raises(PlaceError, match=r"images-00001\.npy: has the wrong size"):
        open_store(damaged)
    pixels.unlink()
    with pytest.raises(PlaceError, match=r"images-00001\.npy: is missing"):
        open_store(damaged)


def test_verify_finds_one_flipped_bit(path: Path, tmp_path: Path) -> None:
    damaged = copy(path, tmp_path / "s")
    open_store(damaged).verify()
    content = bytearray((damaged / "images-00000.npy").read_bytes())
    content[-1] ^= 1
    (damaged / "images-00000.npy").write_bytes(content)
    with pytest.raises(PlaceError, match=r"images-00000\.npy changed since"):
        open_store(damaged).verify()


def test_an_unknown_format_is_refused(path: Path, tmp_path: Path) -> None:
    newer = copy(path, tmp_path / "s")
    text = (newer / "store.yaml").read_text("utf-8")
    (newer / "store.yaml").write_text(text.replace("format: 1", "format: 2"), "utf-8")
    with pytest.raises(PlaceError, match="format 2, this version of place reads 1"):
        open_store(newer)


def test_a_shard_with_objects_in_it_is_not_loaded(path: Path, tmp_path: Path) -> None:
    damaged = copy(path, tmp_path / "s")
    pixels = damaged / "images-00000.npy"
    size = pixels.stat().st_size
    np.save(pixels, np.array([{}], dtype=object), allow_pickle=True)
    pixels.write_bytes(pixels.read_bytes().ljust(size, b"\0"))
    store = open_store(damaged)
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        store.images(store.rows[:1])


def plan_image(folder: Path, number: int, boxes: tuple[Box, ...] = (), mask: Path | None = None) -> PlannedImage:
    path = folder / f"{number}.png"
    write_png(path, number, 40, 80)
    return PlannedImage(path.name, str(path), f"i{number}", "s", "p", "train", "PA", boxes, mask, {}, "", {}, 1)


def test_masks_and_boxes_lie_over_the_image(tmp_path: Path) -> None:
    """One image without annotations and one with a mask and a box around it, through parts and merge."""
    inside = np.zeros((40, 80), np.uint8)
    inside[10:30, 20:60] = 255
    mask = tmp_path / "mask.png"
    mask.write_bytes(cv2.imencode(".png", inside)[1].tobytes())
    images = (plan_image(tmp_path, 0), plan_image(tmp_path, 1, (Box("Nodule", 20, 10, 40, 20),), mask))
    preset, names, out = load_preset("folder", ["preprocess.size=32"]), Pseudonyms(None), tmp_path / "s"
    listing = Listing(images, (), 1)
    job = Job(preset, out, None, names, listing, fingerprint(preset.preprocess, listing, names))
    with job.locked():
        writer = PartWriter(out, preset.preprocess, names, None)
        writer.write(0, [(image, decode(preset.preprocess, False, image)) for image in images])
        merge_parts(out, 1, (), preset, job.fingerprint, names, None)
    store = open_store(out)
    plain, marked = store.rows
    assert (plain.mask_row, marked.mask_row) == (-1, 0)
    masks = store.masks([marked, plain])
    assert not masks[1].any()
    assert set(np.unique(masks[0])) == {0, 255}
    # 80 x 40 becomes 32 x 16 with eight rows of padding above.
    ys, xs = np.nonzero(masks[0])
    assert (xs.min(), xs.max() + 1, ys.min(), ys.max() + 1) == (8, 24, 12, 20)
    assert marked.boxes == (Box("Nodule", 8.0, 12.0, 16.0, 8.0),)

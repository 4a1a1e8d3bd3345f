"""Galleries on disk: made once, completed by content, rebuilt for another model, whole after a kill."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest
from small_run import make_rows, write_rows, write_run

from placecli.data.store import Store, open_store
from placecli.engine.checkpoint import LoadedRun, load_model
from placecli.records import PlaceError
from placecli.tasks import gallery as module
from placecli.tasks import vectors
from placecli.tasks.gallery import Gallery, open_gallery


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How many images and texts the model was asked for."""
    counts = {"images": 0, "texts": 0}
    real_images, real_texts = module.embed_images, module.embed_texts

    def images(run, pixels, **options):  # type: ignore[no-untyped-def]
        counts["images"] += len(pixels)
        return real_images(run, pixels, **options)

    def texts(run, reports, **options):  # type: ignore[no-untyped-def]
        counts["texts"] += len(reports)
        return real_texts(run, reports, **options)

    monkeypatch.setattr(module, "embed_images", images)
    monkeypatch.setattr(module, "embed_texts", texts)
    return counts


def equal(first: Gallery, second: Gallery) -> bool:
    return all(
        np.array_equal(a, b)
        for a, b in (
            (first.images.embedding, second.images.embedding),
            (first.images.observations, second.images.observations),
            (first.texts.embedding, second.texts.embedding),
            (first.texts.observations, second.texts.observations),
            (first.texts.mask, second.texts.mask),
            (first.text_of_image, second.text_of_image),
            (first.group_of_text, second.group_of_text),
            (first.positions, second.positions),
        )
    )


def test_opened_again_it_is_mapped_and_computes_nothing(
    run: LoadedRun, store: Store, tmp_path: Path, counted: dict[str, int]
) -> None:
    made = open_gallery(run, store, cache=tmp_path)
    assert counted["images"] == len(store.rows)
    again = open_gallery(run, store, cache=tmp_path)
    assert counted["images"] == len(store.rows)
    assert isinstance(again.images.observations, np.memmap)
    assert equal(made, again)
    assert equal(made, open_gallery(run, store, cache=None))


def test_rows_and_reports_belong_to_the_images(run: LoadedRun, store: Store, tmp_path: Path) -> None:
    gallery = open_gallery(run, store, "test", cache=tmp_path)
    rows = store.select("test")
    assert gallery.rows(range(len(gallery))) == rows
    wordings = list(dict.fromkeys(row.sentences for row in rows if row.sentences))
    for row, text in zip(rows, gallery.text_of_image, strict=True):
        assert row.sentences == (wordings[text] if text >= 0 else ())
    keys = [frozenset(wording) for wording in wordings]
    for i, first in enumerate(gallery.group_of_text):
        assert [first == other for other in gallery.group_of_text] == [keys[i] == key for key in keys]


def test_another_split_and_a_grown_store_compute_only_what_is_new(
    run: LoadedRun, tmp_path: Path, counted: dict[str, int]
) -> None:
    rows, images, masks = make_rows({"train": 20, "test": 10}, seed=5)
    small = open_store(write_rows(tmp_path / "small", rows[:25], images[:25], masks[:25]))
    grown = open_store(write_rows(tmp_path / "grown", rows, images, masks))
    open_gallery(run, small, cache=tmp_path / "index")
    assert counted["images"] == 25
    open_gallery(run, small, "test", cache=tmp_path / "index")
    assert counted["images"] == 25
    texts = counted["texts"]
    found = open_gallery(run, grown, cache=tmp_path / "index")
    assert counted["images"] == 30
    new = {row.sentences for row in rows[25:]} - {row.sentences for row in rows[:25]} - {()}
    assert counted["texts"] == texts + len(new)
    fresh = open_gallery(run, grown, cache=None)
    # Half precision on disk and another batch: equal up to rounding.
    assert np.allclose(found.images.embedding, fresh.images.embedding, atol=1e-5)
    assert np.allclose(found.images.observations, fresh.images.observations, atol=2e-3)


def test_another_model_rebuilds_and_says_so(
    run: LoadedRun, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = open_gallery(run, store, "test", cache=tmp_path / "index")
    other = load_model(write_run(tmp_path / "other", seed=1))
    with caplog.at_level(logging.WARNING):
        second = open_gallery(other, store, "test", cache=tmp_path / "index")
    assert "made by another model; it is rebuilt" in caplog.text
    assert not np.allclose(first.images.embedding, second.images.embedding, atol=1e-3)
    assert equal(second, open_gallery(other, store, "test", cache=tmp_path / "index"))


def test_a_killed_build_goes_on_from_its_parts(
    run: LoadedRun, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: dict[str, int]
) -> None:
    monkeypatch.setattr(vectors, "ITEMS_PER_PART", 16)
    real = module.embed_images

    def dies(loaded, pixels, **options):  # type: ignore[no-untyped-def]
        if counted["images"] >= 48:
            raise KeyboardInterrupt
        return real(loaded, pixels, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "embed_images", dies)
        with pytest.raises(KeyboardInterrupt):
            open_gallery(run, store, cache=tmp_path)
    assert counted["images"] == 48
    made = open_gallery(run, store, cache=tmp_path)
    assert counted["images"] == len(store.rows)
    assert not list(tmp_path.glob("*/*/*.parts"))
    assert np.allclose(made.images.embedding, open_gallery(run, store, cache=None).images.embedding, atol=1e-5)


def test_a_damaged_collection_is_made_again(run: LoadedRun, store: Store, tmp_path: Path) -> None:
    made = open_gallery(run, store, "test", cache=tmp_path)
    expected = np.array(made.images.embedding)
    file = next(tmp_path.glob("*/test/images/embedding.npy"))
    file.write_bytes(file.read_bytes()[:100])
    assert np.allclose(open_gallery(run, store, "test", cache=tmp_path).images.embedding, expected, atol=1e-6)


def test_a_cache_that_cannot_be_written_is_said_and_not_needed(
    run: LoadedRun, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with caplog.at_level(logging.WARNING):
        found = open_gallery(run, store, "test", cache=blocked / "index")
    assert "cannot be written" in caplog.text
    assert len(found) == 24


def test_an_empty_split_and_a_store_without_reports(run: LoadedRun, tmp_path: Path) -> None:
    rows, images, masks = make_rows({"train": 4}, seed=1)
    silent = [dataclasses.replace(row, sentences=()) for row in rows]
    store = open_store(write_rows(tmp_path / "store", silent, images, masks))
    with pytest.raises(PlaceError, match='split "test" has no images'):
        open_gallery(run, store, "test", cache=tmp_path / "index")
    for _ in range(2):
        gallery = open_gallery(run, store, cache=tmp_path / "index")
        assert len(gallery.texts) == 0
        assert gallery.text_of_image.tolist() == [-1] * 4

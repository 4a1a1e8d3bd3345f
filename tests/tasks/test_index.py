"""The FAISS index: exact is exact, approximate says its recall, both come back from their file."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from placecli.tasks.index import measure_recall, open_index, search


def vectors(count: int, seed: int, width: int = 16) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(40, width))
    values = centres[generator.integers(0, 40, count)] + 0.3 * generator.normal(size=(count, width))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def test_exact_search_equals_sorting_all_scores(tmp_path: Path) -> None:
    gallery, queries = vectors(500, 0), vectors(7, 1)
    index = open_index(tmp_path / "images.faiss", gallery, "exact", queries)
    again = open_index(tmp_path / "images.faiss", gallery, "exact", queries)
    table = queries @ gallery.T
    for each in (index, again):
        scores, positions = search(each, queries, 20)
        assert np.allclose(scores, -np.sort(-table, axis=1)[:, :20], atol=1e-6)
        assert np.allclose(np.take_along_axis(table, positions, axis=1), scores, atol=1e-6)
    assert search(index, queries, 10_000)[0].shape == (7, 500)


def test_changed_vectors_build_a_new_index(tmp_path: Path) -> None:
    queries = vectors(3, 1)
    open_index(tmp_path / "x.faiss", vectors(300, 0), "exact", queries)
    other = vectors(300, 2)
    index = open_index(tmp_path / "x.faiss", other, "exact", queries)
    assert np.allclose(search(index, other[:5], 1)[1][:, 0], np.arange(5))


def test_approximate_index_says_its_measured_recall(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gallery, queries = vectors(4000, 0), vectors(300, 1)
    with caplog.at_level(logging.WARNING):
        index = open_index(tmp_path / "x.faiss", gallery, "approximate", queries)
    assert "recall@10 against exact search" in caplog.text
    assert 1 <= index.nprobe < 102
    recall = measure_recall(index, gallery, queries, 10)
    assert recall >= 0.97
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        again = open_index(tmp_path / "x.faiss", gallery, "approximate", queries)
    assert "recall@10" in caplog.text
    assert again.nprobe == index.nprobe
    assert measure_recall(again, gallery, queries, 10) == recall


def test_an_approximate_index_of_few_vectors_searches_all(tmp_path: Path) -> None:
    gallery = vectors(30, 0)
    index = open_index(None, gallery, "approximate", gallery)
    assert measure_recall(index, gallery, gallery, 10) == 1.0


def test_a_half_written_index_is_built_again(tmp_path: Path) -> None:
    gallery = vectors(100, 0)
    (tmp_path / "x.faiss").write_bytes(b"broken")
    index = open_index(tmp_path / "x.faiss", gallery, "exact", gallery)
    assert search(index, gallery[:1], 1)[1][0, 0] == 0

"""Retrieval by class against plain loops, its chance in closed form, and where its texts come from."""

from __future__ import annotations

import dataclasses
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from small_run import make_rows, small_preset, write_rows

from placecli.config import ClassRetrievalConfig
from placecli.engine.checkpoint import LoadedRun
from placecli.records import PlaceError
from placecli.tasks.class_retrieval import rank_by_class
from placecli.tasks.class_texts import labels_of_reports
from placecli.tasks.embed import embed_images, embed_texts
from placecli.tasks.evaluate import evaluate
from placecli.tasks.scores import global_scores


@pytest.fixture(scope="module")
def own_run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("class-retrieval") / "run"
    shutil.copytree(run_folder, folder)
    return folder


def measured(run: Path, store: Path, protocol: str = "clean", **section: object) -> dict[str, object]:
    config = small_preset().evaluate.model_copy(
        update={"score": "global", "bootstrap": 20, "class_retrieval": ClassRetrievalConfig.model_validate(section)}
    )
    return evaluate(run, store, "class-retrieval", config=config, protocol=protocol, device="cpu").to_record()  # type: ignore[arg-type]


def test_precision_and_hits_of_a_hand_made_table() -> None:
    scores = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]])
    carried = np.eye(2, dtype=bool)[[0, 1, 0, 1]]
    found = rank_by_class(scores, np.array([0, 0, 1]), carried, (1, 2, 3))
    # No class has three items, so there is no cut-off 3; equal scores count against.
    assert {k: v.tolist() for k, v in found.precision.items()} == {1: [1, 0, 0], 2: [0.5, 0.5, 0.0]}


def test_chance_of_a_hit_is_that_of_drawing_without_looking() -> None:
    carried = np.eye(2, dtype=bool)[[0, 0, 1, 1, 1]]
    found = rank_by_class(np.zeros((1, 5)), np.array([0]), carried, (1, 2))
    draws = list(combinations(range(5), 2))
    assert found.chance[2] == pytest.approx((2 / 5, sum(bool({0, 1} & set(draw)) for draw in draws) / len(draws)))
    assert found.chance[1] == pytest.approx((2 / 5, 2 / 5))


def test_what_a_query_may_not_find_is_not_found() -> None:
    scores = np.array([[9.0, 1.0, 0.0]])
    carried = np.array([[True], [True], [True]])
    allowed = np.array([[False, True, True]])
    assert rank_by_class(scores, np.array([0]), carried, (1, 2, 3), allowed).precision.keys() == {1, 2}
    wrong = np.array([[True, False], [False, True], [True, False]])
    assert rank_by_class(scores, np.array([0]), wrong, (1,), allowed).precision[1].tolist() == [0.0]


def test_evaluation_equals_plain_loops(own_run: Path, run: LoadedRun, tmp_path: Path) -> None:
    rows, images, masks = make_rows({"test": 24}, seed=4)
    folder = write_rows(tmp_path / "store", rows, images, masks)
    record = measured(own_run, folder, "compat", per_class=5, cutoffs=(1, 3), seeds=(1, 2))
    total: list[float] = []
    reports = [row for row in rows if row.sentences]
    for seed in (1, 2):
        chosen = []
        for label in ("square", "stripe"):
            pool = [row for row in reports if row.labels[label] == 1]
            drawn = np.random.RandomState(seed).choice(len(pool), size=5, replace=False)
            chosen += [(pool[i], label) for i in drawn]
        pixels = embed_images(run, images[[row.row for row, _ in chosen]])
        texts = embed_texts(run, [row.sentences for row, _ in chosen])
        table = global_scores(pixels.embedding, texts.embedding)
        for i, (_, label) in enumerate(chosen):
            # Ties count against: among equal scores the wrong class comes first.
            order = sorted(range(10), key=lambda j: (-table[i, j], chosen[j][1] == label))
            total.append(sum(chosen[j][1] == label for j in order[:3]) / 3)
    metrics, counts = record["metrics"], record["counts"]
    assert metrics["precision@3"]["value"] == pytest.approx(np.mean(total), abs=0.04)  # type: ignore[index]
    assert (record["n"], counts["texts"], counts["per_class"]) == (20, 10, 5)  # type: ignore[index]
    assert metrics["precision@1"] == metrics["precision@1_global"]  # type: ignore[index]
    by_label = [metrics[f"precision@3[{label}]"]["value"] for label in ("square", "stripe")]  # type: ignore[index]
    assert np.mean(by_label) == pytest.approx(metrics["precision@3"]["value"])  # type: ignore[index]
    assert record["chance"]["precision@3"] == pytest.approx(0.5)  # type: ignore[index]
    assert record["chance"]["precision@3_image_to_image"] == pytest.approx(4 / 9)  # type: ignore[index]


def test_clean_merges_equal_reports_and_finds_no_other_image_of_the_patient(own_run: Path, tmp_path: Path) -> None:
    rows, images, masks = make_rows({"test": 24}, seed=4)
    rows = [dataclasses.replace(row, sentences=row.sentences[:1]) for row in rows]
    folder = write_rows(tmp_path / "store", rows, images, masks)
    clean, compat = (measured(own_run, folder, name, cutoffs=(1,)) for name in ("clean", "compat"))
    assert compat["counts"]["texts"] == compat["n"]  # type: ignore[index]
    assert clean["counts"]["texts"] == 4  # type: ignore[index]
    # Each image may find 2 * per_class - 1 others, in clean fewer where another image of its patient was drawn.
    others = compat["n"] - 1  # type: ignore[operator]
    key = "precision@1_image_to_image"
    assert compat["chance"][key] == pytest.approx((others - 1) / 2 / others)  # type: ignore[index]
    assert clean["chance"][key] != compat["chance"][key]  # type: ignore[index]


def test_texts_may_be_prompts_or_reports_of_another_store(own_run: Path, store: object, tmp_path: Path) -> None:
    rows, images, masks = make_rows({"train": 24}, seed=8)
    bare = [dataclasses.replace(row, sentences=()) for row in make_rows({"test": 24}, seed=4)[0]]
    queries = write_rows(tmp_path / "queries", bare, *make_rows({"test": 24}, seed=4)[1:])
    texts = write_rows(tmp_path / "texts", rows, images, masks)
    prompts = measured(own_run, queries, texts="prompts", cutoffs=(1,))
    assert prompts["counts"]["texts"] == 2  # type: ignore[index]
    other = measured(own_run, queries, "compat", text_data=str(texts), per_class=6, cutoffs=(5,))
    assert other["counts"]["texts"] == 12  # type: ignore[index]
    with pytest.raises(PlaceError, match="no image of this split has a label and a report; name a store of reports"):
        measured(own_run, queries)


def test_too_few_images_of_a_class_are_named_with_their_numbers(own_run: Path, tmp_path: Path) -> None:
    rows, images, masks = make_rows({"test": 24}, seed=4)
    folder = write_rows(tmp_path / "store", rows, images, masks)
    with pytest.raises(PlaceError, match=r"fewer than two classes .*square \d+\)"):
        measured(own_run, folder, classes=("square",))
    with pytest.raises(PlaceError, match="exclusive sets: 50 images"):
        measured(own_run, folder, per_class=50)


def test_reports_without_labels_are_read_by_our_labeler() -> None:
    rows = [dataclasses.replace(row, labels={}) for row in make_rows({"test": 2}, seed=4)[0]]
    rows[0] = dataclasses.replace(rows[0], sentences=("There is a left pleural effusion.", "No pneumothorax."))
    labels = labels_of_reports(rows)
    assert labels[0]["Pleural Effusion"] == 1.0
    assert labels[0]["Pneumothorax"] == 0.0

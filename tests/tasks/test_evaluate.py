"""Evaluation of a real model against loops over the same vectors, and the object that is printed."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from small_run import MARGIN, SIZE, make_rows, small_preset, write_rows, write_run

from placecli.config import EvaluateConfig, Prompts
from placecli.data.reports import text_key
from placecli.data.store import Store
from placecli.engine.checkpoint import LoadedRun
from placecli.metrics.grounding import pointing_game
from placecli.records import Box, PlaceError
from placecli.tasks import retrieval
from placecli.tasks.embed import embed_images, embed_images_with_maps, embed_texts
from placecli.tasks.evaluate import evaluate
from placecli.tasks.grounding import cases_of
from placecli.tasks.prompts import prompts_of
from placecli.tasks.scores import global_scores, observation_scores, sentence_maps, sentence_scores, standardize

CONFIG = small_preset().evaluate


@pytest.fixture(scope="module")
def own_run(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    shutil.copytree(run_folder, folder)
    return folder


@pytest.fixture(scope="module")
def records(own_run: Path, store: Store) -> dict[str, dict[str, Any]]:
    return {
        task: evaluate(own_run, store.path, task, device="cpu").to_record()  # type: ignore[arg-type]
        for task in ("retrieval", "zero-shot", "grounding")
    }


def value(record: dict[str, Any], name: str) -> float:
    return float(record["metrics"][name]["value"])


def test_the_object_has_the_documented_keys_and_is_json(records: dict[str, dict[str, Any]], store: Store) -> None:
    keys = "task run data split protocol n metrics chance counts score bootstrap"
    for task, record in records.items():
        assert list(record) == keys.split()
        assert (record["task"], record["split"], record["protocol"]) == (task, "test", "clean")
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        for name, measure in record["metrics"].items():
            low, high = measure["ci95"]
            assert low <= high, name
            assert measure["n"] > 0
        assert set(record["chance"]) <= set(record["metrics"])
    assert records["retrieval"]["data"] == str(store.path)


def test_retrieval_equals_plain_loops(records: dict[str, dict[str, Any]], run: LoadedRun, store: Store) -> None:
    rows = [row for row in store.select("test") if row.sentences]
    keys = [text_key(row.sentences) for row in rows]
    distinct = list(dict.fromkeys(keys))
    texts = embed_texts(run, [rows[keys.index(key)].sentences for key in distinct])
    images = embed_images(run, store.images(rows))
    temperature = run.preset.pretrain.objective.match_temperature
    tables = {
        "_global": global_scores(images.embedding, texts.embedding),
        "_observation": observation_scores(images.observations, texts.observations, texts.mask, temperature),
    }
    record = records["retrieval"]
    assert record["n"] == len(rows)
    assert record["counts"]["distinct_reports"] == len(distinct) < len(rows)
    assert record["counts"]["images_without_report"] == 1
    for suffix, table in tables.items():
        ranks = []
        for row, key in zip(table, keys, strict=True):
            right = row[distinct.index(key)]
            ranks.append(1 + sum(score >= right for j, score in enumerate(row) if distinct[j] != key))
        assert value(record, f"recall@5{suffix}") == pytest.approx(np.mean(np.array(ranks) <= 5), abs=0.05)
        assert value(record, f"median_rank{suffix}") == pytest.approx(np.median(ranks), abs=1)
        back = []
        for j, key in enumerate(distinct):
            right = max(table[i, j] for i in range(len(rows)) if keys[i] == key)
            back.append(1 + sum(table[i, j] >= right for i in range(len(rows)) if keys[i] != key))
        found = value(record, f"recall@10_text_to_image{suffix}")
        assert found == pytest.approx(np.mean(np.array(back) <= 10), abs=0.09)
    assert record["chance"]["recall@5"] == pytest.approx(5 / len(distinct))
    assert record["metrics"]["recall@5"] == record["metrics"]["recall@5_combined"]


def test_precision_is_the_share_of_the_class_among_the_best(
    records: dict[str, dict[str, Any]], run: LoadedRun, store: Store
) -> None:
    record = evaluate_again(run, store, score="global")
    rows = [row for row in store.select("test") if row.sentences]
    keys = [text_key(row.sentences) for row in rows]
    distinct = list(dict.fromkeys(keys))
    texts = embed_texts(run, [rows[keys.index(key)].sentences for key in distinct])
    table = global_scores(embed_images(run, store.images(rows)).embedding, texts.embedding)
    carried = np.array([rows[keys.index(key)].labels["square"] == 1 for key in distinct])
    asked = [i for i, row in enumerate(rows) if row.labels["square"] == 1]
    expected = np.mean([carried[np.argsort(-table[i], kind="stable")[:5]].mean() for i in asked])
    assert value(record, "precision@5[square]") == pytest.approx(expected, abs=0.06)
    macro = np.mean([value(record, f"precision@5[{label}]") for label in ("square", "stripe")])
    assert value(record, "precision@5_macro") == pytest.approx(macro)


def evaluate_again(run: LoadedRun, store: Store, task: str = "retrieval", **settings: Any) -> dict[str, Any]:
    protocol = settings.pop("protocol", "clean")
    config = CONFIG.model_copy(update=settings)
    return evaluate(run.path, store.path, task, config=config, protocol=protocol, device="cpu").to_record()  # type: ignore[arg-type]


def test_blocks_give_the_result_of_the_whole_table(
    run: LoadedRun, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate_again(run, store)
    monkeypatch.setattr(retrieval, "_BLOCK", 60)
    monkeypatch.setattr(retrieval, "_KEPT", 0)
    in_blocks = evaluate_again(run, store)
    for name, measure in whole["metrics"].items():
        assert in_blocks["metrics"][name]["value"] == pytest.approx(measure["value"]), name
        assert in_blocks["metrics"][name]["ci95"] == pytest.approx(measure["ci95"]), name


def test_compat_does_not_merge_equal_reports(run: LoadedRun, store: Store) -> None:
    clean, compat = evaluate_again(run, store), evaluate_again(run, store, protocol="compat")
    assert compat["counts"]["reports"] == compat["n"] == 23
    assert compat["chance"]["recall@10"] == pytest.approx(10 / 23)
    # Equal reports tie, and a tie counts against: nobody with an equal report can be first.
    assert value(compat, "recall@1") <= value(clean, "recall@1")
    assert value(compat, "median_rank") > value(clean, "median_rank")


def test_zero_shot_is_the_auroc_of_statement_minus_denial(
    records: dict[str, dict[str, Any]], run: LoadedRun, store: Store
) -> None:
    rows = store.select("test")
    images = embed_images(run, store.images(rows))
    temperature = run.preset.pretrain.objective.match_temperature
    record = records["zero-shot"]
    assert record["score"] == "observation"
    combined: list[float] = []
    for label, prompts in (("square", CONFIG.prompts["square"]), ("stripe", prompts_of("stripe", {}))):
        parts = []
        for words in (prompts.positive, prompts.negative):
            texts = embed_texts(run, [(word,) for word in words])
            of_global = global_scores(images.embedding, texts.embedding).mean(axis=1)
            of_observation = observation_scores(images.observations, texts.observations, texts.mask, temperature)
            parts.append((of_global, of_observation.mean(axis=1)))
        of_global, of_observation = (parts[0][i] - parts[1][i] for i in range(2))
        both = standardize(of_global) + standardize(of_observation)
        truth = [row.labels[label] for row in rows]
        assert value(record, f"auroc[{label}]") == pytest.approx(roc_auc_score(truth, of_observation), abs=0.02)
        combined.append(roc_auc_score(truth, both))
        assert record["metrics"][f"auroc[{label}]"]["positives"] == sum(truth)
    mean = np.mean([value(record, f"auroc[{label}]") for label in ("square", "stripe")])
    assert value(record, "auroc_macro") == value(record, "auroc_macro_observation") == pytest.approx(mean)
    assert value(record, "auroc_macro_combined") == pytest.approx(np.mean(combined), abs=0.02)
    assert record["chance"]["auroc_macro"] == 0.5


def test_labels_that_cannot_be_scored_are_named_and_a_misspelt_one_is_said(
    run: LoadedRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows, images, masks = make_rows({"test": 12}, seed=3)
    labels = [{"square": 1.0, "uncertain": -1.0, "sometimes": float(i % 2)} if i else {} for i in range(len(rows))]
    changed = [dataclasses.replace(row, labels=label) for row, label in zip(rows, labels, strict=True)]
    folder = write_rows(tmp_path / "store", changed, images, masks)
    config = EvaluateConfig(labels=("square", "uncertain", "sometimes", "somtimes"), bootstrap=10)
    with caplog.at_level(logging.WARNING):
        record = evaluate(run.path, folder, "zero-shot", config=config, device="cpu").to_record()
    assert 'no label "somtimes"; did you mean sometimes?' in caplog.text
    assert record["counts"]["undefined"] == {
        "square": "no absent case",
        "uncertain": "no labelled case",
        "somtimes": "no present case",
    }
    # The first row has no label at all: it is not labelled, which is not the same as absent.
    assert record["metrics"]["auroc[sometimes]"]["n"] == 11
    with pytest.raises(PlaceError, match="no label has both"):
        evaluate(run.path, folder, "zero-shot", config=EvaluateConfig(labels=("square",)), device="cpu")


def test_prompts_are_generated_where_none_are_given() -> None:
    assert prompts_of("Pleural_Thickening", {}) == Prompts(
        positive=("Pleural Thickening.",), negative=("No Pleural Thickening.",)
    )
    given = Prompts(positive=("a",), negative=("b",))
    assert prompts_of("x", {"x": given}) is given


def test_grounding_equals_plain_loops(records: dict[str, dict[str, Any]], run: LoadedRun, store: Store) -> None:
    rows = store.select("test")
    vectors, seen = embed_images_with_maps(run, store.images(rows))
    temperature = run.preset.pretrain.objective.match_temperature
    hits = []
    for i, row in enumerate(rows):
        label, box = row.boxes[0].label, row.boxes[0]
        prompts = CONFIG.prompts["square"].positive if label == "square" else ("stripe.",)
        textual = embed_texts(run, [(prompt,) for prompt in prompts]).observations[:, 0]
        maps = sentence_maps(vectors.observations[i], seen.attention[i], seen.grid, textual, temperature)
        region = np.zeros((SIZE, SIZE), bool)
        region[int(box.y) : int(box.y + box.height), int(box.x) : int(box.x + box.width)] = True
        best = int(np.argmax(sentence_scores(vectors.observations[i], textual, temperature)))
        hits.append(pointing_game(maps[best], region))
    record = records["grounding"]
    assert value(record, "pointing_game") == pytest.approx(np.mean(hits), abs=0.05)
    assert record["n"] == record["counts"]["cases"] == 24
    areas = [row.boxes[0].width * row.boxes[0].height / (SIZE * (SIZE - 2 * MARGIN)) for row in rows]
    assert record["chance"]["pointing_game"] == pytest.approx(np.mean(areas))
    gain = value(record, "pointing_game") - value(record, "pointing_game_prior")
    assert value(record, "pointing_game_gain") == pytest.approx(gain)


def test_regions_are_unions_of_boxes_and_masks_lie_inside_them(store: Store) -> None:
    row = store.select("test")[0]
    boxes = (Box("a", 2, 3, 4, 5), Box("a", 20.4, 30, 2, 2), Box("b", 40, 40, 0.2, 0.2))
    marked = dataclasses.replace(row, boxes=boxes)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[4, 4] = mask[20, 20] = 255
    first, second = cases_of(marked, SIZE, mask, ("a", "b"))
    assert first.region.sum() == 4 * 5 + 2 * 2
    assert first.mask is not None
    assert np.argwhere(first.mask).tolist() == [[4, 4]]
    assert second.region.sum() == 1
    assert second.mask is None
    alone = dataclasses.replace(row, boxes=(), labels={"a": 1.0, "b": 0.0})
    (case,) = cases_of(alone, SIZE, mask, ("a", "b"))
    assert case.label == "a"
    assert case.region.sum() == 2
    assert cases_of(dataclasses.replace(alone, labels={"a": 1.0, "b": 1.0}), SIZE, mask, ("a", "b")) == []


def test_grounding_scores_what_is_marked_and_an_empty_mask_marks_nothing(run: LoadedRun, tmp_path: Path) -> None:
    rows, images, masks = make_rows({"test": 12}, seed=3)
    normal = dict.fromkeys(rows[0].labels, 0.0)
    # Six images without a finding, with a mask or without: their maps are in the prior, and nothing else changes.
    without = [dataclasses.replace(row, boxes=(), labels=normal, mask_row=-1) for row in rows[::2]]
    looked_at = [dataclasses.replace(row, mask_row=old.mask_row) for row, old in zip(without, rows[::2], strict=True)]
    masks[::2] = 0
    config = EvaluateConfig(bootstrap=10)
    found = []
    for name, normals in (("old", without), ("new", looked_at)):
        folder = write_rows(tmp_path / name, [*rows[1::2], *normals], images, masks)
        found.append(evaluate(run.path, folder, "grounding", config=config, device="cpu").to_record())
    assert found[0]["metrics"] == found[1]["metrics"]
    assert found[0]["counts"] == found[1]["counts"]
    assert (found[1]["counts"]["cases"], found[1]["counts"]["cases_with_mask"], found[1]["n"]) == (6, 6, 6)
    assert found[1]["counts"]["images_in_prior"] == 12
    # A positive label whose mask is empty was marked nowhere.
    empty = [dataclasses.replace(row, boxes=(), labels=normal | {"square": 1.0}) for row in rows[::2]]
    folder = write_rows(tmp_path / "empty", empty, images, masks)
    with pytest.raises(PlaceError, match="grounding needs them"):
        evaluate(run.path, folder, "grounding", config=config, device="cpu")


def test_what_a_store_lacks_is_an_error_in_one_line(run: LoadedRun, tmp_path: Path) -> None:
    rows, images, masks = make_rows({"test": 4}, seed=3)
    bare = [dataclasses.replace(row, sentences=(), boxes=(), labels={}, mask_row=-1) for row in rows]
    folder = write_rows(tmp_path / "store", bare, images, masks)
    with pytest.raises(PlaceError, match="fewer than two images"):
        evaluate(run.path, folder, "retrieval", device="cpu")
    with pytest.raises(PlaceError, match="needs a store with labels"):
        evaluate(run.path, folder, "zero-shot", device="cpu")
    with pytest.raises(PlaceError, match="grounding needs them"):
        evaluate(run.path, folder, "grounding", device="cpu")
    with pytest.raises(PlaceError, match='split "validate" has no images'):
        evaluate(run.path, folder, "retrieval", split="validate", device="cpu")


def test_the_same_seed_gives_the_same_object(run: LoadedRun, store: Store) -> None:
    first, second, other = (evaluate_again(run, store, "zero-shot", seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first["metrics"]["auroc_macro"]["ci95"] != other["metrics"]["auroc_macro"]["ci95"]
    without = evaluate_again(run, store, "zero-shot", bootstrap=0)
    assert without["metrics"]["auroc_macro"]["ci95"] is None


def test_a_run_without_observations_is_scored_by_what_it_learnt_alone(
    run: LoadedRun, store: Store, tmp_path: Path
) -> None:
    objective = run.preset.pretrain.objective.model_copy(update={"pcma_weight": 0.0})
    preset = run.preset.model_copy(update={"pretrain": run.preset.pretrain.model_copy(update={"objective": objective})})
    ita = write_run(tmp_path / "ita", preset, seed=1)
    for task in ("retrieval", "zero-shot", "class-retrieval"):
        record = evaluate(ita, store.path, task, split="all", device="cpu").to_record()
        assert record["score"] == "global" or task == "class-retrieval"
        assert not [name for name in record["metrics"] if name.endswith(("_observation", "_combined"))]
        assert [name for name in record["metrics"] if name.endswith("_global")]
    with pytest.raises(PlaceError, match="without PCMA"):
        evaluate(ita, store.path, "grounding", device="cpu")

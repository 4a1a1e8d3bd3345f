"""Detection as a whole: trained for real on small images and on phantoms, resumed, rebuilt, scored, and on RSNA's files."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import make_rows, small_preset, write_rows, write_run

pytest.importorskip("mmdet", reason="the extra `detection` is not installed")

from placecli.config import Preset, load_preset
from placecli.data.phantom import write_phantoms
from placecli.data.preprocess import preprocess
from placecli.data.store import Store, open_store
from placecli.engine.distributed import Ranks
from placecli.engine.start import Start, build_empty_encoder
from placecli.records import PlaceError
from placecli.tasks import finetune as stage
from placecli.tasks.detect import Detection, DetectionLearner
from placecli.tasks.evaluate_tuned import evaluate_predictions
from placecli.tasks.tuned import load_tuned
from placecli.tasks.use import Examples

NOWHERE = Start("random", None)


def settings(**detection: Any) -> Preset:
    """A preset whose detector trains in seconds."""
    chosen = {
        "epochs": 2, "batch_size": 8, "learning_rate": 5e-3, "pretrained_learning_rate_scale": 1.0, "patience": 0,
        "width": 16, "layers": 1, "augment": 0.0, "finest_stride": 4,
    }  # fmt: skip
    tuned = {"finetune": {"detection": chosen | detection}, "evaluate": {"bootstrap": 10}}
    return Preset.model_validate(small_preset().model_dump(mode="json") | tuned)


def tune(preset: Preset, store: Store, out: Path, start: Start = NOWHERE, **choices: Any) -> stage.FinetuneSummary:
    return stage.finetune("detection", preset, store.path, start, out, seeds=[1], device="cpu", **choices)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """As the small store, and every fourth image has nothing in it and says so."""
    rows, images, masks = make_rows({"train": 48, "validate": 16, "test": 24}, 3)
    for i in range(0, len(rows), 4):
        images[i] = np.where(images[i] > 100, 50, images[i])
        rows[i] = dataclasses.replace(rows[i], boxes=(), labels=dict.fromkeys(rows[i].labels, 0.0))
    return open_store(write_rows(tmp_path_factory.mktemp("detect") / "store", rows, images, masks))


@pytest.fixture(scope="module")
def tuned(small: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, stage.FinetuneSummary]:
    out = tmp_path_factory.mktemp("detect") / "run"
    return out, tune(settings(epochs=10, augment=0.3), small, out)


def test_it_finds_what_is_drawn_in_images_it_has_not_seen(tuned: tuple[Path, stage.FinetuneSummary]) -> None:
    out, summary = tuned
    assert (summary.train_images, summary.validate_images, summary.test_images) == (48, 16, 24)
    assert summary.metrics["map_50"]["value"] > 0.6
    assert summary.metrics["froc"]["value"] > 0.6
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    validated = [line["map_50"] for line in lines if line.get("split") == "validate"]
    assert validated[0] < 0.2 < validated[-1]
    assert {"loss", "loss_cls", "loss_bbox", "loss_centerness"} <= lines[0].keys()


def test_a_run_is_rebuilt_from_its_folder_and_scores_alike(
    tuned: tuple[Path, stage.FinetuneSummary], small: Store
) -> None:
    out, summary = tuned
    loaded = load_tuned(out)
    assert loaded.about["labels"] == ["square", "stripe"]
    assert loaded.about["mmdet"]["type"] == "FCOS"
    rows = small.select("test")
    made = list(
        loaded.use.predict(
            loaded.model, loaded.preset, loaded.about, small, rows, torch.device("cpu"), lambda done, total: None
        )
    )
    kept = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert made == kept
    assert {key for each in kept for box in each["boxes"] for key in box} == {
        *("label", "x", "y", "width", "height", "score")
    }
    again = evaluate_predictions(
        "detection", out / "predictions.jsonl", small, loaded.preset, split="test", protocol="compat"
    ).to_record()["metrics"]
    assert again["map"]["value"] == summary.metrics["map"]["value"]
    assert again["map_compat"]["n"] <= 18


def test_a_cut_run_ends_with_the_same_bytes(small: Store, tmp_path: Path) -> None:
    preset = settings(augment=0.5)
    tune(preset, small, tmp_path / "whole")

    class Cut(Exception):
        pass

    def cut(stage_name: str, done: int, total: int) -> None:
        if stage_name.startswith("finetune") and done == 8:
            raise Cut

    with pytest.raises(Cut):
        tune(preset, small, tmp_path / "cut", progress=cut)
    tune(preset, small, tmp_path / "cut")
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("freeze", "moved"), [("all", set()), ("weights", {"running_mean", "running_var"})])
def test_a_frozen_encoder_is_that_of_the_run(freeze: str, moved: set[str], small: Store, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    tune(settings(tune="frozen", freeze=freeze, max_steps=2), small, tmp_path / "out", Start("run", run))
    before = load_file(run / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    names = [name.removeprefix("encoder.") for name in after if name.startswith("encoder.")]
    changed = [name for name in names if not torch.equal(before[f"image_encoder.{name}"], after[f"encoder.{name}"])]
    assert len(names) > 10
    assert {name.split(".")[-1] for name in changed} - {"num_batches_tracked"} == moved


def test_a_run_with_a_foreign_configuration_is_refused(
    tuned: tuple[Path, stage.FinetuneSummary], tmp_path: Path
) -> None:
    shutil.copytree(tuned[0], tmp_path / "run")
    about = json.loads((tmp_path / "run" / "task.json").read_text())
    about["mmdet"]["neck"] = {"type": "subprocess.getoutput", "cmd": f"touch {tmp_path / 'ran'}"}
    (tmp_path / "run" / "task.json").write_text(json.dumps(about))
    with pytest.raises(PlaceError, match="which place does not write"):
        load_tuned(tmp_path / "run")
    assert not (tmp_path / "ran").exists()


def test_shares_of_a_batch_hold_the_boxes_and_moves_of_the_whole(small: Store) -> None:
    preset = settings(augment=1.0)
    use, examples = Detection(), Examples(small, small.select("train"), small.select("validate"))
    about = use.describe(examples, preset)
    model = use.build(preset, about, build_empty_encoder(preset.pretrain.model, 0))
    learner = use.learner(model, preset, about, examples, Ranks(0, 1, torch.device("cpu")))
    assert isinstance(learner, DetectionLearner)
    indices = np.array([3, 1, 4, 5])
    images, targets = learner.prepare(learner.read(indices, slice(0, 4), 7, 0))
    halves = [learner.prepare(learner.read(indices, part, 7, 0)) for part in (slice(0, 2), slice(2, 4))]
    assert torch.equal(images, torch.cat([half[0] for half in halves]))
    joined = [target for half in halves for target in half[1]]
    assert all(torch.equal(one.boxes, other.boxes) for one, other in zip(targets, joined, strict=True))
    assert [target.labels.tolist() for target in targets] != [[], [], [], []]
    assert targets[2].boxes.shape == (0, 4), "image 4 has nothing in it"


def test_a_small_share_is_scored_on_the_labels_of_the_whole_train_split(small: Store) -> None:
    """Otherwise a rare label would leave the mean, and each share and seed would have a mean of its own."""
    share = [row for row in small.select("train") if all(box.label == "square" for box in row.boxes)]
    about = Detection().describe(Examples(small, share, small.select("validate")), settings())
    assert about["labels"] == ["square", "stripe"]
    assert about["mmdet"]["bbox_head"]["num_classes"] == 2


def test_a_store_without_boxes_of_these_labels_is_named(small: Store) -> None:
    preset = settings(labels=["triangle"])
    examples = Examples(small, small.select("train"), [])
    with pytest.raises(PlaceError, match="no image of the train split has a box of triangle"):
        Detection().describe(examples, preset)
    with pytest.raises(PlaceError, match="the train split holds nothing for detection"):
        stage.plan("detection", preset, small.path, NOWHERE)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder / "files", 20, 5, workers=1)
    preprocess(load_preset("demo", ["preprocess.size=64"]), folder / "files", folder / "store", workers=1)
    return open_store(folder / "store")


@pytest.mark.parametrize("head", ["fcos", "yolov3"])
def test_phantoms_go_the_whole_way(head: str, phantoms: Store, tmp_path: Path) -> None:
    changes = [
        *("image_size=64", f"head={head}", "width=16", "max_steps=4", "batch_size=4", "score_threshold=0.0"),
        "max_boxes=20",
    ]
    preset = load_preset("demo", [f"finetune.detection.{change}" for change in changes])
    summary = tune(preset, phantoms, tmp_path / "run", protocol="compat")
    assert summary.train_images > 10
    assert 0 <= summary.metrics["map"]["value"] < 1
    assert "map_compat" in summary.metrics
    about = json.loads((tmp_path / "run" / "task.json").read_text())
    assert set(about["labels"]) <= set(phantoms.labels())
    first = json.loads((tmp_path / "run" / "predictions.jsonl").read_text().splitlines()[0])
    assert len(first["boxes"]) == 20
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 64.001 for box in first["boxes"])


def test_rsna_is_learnt_and_scored_with_its_negatives(
    real_data: Callable[[str], Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = real_data("rsna_pneumonia")
    preset = load_preset("rsna", ["preprocess.size=64"])
    preprocess(preset, root, tmp_path / "store", workers=1)
    store = open_store(tmp_path / "store")
    use = Detection()
    rows = use.select(store.select("all"), preset)
    assert len(rows) == len(store.select("all")) == 55
    assert sum(bool(row.boxes) for row in rows) == 25
    run = write_run(tmp_path / "run")
    changes = ["width=16", "layers=1", "max_steps=3", "batch_size=8"]
    tuning = load_preset("rsna", [f"finetune.detection.{change}" for change in changes])
    summary = tune(tuning, store, tmp_path / "out", Start("run", run))
    assert summary.metrics["map"]["value"] is not None
    counts = json.loads((tmp_path / "out" / "test.json").read_text())["counts"]
    assert counts["boxes"]["Pneumonia"] == sum(len(row.boxes) for row in store.select("test"))

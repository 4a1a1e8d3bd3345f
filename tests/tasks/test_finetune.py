"""`place finetune` as a whole, on a small store: starts, shares, seeds, resuming, and that frozen is frozen."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_run import small_preset, write_store

from placecli.config import Preset
from placecli.data.store import open_store
from placecli.engine.checkpoint import load_model
from placecli.engine.signals import Interrupted
from placecli.engine.start import Start
from placecli.records import PlaceError
from placecli.tasks import finetune as stage
from placecli.tasks.evaluate_tuned import evaluate_predictions
from placecli.tasks.tuned import load_tuned


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("tune") / "store", {"train": 48, "validate": 16, "test": 32}, seed=2)


def preset(**classification: Any) -> Preset:
    settings = {
        "epochs": 6,
        "batch_size": 16,
        "learning_rate": 0.02,
        "augment": 0.0,
        "patience": 0,
        "warmup_fraction": 0.0,
    }
    settings |= {"pretrained_learning_rate_scale": 0.05} | classification
    tuned = {"finetune": {"classification": settings}, "evaluate": {"bootstrap": 20}}
    return Preset.model_validate(small_preset().model_dump() | tuned)


def tune(data: Path, start: Start, out: Path, config: Preset, seeds: tuple[int, ...] = (1,)) -> stage.FinetuneSummary:
    return stage.finetune("classification", config, data, start, out, seeds=seeds, device="cpu")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    from small_run import write_run

    return Start("run", write_run(tmp_path_factory.mktemp("tune") / "run", seed=1))


def weights(file: Path, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in load_file(file).items() if name.startswith(prefix)}


def test_a_probe_learns_keeps_its_features_and_leaves_a_run_that_evaluates_alike(
    data: Path, start: Start, tmp_path: Path
) -> None:
    summary = tune(data, start, tmp_path / "probe", preset(tune="probe"))
    metrics = summary.to_record()["metrics"]
    assert metrics["auroc_macro"]["value"] > 0.85
    assert metrics["auroc_macro"]["ci95"] is not None
    assert (summary.train_images, summary.validate_images, summary.test_images) == (48, 16, 32)
    assert start.run is not None
    assert len(list((start.run / "features").glob("features-*.npy"))) == 2
    assert json.loads((tmp_path / "probe" / "task.json").read_text())["labels"] == ["square", "stripe"]
    lines = (tmp_path / "probe" / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == 32
    store, loaded = open_store(data), load_tuned(tmp_path / "probe")
    again = evaluate_predictions(
        "classification", tmp_path / "probe" / "predictions.jsonl", store, loaded.preset, split="test", protocol="clean"
    )
    assert again.to_record()["metrics"]["auroc_macro"]["value"] == metrics["auroc_macro"]["value"]
    card = (tmp_path / "probe" / "card.md").read_text()
    assert "Not a medical device" in card
    assert "patient-" not in card


def test_a_probe_may_read_the_observations_that_the_run_learnt(data: Path, start: Start, tmp_path: Path) -> None:
    tune(data, start, tmp_path / "probe", preset(tune="probe", features="observations"))
    assert start.run is not None
    run, tuned = load_model(start.run, torch.device("cpu")), load_tuned(tmp_path / "probe")
    images = torch.rand(3, 1, 48, 48) * 2 - 1
    with torch.no_grad():
        whole, (global_feature, _) = run.model.encode_image(images), run.model.image_encoder(images)
        features, _ = tuned.model.encoder(images)  # type: ignore[operator, union-attr]
    assert features.shape == (3, global_feature.shape[1] + 8 * 16)
    assert torch.equal(features[:, : global_feature.shape[1]], global_feature)
    assert torch.allclose(features[:, global_feature.shape[1] :], whole.observations.flatten(1), atol=1e-6)
    head = weights(tmp_path / "probe" / "model.safetensors", "head.")
    assert head["weight"][:, global_feature.shape[1] :].abs().min() > 0  # and reads all of it


@pytest.mark.parametrize(("tune_what", "is_kept"), [("frozen", True), ("full", False)])
def test_the_extractor_is_frozen_or_tuned_with_its_encoder(
    tune_what: str, is_kept: bool, data: Path, start: Start, tmp_path: Path
) -> None:
    tune(data, start, tmp_path / tune_what, preset(tune=tune_what, features="observations", epochs=1))
    assert start.run is not None
    before = weights(start.run / "model.safetensors", "observer.")
    after = weights(tmp_path / tune_what / "model.safetensors", "encoder.observer.")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before) == is_kept
    assert "on the global feature and the V-PORs" in (tmp_path / tune_what / "card.md").read_text()


def test_observations_that_nothing_learnt_are_refused(data: Path, tmp_path: Path) -> None:
    from small_run import write_run

    config = preset(tune="probe", features="observations")
    with pytest.raises(PlaceError, match="a start from random has no V-PORs"):
        tune(data, Start("random", None), tmp_path / "a", config)
    ita = write_run(tmp_path / "ita", small_preset(objective={"pcma_weight": 0}))
    with pytest.raises(PlaceError, match=r"ita has objective\.pcma_weight 0"):
        tune(data, Start("run", ita), tmp_path / "b", config)


@pytest.mark.parametrize(("tune_what", "is_kept"), [("frozen", True), ("full", False)])
def test_frozen_keeps_every_weight_and_statistic_and_full_does_not(
    tune_what: str, is_kept: bool, data: Path, start: Start, tmp_path: Path
) -> None:
    tune(data, start, tmp_path / tune_what, preset(tune=tune_what))
    assert start.run is not None
    before = weights(start.run / "model.safetensors", "image_encoder.")
    after = weights(tmp_path / tune_what / "model.safetensors", "encoder.")
    assert before.keys() == after.keys()
    assert any("running_mean" in name for name in before), "the encoder has statistics that could move"
    assert all(torch.equal(before[name], after[name]) for name in before) == is_kept


def test_the_same_command_continues_and_a_finished_run_is_left_as_it_is(
    data: Path, start: Start, tmp_path: Path
) -> None:
    whole = tune(data, start, tmp_path / "whole", preset(tune="full"))
    calls: list[int] = []

    class Cut(Exception):
        pass

    def cut(stage_name: str, done: int, total: int) -> None:
        calls.append(done)
        if done == 8:
            raise Cut

    with pytest.raises(Cut):
        stage.finetune("classification", preset(tune="full"), data, start, tmp_path / "cut", seeds=[1], progress=cut)
    resumed = tune(data, start, tmp_path / "cut", preset(tune="full"))
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert resumed.metrics["auroc_macro"]["value"] == whole.metrics["auroc_macro"]["value"]
    before = (tmp_path / "whole" / "model.safetensors").stat().st_mtime_ns
    again = tune(data, start, tmp_path / "whole", preset(tune="full"))
    assert again.runs[0].already_done
    assert (tmp_path / "whole" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(PlaceError, match=r"finetune\.classification\.epochs: 6 -> 7"):
        tune(data, start, tmp_path / "whole", preset(tune="full", epochs=7))


def test_seeds_give_a_run_each_and_their_mean(data: Path, tmp_path: Path) -> None:
    summary = tune(data, Start("random", None), tmp_path / "runs", preset(tune="full", epochs=2), seeds=(0, 1))
    entry = summary.to_record()["metrics"]["auroc_macro"]
    assert entry["value"] == pytest.approx(sum(entry["values"]) / 2)
    assert entry["sd"] is not None
    assert entry["ci95"] is None
    assert [Path(run.run).name for run in summary.runs] == ["seed-0", "seed-1"]
    assert summary.start == "random"


def test_a_share_smaller_than_a_batch_is_learnt_from(data: Path, start: Start, tmp_path: Path) -> None:
    config = preset(tune="full", epochs=1)
    config = config.model_copy(update={"finetune": config.finetune.model_copy(update={"fraction": 0.1})})
    assert tune(data, start, tmp_path / "share", config).train_images == 6


def test_a_probe_that_is_asked_to_stop_stops_and_the_same_command_goes_on(
    data: Path, start: Start, tmp_path: Path
) -> None:
    def ask(stage_name: str, done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped by SIGTERM; run the same command to continue"):
        stage.finetune("classification", preset(tune="probe"), data, start, tmp_path / "p", seeds=[1], progress=ask)
    assert not tune(data, start, tmp_path / "p", preset(tune="probe")).runs[0].already_done


def test_labels_are_those_of_the_whole_train_split_whatever_the_share(data: Path, start: Start, tmp_path: Path) -> None:
    config = preset(tune="probe")
    config = config.model_copy(update={"finetune": config.finetune.model_copy(update={"fraction": 0.01})})
    summary = tune(data, start, tmp_path / "tiny", config)
    assert summary.train_images == 2  # one patient: no label of the share need have both kinds
    assert json.loads((tmp_path / "tiny" / "task.json").read_text())["labels"] == ["square", "stripe"]
    assert summary.metrics["auroc_macro"]["value"] is not None


def test_starts_that_cannot_be_are_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="builtin encoder has no ImageNet weights"):
        tune(data, Start("imagenet", None), tmp_path / "a", preset())
    with pytest.raises(PlaceError, match="name it with --run"):
        tune(data, Start("run", None), tmp_path / "b", preset())
    (tmp_path / "empty").mkdir()
    with pytest.raises(PlaceError, match=r"config\.yaml"):
        tune(data, Start("run", tmp_path / "empty"), tmp_path / "c", preset())


def test_predictions_that_lack_an_image_or_a_label_are_refused(data: Path, tmp_path: Path) -> None:
    store = open_store(data)
    file = tmp_path / "predictions.jsonl"
    rows = store.select("test")
    good = [{"image_id": row.image_id, "scores": {"square": 0.5, "stripe": 0.5}} for row in rows]

    def score(lines: list[dict[str, Any]]) -> None:
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        evaluate_predictions("classification", file, store, preset(), split="test", protocol="clean")

    score(good)
    with pytest.raises(PlaceError, match="1 of 32 images of the split have none"):
        score(good[1:])
    with pytest.raises(PlaceError, match='no score for "stripe"'):
        score([*good[:-1], {"image_id": rows[-1].image_id, "scores": {"square": 0.5}}])
    with pytest.raises(PlaceError, match=r"outside 0\.\.1"):
        score([*good[:-1], {"image_id": rows[-1].image_id, "scores": {"square": 1.5, "stripe": 0.0}}])
    file.write_text("{}\nnonsense\n")
    with pytest.raises(PlaceError, match=r"predictions\.jsonl, line 2: not a JSON object"):
        evaluate_predictions("classification", file, store, preset(), split="test", protocol="clean")


def test_the_plan_names_sizes_and_writes_nothing(data: Path, start: Start, tmp_path: Path) -> None:
    plan = stage.plan("classification", preset(), data, start)
    assert (plan["train_images"], plan["labels"], plan["tune"]) == (48, ["square", "stripe"], "probe")
    assert plan["trainable_parameters"] < plan["parameters"]

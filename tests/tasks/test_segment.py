"""Segmentation: what stands still, what is learnt, what resumes, what is scored, against closed forms."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import MARGIN, SIZE, make_rows, small_preset, write_rows, write_run
from torch import nn

from placecli.config import Preset, load_preset
from placecli.data.phantom import write_phantoms
from placecli.data.preprocess import preprocess
from placecli.data.store import Store, open_store
from placecli.engine import signals
from placecli.engine.checkpoint import load_model
from placecli.engine.distributed import Ranks
from placecli.engine.start import Start, build_empty_encoder
from placecli.engine.training import Training
from placecli.metrics.segmentation import dice
from placecli.records import PlaceError, Row
from placecli.tasks import finetune as stage
from placecli.tasks.evaluate_tuned import evaluate_predictions
from placecli.tasks.evaluation import Resampling
from placecli.tasks.predictions import write_predictions
from placecli.tasks.segment import Segmentation, Segmenter, measure_model
from placecli.tasks.segmentation_baseline import best_constant_mask
from placecli.tasks.segmentation_runs import decode_runs, encode_runs
from placecli.tasks.segmentation_scores import measure_rows, score_segmentation
from placecli.tasks.tuned import load_tuned
from placecli.tasks.use import Examples

NO_INTERVALS = Resampling(0, 0)


def settings(**segmentation: Any) -> Preset:
    """A preset whose segmentation trains in a second."""
    chosen = {
        "epochs": 2, "batch_size": 4, "learning_rate": 5e-3, "pretrained_learning_rate_scale": 1.0, "patience": 0,
        "width": 16, "augment": 0.0,
    }  # fmt: skip
    preset = small_preset().model_dump(mode="json")
    return Preset.model_validate(preset | {"finetune": {"segmentation": chosen | segmentation}})


def tune(preset: Preset, store: Store, out: Path, start: Start | None = None) -> stage.FinetuneSummary:
    chosen = start or Start("random", None)
    return stage.finetune("segmentation", preset, store.path, chosen, out, seeds=[1], device="cpu")


def learn(preset: Preset, store: Store, rows: list[Row], steps: int) -> Segmenter:
    """The model after some steps on the rows from random weights, without a run folder."""
    use, config = Segmentation(), preset.finetune.segmentation
    torch.manual_seed(0)
    model = use.build(preset, {}, build_empty_encoder(preset.pretrain.model, 0)).train()
    learner = use.learner(model, preset, {}, Examples(store, rows, []), Ranks(0, 1, torch.device("cpu")))
    optimizer = torch.optim.AdamW(model.parameters(), config.learning_rate)
    generator = np.random.default_rng(0)
    for step in range(steps):
        chosen = generator.permutation(len(rows))[: config.batch_size]
        loss = learner.objective(learner.prepare(learner.read(chosen, slice(0, len(chosen)), step, 0)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def mean_dice(model: Segmenter, store: Store, rows: list[Row]) -> float:
    return float(dice(measure_model(model, store, rows, SIZE, 0.5, torch.device("cpu"))).mean())


def masked_store(folder: Path, counts: dict[str, int]) -> Store:
    """As the small store, but every third mask is empty and every fourth image has none."""
    rows, images, masks = make_rows(counts, 0)
    masks[::3] = 0
    rows = [dataclasses.replace(row, mask_row=-1) if i % 4 == 3 else row for i, row in enumerate(rows)]
    return open_store(write_rows(folder, rows, images, masks))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("segment") / "run")


@pytest.mark.parametrize("freeze", ["all", "weights"])
def test_frozen_leaves_every_weight_and_statistic_and_the_fields_way_does_not(
    freeze: str, store: Store, run_folder: Path, tmp_path: Path
) -> None:
    preset = settings(tune="frozen", freeze=freeze, max_steps=3)
    tune(preset, store, tmp_path / "out", Start("run", run_folder))
    tuned = load_tuned(tmp_path / "out")
    assert {name.split(".")[0] for name, part in tuned.model.named_parameters() if part.requires_grad} == {"decoder"}
    before, after = state(load_model(run_folder).model.image_encoder), state(tuned.model.encoder)  # type: ignore[arg-type]
    changed = {name.split(".")[-1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == (set() if freeze == "all" else {"running_mean", "running_var", "num_batches_tracked"})


def test_full_moves_the_encoder(store: Store, run_folder: Path, tmp_path: Path) -> None:
    tune(settings(max_steps=2), store, tmp_path / "out", Start("run", run_folder))
    before, after = load_model(run_folder).model.image_encoder, load_tuned(tmp_path / "out").model.encoder
    assert not torch.equal(before.stem[0].weight, after.stem[0].weight)  # type: ignore[union-attr, operator, index]


@pytest.mark.parametrize(("decoder", "loss", "reached"), [("unet", "dice", 0.95), ("setr", "focal-dice", 0.8)])
def test_four_images_are_learnt_by_heart(decoder: str, loss: str, reached: float, store: Store) -> None:
    rows = store.select("train")[:4]
    model = learn(settings(decoder=decoder, loss=loss), store, rows, steps=80)
    assert mean_dice(model, store, rows) > reached, "setr sees one map, here of 8 pixels a place"


def test_it_finds_what_is_marked_in_images_it_has_not_seen(store: Store) -> None:
    rows = store.select("test")
    model = learn(settings(augment=0.5, batch_size=8), store, store.select("train"), steps=60)
    constant = best_constant_mask(store, store.select("train"))
    assert constant is not None
    of_constant = dice(measure_rows(np.stack([constant] * len(rows)), store, rows, is_clipped=True)).mean()
    assert mean_dice(model, store, rows) > 0.7 > 0.5 > of_constant


def test_an_interrupted_run_ends_with_the_same_bytes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = settings(augment=1.0, epochs=1)
    tune(preset, store, tmp_path / "whole")
    step = Training._step

    def stop_after_five(self: Training, stored: list[Any], is_asked: bool) -> Any:
        return step(self, stored, is_asked or self.state.step == 4)

    monkeypatch.setattr(Training, "_step", stop_after_five)
    with pytest.raises(signals.Interrupted):
        tune(preset, store, tmp_path / "parts")
    monkeypatch.setattr(Training, "_step", step)
    tune(preset, store, tmp_path / "parts")
    for name in ("model.safetensors", "predictions.jsonl", "task.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_image_and_mask_are_augmented_by_the_same_draw(store: Store) -> None:
    use, preset = Segmentation(), settings(augment=1.0)
    bright = [row for row in store.select("train") if row.mask_row >= 0][:16]
    torch.manual_seed(0)
    model = use.build(preset, {}, build_empty_encoder(preset.pretrain.model, 0))
    ranks = Ranks(0, 1, torch.device("cpu"))
    learner = use.learner(model, preset, {}, Examples(store, bright, []), ranks)
    images, masks = learner.prepare(learner.read(np.arange(16), slice(0, 16), 5, 0))
    inside = masks > 0.9
    assert bool(inside.any())
    assert float(images[inside].mean()) > float(images[masks == 0].mean()) + 0.5
    plain = torch.from_numpy(store.masks(bright)).unsqueeze(1) / 255
    assert not torch.equal(masks, plain), "nothing was moved"


def test_only_looked_at_images_are_used_and_an_empty_mask_is_one(tmp_path: Path) -> None:
    store = masked_store(tmp_path / "store", {"train": 8, "validate": 4, "test": 12})
    used = Segmentation().select(store.select("train"), settings())
    assert [row.image_id for row in used] == [f"image-{i:03d}" for i in (0, 1, 2, 4, 5, 6)]
    assert int((store.masks(used).max(axis=(1, 2)) == 0).sum()) == 3 - 1


def perfect(store: Store, rows: list[Row]) -> list[dict[str, Any]]:
    pairs = zip(rows, store.masks(rows), strict=True)
    return [{"image_id": row.image_id, **encode_runs(mask > 0)} for row, mask in pairs]


def score(predictions: list[dict[str, Any]], store: Store, rows: list[Row], protocol: str = "clean") -> Any:
    return score_segmentation(predictions, store, rows, settings().finetune.segmentation, {}, protocol, NO_INTERVALS)


def test_scores_of_the_right_the_empty_and_the_full_answer(tmp_path: Path) -> None:
    store = masked_store(tmp_path / "store", {"train": 8, "validate": 4, "test": 12})
    rows = Segmentation().select(store.select("test"), settings())
    actual = store.masks(rows) > 0
    positive = actual.any(axis=(1, 2))
    assert 0 < positive.sum() < len(rows)
    right = score(perfect(store, rows), store, rows)
    assert {name: measure.value for name, measure in right.metrics.items()} == dict.fromkeys(right.metrics, 1.0)
    assert right.metrics["dice_positives"].n == positive.sum() == right.counts["positives"]
    assert right.metrics["specificity"].n == len(rows) - positive.sum() == right.counts["empty"]

    empty = [{"image_id": row.image_id, "size": [SIZE, SIZE], "counts": [SIZE * SIZE]} for row in rows]
    found = {name: measure.value for name, measure in score(empty, store, rows).metrics.items()}
    share = 1 - positive.mean()
    assert found["dice_positives"] == found["iou_positives"] == found["dice_pooled"] == 0
    assert found["dice_all"] == found["iou_all"] == pytest.approx(share)
    assert found["specificity"] == 1
    assert right.counts["of_empty_masks"] == pytest.approx(found)

    full = [{"image_id": row.image_id, "size": [SIZE, SIZE], "counts": [0, SIZE * SIZE]} for row in rows]
    sizes = actual.sum(axis=(1, 2))
    for protocol, area in (("clean", SIZE * (SIZE - 2 * MARGIN)), ("compat", SIZE * SIZE)):
        found = {name: measure.value for name, measure in score(full, store, rows, protocol).metrics.items()}
        each = 2 * sizes / (sizes + area)
        assert found["dice_all"] == pytest.approx(each.mean())
        assert found["dice_positives"] == pytest.approx(each[positive].mean())
        assert found["iou_positives"] == pytest.approx((sizes / area)[positive].mean())
        assert found["dice_pooled"] == pytest.approx(2 * sizes.sum() / (sizes.sum() + area * len(rows)))
        batches = [each[first : first + 4].mean() for first in range(0, len(rows), 4)]
        assert found["dice_compat"] == pytest.approx(np.mean(batches))
        assert found["specificity"] == 0


def test_intervals_hold_the_value_and_resample_patients(store: Store) -> None:
    rows = store.select("test")
    predictions = perfect(store, rows)
    for one in predictions[::2]:
        one["counts"] = [SIZE * SIZE]
    config = settings().finetune.segmentation
    found = score_segmentation(predictions, store, rows, config, {}, "clean", Resampling(200, 0))
    measure = found.metrics["dice_positives"]
    assert measure.value == 0.5
    assert measure.low == measure.high == 0.5, "each patient has one image of either kind"


def test_a_split_without_anything_marked_is_told(tmp_path: Path) -> None:
    rows, images, masks = make_rows({"train": 4, "validate": 2, "test": 4}, 0)
    masks[:] = 0
    store = open_store(write_rows(tmp_path / "store", rows, images, masks))
    with pytest.raises(PlaceError, match="anything marked"):
        score(perfect(store, store.select("test")), store, store.select("test"))
    with pytest.raises(PlaceError, match="every mask that would be learnt from is empty"):
        tune(settings(), store, tmp_path / "out")


def test_the_constant_mask_is_the_best_of_all_levels(tmp_path: Path) -> None:
    made, images, shapes = make_rows({"train": 64}, 0)
    sizes = 30 * np.arange(1, 65)  # each mask within the next: their mean has 64 levels
    for shape, size in zip(shapes.reshape(64, -1), sizes, strict=True):
        shape[:] = np.arange(SIZE * SIZE) < size
    store = open_store(write_rows(tmp_path / "store", made, images, shapes * 255))
    rows = store.select("train")
    means = [float((2 * np.minimum(sizes, size) / (sizes + size)).mean()) for size in sizes]
    best = int(np.argmax(means))
    constant = best_constant_mask(store, rows)
    assert constant is not None
    assert 0 < best < 63
    np.testing.assert_array_equal(constant, store.masks([rows[best]])[0] > 0)
    assert best_constant_mask(store, []) is None


def test_predictions_of_another_program_are_scored_the_same(store: Store, tmp_path: Path) -> None:
    preset = settings(max_steps=2)
    tune(preset, store, tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "test.json").read_text("utf-8"))
    file = tmp_path / "out" / "predictions.jsonl"
    again = evaluate_predictions("segmentation", file, store, preset, split="test", protocol="clean").to_record()
    assert again["metrics"] == kept["metrics"]
    assert again["chance"] == kept["chance"], "the whole train split was learnt from"
    first, *others = map(json.loads, file.read_text("utf-8").splitlines())
    assert decode_runs(first, SIZE).shape == (SIZE, SIZE)
    write_predictions(tmp_path / "fewer.jsonl", others)
    with pytest.raises(PlaceError, match="1 of 24 images"):
        evaluate_predictions("segmentation", tmp_path / "fewer.jsonl", store, preset, split="test", protocol="clean")


def test_logits_are_brought_to_the_frame_of_the_store(store: Store) -> None:
    class Half(nn.Module):
        """Marks the right half of any image."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            side = images.shape[-1]
            return torch.where(torch.arange(side) >= side // 2, 1.0, -1.0).expand(len(images), 1, side, side)

    rows = store.select("test")
    overlap = measure_model(Half(), store, rows, 32, 0.5, torch.device("cpu"))
    assert set(overlap.predicted.tolist()) == {SIZE * (SIZE // 2 - MARGIN)}
    assert overlap.both.tolist() == (store.masks(rows)[:, :, SIZE // 2 :] > 0).sum(axis=(1, 2)).tolist()


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "vit_tiny_patch16_224"])
def test_other_encoders_train_at_another_size(encoder: str, store: Store, tmp_path: Path) -> None:
    preset = settings(max_steps=1, image_size=32)
    model = preset.pretrain.model.model_copy(update={"image_encoder": encoder, "image_size": 64})
    preset = preset.model_copy(update={"pretrain": preset.pretrain.model_copy(update={"model": model})})
    summary = tune(preset, store, tmp_path / "out")
    assert 0 <= summary.metrics["dice_all"]["value"] <= 1
    assert isinstance(load_tuned(tmp_path / "out").model, Segmenter)


def test_a_phantom_without_a_finding_is_scored_as_an_image_with_nothing_marked(tmp_path: Path) -> None:
    """In a store that was made before, its row has no mask and is still not used."""
    write_phantoms(tmp_path / "phantoms", 12, 3, workers=1)
    preset = load_preset("demo", ["preprocess.size=48"])
    preprocess(preset, tmp_path / "phantoms", tmp_path / "store", workers=1)
    store = open_store(tmp_path / "store")
    everyone = [row for split in ("train", "validate", "test") for row in store.select(split)]
    rows = Segmentation().select(everyone, preset)
    is_normal = np.array([not any(row.labels.values()) for row in rows])
    assert 0 < is_normal.sum() < len(rows) == len(everyone)
    assert ((store.masks(rows) > 0).any(axis=(1, 2)) == ~is_normal).all()

    spoilt = perfect(store, rows)
    alarmed, missed = np.flatnonzero(is_normal)[0], np.flatnonzero(~is_normal)[:2]
    spoilt[alarmed]["counts"] = [40 * 48, 5, 48 * 48 - 40 * 48 - 5]
    for place in missed:
        spoilt[place]["counts"] = [48 * 48]
    scored = score(spoilt, store, rows)
    metrics = {name: (measure.value, measure.n) for name, measure in scored.metrics.items()}
    normals, positives = int(is_normal.sum()), int((~is_normal).sum())
    assert metrics["specificity"] == (pytest.approx(1 - 1 / normals), normals)
    assert metrics["dice_positives"] == (pytest.approx(1 - 2 / positives), positives)
    assert metrics["dice_all"] == (pytest.approx(1 - 3 / len(rows)), len(rows))
    assert scored.counts["empty"] == normals
    assert scored.counts["of_empty_masks"]["dice_all"] == pytest.approx(normals / len(rows))

    old = [
        dataclasses.replace(row, mask_row=-1) if normal else row for row, normal in zip(rows, is_normal, strict=True)
    ]
    used = Segmentation().select(old, preset)
    assert len(used) == positives
    assert "specificity" not in score(perfect(store, used), store, used).metrics


def test_lungs_of_real_radiographs(real_data: Any, tmp_path: Path) -> None:
    """Lungs are found beyond what a constant mask finds, from random weights, in seconds."""
    preset = load_preset("lung-masks", ["preprocess.size=64"])
    preprocess(preset, real_data("lung_masks_mcu_chn"), tmp_path / "store", workers=1)
    store = open_store(tmp_path / "store")
    rows = store.select("test")
    model = learn(settings(augment=0.5, batch_size=8, width=32), store, store.select("train"), steps=40)
    constant = best_constant_mask(store, store.select("train"))
    assert constant is not None
    of_constant = dice(measure_rows(np.stack([constant] * len(rows)), store, rows, is_clipped=True)).mean()
    assert mean_dice(model, store, rows) > of_constant + 0.05 > 0.6

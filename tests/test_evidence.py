"""The parts of benchmarks/evidence that can be wrong without a word: altered reports, paired differences, shuffling."""

from __future__ import annotations

import importlib
import json
import math
import runpy
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import ttest_rel
from small_run import small_preset, write_run, write_store

from placecli.config import ObjectiveConfig, Preset, PretrainConfig, change_preset, load_saved_preset
from placecli.data.store import open_store
from placecli.engine.checkpoint import CONFIG, MODEL, load_model
from placecli.engine.model import unit
from placecli.engine.observing import ObservingImageEncoder
from placecli.engine.start import Start, build_encoder, load_extractor

FOLDER = Path(__file__).parent.parent / "benchmarks" / "evidence"


@pytest.fixture(scope="module")
def evidence() -> Iterator[dict[str, ModuleType]]:
    """The bench's modules; it is a folder that is run, not a package."""
    sys.path.insert(0, str(FOLDER))
    yield {name: importlib.import_module(name) for name in ("altered", "table", "grid", "cell")}
    sys.path.remove(str(FOLDER))


@pytest.mark.parametrize(
    ("sentence", "alteration", "expected"),
    [
        ("There is a small left pleural effusion.", "side", "There is a small right pleural effusion."),
        ("Right upper lobe consolidation.", "side", "Left upper lobe consolidation."),
        ("Effusions, small on the right and large on the left.", "side", None),
        ("The heart is enlarged.", "side", None),
        ("Right upper lobe consolidation.", "site", "Right lower lobe consolidation."),
        ("Opacity at the left apex.", "site", "Opacity at the left base."),
        ("Upper and lower zones are involved.", "site", None),
        ("There is a small left pleural effusion.", "denial", "There is no small left pleural effusion."),
        ("There is no pneumothorax.", "denial", "There is pneumothorax."),
        ("No focal consolidation.", "denial", "Focal consolidation."),
        ("A mass is seen in the left lung.", "denial", "A mass is not seen in the left lung."),
        ("A mass is not seen.", "denial", "A mass is seen."),
        ("The heart is enlarged.", "denial", None),
    ],
)
def test_a_sentence_is_altered_or_left(
    evidence: dict[str, ModuleType], sentence: str, alteration: str, expected: str | None
) -> None:
    assert evidence["altered"].alter(sentence, alteration) == expected


def test_only_what_the_image_tells_is_its_gain(
    evidence: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    altered = evidence["altered"]
    rows = [SimpleNamespace(sentences=(text,)) for text in ("No mass.", "No edema.", "Left mass.", "Right edema.")]
    store = SimpleNamespace(select=lambda split: rows, images=lambda rows: np.eye(len(rows)))
    run = SimpleNamespace(preset=small_preset(objective={"pcma_weight": 0.0}))

    def read(liking: float) -> dict[str, float]:
        """A model whose image i knows its own report, and whose texts are liked by `liking` where they deny."""

        def embed_texts(_: object, reports: list[tuple[str, ...]]) -> SimpleNamespace:
            own = [[float(report == row.sentences) for row in rows] for report in reports]
            denies = [[liking * report[0].startswith("No")] for report in reports]
            return SimpleNamespace(embedding=np.hstack([own, denies]))

        monkeypatch.setattr(altered, "embed_texts", embed_texts)
        images = SimpleNamespace(embedding=np.hstack([np.eye(4), np.ones((4, 1))]))
        monkeypatch.setattr(altered, "embed_images", lambda run, pixels: images)
        return dict(altered.score_alterations(run, store, "test"))

    found = read(liking=0.0)
    assert (found["true_over_altered_side"], found["another_image_side"], found["image_gain_side"]) == (1.0, 0.5, 0.5)
    assert found["cases_denial"] == 2.0
    prejudiced = read(liking=10.0)
    assert (prejudiced["true_over_altered_denial"], prejudiced["image_gain_denial"]) == (1.0, 0.0)


def test_differences_are_paired_by_seed(evidence: dict[str, ModuleType]) -> None:
    key = ("probe", "auroc_1")
    ours, theirs = {0: 0.8, 1: 0.9, 2: 0.85, 7: 0.1}, {2: 0.84, 1: 0.85, 0: 0.7, 9: 1.0}
    values = {
        "place": {seed: {key: value} for seed, value in ours.items()},
        "ita": {seed: {key: value} for seed, value in theirs.items()},
    }
    found = evidence["table"].paired(values, "place", "ita", key)
    differences = np.asarray([0.1, 0.05, 0.01])
    reference = ttest_rel([0.8, 0.9, 0.85], [0.7, 0.85, 0.84]).confidence_interval(0.95)
    assert found.num_seeds == 3  # seeds 7 and 9 have no partner
    assert found.mean == pytest.approx(differences.mean())
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert not found.is_above_zero


def test_one_seed_has_no_interval(evidence: dict[str, ModuleType]) -> None:
    found = evidence["table"].estimate([0.5])
    assert math.isnan(found.low)
    assert not found.is_above_zero


def test_the_page_has_the_cells_and_says_what_is_above_zero(evidence: dict[str, ModuleType]) -> None:
    def record(arm: str, seed: int, value: float) -> dict[str, object]:
        return {
            "source": "phantom",
            "arm": arm,
            "seed": seed,
            "training": {"seconds": 2.0},
            "curve": [[30, value / 2], [60, value]],
            "scores": {"zero-shot": {"auroc_macro": value, "seconds": 1.0}},
        }

    records = [record("ita", seed, 0.6 + seed / 100) for seed in range(3)]
    records += [record("pcma", seed, 0.7 + seed / 90) for seed in range(3)]
    made = evidence["table"].tables("phantom", records)
    text = evidence["table"].markdown("Evidence", "A lead.", made)
    assert "| zero-shot, macro AUROC | 0.610 (0.585 to 0.635) |" in text
    assert "| zero-shot, macro AUROC | **+0.101" in text
    assert "| step | ITA | ITA + PCMA |\n|---|---|---|\n| 30 | 0.305 | 0.356 |\n| 60 | 0.610 | 0.711 |" in text
    page = evidence["table"].html("Evidence", "A lead.", made, {"phantom": evidence["table"].chart(records)})
    assert "<td class=yes>+0.101" in page
    assert page.count("<polyline") == 2


def test_the_control_stands_beside_its_arm_and_against_what_was_learnt(evidence: dict[str, ModuleType]) -> None:
    def record(arm: str, seed: int, **scores: float) -> dict[str, object]:
        told = {kind: {"auroc_0.1": value + seed / 100} for kind, value in scores.items()}
        return {"source": "phantom", "arm": arm, "seed": seed, "training": {"seconds": 2.0}, "scores": told}

    records = [record("ita", seed, probe=0.6, drawn=0.65) for seed in range(2)]
    records += [record("place", seed, probe=0.6, observed=0.75) for seed in range(2)]
    made = dict(evidence["table"].tables("phantom", records))
    tables = {caption.split(": ")[1][:5]: {row[0]: row[1:] for row in rows} for caption, rows in made.items()}
    assert tables["mean "]["control on 10 %"][0].startswith("0.655")
    assert "control on 10 %" not in tables["diffe"], "no pair of arms has it"
    assert tables["probe"]["PLACE, V-PORs too, 10 % - control, 10 %"] == ["**+0.100 (+0.100 to +0.100)**"]
    assert tables["probe"]["control, 10 % - ITA, 10 %"] == ["**+0.050 (+0.050 to +0.050)**"]


def test_variants_have_a_row_each_with_what_they_change(evidence: dict[str, ModuleType]) -> None:
    def record(arm: str, seed: int, value: float, overrides: list[str]) -> dict[str, object]:
        scores = {"zero-shot": {"auroc_macro": value}}
        told = {"source": "phantom", "arm": arm, "seed": seed, "overrides": overrides}
        return {**told, "training": {"seconds": 2.0}, "scores": scores}

    records = [record("place", seed, 0.7 + seed / 100, ["epochs=6"]) for seed in range(3)]
    records += [record("k8", seed, 0.6 + seed / 100, ["epochs=6", "model.num_queries=8"]) for seed in range(2)]
    made = dict(evidence["table"].tables("phantom", records))
    (means,) = (rows for caption, rows in made.items() if "mean over seeds" in caption)
    assert means[0] == ["", "PLACE"]
    (varied,) = (rows for caption, rows in made.items() if "one thing changed" in caption)
    assert varied[0].index("zero-shot, macro AUROC") == 4
    assert varied[1] == ["model.num_queries=8", "2", "", "", "-0.100 (-0.100 to -0.100)", "", "", "", "", "", ""]


@pytest.mark.parametrize(("pcma_weight", "features"), [(1.0, "observations"), (0.0, "global")])
def test_an_arm_is_probed_on_what_it_learnt(
    evidence: dict[str, ModuleType], pcma_weight: float, features: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def probe(_: object, preset: Preset) -> dict[str, float]:
        read.append(preset.finetune.classification.features)
        return {}

    monkeypatch.setattr(evidence["cell"], "_probe", probe)
    evidence["cell"]._observed(None, small_preset(objective={"pcma_weight": pcma_weight}))
    assert read == [features]


def test_the_control_reads_patches_by_an_extractor_that_nothing_taught(
    evidence: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = small_preset(objective={"pcma_weight": 0.0, "correlation_weight": 0.0})
    write_run(tmp_path / "run", preset)
    told = evidence["grid"].Cell("s", tmp_path, "ita", 0, (), (), tmp_path)
    weights = (tmp_path / "run" / MODEL).read_bytes()

    def probe(cell: Any, tuned: Preset) -> dict[str, float]:
        assert tuned.finetune.classification.features == "observations"
        assert load_saved_preset(cell.out / "run" / CONFIG).pretrain.objective.pcma_weight > 0
        assert (cell.out / "run" / MODEL).read_bytes() == weights
        start, model = Start("run", cell.out / "run"), tuned.pretrain.model
        encoder = ObservingImageEncoder(build_encoder(model, start, 0), model)
        load_extractor(encoder, start)
        drawn = load_model(tmp_path / "run", torch.device("cpu")).model.observer.queries
        assert torch.equal(encoder.observer.queries, drawn)
        return {"auroc_0.1": 0.5}

    monkeypatch.setattr(evidence["cell"], "_probe", probe)
    assert evidence["cell"]._drawn(told, preset) == {"auroc_0.1": 0.5}
    assert load_saved_preset(tmp_path / "run" / CONFIG).pretrain.objective.pcma_weight == 0, "the run is left as it was"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert evidence["cell"]._drawn(told, small_preset()) == {}


def test_cells_told_by_lines_join_those_of_the_folder(evidence: dict[str, ModuleType], tmp_path: Path) -> None:
    read_cells = runpy.run_path(str(FOLDER / "__main__.py"), run_name="evidence")["read_cells"]

    def record(seed: int, value: float) -> dict[str, object]:
        return {"source": "phantom", "arm": "ita", "seed": seed, "scores": {"probe": {"auroc_1": value}}}

    (tmp_path / "cells.jsonl").write_text("".join(json.dumps(record(seed, 0.5)) + "\n" for seed in (1, 0)))
    cell = tmp_path / "phantom" / "ita" / "seed-1" / "cell.json"
    cell.parent.mkdir(parents=True)
    cell.write_text(json.dumps(record(1, 0.7)))
    assert read_cells(tmp_path) == [record(0, 0.5), record(1, 0.7)]


def test_shuffling_moves_reports_of_train_and_validate_alone(evidence: dict[str, ModuleType], tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", {"train": 24, "validate": 8, "test": 8}, seed=1)
    cell, before = evidence["cell"], open_store(store)
    after = open_store(cell.write_store(store, tmp_path / "shuffled", cell.shuffle_reports(before.rows, seed=3)))
    after.verify()
    assert before.digest != after.digest
    for split in ("train", "validate", "test"):
        old, new = before.select(split), after.select(split)
        assert sorted(row.sentences for row in old) == sorted(row.sentences for row in new)
        moved = sum(a.sentences != b.sentences for a, b in zip(old, new, strict=True))
        assert moved == 0 if split == "test" else moved > len(old) / 2
        assert [(row.image_id, row.labels, row.boxes) for row in old] == [
            (row.image_id, row.labels, row.boxes) for row in new
        ]


def test_fewer_patients_are_learnt_from_and_all_others_stay(evidence: dict[str, ModuleType], tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", {"train": 24, "validate": 8, "test": 8}, seed=1)
    cell, before = evidence["cell"], open_store(store)

    def keep(patients: int, seed: int) -> set[str]:
        told = evidence["grid"].Cell("phantom", store, "ita", seed, (), (), tmp_path, patients=patients)
        after = open_store(
            cell.write_store(store, tmp_path / f"{patients}-{seed}", cell.keep_patients(before.rows, told))
        )
        after.verify()
        for split in ("validate", "test"):
            assert after.select(split) == before.select(split)
        assert (after.images(after.select("train")) == before.images(after.select("train"))).all()
        return {row.patient_id for row in after.select("train")}

    assert len(keep(5, 0)) == 5
    assert keep(5, 0) != keep(5, 1)
    everyone = {row.patient_id for row in before.select("train")}
    assert keep(len(everyone), 0) == everyone
    told = evidence["grid"].Cell("phantom", store, "shuffled", 0, (), (), tmp_path / "shuffled", patients=5)
    mixed = open_store(cell._learnt_from(told)).select("train")
    own = {row.image_id: row.sentences for row in before.select("train")}
    assert {row.patient_id for row in mixed} == keep(5, 0)
    assert any(row.sentences != own[row.image_id] for row in mixed)
    with pytest.raises(SystemExit, match=rf"--patients 99: .* has {len(everyone)} to learn from"):
        keep(99, 0)


def test_fewer_patients_are_a_source_of_their_own(evidence: dict[str, ModuleType], tmp_path: Path) -> None:
    cells = runpy.run_path(str(FOLDER / "__main__.py"), run_name="evidence")["cells"]
    told = {"store": ["openi=stores/openi"], "arm": ["ita"], "seed": [0], "set": [], "score": [], "tune": []}
    told |= {"score_on": []}
    places = set()
    for patients in (None, 50, 100):
        (cell,) = cells(Namespace(**told, patients=patients, device="cpu", threads=1), tmp_path)
        assert (cell.patients, cell.store) == (patients, Path("stores/openi"))
        places.add((cell.source, cell.out))
    assert len(places) == 3
    assert "openi, 50 patients" in {source for source, _ in places}


def test_arms_stand_for_the_same_whatever_defaults_the_store_brings(evidence: dict[str, ModuleType]) -> None:
    old = Preset().model_copy(
        update={"pretrain": PretrainConfig(objective=ObjectiveConfig(correlation_weight=1, correlation_fade=0))}
    )

    def objective(arm: str) -> ObjectiveConfig:
        _, changes = evidence["grid"].parse_arm(arm)
        return change_preset(old, [f"pretrain.{change}" for change in changes]).pretrain.objective

    assert objective("place") == ObjectiveConfig()
    assert objective("own=objective.correlation_fade=1") == ObjectiveConfig(correlation_fade=1)
    assert objective("pcma").correlation_weight == objective("ita").pcma_weight == objective("cce").pcma_weight == 0
    assert objective("cce").correlation_fade == ObjectiveConfig().correlation_fade


def test_an_unknown_arm_is_refused(evidence: dict[str, ModuleType]) -> None:
    with pytest.raises(SystemExit, match="choose ita, token"):
        evidence["grid"].parse_arm("plcae")


def test_the_gradient_map_is_that_of_a_plain_score(evidence: dict[str, ModuleType], tmp_path: Path) -> None:
    """Grad-CAM at the patches against differences of the score."""
    where = importlib.import_module("where")
    run = load_model(write_run(tmp_path / "run", seed=2))
    images = torch.rand(2, 1, run.preset.pretrain.model.image_size, run.preset.pretrain.model.image_size)
    run.model.eval()
    with torch.no_grad():
        _, patches = run.model.image_encoder(images)
        text = unit(torch.randn(run.preset.pretrain.model.embed_dim))
    found, score = where.gradient_maps(run, images, text)

    def score_of(changed: torch.Tensor) -> torch.Tensor:
        pooled = torch.cat([changed.mean(dim=1), changed.amax(dim=1)], dim=1)
        return unit(run.model.image_head(pooled)) @ text

    assert torch.allclose(score, score_of(patches), atol=1e-5)
    step = 1e-3
    for image, patch in ((0, 0), (1, 7)):
        grown = patches.clone()
        grown[image, patch] *= 1 + step
        shrunk = patches.clone()
        shrunk[image, patch] *= 1 - step
        expected = ((score_of(grown) - score_of(shrunk)) / (2 * step))[image].clamp(min=0)
        assert found[image, patch].item() == pytest.approx(expected.item(), abs=2e-3)


def test_the_gradient_map_of_a_convolutional_network_is_that_of_its_last_cells(
    evidence: dict[str, ModuleType], tmp_path: Path
) -> None:
    """Against differences of the score, brought up to the patches' grid."""
    where = importlib.import_module("where")
    changes = ["model.image_encoder=resnet18", "model.image_weights=random", "model.image_size=64"]
    run = load_model(write_run(tmp_path / "run", change_preset(small_preset(), [f"pretrain.{c}" for c in changes])))
    encoder = run.model.eval().image_encoder
    images, text = torch.rand(2, 1, 64, 64), unit(torch.randn(run.preset.pretrain.model.embed_dim))
    found, _ = where.gradient_maps(run, images, text)
    with torch.no_grad():
        cells, middle = encoder.feature_maps(images)
        assert (cells.shape[2:], middle.shape[2:]) == ((2, 2), (4, 4))
        step, expected = 1e-2, torch.zeros(2, 1, 2, 2)
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            scores = []
            for factor in (1 + step, 1 - step):
                changed = cells.clone()
                changed[:, :, row, column] *= factor
                scores.append(unit(run.model.image_head(changed.mean(dim=(2, 3)))) @ text)
            expected[:, 0, row, column] = (scores[0] - scores[1]) / (2 * step)
        expected = torch.nn.functional.interpolate(expected.clamp(min=0), size=(4, 4), mode="bilinear")
    assert float(expected.max()) > 0.01
    assert found.numpy() == pytest.approx(expected.flatten(1).numpy(), abs=1e-3)


def test_maps_of_labels_sum_to_one(evidence: dict[str, ModuleType], tmp_path: Path) -> None:
    where = importlib.import_module("where")
    for number, baseline in enumerate(("none", "token")):
        preset = small_preset()
        changes = {"pcma_weight": 0.0, "correlation_weight": 0.0, "baseline": baseline}
        objective = preset.pretrain.objective.model_copy(update=changes)
        preset = preset.model_copy(update={"pretrain": preset.pretrain.model_copy(update={"objective": objective})})
        run = load_model(write_run(tmp_path / baseline, preset, seed=number))
        pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64), dtype=np.uint8)
        maps = where.label_maps(run, pixels, ["Effusion.", "Small effusion."])
        assert maps.shape == (3, *run.model.image_encoder.grid)
        assert maps.sum(axis=(1, 2)) == pytest.approx(np.ones(3), abs=1e-4)
        assert maps.min() >= 0

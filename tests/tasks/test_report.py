"""Report generation as a whole on small stores: it learns, resumes, reads two views, grounds, and writes from files."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import make_rows, small_preset, write_rows, write_run

from placecli.config import Preset
from placecli.data.store import Store, open_store
from placecli.engine.distributed import Ranks, ranks
from placecli.engine.start import Start
from placecli.records import PlaceError, Row
from placecli.tasks import finetune as stage
from placecli.tasks import meteor_java
from placecli.tasks.evaluate_tuned import evaluate_predictions
from placecli.tasks.report import ReportGeneration
from placecli.tasks.report_grounding import Grounder, load_grounder
from placecli.tasks.report_learning import ReportLearner
from placecli.tasks.report_text import reference_text
from placecli.tasks.report_views import find_views, views_of
from placecli.tasks.report_writer import ReportWriter
from placecli.tasks.tuned import load_tuned
from placecli.tasks.tuning import build_model
from placecli.tasks.use import Examples

SETTINGS = {
    "epochs": 2, "batch_size": 8, "learning_rate": 0.01, "layers": 1, "width": 32, "heads": 2, "dropout": 0.0,
    "max_tokens": 48, "min_count": 1, "patience": 0, "warmup_fraction": 0.1, "num_beams": 2,
}  # fmt: skip


def preset(**report: Any) -> Preset:
    tuned = {"finetune": {"report_generation": SETTINGS | report}, "evaluate": {"bootstrap": 20}}
    return Preset.model_validate(small_preset().model_dump() | tuned)


def rows_of(counts: dict[str, int], seed: int = 2) -> tuple[list[Row], np.ndarray, np.ndarray]:
    """Rows whose reports have findings and impression."""
    rows, images, masks = make_rows(counts, seed)
    return (
        [
            dataclasses.replace(row, findings=" ".join(row.sentences[1:]), impression=" ".join(row.sentences[:1]))
            for row in rows
        ],
        images,
        masks,
    )


@pytest.fixture(scope="module", autouse=True)
def no_java() -> Iterator[None]:
    """Each start of METEOR's program takes ten seconds, and test_meteor_java.py tests it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meteor_java, "is_available", lambda: False)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows, images, masks = rows_of({"train": 24, "validate": 8, "test": 10})
    return write_rows(tmp_path_factory.mktemp("reports") / "store", rows, images, masks)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    return Start("run", write_run(tmp_path_factory.mktemp("reports") / "pretrained", seed=1))


def tune(data: Path, start: Start, out: Path, config: Preset, **more: Any) -> stage.FinetuneSummary:
    return stage.finetune("report-generation", config, data, start, out, seeds=[1], device="cpu", **more)


@pytest.fixture(scope="module")
def tuned(data: Path, start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("reports") / "run"
    tune(data, start, out, preset())
    return out


def test_four_studies_are_learnt_by_heart(tmp_path: Path, start: Start) -> None:
    rows, images, masks = rows_of({"train": 4}, seed=5)
    texts = [("Heart normal. No effusion.", "Clear."), ("Large effusion.", "Effusion."), ("", "Nodule.")]
    texts.append(("Lungs are clear. There is a nodule.", "Stable."))
    rows = [
        dataclasses.replace(row, findings=findings, impression=impression, patient_id=f"p{i}")
        for i, (row, (findings, impression)) in enumerate(zip(rows, texts, strict=True))
    ]
    store = open_store(write_rows(tmp_path / "store", rows, images, masks))
    # The encoder learns too: one that is drawn at random sees little difference.
    config = preset(epochs=45, batch_size=4, tune="full", pretrained_learning_rate_scale=0.2, max_tokens=24)
    tune(store.path, Start("random", None), tmp_path / "run", config)
    run = load_tuned(tmp_path / "run")
    predictions = run.use.predict(
        run.model, run.preset, run.about, store, rows, torch.device("cpu"), lambda done, total: None
    )
    told = [(each["findings"], each["impression"]) for each in predictions]
    # A report without findings is learnt from, but every report that is written begins with them.
    assert [told[i] for i in (0, 1, 3)] == [texts[i] for i in (0, 1, 3)]


def test_a_run_leaves_predictions_that_evaluate_alike_with_baselines(data: Path, tuned: Path) -> None:
    kept = json.loads((tuned / "test.json").read_text())
    names = {"bleu_1", "bleu_4", "rouge_l", "cider_d", "meteor_exact_stem", "f1_micro_14", "compat_bleu_4"}
    assert names <= kept["metrics"].keys()
    assert "bleu_4[nearest image]" in kept["metrics"]
    assert kept["chance"].keys() >= {"bleu_4", "compat_bleu_4"}
    again = evaluate_predictions(
        "report-generation", tuned / "predictions.jsonl", open_store(data), preset(), split="test", protocol="clean"
    )
    assert again.to_record()["metrics"] == kept["metrics"]
    lines = [json.loads(line) for line in (tuned / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 9  # the last row of a split has no report
    assert all(each["score"] is None and len(each["box"]) == 4 for line in lines for each in line["sentences"])
    assert all(line["report"] == "\n".join(filter(None, (line["findings"], line["impression"]))) for line in lines)


def test_a_killed_run_ends_with_the_same_bytes(data: Path, start: Start, tuned: Path, tmp_path: Path) -> None:
    class Cut(Exception):
        pass

    def cut(name: str, done: int, total: int) -> None:
        if name.startswith("finetune") and done == 4:
            raise Cut

    with pytest.raises(Cut):
        tune(data, start, tmp_path / "cut", preset(), progress=cut)
    tune(data, start, tmp_path / "cut", preset())
    one, other = (load_file(run / "model.safetensors") for run in (tuned, tmp_path / "cut"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (tuned / "predictions.jsonl").read_bytes() == (tmp_path / "cut" / "predictions.jsonl").read_bytes()


def test_a_frozen_encoder_stays_and_a_full_one_learns(data: Path, start: Start, tuned: Path, tmp_path: Path) -> None:
    assert start.run is not None
    before = load_file(start.run / "model.safetensors")
    frozen = load_file(tuned / "model.safetensors")
    names = [name for name in frozen if name.startswith("encoder.")]
    assert names
    assert all(torch.equal(frozen[name], before[f"image_{name}"]) for name in names)
    tune(data, start, tmp_path / "full", preset(tune="full", epochs=1, augment=1.0))
    full = load_file(tmp_path / "full" / "model.safetensors")
    assert any(not torch.equal(full[name], before[f"image_{name}"]) for name in names)


def learner_of(store: Store, config: Preset, group: Ranks, start: Start) -> tuple[ReportLearner, ReportWriter]:
    use = ReportGeneration()
    resolved = config.model_copy(
        update={"finetune": config.finetune.model_copy(update={"task": "report-generation", "start": "random"})}
    )
    examples = Examples(store, *(use.select(store.select(split), resolved) for split in ("train", "validate")))
    about = use.describe(examples, resolved)
    model = build_model(use, resolved, start, about, is_new=True)
    assert isinstance(model, ReportWriter)
    return use.learner(model, resolved, about, examples, group), model


def test_kept_patches_are_those_of_the_images_and_halves_join_to_the_loss(data: Path) -> None:
    with ranks("cpu") as group:
        learner, model = learner_of(open_store(data), preset(), group, Start("random", None))
        model.eval()
        indices = np.arange(8)
        with torch.no_grad():
            kept = learner.objective(learner.prepare(learner.read(indices, slice(0, 8), 0, 0)))["loss"]
            halves = [
                learner.objective(learner.prepare(learner.read(indices, half, 0, 0)))["loss"]
                for half in (slice(0, 4), slice(4, 8))
            ]
            torch.testing.assert_close(kept, (halves[0] + halves[1]) / 2)
            learner.patches = None
            computed = learner.objective(learner.prepare(learner.read(indices, slice(0, 8), 0, 0)))["loss"]
        torch.testing.assert_close(kept, computed)


def test_padding_and_rare_words_are_not_learnt(data: Path) -> None:
    with ranks("cpu") as group:
        learner, model = learner_of(open_store(data), preset(rarity=0), group, Start("random", None))
        model.eval()
        batch = learner.prepare(learner.read(np.arange(2), slice(0, 2), 0, 0))
        pad = torch.zeros(2, 5, dtype=torch.long)
        longer = dataclasses.replace(batch, tokens=torch.cat([batch.tokens, pad], dim=1))
        rare = torch.full((2, 1), learner.vocabulary.unknown)
        doubtful = dataclasses.replace(batch, tokens=torch.cat([batch.tokens, rare], dim=1))
        with torch.no_grad():
            loss = learner.objective(batch)["loss"]
            torch.testing.assert_close(learner.objective(longer)["loss"], loss)
            torch.testing.assert_close(learner.objective(doubtful)["loss"], loss)


@pytest.mark.parametrize(("settings", "exponent"), [({"rarity": 0.5}, 0.5), ({}, 0.5), ({"rarity": 1}, 1.0)])
def test_the_loss_is_the_weighted_cross_entropy(data: Path, settings: dict[str, float], exponent: float) -> None:
    with ranks("cpu") as group:
        learner, model = learner_of(open_store(data), preset(**settings), group, Start("random", None))
        model.eval()
        batch = learner.prepare(learner.read(np.arange(6), slice(0, 6), 0, 0))
        with torch.no_grad():
            logits = model(batch.views, batch.tokens[:, :-1]).double().numpy()
            found = float(learner.objective(batch)["loss"])
    assert learner.rarity is not None
    assert learner.rarity.exponent == exponent
    total = 0.0
    for i, numbers in enumerate(learner.tokens[:6]):
        weights = learner.rarity.weigh(numbers)
        for place, number in enumerate(numbers[1:]):
            scores = logits[i, place]
            total += weights[place + 1] * (np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[number])
    assert found == pytest.approx(total / (6 * np.mean([len(numbers) - 1 for numbers in learner.tokens])), rel=1e-4)


@pytest.mark.parametrize("settings", [{"rarity": 0}, {"cleaning": "compat", "sections": ["findings"]}])
def test_without_rarity_and_for_compat_all_words_count_alike(data: Path, settings: dict[str, Any]) -> None:
    with ranks("cpu") as group:
        learner, model = learner_of(open_store(data), preset(**settings), group, Start("random", None))
        model.eval()
        batch = learner.prepare(learner.read(np.arange(6), slice(0, 6), 0, 0))
        assert batch.weights is None
        with torch.no_grad():
            logits = model(batch.views, batch.tokens[:, :-1])
            plain = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), batch.tokens[:, 1:].flatten(), ignore_index=0, reduction="sum"
            )
            loss = learner.objective(batch)["loss"]
        torch.testing.assert_close(loss * 6 * learner.objective.words_per_report, plain)


def two_views(folder: Path) -> Path:
    """Every other study has a lateral view."""
    rows, images, masks = rows_of({"train": 12, "validate": 4, "test": 4})
    paired = [
        dataclasses.replace(
            row, study_id=f"s{i // 2}", patient_id=f"{row.split}{i // 2}", view="LATERAL" if i % 2 else "PA"
        )
        if i % 4 < 2
        else row
        for i, row in enumerate(rows)
    ]
    return write_rows(folder, paired, images, masks)


def test_two_views_are_read_and_one_that_lacks_is_not(tmp_path: Path) -> None:
    store = open_store(two_views(tmp_path / "store"))
    rows = ReportGeneration().select(store.select("train"), preset())
    studies = find_views(store, rows, 2)
    assert {len(study) for study in studies} == {1, 2}
    assert all(study[0].view == "PA" for study in studies)
    views = views_of(store, studies, 2, 48, torch.device("cpu"))
    assert views.images is not None
    assert views.present.tolist() == [[True, len(study) == 2] for study in studies]
    tune(store.path, Start("random", None), tmp_path / "run", preset(views=2, epochs=1))
    run = load_tuned(tmp_path / "run")
    assert isinstance(run.model, ReportWriter)
    with torch.no_grad():
        logits = run.model(views, torch.ones(len(rows), 3, dtype=torch.long))
        changed = views.images.clone()
        changed[~views.present] = 1.0
        other = run.model(dataclasses.replace(views, images=changed), torch.ones(len(rows), 3, dtype=torch.long))
        torch.testing.assert_close(logits, other)
        changed[views.present] = 0.0
        third = run.model(dataclasses.replace(views, images=changed), torch.ones(len(rows), 3, dtype=torch.long))
    assert not torch.allclose(logits, third)


def test_compat_learns_r2gen_words(data: Path, start: Start, tmp_path: Path) -> None:
    tune(data, start, tmp_path / "run", preset(cleaning="compat", epochs=1, sections=["findings"]), protocol="compat")
    kept = json.loads((tmp_path / "run" / "test.json").read_text())
    assert "compat_bleu_4" in kept["metrics"]
    assert "bleu_4" not in kept["metrics"]
    told = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert all(line["report"] == line["report"].lower() and not line["impression"] for line in told)


@pytest.fixture(scope="module")
def grounder(tuned: Path) -> Grounder:
    run = load_tuned(tuned)
    assert isinstance(run.model, ReportWriter)
    return load_grounder(run.preset, run.model.reference, torch.device("cpu"))


def test_support_is_the_score_against_other_images(data: Path, grounder: Grounder) -> None:
    store = open_store(data)
    rows = store.select("test")[:3]
    observations = grounder.observe(store.images(rows))
    texts = ["No pneumothorax.", "Square opacity in the left lung.", ""]
    judged = grounder.judge(texts, observations[0])
    assert judged[2] is None
    others = np.array([grounder.judge(texts[:1], each)[0].score for each in grounder.reference])  # type: ignore[union-attr]
    assert judged[0] is not None
    wanted = (judged[0].score - others.mean()) / others.std()
    assert judged[0].support == pytest.approx(wanted, abs=1e-3)


def test_contradicted_sentences_are_marked_or_dropped(data: Path, tuned: Path) -> None:
    store, run = open_store(data), load_tuned(tuned)

    def predict(**settings: Any) -> list[dict[str, Any]]:
        report = run.preset.finetune.report_generation.model_copy(update=settings)
        changed = run.preset.finetune.model_copy(update={"report_generation": report})
        chosen = run.preset.model_copy(update={"finetune": changed})
        rows = run.use.select(store.select("test"), chosen)
        told = run.use.predict(run.model, chosen, run.about, store, rows, torch.device("cpu"), lambda *_: None)
        return list(told)

    plain = predict()
    marked = predict(grounding="mark", grounding_threshold=100.0)
    dropped = predict(grounding="drop", grounding_threshold=100.0)
    kept = predict(grounding="drop", grounding_threshold=-100.0)
    assert [each["report"] for each in marked] == [each["report"] for each in plain]
    judged = [sentence["contradicted"] for each in marked for sentence in each["sentences"]]
    assert judged
    assert all(judged)
    assert all(each["report"] == "" and each["sentences"] for each in dropped)
    assert [each["report"] for each in kept] == [each["report"] for each in plain]


def test_a_start_that_is_gone_or_changed_is_named(tuned: Path, start: Start, tmp_path: Path) -> None:
    run = load_tuned(tuned)
    assert isinstance(run.model, ReportWriter)
    gone, changed, unstarted = (
        run.preset.finetune.model_copy(update=update)
        for update in ({"start_run": tmp_path / "gone"}, {"start_digest": "0" * 64}, {})
    )
    for tuned_config, reference, reason in (
        (gone, run.model.reference, "is gone"),
        (changed, run.model.reference, "no longer the run"),
        (unstarted, torch.zeros(0, 8, 16), "learnt observations"),
    ):
        config = run.preset.model_copy(update={"finetune": tuned_config})
        with pytest.raises(PlaceError, match=reason):
            load_grounder(config, reference, torch.device("cpu"))


def test_the_reference_report_has_all_words(data: Path) -> None:
    store = open_store(data)
    rows = ReportGeneration().select(store.select("test"), preset())
    assert all(set(reference_text(row, ("findings", "impression")).split()) for row in rows)
    assert all(row.sentences[0] in reference_text(row, ("findings", "impression")) for row in rows)

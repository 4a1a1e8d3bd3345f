"""Reports of like train studies: how like they are, which one is told, and when none compete."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import make_rows, small_preset, write_rows, write_run

from placecli.config import Preset, ReportGenerationConfig
from placecli.data.store import Store, open_store
from placecli.engine.checkpoint import load_model
from placecli.engine.start import Start
from placecli.metrics.tokenization import tokenize
from placecli.records import PlaceError
from placecli.tasks import finetune, meteor_java
from placecli.tasks.embed import embed_images, embed_texts
from placecli.tasks.report_candidates import Draft, Known, about_known, gather_known, open_known
from placecli.tasks.report_text import Sentence, Vocabulary, one_per_study
from placecli.tasks.scores import observation_scores
from placecli.tasks.tuning import resolve

CONFIG = ReportGenerationConfig(min_count=1, max_tokens=48, num_nearest=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rows, images, masks = make_rows({"train": 20, "validate": 4, "test": 8}, 4)
    return open_store(write_rows(tmp_path_factory.mktemp("candidates") / "store", rows, images, masks))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("candidates") / "pretrained", seed=1)


@pytest.fixture(scope="module")
def known(store: Store, pretrained: Path) -> Known:
    rows = one_per_study(store.select("train"), CONFIG.sections)
    found = gather_known(load_model(pretrained), store, rows, Vocabulary.of_reports(rows, CONFIG), CONFIG)
    assert found is not None
    return found


def z(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)


def cosine(asked: np.ndarray, others: np.ndarray) -> np.ndarray:
    mean = others.mean(axis=0)
    pairs = [[((a - mean) * (b - mean)).sum() for b in others] for a in asked]
    lengths = [[np.linalg.norm(a - mean) * np.linalg.norm(b - mean) for b in others] for a in asked]
    return np.array(pairs) / np.array(lengths)


@pytest.mark.parametrize(
    ("objective", "used"),
    [({}, (0, 1, 2, 3)), ({"pcma_weight": 0.0}, (0, 1)), ({"instance_weight": 0.0}, (2, 3))],
)
def test_likeness_is_the_mean_of_z_scores_of_what_the_run_learnt(
    store: Store, known: Known, objective: dict[str, float], used: tuple[int, ...]
) -> None:
    rows, run = store.select("test"), known.run
    train = one_per_study(store.select("train"), CONFIG.sections)
    asked, others = embed_images(run, store.images(rows)), embed_images(run, store.images(train))
    texts = embed_texts(run, [row.sentences for row in train])
    temperature = run.preset.pretrain.objective.match_temperature
    parts = [
        asked.embedding @ texts.embedding.T,
        cosine(asked.embedding, others.embedding),
        observation_scores(asked.observations, texts.observations, texts.mask, temperature),
        cosine(asked.observations, others.observations),
    ]
    changed = run.preset.pretrain.objective.model_copy(update=objective)
    pretrain = run.preset.pretrain.model_copy(update={"objective": changed})
    preset = run.preset.model_copy(update={"pretrain": pretrain})
    other = dataclasses.replace(known, run=dataclasses.replace(run, preset=preset))
    found = other.likeness(asked, [""] * len(rows))
    # What is kept of observations has half precision.
    np.testing.assert_allclose(found, np.mean([z(parts[i]) for i in used], axis=0), atol=0.03)


def test_reports_of_the_same_patient_do_not_compete(store: Store, known: Known) -> None:
    rows = store.select("train")[:4]
    likeness = known.likeness(known.embed(store.images(rows)), [row.patient_id for row in rows])
    own = np.array([[row.patient_id == patient for patient in known.patients] for row in rows])
    assert own.sum() == 8
    assert (np.isneginf(likeness) == own).all()
    free = known.likeness(known.embed(store.images(rows)), [""] * len(rows))
    assert np.isfinite(free).all()


def draft(text: str) -> Draft:
    return Draft([], [Sentence(text, "findings", 0, 0)])


def test_what_the_like_studies_agree_with_is_told(known: Known) -> None:
    texts = [" ".join(each.text for each in one.sentences) for one in known.drafts]
    twice = next(text for text in texts if texts.count(text) > 1)
    first, second = [i for i, text in enumerate(texts) if text == twice][:2]
    words = known.weighing.weigh([tokenize(text) for text in texts])
    odd = int(np.argmin((words @ words[first].T).toarray()))
    near = [odd, first, second]
    likeness = np.full(len(texts), -9.0)
    likeness[near] = [0.01, 0.0, 0.0]
    shares = np.exp(likeness / CONFIG.agreement_temperature)
    cosines = (words[near] @ words.T).toarray()
    assert near[int((cosines @ shares).argmax())] == first
    nothing = draft("Nothing of this.")
    # The nearest is alone in what it says; of equals the nearer, or the earlier, is told.
    assert known.choose(nothing, likeness, CONFIG) is known.drafts[first]
    assert known.choose(nothing, likeness, CONFIG.model_copy(update={"num_nearest": 1})) is known.drafts[odd]
    written = draft(twice)
    assert known.choose(written, likeness, CONFIG) is written
    assert known.choose(nothing, np.full(len(texts), -np.inf), CONFIG) is nothing


def settings(store: Store, pretrained: Path, **report: Any) -> Preset:
    small = {"epochs": 1, "batch_size": 8, "layers": 1, "width": 32, "heads": 2, "max_tokens": 48, "min_count": 1}
    tuned = {"finetune": {"report_generation": small | report}, "evaluate": {"bootstrap": 0}}
    preset = Preset.model_validate(small_preset().model_dump() | tuned)
    return resolve("report-generation", preset, Start("run", pretrained), store)


def test_none_compete_where_settings_or_start_say_so_and_what_is_gone_is_named(
    store: Store, pretrained: Path, tmp_path: Path
) -> None:
    rows = one_per_study(store.select("train"), CONFIG.sections)
    preset, device = settings(store, pretrained), torch.device("cpu")
    words, about = Vocabulary.of_reports(rows, CONFIG), {"known": about_known(store)}
    for none in (
        settings(store, pretrained, candidates="written"),
        settings(store, pretrained, cleaning="compat"),
        preset.model_copy(update={"finetune": preset.finetune.model_copy(update={"start": "random"})}),
    ):
        assert open_known(none, about, words, device) is None
    found = open_known(preset, about, words, device)
    assert found is not None
    assert [each.taken_from for each in found.drafts] == [row.study_id for row in rows]
    half = preset.model_copy(update={"finetune": preset.finetune.model_copy(update={"fraction": 0.5})})
    share = open_known(half, about, words, device, store)
    assert share is not None
    assert len(set(share.patients)) == 5
    gone = {"known": {"store": str(tmp_path / "gone"), "digest": store.digest}}
    other = {"known": {"store": str(store.path), "digest": "0" * 64}}
    for noted, reason in ((gone, "is gone"), (other, "no longer the one"), ({}, "does not name")):
        with pytest.raises(PlaceError, match=rf"no train report competes.*{reason}"):
            open_known(preset, noted, words, device)
    start = preset.finetune.model_copy(update={"start_digest": "0" * 64})
    with pytest.raises(PlaceError, match=r"no train report competes.*no longer the run"):
        open_known(preset.model_copy(update={"finetune": start}), about, words, device)


def test_a_run_tells_whose_report_it_took(
    store: Store, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meteor_java, "is_available", lambda: False)
    reports = {row.study_id: row.findings for row in store.select("train")}
    told = {}
    for candidates in ("written", "nearest"):
        preset, out = settings(store, pretrained, candidates=candidates), tmp_path / candidates
        finetune.finetune(
            "report-generation", preset, store.path, Start("run", pretrained), out, seeds=[1], device="cpu"
        )
        told[candidates] = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert all(each["taken_from"] is None for each in told["written"])
    taken = [each for each in told["nearest"] if each["taken_from"]]
    assert taken
    for each in taken:
        assert each["report"] == reports[each["taken_from"]]
        assert all(len(sentence["box"]) == 4 for sentence in each["sentences"])

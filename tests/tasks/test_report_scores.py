"""Scores of reports: the numbers of the metrics, clean and compat references, baselines, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from small_run import make_rows, write_rows

from placecli.config import ReportGenerationConfig
from placecli.data.store import Store, open_store
from placecli.metrics import bleu, cider
from placecli.metrics.tokenization import tokenize
from placecli.records import PlaceError, Row
from placecli.tasks import meteor_java, report_compat, report_scores
from placecli.tasks.evaluation import Findings, Resampling
from placecli.tasks.report_scores import match_reports, most_frequent_report, score_reports

CONFIG = ReportGenerationConfig(min_count=1)
TEXTS = {
    "train": [
        "Heart normal. Lungs clear.",
        "Lungs clear. Heart normal.",
        "Large effusion.",
        "Heart normal. Lungs clear.",
    ],
    "test": ["Heart is normal. No effusion. Lungs are clear today.", "There is a small effusion.", "Lungs clear."],
}


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start of METEOR's program takes ten seconds, and test_meteor_java.py tests it."""
    monkeypatch.setattr(meteor_java, "is_available", lambda: False)


@pytest.fixture(autouse=True)
def few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2Gen's limits, made small."""
    monkeypatch.setitem(report_compat.MAX_TOKENS, "iu-xray", 8)
    monkeypatch.setitem(report_compat.MIN_COUNT, "iu-xray", 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    rows, images, masks = make_rows({split: len(texts) for split, texts in TEXTS.items()}, 0)
    texts = [text for each in TEXTS.values() for text in each]
    rows = [dataclasses.replace(row, findings=text, impression="") for row, text in zip(rows, texts, strict=True)]
    return open_store(write_rows(tmp_path_factory.mktemp("scores") / "store", rows, images, masks))


def predictions(rows: list[Row], texts: list[str], **more: Any) -> list[dict[str, Any]]:
    return [{"image_id": row.image_id, "report": text, **more} for row, text in zip(rows, texts, strict=True)]


def score(store: Store, made: list[dict[str, Any]], protocol: str = "clean", replicates: int = 0) -> Findings:
    return score_reports(made, store, store.select("test"), CONFIG, protocol, Resampling(replicates, 0))


def test_the_numbers_are_those_of_the_metrics(store: Store) -> None:
    rows, written = store.select("test"), ["Heart is normal.", "There is a large effusion.", "There is a pneumothorax."]
    found = score(store, predictions(rows, written), replicates=10)
    candidates = [tokenize(text) for text in written]
    references = [[tokenize(text)] for text in TEXTS["test"]]
    counts = bleu.count(candidates, references)
    for order in range(1, 5):
        assert found.metrics[f"bleu_{order}"].value == pytest.approx(bleu.bleu(counts, order))
    assert found.metrics["cider_d"].value == pytest.approx(cider.cider_d(cider.count(candidates, references)))
    assert found.metrics["f1_micro_14"].value == pytest.approx(
        2 / 3
    )  # No Finding and effusion right; one of each kind wrong
    assert found.metrics["rouge_l"].low <= found.metrics["rouge_l"].value <= found.metrics["rouge_l"].high
    assert found.counts["distinct_sentences"] == 3
    assert found.counts["reference_words_per_report"] == pytest.approx(
        np.mean([len(r[0]) for r in references]), abs=0.01
    )


def test_compat_cuts_the_reference_and_clean_does_not(store: Store) -> None:
    rows = store.select("test")
    whole = score(store, predictions(rows, TEXTS["test"])).metrics
    assert whole["bleu_4"].value == pytest.approx(1.0)
    assert whole["f1_macro_14"].value == pytest.approx(1.0)
    assert whole["compat_bleu_1"].value < 1
    # The seven words that the limit leaves; "is", "no" and others that train lacks are "<unk>" there.
    cut = ["heart <unk> normal . <unk> effusion .", "<unk> <unk> <unk> <unk> effusion .", "lungs clear ."]
    assert score(store, predictions(rows, cut)).metrics["compat_bleu_1"].value < 1  # a text loses its "<" and ">"
    compat = CONFIG.model_copy(update={"cleaning": "compat"})
    found = score_reports(predictions(rows, cut), store, rows, compat, "compat", Resampling(0, 0)).metrics
    assert found["compat_bleu_4"].value == pytest.approx(1.0)
    assert set(found) == {name for name in whole if name.startswith("compat_")}


def test_the_most_frequent_report_is_chance_and_the_nearest_images_report_stands_beside(store: Store) -> None:
    rows, train = store.select("test"), store.select("train")
    assert most_frequent_report(train, CONFIG.sections) == "Heart normal. Lungs clear."
    same = score(store, predictions(rows, ["Heart normal. Lungs clear."] * 3))
    assert same.chance["bleu_2"] == pytest.approx(same.metrics["bleu_2"].value)
    near = predictions(rows, [""] * 3, nearest_study_id=train[2].study_id)
    found = score(store, near)
    assert found.metrics["bleu_1"].value == pytest.approx(0, abs=1e-6)
    assert found.counts["empty_reports"] == 3
    other = score(store, predictions(rows, ["Large effusion."] * 3))
    assert found.metrics["bleu_1[nearest image]"].value == pytest.approx(other.metrics["bleu_1"].value)
    assert "bleu_1[nearest image]" not in other.metrics


def test_predictions_are_matched_by_image_or_study_and_none_may_lack(store: Store) -> None:
    rows = store.select("test")
    by_study = [{"study_id": row.study_id, "report": row.findings} for row in reversed(rows)]
    assert [each["report"] for each in match_reports(by_study, rows)] == TEXTS["test"]
    by_file = [{"query": f"/root/of/{row.source}", "image_id": "stem", "report": row.findings} for row in rows]
    assert [each["report"] for each in match_reports(by_file[::-1], rows)] == TEXTS["test"]
    with pytest.raises(PlaceError, match="3 of 3 studies"):
        match_reports([{**each, "query": f"other-{rows[0].source}"} for each in by_file], rows)
    with pytest.raises(PlaceError, match="1 of 3 studies"):
        match_reports(by_study[1:], rows)
    with pytest.raises(PlaceError, match='line 2: no "report"'):
        match_reports([by_study[0], {"image_id": "x"}], rows)
    with pytest.raises(PlaceError, match='line 1: no "image_id"'):
        match_reports([{"report": "x"}], rows)


def test_the_most_frequent_of_nothing_is_empty() -> None:
    assert most_frequent_report([], ("findings",)) == ""


def test_meteor_is_scored_where_its_program_is(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def measure(candidates: list[Any], references: list[Any]) -> np.ndarray:
        asked.append(len(candidates))
        assert len(references) == len(candidates)
        return np.arange(float(len(candidates)))[:, None] * np.ones(23)

    monkeypatch.setattr(meteor_java, "is_available", lambda: True)
    monkeypatch.setattr(meteor_java, "measure_segments", measure)
    monkeypatch.setattr(report_scores, "meteor", lambda segments, weights: weights @ segments[:, 0] / weights.sum())
    found = score(store, predictions(store.select("test"), TEXTS["test"]))
    assert asked == [6], "the program is started once for both references"
    assert (found.metrics["meteor"].value, found.metrics["compat_meteor"].value) == (1.0, 4.0)
    assert "meteor" not in found.chance

"""Retrieval with a real model: the hits are those of a plain loop over all candidates, whatever the path to them."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from small_run import MARGIN, SIZE

from placecli.config import RetrieveConfig
from placecli.data.reports import text_key
from placecli.data.store import Store
from placecli.engine.checkpoint import DATA, LoadedRun
from placecli.records import Hit, PlaceError, Reject
from placecli.tasks.embed import embed_images, embed_texts
from placecli.tasks.queries import image_queries, text_queries
from placecli.tasks.retrieve import answers, retrieve
from placecli.tasks.scores import combine, global_scores, observation_scores


@pytest.fixture
def own_run(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of the run that the test may write to."""
    shutil.copytree(run_folder, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def pictures(store: Store, tmp_path: Path) -> list[Path]:
    """The content of three test images as files."""
    paths = []
    for number, image in enumerate(store.images(store.select("test")[:3])):
        paths.append(tmp_path / f"query-{number}.png")
        cv2.imwrite(str(paths[-1]), image[:, MARGIN : SIZE - MARGIN])
    return paths


def naive_reports(run: LoadedRun, store: Store, picture: Path, score: str) -> list[tuple[str, float]]:
    """(text key, score) of all distinct reports, best first, equal scores by image id."""
    image = np.zeros((1, SIZE, SIZE), np.uint8)
    image[0, :, MARGIN : SIZE - MARGIN] = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    first: dict[str, tuple[str, ...]] = {}
    for row in store.rows:
        if row.sentences:
            first.setdefault(text_key(row.sentences), row.sentences)
    ids = {key: min(r.image_id for r in store.rows if r.sentences and text_key(r.sentences) == key) for key in first}
    vectors, texts = embed_images(run, image), embed_texts(run, list(first.values()))
    temperature = run.preset.pretrain.objective.match_temperature
    of_global = global_scores(vectors.embedding, texts.embedding)[0]
    of_observation = observation_scores(vectors.observations, texts.observations, texts.mask, temperature)[0]
    chosen = {
        "global": of_global,
        "observation": of_observation,
        "combined": combine(of_global, of_observation),
    }[score]
    order = sorted(zip(first, chosen, strict=True), key=lambda pair: (-pair[1], ids[pair[0]]))
    return [(key, float(value)) for key, value in order]


def key_of(hit: Hit) -> str:
    return text_key(hit.report.replace(". ", ".\n").split("\n"))


@pytest.mark.parametrize("score", ["global", "observation", "combined"])
def test_reports_for_an_image_equal_a_plain_loop(
    run: LoadedRun, own_run: Path, store: Store, pictures: list[Path], score: str
) -> None:
    hits = list(retrieve(own_run, image_queries(pictures), top_k=4, gallery=store.path, score=score, device="cpu"))  # type: ignore[arg-type]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4] * 3
    for picture, group in zip(pictures, (hits[:4], hits[4:8], hits[8:]), strict=True):
        expected = naive_reports(run, store, picture, score)[:4]
        assert all(hit.query == str(picture) for hit in group)
        assert [hit.score for hit in group] == pytest.approx([value for _, value in expected], abs=2e-3)
        assert len({key_of(hit) for hit in group}) == 4
        assert key_of(group[0]) == expected[0][0]


def test_hits_carry_the_sentences_of_their_report_with_boxes(own_run: Path, store: Store, pictures: list[Path]) -> None:
    rows = {row.image_id: row for row in store.rows}
    for hit in retrieve(own_run, image_queries(pictures), gallery=store.path, device="cpu"):
        row = rows[hit.image_id]
        assert hit.study_id == row.study_id
        assert hit.report == row.findings
        assert sorted(match.text for match in hit.sentences) == sorted(row.sentences)
        scores = [match.score for match in hit.sentences]
        assert scores == sorted(scores, reverse=True)
        for box in (match.box for match in hit.sentences):
            assert 0 <= box.x < box.x + box.width <= 1 + 1e-6
            assert 0 <= box.y < box.y + box.height <= 1 + 1e-6


def test_an_image_of_the_gallery_finds_itself_first(own_run: Path, store: Store, tmp_path: Path) -> None:
    row = store.select("train")[5]
    file = tmp_path / "same.png"
    cv2.imwrite(str(file), store.images([row])[0][:, MARGIN : SIZE - MARGIN])
    hits = list(
        retrieve(own_run, image_queries([file]), to="images", gallery=store.path, score="global", device="cpu", top_k=3)
    )
    assert hits[0].image_id == row.image_id
    assert hits[0].score == pytest.approx(1.0, abs=1e-4)


def test_a_text_finds_images_and_a_split_bounds_the_search(own_run: Path, store: Store) -> None:
    words = "Square opacity in the left lung. No pneumothorax."
    hits = list(retrieve(own_run, text_queries([words]), gallery=store.path, split="test", device="cpu", top_k=50))
    rows = store.select("test")
    assert sorted(hit.image_id for hit in hits) == sorted(row.image_id for row in rows)
    assert {match.text for match in hits[0].sentences} == {"Square opacity in the left lung.", "No pneumothorax."}
    with pytest.raises(PlaceError, match="a text finds images"):
        list(retrieve(own_run, text_queries([words]), to="reports", gallery=store.path, device="cpu"))


@pytest.mark.parametrize(("form", "total"), [(list, 2), (iter, 0)])
def test_several_queries_show_their_progress_with_a_total_where_it_is_known(
    own_run: Path, store: Store, pictures: list[Path], form: type, total: int
) -> None:
    seen: list[tuple[str, int, int]] = []
    queries, settings = form(list(image_queries(pictures[:2]))), RetrieveConfig(batch_size=1)
    shown: dict[str, Any] = {"progress": lambda *at: seen.append(at)}
    assert list(retrieve(own_run, queries, gallery=store.path, config=settings, device="cpu", **shown))
    assert seen[-1] == ("answer queries", 2, total)


@pytest.mark.parametrize("target", ["reports", "images"])
def test_a_candidate_list_that_holds_all_changes_nothing(
    own_run: Path, store: Store, pictures: list[Path], target: str
) -> None:
    def ask(**settings: object) -> list[Hit]:
        config = RetrieveConfig.model_validate({"batch_size": 3, **settings})
        to = "reports" if target == "reports" else "images"
        found = retrieve(
            own_run, image_queries(pictures), to=to, gallery=store.path, config=config, device="cpu", top_k=6
        )
        return list(found)

    full, single = ask(), ask(batch_size=1)
    assert [hit.image_id for hit in full] == [hit.image_id for hit in single]
    assert [hit.score for hit in full] == pytest.approx([hit.score for hit in single], abs=1e-3)
    # The best by observations alone, re-scored among the best 12 by the global score: same scores, fewer candidates.
    scores = {(hit.query, hit.image_id): hit.score for hit in ask(score="observation")}
    for hit in ask(rerank=12, score="observation"):
        assert scores.get((hit.query, hit.image_id), hit.score) == pytest.approx(hit.score, abs=1e-5)


def test_a_query_that_cannot_be_read_is_reported_by_number_and_the_rest_goes_on(
    own_run: Path, store: Store, pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    paths = [pictures[0], Path("/patients/Doe^Jane.png"), pictures[1]]
    refused: list[tuple[int, Reject]] = []
    hits = list(
        retrieve(
            own_run,
            image_queries(paths),
            gallery=store.path,
            device="cpu",
            top_k=1,
            refused=lambda number, reject: refused.append((number, reject)),
        )
    )
    assert [hit.query for hit in hits] == [str(pictures[0]), str(pictures[1])]
    assert [(number, reject.code) for number, reject in refused] == [(2, "missing")]
    with caplog.at_level(logging.INFO):
        list(retrieve(own_run, image_queries(paths), gallery=store.path, device="cpu", top_k=1))
    message = "no such file (words are asked with --text)"
    assert json.loads(caplog.messages[-1]) == {"query": 2, "code": "missing", "message": message}
    assert "Doe" not in caplog.text


def test_the_run_names_its_store_and_says_when_it_does_not(own_run: Path, store: Store, pictures: list[Path]) -> None:
    queries = list(image_queries(pictures[:1]))
    (own_run / DATA).unlink(missing_ok=True)
    with pytest.raises(PlaceError, match="--gallery"):
        list(retrieve(own_run, queries, device="cpu"))
    (own_run / DATA).write_text(json.dumps({"store": str(store.path)}))
    assert len(list(retrieve(own_run, queries, device="cpu"))) == 5
    (own_run / DATA).write_text(json.dumps({"store": "/nowhere"}))
    with pytest.raises(PlaceError, match="not at /nowhere any more"):
        list(retrieve(own_run, queries, device="cpu"))
    with pytest.raises(PlaceError, match="at least 1"):
        list(retrieve(own_run, queries, top_k=0, gallery=store.path, device="cpu"))


def test_heatmaps_are_drawn_one_a_query_and_the_index_lies_beside_the_run(
    own_run: Path, store: Store, pictures: list[Path], tmp_path: Path
) -> None:
    list(
        retrieve(own_run, image_queries(pictures[:2]), gallery=store.path, heatmap=tmp_path / "where.png", device="cpu")
    )
    assert cv2.imread(str(tmp_path / "where.png")).shape[1] > 360
    assert (tmp_path / "where-2.png").is_file()
    assert list((own_run / "index").glob("*/all/reports-exact.faiss"))


def test_answers_carry_maps_over_the_frame(own_run: Path, store: Store, pictures: list[Path]) -> None:
    queries = [*image_queries(pictures[:1]), *text_queries(["No pneumothorax."])]
    for answer in answers(own_run, queries, gallery=store.path, device="cpu", top_k=2):
        assert not isinstance(answer, Reject)
        assert len(answer.hits) == len(answer.found) == len(answer.seen) == 2
        for found in answer.found:
            assert all(item.heat.sum() == pytest.approx(1.0, abs=1e-4) for item in found)


def test_approximate_search_says_its_recall(
    own_run: Path, store: Store, pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    config = RetrieveConfig(index="approximate")
    with caplog.at_level(logging.WARNING):
        hits = list(retrieve(own_run, image_queries(pictures), gallery=store.path, config=config, device="cpu"))
    assert "recall@10 against exact search" in caplog.text
    assert len(hits) == 15

"""`place retrieve`: reports for an image, images for a text or an image, and where each sentence was found."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from placecli.config import RetrieveConfig
from placecli.data.store import open_store
from placecli.engine.checkpoint import LoadedRun, load_model
from placecli.engine.distributed import choose_device
from placecli.records import Hit, PlaceError, Reject
from placecli.tasks.embed import Progress
from placecli.tasks.figures import Panel, crop_to_content, draw_heatmaps, write_png
from placecli.tasks.gallery import INDEX, open_gallery, training_store
from placecli.tasks.queries import Query
from placecli.tasks.scores import trained_score
from placecli.tasks.search import Answer, Searcher, Target

logger = logging.getLogger(__name__)

Score = Literal["global", "observation", "combined"]


def retrieve(
    run: Path,
    queries: Iterable[Query | Reject],
    *,
    top_k: int = 5,
    to: Target | None = None,
    gallery: Path | None = None,
    split: str = "all",
    score: Score | None = None,
    heatmap: Path | None = None,
    device: str = "auto",
    config: RetrieveConfig | None = None,
    progress: Progress | None = None,
    refused: Callable[[int, Reject], None] | None = None,
) -> Iterator[Hit]:
    """The best `top_k` hits of each query in turn, rank from 1; the gallery is embedded and indexed on first use.

    run: a run folder. gallery: a store; None is the one that the run was trained on. `split` of it is searched.
    to: "reports" (default for an image) or "images" (default for a text). score and config: None takes the run's.
    heatmap: a PNG drawn of the best hit of the query; of further queries beside it as NAME-2.png, NAME-3.png ...
    refused: called with the query's number (from 1) and the reason when a query cannot be used; the others go on.
    None writes the reason to stderr as a line of JSON. Raises PlaceError for a run, store or request of no use.
    """
    for number, answer in enumerate(
        answers(
            run,
            queries,
            top_k=top_k,
            to=to,
            gallery=gallery,
            split=split,
            score=score,
            device=device,
            config=config,
            progress=progress,
        ),
        start=1,
    ):
        if isinstance(answer, Reject):
            (refused or _report)(number, answer)
            continue
        if heatmap is not None and answer.hits:
            write_png(_numbered(heatmap, number), draw_answer(answer))
        yield from answer.hits


def answers(
    run: Path,
    queries: Iterable[Query | Reject],
    *,
    top_k: int = 5,
    to: Target | None = None,
    gallery: Path | None = None,
    split: str = "all",
    score: Score | None = None,
    device: str = "auto",
    config: RetrieveConfig | None = None,
    progress: Progress | None = None,
) -> Iterator[Answer | Reject]:
    """As `retrieve`, one Answer a query with the maps behind its boxes, or the Reject of one that cannot be used."""
    if top_k < 1:
        raise PlaceError(f"--top-k {top_k}: at least 1")
    loaded = load_model(run, choose_device(device))
    chosen = config or loaded.preset.retrieve
    store = open_store(gallery) if gallery is not None else training_store(loaded, "--gallery")
    found = open_gallery(loaded, store, split, cache=run / INDEX, batch_size=chosen.batch_size, progress=progress)
    searcher = Searcher(loaded, found, chosen, _choose_score(loaded, score, chosen.score))
    done, total = 0, len(queries) if isinstance(queries, Sized) else 0
    for batch in _batches(queries, chosen.batch_size):
        if progress is not None and max(len(batch), total) > 1:
            progress("answer queries", done, total)
        yield from searcher.answer(batch, top_k, to)
        done += len(batch)
    if progress is not None and done > 1:
        progress("answer queries", done, total)


def draw_answer(answer: Answer, hit: int = 0) -> NDArray[np.uint8]:
    """The picture of one hit, RGB: the image of the query (or of the hit, for a text) and a panel for each sentence.

    Below the image stands whose report or which image it is, not the query's path.
    """
    seen, found = answer.seen[hit], answer.found[hit]
    size = seen.pixels.shape[0]
    x0, y0, x1, y1 = seen.content
    panels = [
        Panel(
            item.match.text, crop_to_content(item.heat, seen.content, size), box=item.match.box, score=item.match.score
        )
        for item in found
    ]
    best = answer.hits[hit]
    what = (
        f"Image {best.image_id}, found for these words"
        if answer.query.text
        else f"Query image, report of {best.study_id}"
    )
    return draw_heatmaps(seen.pixels[y0:y1, x0:x1], panels, f"{what}. Rank {best.rank}, score {best.score:.3g}.")


def _report(number: int, reject: Reject) -> None:
    # The path may name a patient: the line says which query it was by its number.
    logger.error("%s", json.dumps({"query": number, "code": reject.code, "message": reject.message}))


def _numbered(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _choose_score(run: LoadedRun, asked: Score | None, default: Score) -> Score:
    objective = run.preset.pretrain.objective
    if asked is None:
        return trained_score(default, objective)
    if trained_score(asked, objective) != asked:
        raise PlaceError(
            f"{run.path}: --score {asked} needs what this run did not learn; use {trained_score(asked, objective)}"
        )
    return asked


def _batches(queries: Iterable[Query | Reject], size: int) -> Iterator[list[Query | Reject]]:
    batch: list[Query | Reject] = []
    for query in queries:
        batch.append(query)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

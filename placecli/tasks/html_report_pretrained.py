"""Curves and pictures of a pre-trained run for the evaluation page: zero-shot findings, and what is retrieved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.retrieval import ranks
from placecli.records import Row
from placecli.tasks.demo_gallery import find_peak
from placecli.tasks.embed import ImageMaps, ImageVectors, embed_images_with_maps
from placecli.tasks.evaluation import Protocol, label_values
from placecli.tasks.figures import Panel, crop_to_content, draw_overlay
from placecli.tasks.grounding import best_prompt, label_maps
from placecli.tasks.html_report_calls import PANEL, Calls, call_cases, draw_plain, ids_of, labels_in_words
from placecli.tasks.html_report_content import Case, Cases, Sentence, Shown
from placecli.tasks.html_report_curves import Scored, scored
from placecli.tasks.html_report_words import judge, report_sentences
from placecli.tasks.material import PretrainedMaterial
from placecli.tasks.prompts import embed_prompts, prompts_of
from placecli.tasks.retrieval import Pool, make_pool
from placecli.tasks.scores import combine, global_scores, observation_scores, sentence_maps, sentence_scores
from placecli.tasks.zero_shot import zero_shot_scores

NUM_EACH: Final = 2
"""Cases shown of the best, the middle and the worst."""
NUM_HITS: Final = 2
_PLACES: Final = ("first", "second", "third")


def zero_shot_curves(material: PretrainedMaterial) -> dict[str, Scored]:
    """By label the scores of the chosen kind."""
    gallery, config = material.gallery, material.config
    rows = gallery.rows(np.arange(len(gallery)))
    truth = {label: label_values(rows, label) for label in config.labels or gallery.store.labels()}
    labels = tuple(label for label, values in truth.items() if (values == 1).any() and (values == 0).any())
    found = zero_shot_scores(material.run, gallery, config, labels)
    curves = {label: scored(truth[label], found[label][config.zero_shot_score]) for label in labels}
    return {label: curve for label, curve in curves.items() if curve is not None}


def zero_shot_cases(material: PretrainedMaterial, labels: Sequence[str], ids: bool) -> tuple[Cases, ...]:
    """Right calls, misses and false alarms by the chosen score; with a heat-map where observations were asked."""
    gallery, config, run = material.gallery, material.config, material.run
    rows = gallery.rows(np.arange(len(gallery)))
    targets = np.column_stack([label_values(rows, label) for label in labels])
    found = zero_shot_scores(run, gallery, config, tuple(labels))
    strengths = np.column_stack([_shares_below(found[label][config.zero_shot_score]) for label in labels])
    prompts = embed_prompts(run, labels, config.prompts, config.batch_size)
    temperature = run.preset.pretrain.objective.match_temperature

    def draw(place: int, number: int) -> Case:
        row, label = rows[place], labels[number]
        higher = int((strengths[:, number] > strengths[place, number]).sum())
        caption = f"Ranked {higher + 1:,} of {len(rows):,} for this finding. {labels_in_words(row)}"
        name = label.replace("_", " ")
        shown = Shown(draw_plain(gallery.store, row), f"Radiograph asked for {name}. {caption}", caption)
        if config.zero_shot_score != "global":
            vectors, maps = embed_images_with_maps(run, gallery.store.images([row]))
            textual = prompts[label].positive
            heat = label_maps(textual, vectors.observations[0], maps.attention[0], maps.grid, temperature)
            best = best_prompt(textual, vectors.observations[0], temperature) or 0
            words = prompts_of(label, config.prompts).positive[best]
            picture = _draw_where(material, row, heat)
            shown = Shown(picture, f"{shown.description} Heat-map for: {words}", f"“{words}” {caption}")
        return Case(name, (shown,), ids=ids_of(row) if ids else "")

    return call_cases(Calls(targets, strengths), "ranks among the images of the split", draw)


def _shares_below(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [n]: for each score the share of all that lie below it, which labels can be compared by."""
    return np.searchsorted(np.sort(scores), scores, side="left") / len(scores)


def _draw_where(material: PretrainedMaterial, row: Row, heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image under a map over the store's frame, with a square around its strongest cell."""
    size, (x0, y0, x1, y1) = material.gallery.store.size, row.content
    image = material.gallery.store.images([row])[0][y0:y1, x0:x1]
    panel = Panel("", crop_to_content(heat, row.content, size), box=find_peak(heat, size, row.content))
    return draw_overlay(image, panel, PANEL)


def retrieval_cases(material: PretrainedMaterial, protocol: Protocol, ids: bool) -> Cases:
    """Images whose own report came first, in the middle and last, with what came first instead."""
    pool = make_pool(material.gallery, protocol)
    scores = _pool_scores(material, pool)
    place = ranks(scores, pool.image_key, pool.text_key)
    order = np.argsort(place, kind="stable")
    middle = len(order) // 2
    chosen = [*order[:NUM_EACH], *order[middle : middle + NUM_EACH], *order[-NUM_EACH:]]
    rows = material.gallery.rows(pool.positions[chosen])
    vectors, maps = embed_images_with_maps(material.run, material.gallery.store.images(rows))
    reports = _reports(material, pool)
    cases = [
        _retrieved(material, row, vectors.take([i]), maps, i, (int(j), int(place[j])), scores[j], reports, pool, ids)
        for i, (j, row) in enumerate(zip(chosen, rows, strict=True))
    ]
    note = (
        f"The model sees the image alone and ranks {len(pool.text_key)} reports of this split. Two images whose own report"
        " came first, two from the middle, and two for which it came last."
    )
    if learnt_where(material):
        note += (
            " The right picture shows where the model looks for the sentence below it, the one of the report it put first that"
            " fits the image best; a sentence that denies a finding has such a place too."
        )
    return Cases("What is retrieved for an image", note, tuple(cases), is_wide=True)


def _pool_scores(material: PretrainedMaterial, pool: Pool) -> NDArray[np.float64]:
    of_global = global_scores(pool.images.embedding, pool.texts.embedding)
    if material.config.score == "global":
        return of_global.astype(np.float64)
    temperature = material.run.preset.pretrain.objective.match_temperature
    of_observation = observation_scores(pool.images.observations, pool.texts.observations, pool.texts.mask, temperature)
    if material.config.score == "observation":
        return of_observation.astype(np.float64)
    return combine(of_global, of_observation)


def _reports(material: PretrainedMaterial, pool: Pool) -> dict[int, tuple[str, ...]]:
    """By key of a text, the sentences of the first image that has it."""
    found: dict[int, tuple[str, ...]] = {}
    for key, row in zip(pool.image_key.tolist(), material.gallery.rows(pool.positions), strict=True):
        found.setdefault(key, row.sentences)
    return found


def _retrieved(
    material: PretrainedMaterial,
    row: Row,
    vectors: ImageVectors,
    maps: ImageMaps,
    number: int,
    query: tuple[int, int],
    scores: NDArray[np.float64],
    reports: dict[int, tuple[str, ...]],
    pool: Pool,
    ids: bool,
) -> Case:
    """`number` is the image's place in `vectors` and `maps`, `query` its place in the pool and the rank of its report."""
    own, own_key = report_sentences(row), int(pool.image_key[query[0]])
    hits = np.argsort(-scores, kind="stable")[:NUM_HITS]
    texts = [("Its own report (the model does not see it)", tuple(map(Sentence, own)))]
    for rank, hit in zip(_PLACES, hits.tolist(), strict=False):
        text = reports[int(pool.text_key[hit])]
        is_own = int(pool.text_key[hit]) == own_key
        texts.append((f"Retrieved {rank}" + (": its own report" if is_own else ""), judge(text, own)))
    title = f"Its own report came at rank {query[1]} of {len(pool.text_key)}"
    asked = Shown(draw_plain(material.gallery.store, row), "Radiograph that was asked about")
    if not learnt_where(material):
        return Case(title, (asked,), tuple(texts), ids_of(row) if ids else "")
    best = hits[0]
    temperature = material.run.preset.pretrain.objective.match_temperature
    mask = pool.texts.mask[best]
    textual = np.asarray(pool.texts.observations[best][mask], np.float32)
    alike = sentence_scores(vectors.observations[0], textual, temperature)
    chosen = int(np.argmax(alike))
    heat = sentence_maps(
        vectors.observations[0], maps.attention[number], maps.grid, textual[chosen : chosen + 1], temperature
    )[0]
    sentences = reports[int(pool.text_key[best])]
    place_of = int(np.flatnonzero(mask)[chosen])
    words = sentences[place_of] if place_of < len(sentences) else ""
    where = Shown(_draw_where(material, row, heat), f"Heat-map for the sentence: {words}", f"“{words}”")
    return Case(title, (asked, where), tuple(texts), ids_of(row) if ids else "")


def learnt_where(material: PretrainedMaterial) -> bool:
    """Whether its observations were trained: without PCMA they, and their heat-maps, are as drawn at the start."""
    return material.run.preset.pretrain.objective.pcma_weight > 0

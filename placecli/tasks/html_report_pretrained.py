"""Pictures of a pre-trained run for the evaluation page: what is retrieved for an image, and where a finding is seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.grounding import mass_inside, pointing_game
from placecli.metrics.retrieval import ranks
from placecli.records import Row
from placecli.tasks.demo_gallery import find_peak
from placecli.tasks.embed import ImageMaps, ImageVectors, embed_images_with_maps
from placecli.tasks.evaluation import Protocol, label_values
from placecli.tasks.figures import Panel, crop_to_content, draw_overlay
from placecli.tasks.grounding import Case as Marked
from placecli.tasks.grounding import best_prompt, cases_of, label_maps
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
NUM_SEARCHED: Final = 400
"""Marked images among which the best and the worst heat-maps are looked for."""
NUM_SHOWN: Final = 4
PANEL: Final = 300

_Found = tuple[float, Row, Marked, NDArray[np.float32], str]
"""Mass of the map inside the mark, the image, the mark, the map and the words that were asked."""


def zero_shot_curves(material: PretrainedMaterial) -> dict[str, Scored]:
    """By label the scores of the chosen kind."""
    gallery, config = material.gallery, material.config
    rows = gallery.rows(np.arange(len(gallery)))
    truth = {label: label_values(rows, label) for label in config.labels or gallery.store.labels()}
    labels = tuple(label for label, values in truth.items() if (values == 1).any() and (values == 0).any())
    found = zero_shot_scores(material.run, gallery, config, labels)
    curves = {label: scored(truth[label], found[label][config.zero_shot_score]) for label in labels}
    return {label: curve for label, curve in curves.items() if curve is not None}


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
        _retrieved(material, row, vectors.take([i]), maps, i, scores[j], int(place[j]), reports, pool, ids)
        for i, (j, row) in enumerate(zip(chosen, rows, strict=True))
    ]
    note = (
        f"The model sees the image alone and ranks {len(pool.text_key)} reports of this split. Two images whose own report"
        " came first, two from the middle, and the two for which it came last. The right picture shows where the model"
        " sees the best matching sentence of the report that it put first."
    )
    return Cases("What is retrieved for an image", note, tuple(cases), is_wide=True)


def grounding_cases(material: PretrainedMaterial, ids: bool) -> tuple[Cases, ...]:
    """The best and the worst heat-maps among the first marked images of the split, by the mass inside the mark."""
    gallery, config, run = material.gallery, material.config, material.run
    rows = gallery.rows(np.arange(len(gallery)))
    labels = sorted({box.label for row in rows for box in row.boxes if not config.labels or box.label in config.labels})
    rows = [row for row in rows if any(box.label in labels for box in row.boxes)][:NUM_SEARCHED]
    if not rows:
        return ()
    prompts = embed_prompts(run, labels, config.prompts, config.batch_size)
    store = gallery.store
    found: list[_Found] = []
    temperature = run.preset.pretrain.objective.match_temperature
    for first in range(0, len(rows), config.batch_size):
        part = rows[first : first + config.batch_size]
        vectors, seen = embed_images_with_maps(run, store.images(part), batch_size=config.batch_size)
        for i, row in enumerate(part):
            for case in cases_of(row, store.size, None, labels):
                textual = prompts[case.label].positive
                heat = label_maps(textual, vectors.observations[i], seen.attention[i], seen.grid, temperature)
                best = best_prompt(textual, vectors.observations[i], temperature) or 0
                words = prompts_of(case.label, config.prompts).positive[best]
                found.append((mass_inside(heat, case.region), row, case, heat, words))
    found.sort(key=lambda each: -each[0])
    note = (
        f"Of the first {len(rows)} marked images. Colour: where the model sees the sentence; cyan: the strongest cell;"
        " green: what was marked by a reader."
    )
    groups = (
        ("Heat-maps: the best", _one_a_patient(found)[:NUM_SHOWN]),
        ("Heat-maps: the worst", _one_a_patient(found[::-1])[:NUM_SHOWN]),
    )
    return tuple(
        Cases(title, note, tuple(_ground(material, *each, ids) for each in chosen)) for title, chosen in groups
    )


def _one_a_patient(found: Sequence[_Found]) -> list[_Found]:
    firsts: dict[str, _Found] = {}
    for each in found:
        firsts.setdefault(each[1].patient_id, each)
    return list(firsts.values())


def _ground(
    material: PretrainedMaterial, mass: float, row: Row, case: Marked, heat: NDArray[np.float32], words: str, ids: bool
) -> Case:
    store = material.gallery.store
    x0, y0, x1, y1 = row.content
    image = store.images([row])[0][y0:y1, x0:x1]
    panel = Panel(
        "",
        crop_to_content(heat, row.content, store.size),
        box=find_peak(heat, store.size, row.content),
        mask=case.region[y0:y1, x0:x1],
    )
    is_hit = pointing_game(heat, case.region)
    verdict = "points inside" if is_hit else "points outside"
    shown = Shown(
        draw_overlay(image, panel, PANEL),
        f"Radiograph with a heat-map for {case.label}; it {verdict} the marked region",
        f"“{words}” {verdict}; {100 * mass:.0f} % of the map lies inside",
    )
    return Case(case.label, (shown,), ids=ids_of(row) if ids else "")


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
    scores: NDArray[np.float64],
    place: int,
    reports: dict[int, tuple[str, ...]],
    pool: Pool,
    ids: bool,
) -> Case:
    own = report_sentences(row)
    hits = np.argsort(-scores, kind="stable")[:NUM_HITS]
    texts = [("Its own report (the model does not see it)", tuple(map(Sentence, own)))]
    for rank, hit in enumerate(hits.tolist(), start=1):
        text = reports[int(pool.text_key[hit])]
        texts.append((f"Retrieved, {rank}.", judge(text, own)))
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
    words = sentences[int(np.flatnonzero(mask)[chosen])] if len(sentences) > chosen else ""
    size, (x0, y0, x1, y1) = material.gallery.store.size, row.content
    image = material.gallery.store.images([row])[0][y0:y1, x0:x1]
    nothing = Panel("", np.zeros((1, 1), np.float32))
    where = Panel("", crop_to_content(heat, row.content, size), box=find_peak(heat, size, row.content))
    pictures = (
        Shown(draw_overlay(image, nothing, PANEL), "Radiograph that was asked about"),
        Shown(draw_overlay(image, where, PANEL), f"Heat-map for the sentence: {words}", f"“{words}”"),
    )
    title = f"Its own report came at rank {place} of {len(pool.text_key)}"
    return Case(title, pictures, tuple(texts), ids_of(row) if ids else "")


def ids_of(row: Row) -> str:
    """For who asked to see them."""
    return f"study {row.study_id}, image {row.image_id}"

"""Evaluation of grounding: does the map of a finding's sentence point at the region that was marked for it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from placecli.config import EvaluateConfig
from placecli.engine.checkpoint import LoadedRun
from placecli.metrics.bootstrap import Statistic
from placecli.metrics.grounding import mask_overlap, mass_inside, pointing_game
from placecli.metrics.retrieval import weighted_mean
from placecli.records import PlaceError, Row
from placecli.tasks.embed import Progress, TextVectors, embed_images_with_maps
from placecli.tasks.evaluation import Findings, Measure, Resampling, nan_mean
from placecli.tasks.gallery import Gallery
from placecli.tasks.prompts import embed_prompts
from placecli.tasks.scores import sentence_maps, sentence_scores

Floats = NDArray[np.float64]
Region = NDArray[np.bool_]

QUANTILE: Final = 0.9
"""`overlap` compares the region with the strongest tenth of the map."""


@dataclass(frozen=True, slots=True)
class Case:
    """One finding marked in one image: region and (where pixels are marked) mask, bool [S, S] in the store's frame."""

    label: str
    image_id: str
    patient: str
    content: tuple[int, int, int, int]
    region: Region
    mask: Region | None


def evaluate_grounding(
    run: LoadedRun,
    gallery: Gallery,
    config: EvaluateConfig,
    resampling: Resampling,
    progress: Progress | None = None,
) -> Findings:
    """Pointing game, overlap and mass inside of every (image, finding) that is marked, and two baselines of position.

    Raises PlaceError when the split has no boxes and no masks, or the run learnt no observations to point with.
    """
    if run.preset.pretrain.objective.pcma_weight == 0:
        raise PlaceError(f"{run.path}: trained without PCMA (objective.pcma_weight 0), so it has no maps to point with")
    rows = gallery.rows(np.arange(len(gallery)))
    labels = _marked_labels(rows, config.labels)
    texts = {
        label: vectors.positive
        for label, vectors in embed_prompts(run, labels, config.prompts, config.batch_size).items()
    }
    cases, maps, prior = _find(run, gallery, rows, texts, config.batch_size, progress) if labels else ([], [], {})
    if not cases:  # also where every mask is empty
        raise PlaceError(
            f"{gallery.store.path}: no image of this split has a box or a mask of a finding; grounding needs them"
        )
    values = _judge(cases, maps, prior)
    patients = np.asarray([case.patient for case in cases])
    of_label = np.asarray([case.label for case in cases])
    metrics = _measures(values, patients, of_label, resampling)
    area = [float(case.region.sum() / _area(case.content)) for case in cases]
    chance = {"pointing_game": float(np.mean(area)), "mass_inside": float(np.mean(area))}
    counts = {
        "patients": len(np.unique(patients)),
        "images": len({case.image_id for case in cases}),
        "cases": len(cases),
        "cases_with_mask": sum(case.mask is not None for case in cases),
        "images_in_prior": len(rows),
    }
    return Findings(len(cases), metrics, chance, counts)


def cases_of(row: Row, size: int, mask: NDArray[np.uint8] | None, labels: Sequence[str]) -> list[Case]:
    """The marked findings of a row. A finding's region is the union of its boxes; its mask the part of the image's mask
    inside them. A mask without boxes marks the row's only positive label, if it has just one.
    """
    pixels = None if mask is None or row.mask_row < 0 else mask > 0
    cases = []
    for label in labels:
        boxes = [box for box in row.boxes if box.label == label]
        if boxes:
            region = np.zeros((size, size), bool)
            for box in boxes:
                x0, y0 = max(0, round(box.x)), max(0, round(box.y))
                # A box thinner than a pixel of the store still marks that pixel.
                x1, y1 = max(x0 + 1, round(box.x + box.width)), max(y0 + 1, round(box.y + box.height))
                region[y0:y1, x0:x1] = True
            inside = None if pixels is None or not (pixels & region).any() else pixels & region
            cases.append(Case(label, row.image_id, row.patient_id, row.content, region, inside))
    positive = [label for label, value in row.labels.items() if value == 1]
    if not row.boxes and pixels is not None and pixels.any() and len(positive) == 1 and positive[0] in labels:
        cases.append(Case(positive[0], row.image_id, row.patient_id, row.content, pixels, pixels))
    return cases


def label_maps(
    textual: TextVectors, observations: NDArray[Any], attention: NDArray[Any], grid: tuple[int, int], temperature: float
) -> NDArray[np.float32]:
    """float32 [rows, cols], sum 1: the map of that prompt of the label which the image answers best.

    Prompts of a label name different sides and sites; their mean would point between them.
    """
    best = best_prompt(textual, observations, temperature)
    if best is None:
        return np.full(grid, 1.0 / (grid[0] * grid[1]), np.float32)
    prompt = textual.observations[best : best + 1, 0]
    return np.asarray(sentence_maps(observations, attention, grid, prompt, temperature)[0], np.float32)


def best_prompt(textual: TextVectors, observations: NDArray[Any], temperature: float) -> int | None:
    """Which of a label's prompts, texts of one sentence, the image's observations [K, d] answer best; None: all empty."""
    scores = sentence_scores(observations, textual.observations[:, 0], temperature)
    readable = np.flatnonzero(textual.mask[:, 0])
    return int(readable[np.argmax(scores[readable])]) if len(readable) else None


def _find(
    run: LoadedRun,
    gallery: Gallery,
    rows: Sequence[Row],
    texts: dict[str, TextVectors],
    batch_size: int,
    progress: Progress | None,
) -> tuple[list[Case], list[NDArray[np.float32]], dict[str, Floats]]:
    """All cases, the map of each, and for each label the map averaged over all images of the split."""
    temperature = run.preset.pretrain.objective.match_temperature
    store, labels = gallery.store, tuple(texts)
    cases: list[Case] = []
    maps: list[NDArray[np.float32]] = []
    total: dict[str, Floats] = {}
    for first in range(0, len(rows), batch_size):
        part = rows[first : first + batch_size]
        vectors, seen = embed_images_with_maps(run, store.images(part), batch_size=batch_size)
        masks = store.masks(part) if any(row.mask_row >= 0 for row in part) else None
        for i, row in enumerate(part):
            of_label = {
                label: label_maps(texts[label], vectors.observations[i], seen.attention[i], seen.grid, temperature)
                for label in labels
            }
            for label, heat in of_label.items():
                total[label] = total.get(label, 0.0) + heat.astype(np.float64)
            for case in cases_of(row, store.size, None if masks is None else masks[i], labels):
                cases.append(case)
                maps.append(of_label[case.label])
        if progress is not None:
            progress("ground findings", first + len(part), len(rows))
    return cases, maps, {label: heat / len(rows) for label, heat in total.items()}


def _judge(cases: Sequence[Case], maps: Sequence[NDArray[np.float32]], prior: dict[str, Floats]) -> dict[str, Floats]:
    """By metric, float64 [cases]; nan where a case has no mask."""
    columns: dict[str, list[float]] = {}
    for case, heat in zip(cases, maps, strict=True):
        hit, hit_prior = pointing_game(heat, case.region), pointing_game(prior[case.label], case.region)
        values = {
            "pointing_game": float(hit),
            "overlap": mask_overlap(heat, case.region, QUANTILE),
            "mass_inside": mass_inside(heat, case.region),
            "pointing_game_mask": float("nan") if case.mask is None else float(pointing_game(heat, case.mask)),
            "pointing_game_prior": float(hit_prior),
            "pointing_game_centre": float(_centre_hits(case)),
            "pointing_game_gain": float(hit) - float(hit_prior),
        }
        for name, value in values.items():
            columns.setdefault(name, []).append(value)
    return {name: np.asarray(column) for name, column in columns.items()}


def _measures(
    values: dict[str, Floats], patients: NDArray[np.str_], of_label: NDArray[np.str_], resampling: Resampling
) -> dict[str, Measure]:
    def mean_of(column: Floats) -> Statistic:
        return lambda weights: np.asarray(weighted_mean(column, weights))

    metrics: dict[str, Measure] = {}
    for name, column in values.items():
        used = ~np.isnan(column)
        if used.any():
            metrics[name] = resampling.measure(mean_of(column[used]), patients[used])
    pointing = values["pointing_game"]
    chosen = {label: of_label == label for label in sorted(set(of_label.tolist()))}

    def macro(weights: Floats) -> Floats:
        parts = [np.asarray(weighted_mean(pointing[used], weights[:, used])) for used in chosen.values()]
        return nan_mean(np.stack(parts))

    metrics["pointing_game_macro"] = resampling.measure(macro, patients)
    for label, used in chosen.items():
        metrics[f"pointing_game[{label}]"] = resampling.measure(mean_of(pointing[used]), patients[used])
    return metrics


def _marked_labels(rows: Sequence[Row], wanted: Sequence[str]) -> tuple[str, ...]:
    """Labels that are marked in some row, sorted; all of them or those wanted."""
    marked = {box.label for row in rows for box in row.boxes}
    for row in rows:
        positive = [label for label, value in row.labels.items() if value == 1]
        if not row.boxes and row.mask_row >= 0 and len(positive) == 1:
            marked.add(positive[0])
    return tuple(sorted(marked & set(wanted) if wanted else marked))


def _centre_hits(case: Case) -> bool:
    x0, y0, x1, y1 = case.content
    return bool(case.region[(y0 + y1) // 2, (x0 + x1) // 2])


def _area(content: tuple[int, int, int, int]) -> int:
    return (content[2] - content[0]) * (content[3] - content[1])

"""Retrieval by class, CheXpert-5x200-style: of the first k texts (or images) found for an image, how many share its class?

Every image of the set shows one class and nothing else (data/exclusive_sets.py), so many images for each class. Several
seeds draw several sets; what is found is the mean over all their queries. M queries, N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from placecli.config import ClassRetrievalConfig, EvaluateConfig
from placecli.data.exclusive_sets import exclusive_pools, exclusive_sets
from placecli.engine.checkpoint import LoadedRun
from placecli.metrics.bootstrap import Statistic
from placecli.metrics.retrieval import precision_at_k, weighted_mean
from placecli.records import PlaceError
from placecli.tasks.class_texts import Texts, open_texts
from placecli.tasks.embed import Progress, device_of
from placecli.tasks.evaluation import Findings, Measure, Protocol, Resampling
from placecli.tasks.gallery import Gallery
from placecli.tasks.scores import Score, combine, global_scores, learnt_scores, observation_scores

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]

LARGEST: Final = 200
"""Images of a class where the preset does not say how many."""
SMALLEST: Final = 10
"""Images that must show a label alone for it to be a class, where the preset names none."""
BACK: Final = "image_to_image"


@dataclass(frozen=True, slots=True)
class Drawn:
    """One set: M images by their position in the gallery, the class of each, and who the patients are."""

    images: Integers
    of_class: Integers
    patients: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Ranking:
    """One direction by one score. precision: by cut-off, float64 [M], the share of the first k of the query's class."""

    precision: dict[int, Floats]
    chance: dict[int, tuple[float, float]]
    """By cut-off what a random order gives: precision, hit."""


def evaluate_class_retrieval(
    run: LoadedRun,
    gallery: Gallery,
    config: EvaluateConfig,
    resampling: Resampling,
    protocol: Protocol,
    progress: Progress | None = None,
) -> Findings:
    """Precision@k and Hit@k, image to text by every score and image to image, over all classes and for each.

    Raises PlaceError where too few images show a class alone.
    """
    section = config.class_retrieval
    rows = gallery.rows(np.arange(len(gallery)))
    needs_report = section.texts == "reports" and section.text_data is None
    usable = [i for i, row in enumerate(rows) if row.labels and (row.sentences or not needs_report)]
    if not usable:
        what = (
            "a label and a report; name a store of reports in evaluate.class_retrieval.text_data, or set texts=prompts"
        )
        raise PlaceError(f"{gallery.store.path}: no image of this split has {what if needs_report else 'a label'}")
    labels = [rows[i].labels for i in usable]
    classes = section.classes or _classes_of(labels)
    pools = exclusive_pools(labels, classes)
    per_class = section.per_class or _largest_set(pools)
    source = open_texts(run, gallery, config, classes, per_class, protocol, progress)
    sets: list[Drawn] = []
    rankings: dict[str, list[Ranking]] = {}
    num_texts = 0
    for seed in section.seeds:
        members = exclusive_sets(labels, classes, per_class, seed)
        images = np.asarray([usable[i] for name in classes for i in members[name]])
        patients = np.asarray([rows[i].patient_id for i in images])
        sets.append(Drawn(images, np.repeat(np.arange(len(classes)), per_class), patients))
        pool = source.draw(images, sets[-1].of_class, seed)
        num_texts = len(pool.carried)
        for name, ranking in _rank(run, gallery, sets[-1], pool, section, protocol).items():
            rankings.setdefault(name, []).append(ranking)
        if progress is not None:
            progress("rank by class", len(sets), len(section.seeds))
    metrics, chance = _measures(rankings, sets, classes, config.score, resampling)
    counts = {
        "patients": len({patient for each in sets for patient in each.patients.tolist()}),
        "images": len({image for each in sets for image in each.images.tolist()}),
        "texts": num_texts,
        "per_class": per_class,
        "pools": {name: len(pool) for name, pool in pools.items()},
        "seeds": list(section.seeds),
        "by_seed": {
            f"precision@{k}": [float(each.precision[k].mean()) for each in rankings[config.score]]
            for k in rankings[config.score][0].precision
        },
    }
    return Findings(sum(len(each.images) for each in sets), metrics, chance, counts)


def _classes_of(labels: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """Labels that at least `SMALLEST` images show alone, sorted."""
    names = sorted({name for values in labels for name in values})
    return tuple(name for name, pool in exclusive_pools(labels, names).items() if len(pool) >= SMALLEST)


def _largest_set(pools: Mapping[str, Sequence[int]]) -> int:
    smallest = min(map(len, pools.values()), default=0)
    if len(pools) < 2 or smallest < 2:
        sizes = ", ".join(f"{name} {len(pool)}" for name, pool in pools.items()) or "no class"
        raise PlaceError(
            f"class-retrieval: fewer than two classes that two images show alone ({sizes}); name others in"
            " evaluate.class_retrieval.classes, or take --split all"
        )
    return min(smallest, LARGEST)


def _rank(
    run: LoadedRun, gallery: Gallery, drawn: Drawn, texts: Texts, section: ClassRetrievalConfig, protocol: Protocol
) -> dict[str, Ranking]:
    """The ranking of image to text by each score that was learnt, and of image to image by the global one."""
    images = gallery.images.take(drawn.images)
    temperature = run.preset.pretrain.objective.match_temperature
    of_global = global_scores(images.embedding, texts.vectors.embedding)
    of_observation = observation_scores(
        images.observations, texts.vectors.observations, texts.vectors.mask, temperature, device_of(run)
    )
    tables: dict[Score, Floats] = {
        "global": of_global.astype(float),
        "observation": of_observation.astype(float),
        "combined": combine(of_global, of_observation),
    }
    rankings: dict[str, Ranking] = {
        score: rank_by_class(tables[score], drawn.of_class, texts.carried, section.cutoffs)
        for score in learnt_scores(run.preset.pretrain.objective)
    }
    likeness = global_scores(images.embedding, images.embedding).astype(float)
    same = np.eye(len(likeness), dtype=bool)
    if protocol == "clean":
        same = drawn.patients[:, None] == drawn.patients[None, :]
    carried = np.eye(int(drawn.of_class.max()) + 1, dtype=bool)[drawn.of_class]
    return {**rankings, BACK: rank_by_class(likeness, drawn.of_class, carried, section.cutoffs, ~same)}


def rank_by_class(
    scores: Floats, of_class: Integers, carried: Flags, cutoffs: Sequence[int], allowed: Flags | None = None
) -> Ranking:
    """Precision at each cut-off that no class has fewer items than, of scores [M, N] by the class of each query [M].

    allowed bool [M, N]: items that a query may find. Equal scores count against the query.
    """
    may = np.ones(scores.shape, bool) if allowed is None else allowed
    table = np.where(may, scores, -np.inf)
    wanted = carried[:, of_class].T
    fewest = int((wanted & may).sum(axis=1).min())
    precision: dict[int, Floats] = {}
    chance: dict[int, tuple[float, float]] = {}
    num, right = may.sum(axis=1), (wanted & may).sum(axis=1)
    for k in (k for k in cutoffs if k <= fewest):
        values = np.full(len(of_class), np.nan)
        for each in np.unique(of_class):
            asked = of_class == each
            values[asked] = precision_at_k(table[asked], np.ones(int(asked.sum()), bool), carried[:, each], k)
        precision[k] = values
        hits = [1 - comb(int(n - m), k) / comb(int(n), k) for n, m in zip(num, right, strict=True)]
        chance[k] = (float(np.mean(right / num)), float(np.mean(hits)))
    return Ranking(precision, chance)


def _measures(
    rankings: Mapping[str, Sequence[Ranking]],
    sets: Sequence[Drawn],
    classes: Sequence[str],
    chosen: Score,
    resampling: Resampling,
) -> tuple[dict[str, Measure], dict[str, float]]:
    """All numbers by name, and what chance gives for those of the chosen score and of image to image."""
    patients = np.concatenate([each.patients for each in sets])
    of_class = np.concatenate([each.of_class for each in sets])
    metrics: dict[str, Measure] = {}
    chance: dict[str, float] = {}
    for name in (chosen, *(each for each in rankings if each not in (chosen, BACK)), BACK):
        for suffix in ("", f"_{name}") if name == chosen else (f"_{name}",):
            for k in rankings[name][0].precision:
                values = np.concatenate([each.precision[k] for each in rankings[name]])
                metrics[f"precision@{k}{suffix}"] = resampling.measure(_mean_of(values), patients)
                metrics[f"hit@{k}{suffix}"] = resampling.measure(_mean_of(values > 0), patients)
                if suffix in ("", f"_{BACK}"):
                    expected = np.mean([each.chance[k] for each in rankings[name]], axis=0)
                    chance[f"precision@{k}{suffix}"], chance[f"hit@{k}{suffix}"] = map(float, expected)
    for k in rankings[chosen][0].precision:
        values = np.concatenate([each.precision[k] for each in rankings[chosen]])
        for number, label in enumerate(classes):
            asked = of_class == number
            metrics[f"precision@{k}[{label}]"] = resampling.measure(_mean_of(values[asked]), patients[asked])
    return metrics, chance


def _mean_of(values: NDArray[Any]) -> Statistic:
    return lambda weights: np.asarray(weighted_mean(values, weights))

"""Evaluation of retrieval: does an image find its report among all, and a report its image?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.config import EvaluateConfig
from placecli.engine.checkpoint import LoadedRun
from placecli.metrics import retrieval as metric
from placecli.metrics.bootstrap import Statistic
from placecli.records import PlaceError
from placecli.tasks.embed import ImageVectors, Progress, TextVectors, device_of
from placecli.tasks.evaluation import Findings, Measure, Protocol, Resampling, label_values, nan_mean
from placecli.tasks.gallery import Gallery
from placecli.tasks.scores import SCORES, Score, combine, global_scores, learnt_scores, observation_scores

Floats = NDArray[np.float64]

CUTOFFS: Final = (1, 5, 10)
_BLOCK: Final = 2_000_000
"""Scores held at once in each direction."""
_KEPT: Final = 50_000_000
"""Observation scores that are kept for both directions, 200 MB."""


@dataclass(frozen=True, slots=True)
class Pool:
    """M images that have a report and N reports. A report is correct for an image when their keys are equal.

    image_key int64 [M], text_key int64 [N]; patients of the images [M] and of the reports [N].
    image_of_text int64 [N]: the first image with this report.
    """

    images: ImageVectors
    texts: TextVectors
    image_key: NDArray[np.int64]
    text_key: NDArray[np.int64]
    image_patient: NDArray[np.str_]
    text_patient: NDArray[np.str_]
    positions: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Direction:
    """Ranks of one direction by score, and the precision values by cut-off and label (chosen score)."""

    ranks: dict[Score, NDArray[np.int64]]
    precision: dict[tuple[int, str], Floats]


class _Observed:
    """Observation scores of a pool: computed once when the whole table may be kept, else when they are asked for."""

    def __init__(self, run: LoadedRun, pool: Pool) -> None:
        self._device, self._temperature = device_of(run), run.preset.pretrain.objective.match_temperature
        self._pool = pool
        is_small = len(pool.image_key) * len(pool.text_key) <= _KEPT
        self._table = self._compute(slice(None), slice(None)) if is_small else None

    def scores(self, images: slice, texts: slice) -> NDArray[np.float32]:
        """float32 [images, texts]."""
        return self._compute(images, texts) if self._table is None else self._table[images, texts]

    def _compute(self, images: slice, texts: slice) -> NDArray[np.float32]:
        observations, chosen = self._pool.images.observations[images], self._pool.texts.take(texts)
        return observation_scores(observations, chosen.observations, chosen.mask, self._temperature, self._device)


def evaluate_retrieval(
    run: LoadedRun,
    gallery: Gallery,
    config: EvaluateConfig,
    resampling: Resampling,
    protocol: Protocol,
    progress: Progress | None = None,
) -> Findings:
    """Recall@1/5/10 and median rank in both directions for every score that was learnt, Precision@k by class where there
    are labels."""
    pool = make_pool(gallery, protocol)
    rows = gallery.rows(pool.positions)
    carries = _classes({label: label_values(rows, label) == 1 for label in config.labels or gallery.store.labels()})
    carried = {label: _texts_with(values, pool) for label, values in carries.items()}
    observed = _Observed(run, pool)
    to_reports = _look(observed, pool, config.score, (carries, carried), progress)
    to_images = _look_back(observed, pool, progress)
    metrics: dict[str, Measure] = {}
    learnt = learnt_scores(run.preset.pretrain.objective)
    for score in (config.score, *(each for each in learnt if each != config.score)):
        suffixes = ("", f"_{score}") if score == config.score else (f"_{score}",)
        for direction, ranks, patients in (
            ("", to_reports.ranks[score], pool.image_patient),
            ("_text_to_image", to_images[score], pool.text_patient),
        ):
            for name, measure in _measures(ranks, patients, resampling).items():
                metrics |= {f"{name}{direction}{suffix}": measure for suffix in suffixes}
    metrics |= _precision(to_reports.precision, carries, pool.image_patient, resampling)
    counts = {
        "patients": len(np.unique(pool.image_patient)),
        "images": len(pool.image_key),
        "reports": len(pool.text_key),
        "distinct_reports": len(np.unique(gallery.group_of_text)),
        "images_without_report": len(gallery) - len(pool.image_key),
    }
    return Findings(len(pool.image_key), metrics, _chance(pool, carried), counts)


def make_pool(gallery: Gallery, protocol: Protocol) -> Pool:
    """clean: each distinct report once, any image with it is correct. compat: a report an image, its own alone is."""
    positions = np.flatnonzero(gallery.text_of_image >= 0)
    if len(positions) < 2:
        raise PlaceError(
            f"{gallery.store.path}: fewer than two images of this split have a report; nothing to retrieve"
        )
    texts = gallery.text_of_image[positions]
    patients = np.asarray([row.patient_id for row in gallery.rows(positions)])
    images = gallery.images.take(positions)
    if protocol == "compat":
        keys = np.arange(len(positions))
        return Pool(images, gallery.texts.take(texts), keys, keys, patients, patients, positions)
    keys, first = np.unique(gallery.group_of_text[texts], return_index=True)
    first = first[np.argsort(first)]
    chosen = texts[first]
    return Pool(
        images,
        gallery.texts.take(chosen),
        gallery.group_of_text[texts],
        gallery.group_of_text[chosen],
        patients,
        patients[first],
        positions,
    )


def _look(
    observed: _Observed,
    pool: Pool,
    chosen: Score,
    classes: tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.bool_]]],
    progress: Progress | None,
) -> _Direction:
    """Image -> report."""
    carries, carried = classes
    ranks: dict[Score, list[NDArray[np.int64]]] = {score: [] for score in SCORES}
    precision: dict[tuple[int, str], list[Floats]] = {(k, label): [] for k in CUTOFFS for label in carries}
    num_images = len(pool.image_key)
    for part in _blocks(num_images, len(pool.text_key)):
        images = pool.images.take(part)
        scores = _all_scores(global_scores(images.embedding, pool.texts.embedding), observed.scores(part, slice(None)))
        for score, table in scores.items():
            ranks[score].append(metric.ranks(table, pool.image_key[part], pool.text_key))
        for k, label in precision:
            values = metric.precision_at_k(scores[chosen], carries[label][part], carried[label], k)
            precision[k, label].append(values)
        if progress is not None:
            progress("image to report", part.stop, num_images)
    return _Direction(
        {score: np.concatenate(parts) for score, parts in ranks.items()},
        {name: np.concatenate(parts) for name, parts in precision.items()},
    )


def _look_back(observed: _Observed, pool: Pool, progress: Progress | None) -> dict[Score, NDArray[np.int64]]:
    """Report -> image."""
    ranks: dict[Score, list[NDArray[np.int64]]] = {score: [] for score in SCORES}
    num_texts = len(pool.text_key)
    for part in _blocks(num_texts, len(pool.image_key)):
        texts = pool.texts.take(part)
        scores = _all_scores(
            global_scores(texts.embedding, pool.images.embedding), observed.scores(slice(None), part).T
        )
        for score, table in scores.items():
            ranks[score].append(metric.ranks(table, pool.text_key[part], pool.image_key))
        if progress is not None:
            progress("report to image", part.stop, num_texts)
    return {score: np.concatenate(parts) for score, parts in ranks.items()}


def _all_scores(of_global: NDArray[np.float32], of_observation: NDArray[np.float32]) -> dict[Score, Floats]:
    """The three scores of [queries, gallery], z-scores over the gallery."""
    both = combine(of_global, of_observation)
    return {"global": of_global.astype(float), "observation": of_observation.astype(float), "combined": both}


def _blocks(num_queries: int, num_items: int) -> Iterator[slice]:
    step = max(1, _BLOCK // num_items)
    for first in range(0, num_queries, step):
        yield slice(first, min(first + step, num_queries))


def _measures(ranks: NDArray[np.int64], patients: NDArray[np.str_], resampling: Resampling) -> dict[str, Measure]:
    def recall(k: int) -> Statistic:
        return lambda weights: np.asarray(metric.recall_at_k(ranks, k, weights))

    measures = {f"recall@{k}": resampling.measure(recall(k), patients) for k in CUTOFFS}
    measures["median_rank"] = resampling.measure(lambda w: np.asarray(metric.median_rank(ranks, w)), patients)
    return measures


def _precision(
    precision: dict[tuple[int, str], Floats],
    carries: dict[str, NDArray[np.bool_]],
    patients: NDArray[np.str_],
    resampling: Resampling,
) -> dict[str, Measure]:
    def mean_of(values: Floats) -> Statistic:
        asked = ~np.isnan(values)
        return lambda weights: np.asarray(metric.weighted_mean(values[asked], weights[:, asked]))

    def macro(k: int) -> Statistic:
        parts = [mean_of(precision[k, label]) for label in carries]
        return lambda weights: nan_mean(np.stack([part(weights) for part in parts]))

    measures: dict[str, Measure] = {}
    for k in CUTOFFS if carries else ():
        measures[f"precision@{k}_macro"] = resampling.measure(macro(k), patients)
        for label, asked in carries.items():
            values = precision[k, label][asked]
            measures[f"precision@{k}[{label}]"] = resampling.measure(mean_of(values), patients[asked])
    return measures


def _classes(carries: dict[str, NDArray[np.bool_]]) -> dict[str, NDArray[np.bool_]]:
    return {label: values for label, values in carries.items() if values.any() and not values.all()}


def _texts_with(carries: NDArray[np.bool_], pool: Pool) -> NDArray[np.bool_]:
    """bool [N]: a report carries a class when any image with this report does."""
    return np.isin(pool.text_key, pool.image_key[carries])


def _chance(pool: Pool, carried: dict[str, NDArray[np.bool_]]) -> dict[str, float]:
    directions: Sequence[tuple[str, NDArray[np.int64], NDArray[np.int64]]] = (
        ("", pool.image_key, pool.text_key),
        ("_text_to_image", pool.text_key, pool.image_key),
    )
    chance: dict[str, float] = {}
    for suffix, queries, items in directions:
        chance |= {f"recall@{k}{suffix}": metric.chance_recall_at_k(queries, items, k) for k in CUTOFFS}
        chance[f"median_rank{suffix}"] = metric.chance_median_rank(queries, items)
    shares = {label: float(values.mean()) for label, values in carried.items()}
    for k in CUTOFFS if shares else ():
        chance[f"precision@{k}_macro"] = float(np.mean(list(shares.values())))
    return chance

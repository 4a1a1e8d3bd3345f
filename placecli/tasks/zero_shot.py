"""Zero-shot classification: is the statement of a finding closer to the image than its denial?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from placecli.config import EvaluateConfig
from placecli.engine.checkpoint import LoadedRun
from placecli.metrics.bootstrap import Statistic
from placecli.metrics.classification import auroc, average_precision
from placecli.records import PlaceError
from placecli.tasks.embed import TextVectors, device_of
from placecli.tasks.evaluation import Findings, Measure, Resampling, label_values, nan_mean
from placecli.tasks.gallery import Gallery
from placecli.tasks.prompts import embed_prompts
from placecli.tasks.scores import Score, global_scores, learnt_scores, observation_scores, standardize

Floats = NDArray[np.float64]


def evaluate_zero_shot(run: LoadedRun, gallery: Gallery, config: EvaluateConfig, resampling: Resampling) -> Findings:
    """AUROC and average precision of each finding from prompts alone, by `config.zero_shot_score`; macro AUROC of all scores that
    were learnt.

    Raises PlaceError when no label of the split has both kinds of cases.
    """
    rows = gallery.rows(np.arange(len(gallery)))
    truth = {label: label_values(rows, label) for label in config.labels or gallery.store.labels()}
    scored = {label: values for label, values in truth.items() if _has_both(values)}
    undefined = {label: _why(values) for label, values in truth.items() if label not in scored}
    if not scored:
        raise PlaceError(
            f"{gallery.store.path}: no label has both present and absent cases in this split;"
            " zero-shot classification needs a store with labels"
        )
    differences = zero_shot_scores(run, gallery, config, tuple(scored))
    patients = np.asarray([row.patient_id for row in rows])
    metrics: dict[str, Measure] = {}
    learnt = learnt_scores(run.preset.pretrain.objective)
    for score in (config.zero_shot_score, *(each for each in learnt if each != config.zero_shot_score)):
        suffix = "" if score == config.zero_shot_score else f"_{score}"
        parts = [_area(auroc, scored[label], differences[label][score]) for label in scored]
        metrics[f"auroc_macro{suffix}"] = resampling.measure(_macro(parts), patients)
    metrics[f"auroc_macro_{config.zero_shot_score}"] = metrics["auroc_macro"]
    chosen = {label: differences[label][config.zero_shot_score] for label in scored}
    parts = [_area(average_precision, scored[label], chosen[label]) for label in scored]
    metrics["average_precision_macro"] = resampling.measure(_macro(parts), patients)
    for label, values in scored.items():
        used = ~np.isnan(values)
        positives = int((values == 1).sum())
        for name, metric in (("auroc", auroc), ("average_precision", average_precision)):
            statistic = _area(metric, values[used], chosen[label][used])
            metrics[f"{name}[{label}]"] = resampling.measure(statistic, patients[used], positives)
    prevalence = {label: float(np.nanmean(values)) for label, values in scored.items()}
    chance = {
        "auroc_macro": 0.5,
        "average_precision_macro": float(np.mean(list(prevalence.values()))),
        **{f"average_precision[{label}]": share for label, share in prevalence.items()},
    }
    counts = {"patients": len(set(patients.tolist())), "labels": len(scored), "undefined": undefined}
    return Findings(len(rows), metrics, chance, counts)


def zero_shot_scores(
    run: LoadedRun, gallery: Gallery, config: EvaluateConfig, labels: tuple[str, ...]
) -> Mapping[str, Mapping[Score, Floats]]:
    """By label and score, float64 [N]: mean score of the positive prompts minus that of the negative ones.

    "combined" is the mean of the z-scores, over the gallery's images, of the other two differences.
    """
    prompts = embed_prompts(run, labels, config.prompts, config.batch_size)
    result: dict[str, dict[Score, Floats]] = {}
    for label in labels:
        positive, negative = (
            _mean_scores(run, gallery, texts) for texts in (prompts[label].positive, prompts[label].negative)
        )
        of_global, of_observation = (positive[i] - negative[i] for i in range(2))
        both = (standardize(of_global) + standardize(of_observation)) / 2
        result[label] = {"global": of_global, "observation": of_observation, "combined": both}
    return result


def _mean_scores(run: LoadedRun, gallery: Gallery, texts: TextVectors) -> tuple[Floats, Floats]:
    """Mean over the prompts of the global and of the observation score of each image, float64 [N] each."""
    temperature = run.preset.pretrain.objective.match_temperature
    of_global = global_scores(gallery.images.embedding, texts.embedding)
    of_observation = observation_scores(
        gallery.images.observations, texts.observations, texts.mask, temperature, device_of(run)
    )
    return of_global.mean(axis=1, dtype=np.float64), of_observation.mean(axis=1, dtype=np.float64)


def _area(metric: Any, values: Floats, scores: Floats) -> Statistic:
    """The metric as a function of case weights; cases whose label is not to be used weigh nothing."""
    used = ~np.isnan(values)

    def statistic(weights: Floats) -> Floats:
        return np.asarray(metric(values[used] == 1, scores[used], weights[:, used]))

    return statistic


def _macro(parts: list[Statistic]) -> Statistic:
    """Mean over labels; a replicate without both kinds of cases of a label leaves that label out."""
    return lambda weights: nan_mean(np.stack([part(weights) for part in parts]))


def _has_both(values: Floats) -> bool:
    return bool((values == 1).any() and (values == 0).any())


def _why(values: Floats) -> str:
    if np.isnan(values).all():
        return "no labelled case"
    return "no absent case" if (values == 1).any() else "no present case"

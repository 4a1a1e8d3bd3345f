"""How well an image and a report agree: global, observation-level and combined scores; docs/retrieval.md defines each.

M images, N texts, K visual observations, S sentence slots, d shared width.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from placecli.config import ObjectiveConfig
from placecli.engine import place

Score = Literal["global", "observation", "combined"]
SCORES: tuple[Score, ...] = ("global", "observation", "combined")
Floats = NDArray[np.float32]
_IMAGES_AT_ONCE: Final = 512


def trained_score(wanted: Score, objective: ObjectiveConfig) -> Score:
    """`wanted`, or the one score that a run with this objective learnt: without PCMA its observations are as drawn."""
    if objective.pcma_weight == 0:
        return "global"
    if objective.instance_weight == 0 and objective.baseline != "cluster":
        return "observation"
    return wanted


def learnt_scores(objective: ObjectiveConfig) -> tuple[Score, ...]:
    """The scores that a run with this objective learnt: the others are of weights as drawn and say nothing."""
    return tuple(score for score in SCORES if trained_score(score, objective) == score)


def global_scores(images: NDArray[Any], texts: NDArray[Any]) -> Floats:
    """Cosine of the global embeddings, float32 [M, N]: unit vectors [M, d] and [N, d]."""
    return np.asarray(images, np.float32) @ np.asarray(texts, np.float32).T


def observation_scores(
    observations: NDArray[Any],
    textual: NDArray[Any],
    mask: NDArray[np.bool_],
    temperature: float,
    device: torch.device | None = None,
) -> Floats:
    """PCMA's S^t, float32 [M, N]: the mean over a text's sentences of the cosine between each sentence and the visual
    observations that answer it. V-PORs [M, K, d], T-PORs [N, S, d], mask [N, S]. A text without sentences gets 0.
    """
    result = np.zeros((len(observations), len(textual)), np.float32)
    counts = mask.sum(axis=1)
    texts = np.flatnonzero(counts)
    if not len(texts):
        return result
    # Most slots of most texts are empty: sentences are scored one by one, then averaged.
    sentences = textual[mask]
    starts = np.concatenate([[0], np.cumsum(counts[texts])])
    for first in range(0, len(observations), _IMAGES_AT_ONCE):
        part = slice(first, first + _IMAGES_AT_ONCE)
        alone = _alone(observations[part], sentences, temperature, device)
        result[part, texts] = np.add.reduceat(alone, starts[:-1], axis=1) / counts[texts]
    return result


def sentence_scores(observations: NDArray[Any], textual: NDArray[Any], temperature: float) -> Floats:
    """float32 [S]: <t_s, v^_s> of each sentence [S, d] with the observations [K, d] of one image, in -1..1.

    v^_s is the unit-length mean of the V-PORs under softmax_k(<t_s, v_k> / temperature).
    """
    return np.asarray(_alone(observations[None], textual, temperature, None)[0])


def sentence_maps(
    observations: NDArray[Any],
    attention: NDArray[Any],
    grid: tuple[int, int],
    textual: NDArray[Any],
    temperature: float,
) -> Floats:
    """Where each sentence was found: float32 [S, rows, cols], each non-negative with sum 1.

    The attention maps [K, rows * cols] of the image's observations [K, d] are mixed by softmax_k(<t_s, v_k> /
    temperature).
    """
    with torch.inference_mode():
        maps = place.sentence_maps(_tensor(observations), _tensor(attention), grid, _tensor(textual), temperature)
    return _numpy(maps)


def standardize(scores: NDArray[Any]) -> NDArray[np.float64]:
    """z-scores along the last axis, float64: minus the mean, by the standard deviation; all 0 where nothing varies."""
    values = np.asarray(scores, np.float64)
    centred = values - values.mean(axis=-1, keepdims=True)
    spread = centred.std(axis=-1, keepdims=True)
    # Rounding leaves a spread of the order of 1e-8 among equal cosines: that is no information.
    return np.where(spread > 1e-6, centred / np.maximum(spread, 1e-6), 0.0)


def combine(of_global: NDArray[Any], of_observation: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of the two z-scores; the last axis runs over the candidates that are being ranked."""
    return (standardize(of_global) + standardize(of_observation)) / 2


def _alone(
    observations: NDArray[Any], sentences: NDArray[Any], temperature: float, device: torch.device | None
) -> Floats:
    """float32 [M, n]: S^t of reports of one sentence each, sentences [n, d]."""
    textual = _tensor(sentences, device)[:, None, :]
    mask = torch.ones(textual.shape[:2], dtype=torch.bool, device=device)
    with torch.inference_mode():
        return _numpy(place.observation_scores(_tensor(observations, device), textual, mask, temperature))


def _numpy(values: torch.Tensor) -> Floats:
    return np.asarray(values.cpu().numpy(), np.float32)


def _tensor(values: NDArray[Any], device: torch.device | None = None) -> torch.Tensor:
    return torch.from_numpy(np.array(values)).to(device=device, dtype=torch.float32)

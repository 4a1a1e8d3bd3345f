"""The scores against loops over their formulas."""

from __future__ import annotations

import numpy as np
import pytest

from placecli.config import ObjectiveConfig
from placecli.tasks import scores

K, S, D, TEMPERATURE = 5, 4, 8, 0.1


def unit(generator: np.random.Generator, *shape: int) -> np.ndarray:
    values = generator.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def naive_sentence(observations: np.ndarray, sentence: np.ndarray) -> tuple[float, np.ndarray]:
    """Score of one sentence, and the weight of each observation in its answer."""
    similarity = np.array([float(v @ sentence) for v in observations])
    weight = np.exp(similarity / TEMPERATURE) / np.exp(similarity / TEMPERATURE).sum()
    answer = sum(w * v for w, v in zip(weight, observations, strict=True))
    return float(sentence @ answer / np.linalg.norm(answer)), weight


def test_observation_score_is_the_mean_over_the_sentences_that_are_there() -> None:
    generator = np.random.default_rng(0)
    images, texts = unit(generator, 3, K, D), unit(generator, 2, S, D)
    mask = np.array([[True, True, False, True], [True, False, False, False]])
    result = scores.observation_scores(images, texts, mask, TEMPERATURE)
    for i, observations in enumerate(images):
        for j, sentences in enumerate(texts):
            expected = np.mean([naive_sentence(observations, t)[0] for t in sentences[mask[j]]])
            assert result[i, j] == pytest.approx(expected, abs=1e-5)
    nothing = scores.observation_scores(images, texts, np.zeros((2, S), bool), TEMPERATURE)
    assert not nothing.any()
    some = scores.observation_scores(images, texts, mask & [[False], [True]], TEMPERATURE)
    assert some[:, 1] == pytest.approx(result[:, 1], abs=1e-6)
    assert not some[:, 0].any()
    alone = scores.sentence_scores(images[0], texts[0], TEMPERATURE)
    assert alone == pytest.approx([naive_sentence(images[0], t)[0] for t in texts[0]], abs=1e-5)


def test_sentence_maps_mix_the_attention_of_the_answering_observations() -> None:
    generator = np.random.default_rng(1)
    observations, sentences = unit(generator, K, D), unit(generator, S, D)
    attention = generator.dirichlet(np.ones(6), K).astype(np.float32)
    maps = scores.sentence_maps(observations, attention, (2, 3), sentences, TEMPERATURE)
    assert maps.shape == (S, 2, 3)
    assert maps.sum(axis=(1, 2)) == pytest.approx(np.ones(S), abs=1e-5)
    for found, sentence in zip(maps, sentences, strict=True):
        expected = naive_sentence(observations, sentence)[1] @ attention
        assert found.ravel() == pytest.approx(expected, abs=1e-5)


def test_combined_is_the_mean_of_z_scores_and_a_constant_part_says_nothing() -> None:
    of_global, of_observation = np.array([[1.0, 2.0, 3.0]]), np.array([[10.0, 50.0, 0.0]])
    z = (of_observation - 20) / of_observation.std()
    expected = (np.array([-1.0, 0.0, 1.0]) * np.sqrt(1.5) + z) / 2
    assert scores.combine(of_global, of_observation) == pytest.approx(expected)
    constant = np.full((1, 3), 0.3) + np.array([[0, 1e-8, -1e-8]])
    assert scores.combine(of_global, constant) == pytest.approx(scores.standardize(of_global) / 2)


def test_global_score_is_the_cosine() -> None:
    generator = np.random.default_rng(2)
    images, texts = unit(generator, 3, D), unit(generator, 2, D)
    expected = [[float(a @ b) for b in texts] for a in images]
    assert scores.global_scores(images, texts) == pytest.approx(np.array(expected), abs=1e-6)


def test_a_run_is_scored_by_what_it_learnt() -> None:
    instance_only, observations_only = ObjectiveConfig(pcma_weight=0.0), ObjectiveConfig(instance_weight=0.0)
    for wanted in scores.SCORES:
        assert scores.trained_score(wanted, ObjectiveConfig()) == wanted
        assert scores.trained_score(wanted, instance_only) == "global"
        assert scores.trained_score(wanted, observations_only) == "observation"

"""Matching of observations and sentences: naive loops, invariances, chunks, near-duplicate reports."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from placecli.engine import matching


def unit(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def naive_score(visual: np.ndarray, textual: np.ndarray, temperature: float) -> float:
    total = 0.0
    for sentence in textual:
        weights = np.exp(visual @ sentence / temperature)
        answer = (weights / weights.sum()) @ visual
        total += float(sentence @ answer) / np.linalg.norm(answer)
    return total / len(textual)


MASK = torch.tensor([[True, True, True], [True, False, False], [True, True, False], [False, True, True]])


@pytest.mark.parametrize(("num_queries", "temperature"), [(1, 0.1), (4, 0.1), (7, 1.0)])
def test_scores_equal_the_naive_loop(num_queries: int, temperature: float) -> None:
    visual, textual = unit(3, num_queries, 5, seed=1), unit(4, 3, 5, seed=2)
    scores = matching.observation_scores(visual, textual, MASK, temperature)
    for i in range(3):
        for j in range(4):
            expected = naive_score(visual[i].numpy(), textual[j][MASK[j]].numpy(), temperature)
            assert float(scores[i, j]) == pytest.approx(expected, rel=1e-9)


def test_order_of_queries_order_of_sentences_and_padding_mean_nothing() -> None:
    visual, textual = unit(3, 5, 6, seed=1), unit(4, 3, 6, seed=2)
    scores = matching.observation_scores(visual, textual, MASK, 0.1)
    queries, sentences = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([2, 0, 1])
    torch.testing.assert_close(matching.observation_scores(visual[:, queries], textual, MASK, 0.1), scores)
    permuted = matching.observation_scores(visual, textual[:, sentences], MASK[:, sentences], 0.1)
    torch.testing.assert_close(permuted, scores)
    padded = torch.cat([textual, unit(4, 2, 6, seed=9)], dim=1)
    wider = F.pad(MASK, (0, 2))
    torch.testing.assert_close(matching.observation_scores(visual, padded, wider, 0.1), scores)


def test_a_report_without_sentences_scores_zero() -> None:
    scores = matching.observation_scores(unit(2, 3, 4), unit(1, 2, 4), torch.zeros(1, 2, dtype=torch.bool), 0.1)
    assert scores.tolist() == [[0.0], [0.0]]


def test_chunks_give_the_same_scores_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> tuple[Tensor, Tensor, Tensor]:
        visual, textual = unit(3, 4, 5, seed=1).requires_grad_(), unit(4, 3, 5, seed=2).requires_grad_()
        scores = matching.observation_scores(visual, textual, MASK, 0.1)
        (scores * torch.arange(12.0).view(3, 4)).sum().backward()
        assert visual.grad is not None
        assert textual.grad is not None
        return scores.detach(), visual.grad, textual.grad

    whole = run()
    monkeypatch.setattr(matching, "_CHUNK_ELEMENTS", 3 * 4 * 3)
    for chunked, expected in zip(run(), whole, strict=True):
        torch.testing.assert_close(chunked, expected)


def test_an_image_that_holds_every_sentence_scores_one() -> None:
    textual = torch.eye(6)[None, :3]
    scores = matching.observation_scores(torch.eye(6)[None], textual, torch.ones(1, 3, dtype=torch.bool), 0.01)
    assert float(scores) == pytest.approx(1.0, abs=1e-6)


def test_gradients_are_those_of_the_formula() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    inputs = unit(2, 3, 4, seed=1).requires_grad_(), unit(2, 2, 4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: matching.observation_scores(a, b, mask, 0.5), inputs)


def says(reports: list[list[int]]) -> Tensor:
    slots = max(map(len, reports))
    keys = torch.tensor([[*report, *[-1] * (slots - len(report))] for report in reports])
    text_key = torch.tensor([hash(frozenset(report)) for report in reports])
    return matching.says_report(matching.says_the_same(keys, keys), text_key, keys, text_key)


def test_a_report_said_within_another_is_said_in_one_direction() -> None:
    found = says([[0, 1, 2], [1], [2, 0], [0, 3], [2, 1, 0, 1], []])
    expected = [[1, 1, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0], [1, 1, 1, 0, 1, 0]]
    assert found.int().tolist() == [*expected, [0, 0, 0, 0, 0, 1]]


def test_words_alone_say_that_sentences_are_the_same() -> None:
    keys, other = torch.tensor([[0, 1, -1], [2, -1, -1]]), torch.tensor([[1, 5], [2, -1]])
    same = matching.says_the_same(keys, other)
    assert same.shape == (2, 2, 2)
    assert same.tolist() == [[[True, False], [False, False]], [[False, False], [True, False]]]


def test_rarity_is_one_over_the_reports_that_hold_the_sentence() -> None:
    keys = torch.tensor([[0, 1, 1], [0, 2, -1], [0, -1, -1]])
    expected = torch.tensor([[1 / 3, 1.0, 1.0], [1 / 3, 1.0, 0.0], [1 / 3, 0.0, 0.0]])
    torch.testing.assert_close(matching.rarity(keys, keys), expected)
    torch.testing.assert_close(matching.rarity(keys[1:2], keys), expected[1:2])
    assert not matching.rarity(torch.full((1, 2), -1), keys).any()


def test_a_sentence_score_is_the_cosine_with_its_answer() -> None:
    visual, textual = unit(3, 5, 8), unit(2, 4, 8, seed=7)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    scores = matching.sentence_scores(visual, textual, mask, 0.1)
    for i, j, s in ((0, 0, 2), (2, 1, 0), (1, 0, 0)):
        weight = torch.softmax(visual[i] @ textual[j, s] / 0.1, dim=0)
        answer = F.normalize((weight[:, None] * visual[i]).sum(dim=0), dim=0)
        assert float(scores[i, j, s]) == pytest.approx(float(answer @ textual[j, s]), abs=1e-9)
    assert not scores[:, ~mask].any()

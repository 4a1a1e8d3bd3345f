"""Each loss against naive loops over several sizes, masks and temperatures, and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from placecli.engine import losses


def unit(*shape: int, seed: int = 0, double: bool = True) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)
    return vectors if double else vectors.float()


def lengths(batch: int, slots: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, slots + 1, (batch,), generator=generator)
    return torch.arange(slots) < counts[:, None]


def naive_cross_entropy(logits: list[float], target: int) -> float:
    return -math.log(math.exp(logits[target]) / sum(math.exp(value) for value in logits))


@pytest.mark.parametrize(("batch", "temperature"), [(2, 0.07), (5, 0.5), (9, 1.0)])
def test_instance_contrast_equals_the_naive_loop(batch: int, temperature: float) -> None:
    images, texts = unit(batch, 6, seed=1), unit(batch, 6, seed=2)
    excluded = torch.zeros(batch, batch, dtype=torch.bool)
    excluded[0, batch - 1] = excluded[batch - 1, 0] = True
    value = losses.instance_contrast(images, texts, images, texts, torch.arange(batch), temperature, excluded)
    scores = images.numpy() @ texts.numpy().T / temperature
    total = 0.0
    for i in range(batch):
        kept = [j for j in range(batch) if j == i or not excluded[i, j]]
        total += naive_cross_entropy([scores[i, j] for j in kept], kept.index(i)) / batch
        total += naive_cross_entropy([scores[j, i] for j in kept], kept.index(i)) / batch
    assert float(value) == pytest.approx(total, rel=1e-12)


def test_instance_contrast_of_perfectly_aligned_orthogonal_pairs() -> None:
    # Each row then holds one logit 1/t and n - 1 zeros: log(1 + (n - 1) exp(-1/t)), twice for the two directions.
    vectors = torch.eye(7)
    value = losses.instance_contrast(vectors, vectors, vectors, vectors, torch.arange(7), 0.2)
    assert float(value) == pytest.approx(2 * math.log(1 + 6 * math.exp(-5)), rel=1e-5)


def test_instance_contrast_of_equal_vectors_is_twice_the_log_of_the_batch() -> None:
    vectors = torch.ones(6, 4) / 2
    value = losses.instance_contrast(vectors, vectors, vectors, vectors, torch.arange(6), 0.07)
    assert float(value) == pytest.approx(2 * math.log(6), rel=1e-6)


def test_instance_contrast_is_symmetric_and_does_not_see_the_order() -> None:
    images, texts, target = unit(6, 4, seed=1), unit(6, 4, seed=2), torch.arange(6)
    value = losses.instance_contrast(images, texts, images, texts, target, 0.1)
    torch.testing.assert_close(losses.instance_contrast(texts, images, texts, images, target, 0.1), value)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    shuffled = losses.instance_contrast(images[order], texts[order], images[order], texts[order], target, 0.1)
    torch.testing.assert_close(shuffled, value)


def test_the_target_is_never_excluded() -> None:
    vectors = unit(4, 3)
    everything = torch.ones(4, 4, dtype=torch.bool)
    value = losses.instance_contrast(vectors, vectors, vectors, vectors, torch.arange(4), 0.1, everything)
    assert float(value) == pytest.approx(0.0, abs=1e-9)


def test_a_part_of_the_batch_averages_to_the_whole() -> None:
    images, texts = unit(8, 5, seed=1), unit(8, 5, seed=2)
    whole = losses.instance_contrast(images, texts, images, texts, torch.arange(8), 0.1)
    parts = [
        losses.instance_contrast(images[s], texts[s], images, texts, torch.arange(8)[s], 0.1)
        for s in (slice(0, 4), slice(4, 8))
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


@pytest.mark.parametrize("leaves_out", [True, False])
def test_report_contrast_equals_the_naive_loop(leaves_out: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    rows, columns = torch.rand(2, 5, 5, generator=generator, dtype=torch.float64)
    excluded = torch.zeros(5, 5, dtype=torch.bool).fill_diagonal_(True)
    excluded[0, 3] = excluded[4, 1] = True
    given = (excluded, excluded) if leaves_out else ()
    value = losses.report_contrast(rows, columns, torch.arange(5), 0.1, *given)
    total = 0.0
    for logits, without in ((rows / 0.1, excluded), (columns.T / 0.1, excluded.T)):
        for i in range(5):
            kept = [j for j in range(5) if j == i or not (leaves_out and without[i, j])]
            total += naive_cross_entropy([float(logits[i, j]) for j in kept], kept.index(i))
    assert float(value) == pytest.approx(total / 10, rel=1e-9)


@pytest.mark.parametrize(("slots", "temperature"), [(1, 0.1), (3, 0.1), (6, 0.7)])
def test_sentence_contrast_equals_the_naive_loop(slots: int, temperature: float) -> None:
    textual, answers = unit(4, slots, 5, seed=1), unit(4, slots, 5, seed=2)
    mask = lengths(4, slots, seed=3)
    value = losses.sentence_contrast(textual, answers, mask, temperature)
    for i in range(4):
        n = int(mask[i].sum())
        logits = (textual[i, :n] @ answers[i, :n].T / temperature).numpy()
        total = sum(
            naive_cross_entropy(list(logits[s]), s) + naive_cross_entropy(list(logits[:, s]), s) for s in range(n)
        )
        assert float(value[i]) == pytest.approx(total / (2 * n), rel=1e-9, abs=1e-12)


def test_a_report_of_one_sentence_gives_exactly_zero_and_no_gradient() -> None:
    textual, answers = unit(2, 3, 4, seed=1).requires_grad_(), unit(2, 3, 4, seed=2)
    value = losses.sentence_contrast(textual, answers, torch.tensor([[True, False, False]] * 2), 0.1)
    assert value.tolist() == [0.0, 0.0]
    value.sum().backward()
    assert textual.grad is not None
    assert float(textual.grad.abs().max()) < 1e-12


def test_repeated_sentences_of_a_report_do_not_repel() -> None:
    textual, answers = unit(1, 2, 4, seed=1), unit(1, 2, 4, seed=2)
    mask, same = torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2, 2, dtype=torch.bool)
    assert float(losses.sentence_contrast(textual, answers, mask, 0.1, same)) == pytest.approx(0.0, abs=1e-12)
    assert float(losses.sentence_contrast(textual, answers, mask, 0.1)) > 0


def test_query_diversity_and_similarity() -> None:
    vectors = unit(3, 4, 5)
    diversity, similarity = losses.query_diversity(vectors), losses.query_similarity(vectors)
    for i in range(3):
        pairs = [float(vectors[i, k] @ vectors[i, m]) for k in range(4) for m in range(4) if k != m]
        assert float(diversity[i]) == pytest.approx(sum(max(0.0, c) ** 2 for c in pairs) / 12, rel=1e-9)
        assert float(similarity[i]) == pytest.approx(sum(abs(c) for c in pairs) / 12, rel=1e-9)
    assert losses.query_diversity(torch.eye(4)[None]).item() == 0.0
    assert losses.query_similarity(torch.ones(1, 3, 4) / 2).item() == pytest.approx(1.0)
    assert losses.query_diversity(unit(2, 1, 5)).tolist() == [0.0, 0.0]


def naive_correlation(patches: np.ndarray, valid: np.ndarray) -> np.ndarray:
    centred = patches - patches.mean(axis=1, keepdims=True)
    centred = centred - centred[valid].mean(axis=0)
    n = len(patches)
    result = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            covariance = (centred[i] * centred[j]).sum() / (patches.shape[1] - 1)
            variances = [(centred[k] ** 2).sum() / (patches.shape[1] - 1) for k in (i, j)]
            result[i, j] = covariance / math.sqrt(variances[0] * variances[1])
    return result


@pytest.mark.parametrize(("num_patches", "width"), [(3, 4), (9, 5), (6, 40)])
def test_correlation_matrix_equals_the_naive_loop(num_patches: int, width: int) -> None:
    patches = torch.randn(2, num_patches, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    valid = torch.ones(2, num_patches, dtype=torch.bool)
    valid[1, -1] = False
    value = losses.correlation_matrix(patches, valid)
    for i in range(2):
        np.testing.assert_allclose(value[i], naive_correlation(patches[i].numpy(), valid[i].numpy()), atol=1e-9)


def test_correlation_matrix_has_the_properties_of_one() -> None:
    patches = torch.randn(3, 12, 7, generator=torch.Generator().manual_seed(1))
    matrix = losses.correlation_matrix(patches)
    torch.testing.assert_close(matrix, matrix.transpose(1, 2))
    torch.testing.assert_close(matrix.diagonal(dim1=1, dim2=2), torch.ones(3, 12))
    assert float(torch.linalg.eigvalsh(matrix).min()) > -1e-5
    shift = torch.randn(7, generator=torch.Generator().manual_seed(2))
    for scale in (1e-3, 1.0, 50.0):
        torch.testing.assert_close(losses.correlation_matrix(scale * (patches + shift)), matrix, atol=2e-4, rtol=1e-3)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(losses.correlation_matrix(patches[:, order]), matrix[:, order][:, :, order])


def test_constant_patches_correlate_with_nothing() -> None:
    patches = torch.ones(2, 5, 4, requires_grad=True)
    matrix = losses.correlation_matrix(patches)
    assert float(matrix.detach().abs().max()) == 0.0
    matrix.sum().backward()
    assert patches.grad is not None
    assert torch.isfinite(patches.grad).all()


def naive_huber(error: float, delta: float) -> float:
    return 0.5 * error**2 if abs(error) <= delta else delta * (abs(error) - 0.5 * delta)


@pytest.mark.parametrize("delta", [0.1, 1.0])
def test_correlation_loss_equals_the_naive_loop(delta: float) -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, target = (torch.rand(3, 6, 6, generator=generator, dtype=torch.float64) * 2 - 1 for _ in range(2))
    mask = lengths(3, 6, seed=1)
    mask[0] = torch.tensor([True] + [False] * 5)
    value = losses.correlation_loss(predicted, target, mask, delta)
    for b in range(3):
        n = int(mask[b].sum())
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        missed = sum(naive_huber(float(predicted[b, i, j] - target[b, i, j]), delta) for i, j in pairs)
        there = sum(naive_huber(float(target[b, i, j]), delta) for i, j in pairs)
        assert float(value[b]) == pytest.approx(missed / there if there else 0.0, rel=1e-9)
    assert float(value[0]) == 0.0


def test_correlation_loss_is_a_share_whatever_the_strength_of_the_target() -> None:
    inside = torch.ones(2, 5, dtype=torch.bool)
    target = torch.rand(2, 5, 5) * 0.1 + 0.2
    assert losses.correlation_loss(torch.zeros_like(target), target, inside).tolist() == pytest.approx([1.0, 1.0])
    assert losses.correlation_loss(0.5 * target, target, inside, 10.0).tolist() == pytest.approx([0.25, 0.25])
    weak = losses.correlation_loss(0.03 * torch.ones_like(target), 0.001 * target, inside)
    assert float(weak.max()) < 1  # next to no correlation is not divided by


def test_correlation_loss_is_zero_at_the_target_which_gets_no_gradient() -> None:
    predicted = torch.rand(2, 5, 5, requires_grad=True)
    target = predicted.detach().clone().requires_grad_()
    value = losses.correlation_loss(predicted, target, torch.ones(2, 5, dtype=torch.bool))
    assert value.tolist() == [0.0, 0.0]
    losses.correlation_loss(predicted, 0.5 * target, torch.ones(2, 5, dtype=torch.bool)).sum().backward()
    assert target.grad is None
    assert predicted.grad is not None


def naive_alignment(words: np.ndarray, patches: np.ndarray, temperature: float) -> float:
    def one_way(queries: np.ndarray, context: np.ndarray) -> float:
        answers = []
        for query in queries:
            weights = np.exp(context @ query / temperature)
            answer = (weights / weights.sum()) @ context
            answers.append(answer / np.linalg.norm(answer))
        logits = queries @ np.stack(answers).T / temperature
        n = len(queries)
        both = [naive_cross_entropy(list(logits[s]), s) + naive_cross_entropy(list(logits[:, s]), s) for s in range(n)]
        return sum(both) / (2 * n)

    return one_way(words, patches) + one_way(patches, words)


def test_token_alignment_equals_the_naive_loop() -> None:
    words, patches = unit(3, 5, 6, seed=1), unit(3, 7, 6, seed=2)
    word_mask, patch_mask = lengths(3, 5, seed=3), lengths(3, 7, seed=4)
    value = losses.token_alignment(words, word_mask, patches, patch_mask, 0.3)
    for i in range(3):
        expected = naive_alignment(words[i][word_mask[i]].numpy(), patches[i][patch_mask[i]].numpy(), 0.3)
        assert float(value[i]) == pytest.approx(expected, rel=1e-9)


def test_sinkhorn_balances_prototypes() -> None:
    scores = unit(12, 8, seed=1) @ unit(4, 8, seed=2).T
    codes = losses.sinkhorn(scores, epsilon=0.5, iterations=50)
    torch.testing.assert_close(codes.sum(dim=1), torch.ones(12, dtype=torch.float64))
    torch.testing.assert_close(codes.sum(dim=0), torch.full((4,), 3.0, dtype=torch.float64))
    uniform = losses.sinkhorn(torch.zeros(6, 3))
    torch.testing.assert_close(uniform, torch.full((6, 3), 1 / 3))
    assert torch.isfinite(losses.sinkhorn(torch.tensor([[1.0, -1.0], [1.0, -1.0]]))).all()


def test_cluster_alignment_equals_the_naive_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.rand(4, 3, generator=generator) for _ in range(2))
    image_codes, text_codes = (torch.rand(4, 3, generator=generator).softmax(dim=1) for _ in range(2))
    value = losses.cluster_alignment(image, text, image_codes, text_codes, 0.2)
    for i in range(4):
        of_image = sum(float(text_codes[i, p]) * naive_cross_entropy((image[i] / 0.2).tolist(), p) for p in range(3))
        of_text = sum(float(image_codes[i, p]) * naive_cross_entropy((text[i] / 0.2).tolist(), p) for p in range(3))
        assert float(value[i]) == pytest.approx((of_image + of_text) / 2, rel=1e-5)


def test_gradients_are_those_of_the_formulas() -> None:
    target, mask = torch.arange(3), torch.tensor([[True, True, False]] * 2)
    valid = torch.tensor([[True] * 4, [True, True, True, False]])

    def instance(a: Tensor, b: Tensor) -> Tensor:
        return losses.instance_contrast(a, b, a, b, target, 0.5)

    def correlation(a: Tensor) -> Tensor:
        return losses.correlation_loss(
            losses.correlation_matrix(a, valid), torch.eye(4).double().expand(2, 4, 4), valid
        )

    assert torch.autograd.gradcheck(instance, (unit(3, 4).requires_grad_(), unit(3, 4, seed=1).requires_grad_()))
    assert torch.autograd.gradcheck(
        lambda a, b: losses.sentence_contrast(a, b, mask, 0.5),
        (unit(2, 3, 4).requires_grad_(), unit(2, 3, 4, seed=1).requires_grad_()),
    )
    assert torch.autograd.gradcheck(correlation, (unit(2, 4, 5).requires_grad_(),))
    assert torch.autograd.gradcheck(
        lambda a, b: losses.token_alignment(a, mask, b, valid, 0.5),
        (unit(2, 3, 4).requires_grad_(), unit(2, 4, 4, seed=1).requires_grad_()),
    )
    assert torch.autograd.gradcheck(losses.query_diversity, (unit(2, 3, 4).requires_grad_(),))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_sighting_contrast_equals_the_naive_loop(temperature: float) -> None:
    generator = torch.Generator().manual_seed(3)
    num_images, studies, slots = 5, 3, 4
    scores = torch.rand(num_images, studies, slots, generator=generator, dtype=torch.float64)
    weights = torch.rand(studies, slots, generator=generator, dtype=torch.float64)
    weights[2, 2:] = 0.0
    target = torch.tensor([1, 3, 4])
    excluded = torch.rand(num_images, studies, slots, generator=generator) < 0.3
    mean_weight = torch.tensor(1.7, dtype=torch.float64)
    value = losses.sighting_contrast(scores, target, temperature, weights, mean_weight, excluded)
    for b in range(studies):
        total = 0.0
        for s in range(slots):
            kept = [i for i in range(num_images) if i == target[b] or not excluded[i, b, s]]
            logits = [float(scores[i, b, s]) / temperature for i in kept]
            total += float(weights[b, s]) * naive_cross_entropy(logits, kept.index(int(target[b])))
        assert float(value[b]) == pytest.approx(total / 1.7, rel=1e-12)


def test_sighting_contrast_of_equal_scores_is_the_log_of_the_images() -> None:
    weights = torch.tensor([[0.5, 0.25, 0.0], [1.0, 0.0, 0.0]])
    scores, nothing = torch.full((2, 2, 3), 0.3), torch.zeros(2, 2, 3, dtype=torch.bool)
    mean_weight = weights.sum(dim=1).mean()
    value = losses.sighting_contrast(scores, torch.arange(2), 0.1, weights, mean_weight, nothing)
    assert float(value.mean()) == pytest.approx(math.log(2), rel=1e-6)


def test_usage_imbalance_is_nothing_when_all_answer_and_the_log_of_k_when_one_does() -> None:
    assert float(losses.usage_imbalance(torch.full((8,), 1 / 8))) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.usage_imbalance(torch.eye(8)[0])) == pytest.approx(math.log(8), rel=1e-6)

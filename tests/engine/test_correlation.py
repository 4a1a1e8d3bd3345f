"""The correlation predictor and its targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from placecli.engine import losses
from placecli.engine.correlation import CorrelationPredictor, Target, patches_with_content, pixel_patches

TARGETS: tuple[Target, ...] = ("pixels", "features", "responses")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make(target: Target, **options: float) -> CorrelationPredictor:
    torch.manual_seed(0)
    predictor = CorrelationPredictor(target, 24, 16, (3, 4), heads=2, blocks=2, **options)
    return predictor.eval()


def matrix(predictor: CorrelationPredictor, patches: Tensor, words: Tensor, mask: Tensor) -> Tensor:
    return losses.correlation_matrix(predictor(patches, words, mask))


MASK = torch.tensor([[True] * 5, [True, True, True, False, False]])


@pytest.mark.parametrize("target", TARGETS)
def test_the_report_changes_the_prediction_and_padding_does_not(target: Target) -> None:
    predictor, patches, words = make(target), random(2, 12, 24), random(2, 5, 16, seed=1)
    predicted = matrix(predictor, patches, words, MASK)
    padded = torch.where(MASK[:, :, None], words, 100.0)
    torch.testing.assert_close(matrix(predictor, patches, padded, MASK), predicted)
    changed = float((matrix(predictor, patches, words.flip(0), MASK) - predicted).detach().abs().max())
    assert (changed > 1e-3) == (target != "responses")  # there the target speaks of the report, the prediction cannot


@pytest.mark.parametrize("target", TARGETS)
def test_the_gradient_reaches_patches_and_words(target: Target) -> None:
    predictor = make(target)
    patches, words = random(2, 12, 24).requires_grad_(), random(2, 5, 16, seed=1).requires_grad_()
    matrix(predictor, patches, words, MASK).square().sum().backward()
    assert patches.grad is not None
    assert float(patches.grad.abs().max()) > 0
    if target == "responses":
        assert words.grad is None
    else:
        assert words.grad is not None
        assert float(words.grad[1, 3:].abs().max()) == 0.0
    assert all(parameter.grad is not None for parameter in predictor.parameters())


def test_features_are_rebuilt_from_words_alone() -> None:
    # With one word every patch reads the same value, whatever it asks: only the position tells patches apart.
    torch.manual_seed(0)
    predictor = CorrelationPredictor("features", 24, 16, (3, 4), heads=2, blocks=1).eval()
    word, mask = random(1, 1, 16), torch.ones(1, 1, dtype=torch.bool)
    torch.testing.assert_close(
        predictor(random(1, 12, 24), word, mask), predictor(random(1, 12, 24, seed=5), word, mask)
    )


def test_hidden_patches_leave_no_trace_and_only_in_training() -> None:
    predictor, words = make("pixels", mask_ratio=0.999999), random(2, 5, 16)
    first, second = random(2, 12, 24), random(2, 12, 24, seed=9)
    predictor.train()
    torch.testing.assert_close(predictor(first, words, MASK), predictor(second, words, MASK))
    predictor.eval()
    assert float((predictor(first, words, MASK) - predictor(second, words, MASK)).detach().abs().max()) > 1e-2


def test_half_of_the_patches_are_hidden_at_ratio_a_half() -> None:
    torch.manual_seed(0)
    predictor = CorrelationPredictor("responses", 24, 16, (30, 40), heads=2, blocks=1, mask_ratio=0.5).train()
    patches, words = random(1, 1200, 24), random(1, 1, 16)
    seen = predictor(patches, words, torch.ones(1, 1, dtype=torch.bool))
    hidden = seen - predictor.eval()(patches, words, torch.ones(1, 1, dtype=torch.bool))
    share = float((hidden.detach().abs().amax(dim=2) > 1e-6).float().mean())
    assert 0.45 < share < 0.55


@pytest.mark.parametrize("size", [24, 30, 96])
def test_pixel_patches_are_the_images_own(size: int) -> None:
    images = random(2, 1, size, size)
    patches, textured = pixel_patches(images, (3, 3))
    cell = size // 3
    side = min(cell, 8)
    assert patches.shape == (2, 9, side * side)
    assert textured.all()
    array = images.numpy()[:, 0].reshape(2, 3, cell, 3, cell).transpose(0, 1, 3, 2, 4).reshape(2, 9, cell, cell)
    if cell % side == 0:  # else neighbouring cells of the average overlap by a pixel
        np.testing.assert_allclose(patches.mean(dim=2), array.mean(axis=(2, 3)), atol=1e-5)
    if cell <= 8:
        np.testing.assert_allclose(patches.view(2, 9, side, side), array, atol=1e-6)


def test_flat_patches_and_padding_are_named() -> None:
    images = random(1, 1, 24, 24)
    images[:, :, :8, :8] = -1.0
    _, textured = pixel_patches(images, (3, 3))
    assert textured.tolist() == [[False] + [True] * 8]


def test_patches_with_content_counts_covered_area() -> None:
    content = torch.tensor(
        [[0.0, 0.0, 1.0, 1.0], [0.25, 0.0, 0.75, 1.0], [0.26, 0.5, 0.99, 0.52], [0.0, 0.0, 0.0, 0.0]]
    )
    mask = patches_with_content(content, (4, 4)).view(4, 4, 4)
    assert mask[0].all()
    assert torch.equal(mask[1], torch.tensor([False, True, True, False]).expand(4, 4))
    assert mask[2].sum() == 0  # covers at most 8 % of any patch
    assert mask[3].sum() == 0
    edge = torch.tensor([[0.0, 0.0, 0.25 + 0.1 * 0.25 + 1e-6, 1.0], [0.0, 0.0, 0.25 + 0.09 * 0.25, 1.0]])
    assert patches_with_content(edge, (4, 4)).view(2, 4, 4)[:, 0].tolist() == [
        [True, True, False, False],
        [True] + [False] * 3,
    ]

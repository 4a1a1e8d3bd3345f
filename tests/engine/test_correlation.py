"""The correlation predictor and its target."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from placecli.engine import losses
from placecli.engine.correlation import CorrelationPredictor, patches_with_content, pixel_patches


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make() -> CorrelationPredictor:
    torch.manual_seed(0)
    return CorrelationPredictor(24, 16, (3, 4), heads=2, blocks=2).eval()


def matrix(predictor: CorrelationPredictor, patches: Tensor, words: Tensor, mask: Tensor) -> Tensor:
    return losses.correlation_matrix(predictor(patches, words, mask))


MASK = torch.tensor([[True] * 5, [True, True, True, False, False]])


def test_the_report_changes_the_prediction_and_padding_does_not() -> None:
    predictor, patches, words = make(), random(2, 12, 24), random(2, 5, 16, seed=1)
    predicted = matrix(predictor, patches, words, MASK)
    padded = torch.where(MASK[:, :, None], words, 100.0)
    torch.testing.assert_close(matrix(predictor, patches, padded, MASK), predicted)
    assert float((matrix(predictor, patches, words.flip(0), MASK) - predicted).detach().abs().max()) > 1e-3


def test_the_gradient_reaches_patches_and_words() -> None:
    predictor = make()
    patches, words = random(2, 12, 24).requires_grad_(), random(2, 5, 16, seed=1).requires_grad_()
    matrix(predictor, patches, words, MASK).square().sum().backward()
    assert patches.grad is not None
    assert float(patches.grad.abs().max()) > 0
    assert words.grad is not None
    assert float(words.grad[1, 3:].abs().max()) == 0.0
    assert float(words.grad[1, :3].abs().max()) > 0
    assert all(parameter.grad is not None for parameter in predictor.parameters())


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

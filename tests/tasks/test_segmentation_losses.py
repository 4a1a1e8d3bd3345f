"""Losses of masks against naive NumPy and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from placecli.tasks.segmentation_losses import dice_loss, focal_dice_loss


def batch(seed: int, *, is_soft: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    generator = np.random.default_rng(seed)
    masks = generator.random((3, 1, 5, 4))
    masks = masks if is_soft else (masks > 0.6).astype(float)
    return torch.from_numpy(generator.normal(0, 2, (3, 1, 5, 4))).float(), torch.from_numpy(masks).float()


@pytest.mark.parametrize("is_soft", [False, True])
def test_dice_loss_is_its_formula(is_soft: bool) -> None:
    logits, masks = batch(0, is_soft=is_soft)
    x, m = logits.double().numpy(), masks.double().numpy()
    entropies, dices = [], []
    for image, mask in zip(x, m, strict=True):
        p = 1 / (1 + np.exp(-image))
        entropies.append(-(mask * np.log(p) + (1 - mask) * np.log(1 - p)).mean())
        dices.append((2 * (p * mask).sum() + 1) / (p.sum() + mask.sum() + 1))
    assert float(dice_loss(logits, masks)) == pytest.approx(np.mean(entropies) + 1 - np.mean(dices), rel=1e-5)


@pytest.mark.parametrize("is_soft", [False, True])
def test_focal_dice_loss_is_its_formula(is_soft: bool) -> None:
    logits, masks = batch(1, is_soft=is_soft)
    x, m = logits.double().numpy().ravel(), masks.double().numpy().ravel()
    p = 1 / (1 + np.exp(-x))
    entropy = -(m * np.log(p) + (1 - m) * np.log(1 - p))
    focal = (((1 - p) * m + p * (1 - m)) ** 2 * entropy).mean() if not is_soft else None
    if focal is None:
        focal = ((1 - (p * m + (1 - p) * (1 - m))) ** 2 * entropy).mean()
    dice = (2 * (p * m).sum() + 1) / (p.sum() + m.sum() + 1)
    assert float(focal_dice_loss(logits, masks)) == pytest.approx(10 * focal - math.log(dice), rel=1e-5)


def test_a_batch_is_the_mean_of_its_equal_parts() -> None:
    logits, masks = batch(2)
    parts = [float(dice_loss(logits[i : i + 1], masks[i : i + 1])) for i in range(3)]
    assert float(dice_loss(logits, masks)) == pytest.approx(float(np.mean(parts)), rel=1e-5)


@pytest.mark.parametrize("loss", [dice_loss, focal_dice_loss])
def test_the_right_answer_costs_nothing_and_the_wrong_one_much(loss: object) -> None:
    assert callable(loss)
    masks = torch.zeros(2, 1, 4, 4)
    masks[0, 0, 1:3] = 1
    sure = (masks * 2 - 1) * 50
    assert float(loss(sure, masks)) == pytest.approx(0, abs=1e-5)
    assert float(loss(-sure, masks)) > 10


def test_an_empty_mask_pulls_every_logit_down() -> None:
    logits = torch.zeros(1, 1, 4, 4, requires_grad=True)
    for loss in (dice_loss, focal_dice_loss):
        (gradient,) = torch.autograd.grad(loss(logits, torch.zeros(1, 1, 4, 4)), logits)
        assert bool((gradient > 0).all())

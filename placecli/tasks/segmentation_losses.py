"""What a segmentation minimises: pure functions of logits and masks, both [B, 1, H, W]; masks are shares in 0 to 1."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SMOOTH = 1.0
"""Pixels added to both sides of a soft Dice: the Dice of two empty masks is 1 and has a gradient."""


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Binary cross-entropy, mean over pixels, + 1 - soft Dice, mean over images; a scalar.

    Soft Dice of an image: (2 sum(p m) + 1) / (sum(p) + sum(m) + 1). Taken image by image, the loss of a batch is the
    mean of those of its equal parts.
    """
    probabilities, masks = logits.float().sigmoid().flatten(1), masks.float().flatten(1)
    both, total = (probabilities * masks).sum(1), (probabilities + masks).sum(1)
    dice = (2 * both + SMOOTH) / (total + SMOOTH)
    return F.binary_cross_entropy_with_logits(logits.float().flatten(1), masks) + (1 - dice).mean()


def focal_dice_loss(logits: Tensor, masks: Tensor, gamma: float = 2.0, weight: float = 10.0) -> Tensor:
    """weight * focal - log(soft Dice), the loss of the field's segmentation protocol; a scalar.

    focal: the mean over pixels of (1 - q)^gamma times the cross-entropy, q = p m + (1 - p) (1 - m) (Lin et al. 2017,
    without its class weight). Soft Dice as in `dice_loss`, over the pixels of the batch as if they were one image.
    """
    logits, masks = logits.float(), masks.float()
    entropy = F.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    probabilities = logits.sigmoid()
    wrong = 1 - (probabilities * masks + (1 - probabilities) * (1 - masks))
    focal = (wrong.pow(gamma) * entropy).mean()
    dice = (2 * (probabilities * masks).sum() + SMOOTH) / (probabilities.sum() + masks.sum() + SMOOTH)
    return weight * focal - dice.log()

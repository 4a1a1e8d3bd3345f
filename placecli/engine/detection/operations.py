"""The compiled operations that mmdet's detectors need of mmcv, for an mmcv without compiled code (mmcv-lite).

mmcv-lite holds all of mmcv but the extension module `mmcv._ext`, so that mmdet's models cannot be imported. This one
takes its place. It does what a single-stage or two-stage detector of boxes needs, with torchvision's operations; every
other operation raises when it is called. An mmcv that is compiled is left alone.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

import torch
from torch import Tensor

NAME: Final = "mmcv._ext"


def provide_operations() -> bool:
    """Put our module in the place of `mmcv._ext` where mmcv has none; returns whether ours is there.

    Raises ModuleNotFoundError without mmcv.
    """
    if NAME not in sys.modules and importlib.util.find_spec(NAME) is None:
        module = Operations(NAME, __doc__)
        module.__spec__ = ModuleSpec(NAME, None)
        sys.modules[NAME] = module
    return isinstance(sys.modules.get(NAME), Operations)


class Operations(ModuleType):
    """Operations by the names and arguments that mmcv calls them with; results go where the caller says."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        known = _OPERATIONS.get(name)
        return known if known is not None else _refuse(name)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """int64 [kept], best first: boxes [n, 4] that overlap no better one by more than the threshold.

    With offset 1 a box holds its last pixel too: its side is x2 - x1 + 1.
    """
    from torchvision.ops import nms as torchvision_nms

    grown = boxes + boxes.new_tensor([0, 0, offset, offset]) if offset else boxes
    kept: Tensor = torchvision_nms(grown, scores, iou_threshold)
    return kept


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """int64 [kept]: after Soft-NMS (Bodla et al. 2017); the boxes with their new scores are the first rows of `dets`.

    The best box lowers the scores of the others by their overlap o with it: to 0 from the threshold on (method 0), by
    1 - o from the threshold on (1), or by exp(-o^2 / sigma) (2). What falls below `min_score` is dropped.
    """
    left, score = torch.arange(len(boxes)), scores.clone()
    kept: list[int] = []
    while len(left):
        best = int(left[score[left].argmax()])
        dets[len(kept), :4], dets[len(kept), 4] = boxes[best], score[best]
        kept.append(best)
        left = left[left != best]
        overlap = _overlap(boxes[best], boxes[left], offset)
        if method == 2:
            factor = torch.exp(-(overlap**2) / sigma)
        else:
            lowered = 1 - overlap if method == 1 else torch.zeros_like(overlap)
            factor = torch.where(overlap >= iou_threshold, lowered, 1.0)
        score[left] *= factor
        left = left[score[left] >= min_score]
    return torch.tensor(kept, dtype=torch.int64)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill output [k, C, h, w] with the means over the cells of rois [k, 5] (image, x1, y1, x2, y2)."""
    from torchvision.ops import roi_align

    _need_mean(pool_mode)
    size = (aligned_height, aligned_width)
    output.copy_(roi_align(input, rois, size, spatial_scale, max(sampling_ratio, 0), aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fill grad_input [B, C, H, W]."""
    import torchvision.ops  # registers the operator  # noqa: F401

    _need_mean(pool_mode)
    backward = torch.ops.torchvision._roi_align_backward
    size = (aligned_height, aligned_width, *grad_input.shape)
    grad_input.copy_(backward(grad_output, rois, spatial_scale, *size, max(sampling_ratio, 0), aligned))


def sigmoid_focal_loss_forward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    output: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill output [n, C] with the focal loss (Lin et al. 2017) of logits [n, C] and classes [n], C meaning none.

    -alpha (1 - p)^gamma log p of the class itself, -(1 - alpha) p^gamma log(1 - p) of the others, p = sigmoid(logit).
    """
    output.copy_(_focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Fill grad_input [n, C] with the derivative of each loss by its logit."""
    with torch.enable_grad():
        logits = input.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(_focal_loss(logits, target, weight, gamma, alpha).sum(), logits)
    grad_input.copy_(gradient)


_OPERATIONS: Final[dict[str, Any]] = {
    operation.__name__: operation
    for operation in (
        *(nms, softnms, roi_align_forward, roi_align_backward),
        *(sigmoid_focal_loss_forward, sigmoid_focal_loss_backward),
    )
}


def _focal_loss(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    from torchvision.ops import sigmoid_focal_loss

    if weight.numel():
        raise NotImplementedError("mmcv operation sigmoid_focal_loss: no weights by class without a compiled mmcv")
    wanted = (target[:, None] == torch.arange(logits.shape[1], device=logits.device)).to(logits.dtype)
    loss: Tensor = sigmoid_focal_loss(logits, wanted, alpha=alpha, gamma=gamma, reduction="none")
    return loss


def _overlap(box: Tensor, others: Tensor, offset: int) -> Tensor:
    """Intersection over union [n] of a box [4] and others [n, 4]."""
    sides = (torch.minimum(box[2:], others[:, 2:]) - torch.maximum(box[:2], others[:, :2]) + offset).clamp(min=0)
    shared = sides.prod(dim=1)
    areas = (others[:, 2:] - others[:, :2] + offset).prod(dim=1) + (box[2:] - box[:2] + offset).prod()
    return shared / (areas - shared).clamp(min=math.ulp(0.0))


def _need_mean(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError("mmcv operation roi_align: pool_mode max wants a compiled mmcv; avg does without")


def _refuse(name: str) -> Any:
    def operation(*arguments: Any, **keywords: Any) -> Any:
        raise NotImplementedError(f"mmcv operation {name}: not here; it wants an mmcv with compiled operations")

    return operation

"""The operations that stand in for mmcv's compiled ones, called as mmcv calls them, against closed cases."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("mmcv", reason="the extra `detection` is not installed")

from placecli.engine.detection.operations import NAME, Operations, provide_operations


@pytest.fixture(scope="module", autouse=True)
def provided() -> None:
    if not provide_operations():
        pytest.skip("this mmcv is compiled: ours stays out")


def naive_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(overlap(boxes[i], boxes[j], offset) <= threshold for j in kept):
            kept.append(int(i))
    return kept


def overlap(a: np.ndarray, b: np.ndarray, offset: int) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)]
    return float(shared / (sum(areas) - shared))


def some_boxes(seed: int, number: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(number, 2, generator=generator) * 20
    sides = torch.rand(number, 2, generator=generator) * 15 + 1
    return torch.cat([corners, corners + sides], 1), torch.rand(number, generator=generator)


def test_a_compiled_module_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = type(sys)(NAME)
    monkeypatch.setitem(sys.modules, NAME, compiled)
    assert not provide_operations()
    assert sys.modules[NAME] is compiled


def test_every_other_operation_raises_and_names_itself() -> None:
    from mmcv.ops import ModulatedDeformConv2d, nms_rotated

    assert isinstance(sys.modules[NAME], Operations)
    with pytest.raises(NotImplementedError, match="nms_rotated"):
        nms_rotated(torch.rand(2, 5), torch.rand(2), 0.5)
    layer = ModulatedDeformConv2d(1, 1, 1)
    with pytest.raises(NotImplementedError, match="modulated_deform_conv_forward"):
        layer(torch.rand(1, 1, 2, 2), torch.zeros(1, 2, 2, 2), torch.ones(1, 1, 2, 2))


def test_nms_counts_the_last_pixel_with_offset_1_only() -> None:
    from mmcv.ops import nms

    # 4 x 4 and 4 x 4 of which half is shared: 8 / 24. With the last pixel 5 x 5 and 15 of it: 15 / 35.
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4]])
    scores = torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, 0.4, offset=0)[1]) == 2
    assert len(nms(boxes, scores, 0.4, offset=1)[1]) == 1
    assert len(nms(boxes, scores, 8 / 24 - 1e-4, offset=0)[1]) == 1
    assert len(nms(boxes, scores, 15 / 35 + 1e-4, offset=1)[1]) == 2


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.2, 0.4, 0.6])
def test_nms_is_the_naive_one(offset: int, threshold: float) -> None:
    from mmcv.ops import nms

    boxes, scores = some_boxes(1)
    kept = nms(boxes, scores, threshold, offset=offset)[1].tolist()
    assert kept == naive_nms(boxes.numpy(), scores.numpy(), threshold, offset)
    assert 1 < len(kept) < len(boxes)
    assert nms(boxes[:0], scores[:0], threshold)[1].tolist() == []


def test_batched_nms_keeps_boxes_of_different_labels_apart() -> None:
    from mmcv.ops import batched_nms

    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 4], [0, 0, 4, 4]])
    found, kept = batched_nms(
        boxes, torch.tensor([0.5, 0.9, 0.7]), torch.tensor([0, 0, 1]), {"type": "nms", "iou_threshold": 0.5}
    )
    assert kept.tolist() == [1, 2]
    torch.testing.assert_close(found[:, 4], torch.tensor([0.9, 0.7]))


@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms_lowers_scores_by_the_formula(method: str) -> None:
    from mmcv.ops import soft_nms

    # The second overlaps the first by 8 / 24 = 1/3, the third by nothing.
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4], [20, 20, 24, 24]])
    scores = torch.tensor([0.9, 0.8, 0.1])
    found, kept = soft_nms(boxes, scores, iou_threshold=0.3, sigma=0.5, min_score=1e-3, method=method)
    wanted = {"naive": None, "linear": 0.8 * (1 - 1 / 3), "gaussian": 0.8 * float(np.exp(-(1 / 9) / 0.5))}[method]
    if wanted is None:
        assert kept.tolist() == [0, 2]
        torch.testing.assert_close(found[:, 4], torch.tensor([0.9, 0.1]))
    else:
        assert kept.tolist() == [0, 1, 2]
        torch.testing.assert_close(found[:, 4], torch.tensor([0.9, wanted, 0.1]))
    torch.testing.assert_close(found[:, :4], boxes[kept])


def test_soft_nms_with_nothing_to_lower_is_the_naive_one() -> None:
    from mmcv.ops import soft_nms

    boxes, scores = some_boxes(2)
    kept = soft_nms(boxes, scores, iou_threshold=0.4, method="naive", min_score=1e-3, offset=1)[1].tolist()
    # By the hard rule a box goes from the threshold on; no overlap here is the threshold itself.
    assert kept == naive_nms(boxes.numpy(), scores.numpy(), 0.4, 1)


def naive_roi_align(
    image: np.ndarray, roi: np.ndarray, size: int, ratio: int, scale: float, aligned: bool
) -> np.ndarray:
    """Mean over regular points of each cell, bilinear between pixel centres; [size, size] of an image [H, W]."""
    x0, y0, x1, y1 = roi * scale - (0.5 if aligned else 0.0)
    width, height = x1 - x0, y1 - y0
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    result = np.zeros((size, size))
    down, across = (ratio or int(np.ceil(side / size)) for side in (height, width))
    for i in range(size):
        for j in range(size):
            values = [
                bilinear(
                    image, y0 + height / size * (i + (a + 0.5) / down), x0 + width / size * (j + (b + 0.5) / across)
                )
                for a in range(down)
                for b in range(across)
            ]
            result[i, j] = np.mean(values)
    return result


def bilinear(image: np.ndarray, y: float, x: float) -> float:
    height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = image[top, left] * (1 - u) + image[top, right] * u
    return float(upper * (1 - v) + (image[below, left] * (1 - u) + image[below, right] * u) * v)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 2])
def test_roi_align_is_the_naive_one_and_its_gradient_is_right(aligned: bool, ratio: int) -> None:
    from mmcv.ops import roi_align

    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 1, 9, 11, generator=generator, dtype=torch.float64).requires_grad_()
    rois = torch.tensor([[0, 2.0, 3.0, 15.0, 13.0], [0, 6.3, 1.2, 8.9, 16.8]], dtype=torch.float64)
    pooled = roi_align(image, rois, (2, 2), 0.5, ratio, "avg", aligned)
    for k, roi in enumerate(rois):
        wanted = naive_roi_align(image.detach()[0, 0].numpy(), roi[1:].numpy(), 2, ratio, 0.5, aligned)
        np.testing.assert_allclose(pooled[k, 0].detach().numpy(), wanted, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: roi_align(x, rois, (2, 2), 0.5, ratio, "avg", aligned), image)


def test_roi_align_of_a_ramp_gives_its_centres() -> None:
    """On f(x) = x a pixel's centre has the value x: a box of whole pixels 2 to 6 holds 2 .. 5, in halves 2.5 and 4.5."""
    from mmcv.ops import roi_align

    ramp = torch.arange(8.0).expand(1, 1, 8, 8).contiguous()
    box = torch.tensor([[0, 2.0, 2.0, 6.0, 6.0]])
    assert roi_align(ramp, box, (1, 2), 1.0, 2, "avg", True).flatten().tolist() == [2.5, 4.5]
    assert roi_align(ramp, box, (1, 2), 1.0, 2, "avg", False).flatten().tolist() == [3.0, 5.0]
    with pytest.raises(NotImplementedError, match="roi_align"):
        roi_align(ramp, box, (1, 2), 1.0, 2, "max", True)


def test_focal_loss_is_the_formula_and_so_is_its_gradient() -> None:
    from mmcv.ops import sigmoid_focal_loss

    generator = torch.Generator().manual_seed(4)
    logits = (torch.randn(6, 3, generator=generator, dtype=torch.float64) * 2).requires_grad_()
    target = torch.tensor([0, 1, 2, 3, 3, 0])  # 3: none of the three
    gamma, alpha = 2.0, 0.25
    p = 1 / (1 + np.exp(-logits.detach().numpy()))
    own = target.numpy()[:, None] == np.arange(3)
    wanted = np.where(own, -alpha * (1 - p) ** gamma * np.log(p), -(1 - alpha) * p**gamma * np.log(1 - p))
    loss = sigmoid_focal_loss(logits, target, gamma, alpha, None, "none")
    np.testing.assert_allclose(loss.detach().numpy(), wanted, rtol=1e-10)
    # d/dx of the two branches, by hand.
    by_own = -alpha * (1 - p) ** gamma * ((1 - p) - gamma * p * np.log(p))
    by_others = (1 - alpha) * p**gamma * (p - gamma * (1 - p) * np.log(1 - p))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    np.testing.assert_allclose(gradient.numpy(), np.where(own, by_own, by_others), rtol=1e-9)
    mean = sigmoid_focal_loss(logits, target, gamma, alpha, None, "mean")
    (scaled,) = torch.autograd.grad(mean, logits)
    torch.testing.assert_close(scaled, gradient / 6)
    with pytest.raises(NotImplementedError, match="weights by class"):
        sigmoid_focal_loss(logits, target, gamma, alpha, torch.ones(3, dtype=torch.float64), "none")


def test_a_certain_answer_costs_nothing_and_no_gradient_is_lost() -> None:
    from mmcv.ops import sigmoid_focal_loss

    logits = torch.tensor([[200.0], [-200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([0, 0]), 2.0, 0.25, None, "none")
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.flatten().tolist() == [0.0, pytest.approx(0.25 * 200)]
    assert gradient.flatten().tolist() == [0.0, pytest.approx(-0.25)]

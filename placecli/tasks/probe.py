"""A linear probe: logistic regression on features that are computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """logits = features @ weight.T + bias; weight float64 [L, D], bias [L]."""

    weight: Floats
    bias: Floats

    def logits(self, features: NDArray[np.floating]) -> Floats:
        """float64 [n, L]."""
        return features.astype(np.float64) @ self.weight.T + self.bias


def fit_path(
    features: NDArray[np.floating], targets: Floats, penalties: Sequence[float], *, is_exclusive: bool
) -> Iterator[tuple[float, Linear]]:
    """`fit_logistic` for each penalty, strongest first, each from where the last one ended."""
    start: Linear | None = None
    for penalty in sorted(penalties, reverse=True):
        start = fit_logistic(features, targets, penalty, is_exclusive=is_exclusive, start=start)
        yield penalty, start


def fit_logistic(
    features: NDArray[np.floating],
    targets: Floats,
    penalty: float,
    *,
    is_exclusive: bool,
    start: Linear | None = None,
) -> Linear:
    """The minimum of  mean cross-entropy + penalty / 2 |W|^2  over standardised features, found by L-BFGS in float64.

    features [n, D]; targets [n, L], nan left out. is_exclusive: softmax over the labels (a row of nan is left out),
    else each label by itself, its mean taken over its own known cases. The bias is not penalised. Standardisation is
    folded into the result, so that it applies to the features as they are. A label with one kind of case keeps the
    bias alone.
    """
    x, y = np.asarray(features, np.float64), np.asarray(targets, np.float64)
    known = ~np.isnan(y).all(axis=1)
    x, y = x[known], y[known]
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-8 * (1 + np.abs(centre)), scale, np.inf)  # a constant feature says nothing
    inputs = torch.from_numpy((x - centre) / scale)
    weight = torch.zeros(y.shape[1], x.shape[1], dtype=torch.float64)
    bias = torch.zeros(y.shape[1], dtype=torch.float64)
    if start is not None:
        weight = torch.from_numpy(start.weight * np.where(np.isinf(scale), 0.0, scale))
        bias = torch.from_numpy(start.bias + start.weight @ centre)
    weight.requires_grad_()
    bias.requires_grad_()
    wanted = torch.from_numpy(y)
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=300, tolerance_grad=1e-6, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        solver.zero_grad()
        logits = inputs @ weight.T + bias
        loss = _exclusive(logits, wanted) if is_exclusive else _separate(logits, wanted)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    solver.step(closure)  # type: ignore[no-untyped-call]
    found = weight.detach().numpy() / scale
    return Linear(found, bias.detach().numpy() - found @ centre)


def _exclusive(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets.nan_to_num().argmax(dim=1))


def _separate(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over labels of the mean over each one's known cases."""
    known = ~targets.isnan()
    cells = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none") * known
    # Without a limit the bias of a label that is all one kind would run off to infinity.
    counts = known.sum(dim=0).clamp(min=1)
    return (cells.sum(dim=0) / counts).sum() + 1e-6 * logits.square().mean()

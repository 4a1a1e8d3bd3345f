"""Learning rate, parameter groups and clipping against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from placecli.config import PretrainConfig
from placecli.engine.optim import build_optimizer, clip, learning_rate, set_learning_rate


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.position = nn.Parameter(torch.zeros(1, 3, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.norm = nn.LayerNorm(4)
        self.convolution = nn.Conv2d(1, 2, 3)
        self.head = nn.Linear(4, 4)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_warm_up_is_a_line_and_then_half_a_cosine() -> None:
    config = PretrainConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_fraction=0.4)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[:40] == pytest.approx([(step + 1) / 40 for step in range(40)])
    expected = [0.1 + 0.9 * (1 + math.cos(math.pi * (step - 40) / 59)) / 2 for step in range(40, 100)]
    assert rates[40:] == pytest.approx(expected)
    assert rates[-1] == pytest.approx(0.1)


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.4), (1, 0.0), (2, 1.0), (3, 0.5)])
def test_short_runs_have_a_rate_above_zero_up_to_the_last_step(total: int, warmup: float) -> None:
    config = PretrainConfig(learning_rate=1.0, warmup_fraction=warmup)
    rates = [learning_rate(step, total, config) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)


def test_only_weights_of_maps_are_decayed_and_frozen_parameters_left_out() -> None:
    model = Model()
    optimizer = build_optimizer(model, PretrainConfig(weight_decay=0.3))
    names = {id(p): name for name, p in model.named_parameters()}
    decayed = {names[id(p)] for g in optimizer.param_groups if g["weight_decay"] > 0 for p in g["params"]}
    assert decayed == {"attention.in_proj_weight", "attention.out_proj.weight", "convolution.weight", "head.weight"}
    everything = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(everything) == sorted(name for name, p in model.named_parameters() if p.requires_grad)


def test_parameters_from_published_weights_get_their_scale() -> None:
    model = Model()
    config = PretrainConfig(learning_rate=1.0, pretrained_learning_rate_scale=0.25)
    optimizer = build_optimizer(model, config, {"head.weight", "head.bias"})
    set_learning_rate(optimizer, 0.8)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rate[id(model.head.weight)] == rate[id(model.head.bias)] == pytest.approx(0.2)
    assert rate[id(model.convolution.weight)] == rate[id(model.norm.bias)] == pytest.approx(0.8)


def test_one_step_is_adamw_of_the_formula() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    optimizer = build_optimizer(model, PretrainConfig(learning_rate=0.1, weight_decay=0.5))
    model.weight.grad = torch.tensor([[3.0]])
    optimizer.step()
    # First step: both moments are unbiased, so the update is the sign of the gradient.
    assert float(model.weight.detach()) == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1, abs=1e-6)


def test_clipping_returns_the_norm_before_and_limits_it_after() -> None:
    parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert float(clip(parameters, 0.0)) == pytest.approx(5.0)
    assert float(parameters[1].grad[0]) == 4.0
    assert float(clip(parameters, 1.0)) == pytest.approx(5.0)
    assert float(torch.cat([parameters[0].grad, parameters[1].grad]).norm()) == pytest.approx(1.0, abs=1e-5)
    parameters[1].grad[0] = math.inf
    assert not math.isfinite(float(clip(parameters, 1.0)))

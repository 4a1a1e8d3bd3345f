"""AdamW, its parameter groups and its learning rate: linear warm-up, then half a cosine."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn

from placecli.config import TrainingConfig

NEVER_DECAYED = (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


def learning_rate(step: int, total_steps: int, config: TrainingConfig) -> float:
    """The rate of step `step`, from 0: up to `learning_rate` in a straight line over the first
    `warmup_fraction * total_steps` steps, then down by half a cosine to `final_learning_rate` at the last."""
    warmup = round(config.warmup_fraction * total_steps)
    peak, final = config.learning_rate, min(config.final_learning_rate, config.learning_rate)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - 1 - warmup)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Every group gets `rate` times its own `scale`."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]


def build_optimizer(model: nn.Module, config: TrainingConfig, pretrained: Collection[str] = ()) -> torch.optim.AdamW:
    """AdamW over the trainable parameters in at most four groups: decayed or not, from published weights or new.

    Biases, norms, embeddings and bare parameters (class token, position table, queries) are not decayed.
    `pretrained` names the parameters whose rate is scaled by `pretrained_learning_rate_scale`.
    """
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    for name, parameter, is_decayed in _parameters(model):
        groups.setdefault((is_decayed, name in pretrained), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": config.weight_decay if is_decayed else 0.0,
                "scale": config.pretrained_learning_rate_scale if is_pretrained else 1.0,
            }
            for (is_decayed, is_pretrained), parameters in sorted(groups.items(), reverse=True)
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def clip(parameters: list[Tensor], limit: float) -> Tensor:
    """The norm of all gradients together before they are scaled down to `limit`; 0 only measures."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
    if limit > 0:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm, foreach=True)
    return norm


def _parameters(model: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    """Name, parameter and whether it is decayed, for each trainable parameter once."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix, recurse=False):
            if parameter.requires_grad and id(parameter) not in seen:
                seen.add(id(parameter))
                is_weight = name.rpartition(".")[2].endswith("weight") and parameter.ndim >= 2
                yield name, parameter, is_weight and not isinstance(module, NEVER_DECAYED)

"""One pass of the objective over a batch: what is compiled, wrapped for several processes and timed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from placecli.config import ObjectiveConfig, PretrainConfig, TrainingConfig
from placecli.data.pairs import PairBatch
from placecli.engine.augment import Augmentation, apply, prepare, transform_content
from placecli.engine.distributed import Ranks, gather
from placecli.engine.place import Place, Shares, objective

Autocast = Callable[[], AbstractContextManager[object]]


def shares_at(step: int, total_steps: int, config: ObjectiveConfig) -> Shares:
    """The parts of the weights of CCE and L_sent in force after `step` of `total_steps`, floats: 1 falling linearly to 0
    at the share `correlation_fade`, `within_report_fade` of the steps; always 1 where that is 0."""

    def share(fade: float) -> float:
        return 1.0 if fade == 0 else max(1.0 - step / (fade * total_steps), 0.0)

    return Shares(share(config.correlation_fade), share(config.within_report_fade))


@dataclass(frozen=True, slots=True)
class Prepared:
    """What one pass takes."""

    pairs: PairBatch
    """On the device, images as the model takes them."""
    shares: Shares
    """float32 scalars; tensors, so that another value is no other program to torch.compile. None stays None."""

    @classmethod
    def of(cls, pairs: PairBatch, shares: Shares) -> Prepared:
        """`pairs`, and `shares` as tensors on their device."""
        device = pairs.images.device
        correlation = None if shares.correlation is None else torch.tensor(shares.correlation, device=device)
        return cls(pairs, Shares(correlation, torch.tensor(shares.within_report, device=device)))


class ObjectivePass(nn.Module):
    """The objective as a module's forward, so that DDP and torch.compile can wrap it."""

    def __init__(self, model: Place, config: ObjectiveConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, prepared: Prepared) -> dict[str, Tensor]:
        """Scalars by name: "loss", the weighted total to minimise, first, then its terms and diagnostics."""
        terms = objective(self.model, prepared.pairs, self.config, gather=gather, shares=prepared.shares)
        named = {field.name: getattr(terms, field.name) for field in dataclasses.fields(terms)}
        return {"loss": named.pop("total"), **{name: torch.as_tensor(value) for name, value in named.items()}}


def wrap(objective: nn.Module, config: TrainingConfig, ranks: Ranks, *, may_leave_unused: bool) -> nn.Module:
    """The pass of an objective over a batch; compiled if the config says so, gradients averaged over several ranks.

    may_leave_unused: some trainable parameter may get no gradient in a step, for which DDP would wait in vain.
    """
    step = objective
    if ranks.world_size > 1:
        step = nn.parallel.DistributedDataParallel(
            step, find_unused_parameters=may_leave_unused, gradient_as_bucket_view=True
        )
    return torch.compile(step) if config.compile else step  # type: ignore[return-value]


def defer_gradients(step: nn.Module) -> AbstractContextManager[object]:
    """Within it, backward passes accumulate on each rank without averaging: all micro-batches but the last."""
    inner = getattr(step, "_orig_mod", step)
    if isinstance(inner, nn.parallel.DistributedDataParallel):
        return inner.no_sync()
    return contextlib.nullcontext()


def choose_autocast(precision: str, device: torch.device) -> Autocast:
    """bfloat16 autocast where asked for, or where `auto` finds it in the device's hardware; else none."""
    if precision == "bfloat16" or (precision == "auto" and has_bfloat16(device)):
        return lambda: torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware: NVIDIA from Ampere on; a CPU is not asked for it."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


def to_model_input(
    batch: PairBatch, augmentation: Augmentation | None, config: PretrainConfig, device: torch.device
) -> PairBatch:
    """The batch on `device` with float images [B, 1, image_size, image_size], augmented or (None) as they are."""
    moved = batch.to(device)
    size = config.model.image_size
    if augmentation is None:
        return dataclasses.replace(moved, images=prepare(moved.images, size))
    return dataclasses.replace(
        moved,
        images=apply(moved.images, size, augmentation),
        content=transform_content(batch.content, augmentation).to(device),
    )

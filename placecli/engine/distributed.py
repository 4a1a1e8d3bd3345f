"""One process or many: ranks from torchrun or SLURM, features gathered with gradient, messages without pickle."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from placecli.records import PlaceError

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others before it gives up with an error instead of hanging."""


@dataclass(frozen=True, slots=True)
class Launch:
    """This process's place among the others, as its launcher says."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Ranks:
    """A running process group (or none: world_size 1) and this rank's device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Rank 0 alone writes files."""
        return self.rank == 0

    def share(self, num: int) -> slice:
        """This rank's consecutive part of `num` items. Raises PlaceError unless all parts are equal."""
        if num % self.world_size:
            raise PlaceError(
                f"a batch of {num} pairs cannot be shared equally by {self.world_size} processes;"
                f" set pretrain.batch_size to a multiple of {self.world_size}"
            )
        each = num // self.world_size
        return slice(self.rank * each, (self.rank + 1) * each)


def find_launch(environment: Mapping[str, str]) -> Launch:
    """Who started this process: torchrun (RANK, WORLD_SIZE ...), srun (SLURM_PROCID ...), or nobody: one process."""
    if "RANK" in environment and "WORLD_SIZE" in environment:
        return Launch(
            rank=int(environment["RANK"]),
            world_size=int(environment["WORLD_SIZE"]),
            local_rank=int(environment.get("LOCAL_RANK", "0")),
            local_world_size=int(environment.get("LOCAL_WORLD_SIZE", "1")),
            address=environment.get("MASTER_ADDR", "127.0.0.1"),
            port=int(environment.get("MASTER_PORT", "29500")),
        )
    # Only srun sets the size of its step; a bare command in a batch script has SLURM_NTASKS without companions.
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", "127.0.0.1"))
        per_node = environment.get("SLURM_STEP_TASKS_PER_NODE", environment.get("SLURM_NTASKS_PER_NODE", "1"))
        return Launch(
            rank=int(environment["SLURM_PROCID"]),
            world_size=int(environment["SLURM_STEP_NUM_TASKS"]),
            local_rank=int(environment.get("SLURM_LOCALID", "0")),
            local_world_size=int(re.split(r"\D", per_node)[0] or 1),
            address=environment.get("MASTER_ADDR", first_host(nodes)),
            port=int(environment.get("MASTER_PORT", str(20000 + int(environment.get("SLURM_JOB_ID", "0")) % 20000))),
        )
    return Launch(rank=0, world_size=1, local_rank=0, local_world_size=1, address="127.0.0.1", port=0)


def first_host(nodes: str) -> str:
    """The first host of a SLURM node list: `gpu[03-05,09],login1` -> `gpu03`."""
    match = re.match(r"([^\[,]+)(?:\[(\w+))?", nodes)
    if match is None:
        raise PlaceError(f'SLURM node list "{nodes}" is not readable; set MASTER_ADDR to the host of rank 0')
    return match[1] + (match[2] or "")


@contextmanager
def ranks(device: str = "auto") -> Iterator[Ranks]:
    """The process group of the launcher for the time of the block; gloo on CPU, nccl on CUDA; none for one process.

    device: `auto` (CUDA where there is one, else CPU), `cpu`, `cuda` or `cuda:1`. Raises PlaceError for a device
    that is not there. Sets the number of CPU threads to this process's share unless OMP_NUM_THREADS says otherwise.
    """
    launch = find_launch(os.environ)
    chosen = choose_device(device, launch.local_rank)
    if chosen.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // launch.local_world_size))
    if launch.world_size == 1 or dist.is_initialized():
        is_group = dist.is_initialized()
        yield Ranks(dist.get_rank() if is_group else 0, dist.get_world_size() if is_group else 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group(
        "nccl" if chosen.type == "cuda" else "gloo",
        init_method=f"tcp://{launch.address}:{launch.port}" if "RANK" not in os.environ else "env://",
        rank=launch.rank,
        world_size=launch.world_size,
        timeout=TIMEOUT,
    )
    try:
        yield Ranks(launch.rank, launch.world_size, chosen)
    finally:
        dist.destroy_process_group()


def choose_device(device: str, local_rank: int = 0) -> torch.device:
    """The device of that name; with several processes a bare `cuda` is the one of `local_rank`."""
    name = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        chosen = torch.device(name)
    except RuntimeError:
        raise PlaceError(f'device "{device}" is not known; use auto, cpu, cuda or cuda:0') from None
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local_rank if chosen.index is None else chosen.index)
        if not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count():
            raise PlaceError(f"device {chosen} is not there: {torch.cuda.device_count()} GPUs found; use --device cpu")
    elif chosen.type != "cpu":
        raise PlaceError(f'device "{device}" is not supported; use auto, cpu or cuda')
    return chosen


def num_ranks() -> int:
    """How many processes train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gather(features: Tensor) -> Tensor:
    """[B, ...] of each rank -> [world_size * B, ...] in the order of ranks, the same on all; B and the rest are equal.

    Differentiable: the gradient that a rank gets for its part is the sum of what all ranks' losses send there. With
    gradients then averaged over ranks this is the gradient of the mean of the ranks' losses. One process: identity.
    """
    if num_ranks() == 1:
        return features
    if features.requires_grad:
        gathered: Tensor = _Gather.apply(features)
        return gathered
    return _all_gather(features)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        return _all_gather(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        each = total.shape[0] // dist.get_world_size()
        return total[dist.get_rank() * each :][:each]


def _all_gather(features: Tensor) -> Tensor:
    # NCCL and gloo know no booleans.
    sent = (features.to(torch.uint8) if features.dtype == torch.bool else features).contiguous()
    parts = [torch.empty_like(sent) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, sent)
    return torch.cat(parts).to(features.dtype)


def mean_over_ranks(values: Tensor) -> Tensor:
    """Element-wise mean over ranks; not-a-number anywhere is not-a-number everywhere."""
    if num_ranks() > 1:
        dist.all_reduce(values)
        values = values / dist.get_world_size()
    return values


def broadcast_json(value: Any, ranks: Ranks) -> Any:
    """Rank 0's `value` (of JSON's types) on every rank; the others' argument is ignored."""
    if ranks.world_size == 1:
        return value
    content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(ranks.device)
    length = torch.tensor([len(content)], device=ranks.device)
    dist.broadcast(length, 0)
    if not ranks.is_first:
        content = torch.empty(int(length), dtype=torch.uint8, device=ranks.device)
    dist.broadcast(content, 0)
    return json.loads(bytes(content.cpu().tolist()))


def barrier(ranks: Ranks) -> None:
    """Wait for every rank."""
    if ranks.world_size > 1:
        dist.barrier()

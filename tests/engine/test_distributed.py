"""Ranks: who launched, what is gathered with gradient, and one rank with 2B against two ranks with B."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
import torch
from children import finish, start, train_on_ranks
from safetensors.torch import load_file
from tiny_store import tiny_preset, write_store

from placecli.engine.distributed import Ranks, choose_device, find_launch, first_host
from placecli.records import PlaceError


def test_without_a_launcher_there_is_one_process() -> None:
    launch = find_launch({})
    assert (launch.rank, launch.world_size) == (0, 1)


def test_torchrun_variables_win() -> None:
    environment = {
        "RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "node7",
        "MASTER_PORT": "1234", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0",
    }  # fmt: skip
    launch = find_launch(environment)
    assert (launch.rank, launch.world_size, launch.local_rank, launch.local_world_size) == (3, 8, 1, 2)
    assert (launch.address, launch.port) == ("node7", 1234)


def test_srun_variables_are_read() -> None:
    environment = {
        "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
        "SLURM_STEP_NODELIST": "gpu[03-04]", "SLURM_JOB_ID": "40123", "SLURM_NTASKS": "8",
    }  # fmt: skip
    launch = find_launch(environment)
    assert (launch.rank, launch.world_size, launch.local_rank, launch.local_world_size) == (5, 8, 1, 4)
    assert (launch.address, launch.port) == ("gpu03", 20123)


def test_a_bare_command_in_a_batch_script_is_one_process() -> None:
    assert find_launch({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "1"}).world_size == 1


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("gpu[03-05,09],login1", "gpu03"),
        ("n1,n2", "n1"),
        ("single", "single"),
        ("a-b-[7,9]", "a-b-7"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_first_host_of_a_node_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host


def test_shares_are_equal_or_refused() -> None:
    cpu = torch.device("cpu")
    assert [Ranks(rank, 4, cpu).share(12) for rank in range(4)] == [slice(i, i + 3) for i in range(0, 12, 3)]
    with pytest.raises(PlaceError, match=r"batch of 10 pairs.*4 processes.*pretrain\.batch_size to a multiple of 4"):
        Ranks(0, 4, cpu).share(10)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_an_unknown_device_is_an_error_that_names_it(name: str) -> None:
    with pytest.raises(PlaceError, match=name):
        choose_device(name)


def contrast(features: torch.Tensor) -> torch.Tensor:
    """Mean over rows of the cross-entropy of all rows against each other: a loss that mixes the whole batch."""
    scores = features @ features.T.detach() + (features**2).sum(1)
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)).roll(1))


def gather_on_rank(port: int, folder: str) -> None:
    from placecli.engine.distributed import broadcast_json, gather, mean_over_ranks, ranks

    os.environ["MASTER_PORT"] = str(port)
    with ranks("cpu") as group:
        whole = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
        mine = whole[group.share(6)].clone().requires_grad_()
        gathered = gather(mine)
        assert torch.equal(gathered, whole)
        contrast(gathered).backward()
        flags = gather(torch.tensor([group.rank == 0, True]))
        assert flags.tolist() == [True, True, False, True]
        assert mean_over_ranks(torch.tensor([float(group.rank), 1.0])).tolist() == [0.5, 1.0]
        assert broadcast_json({"a": ["\u00e9", 1]} if group.is_first else None, group) == {"a": ["\u00e9", 1]}
        torch.save(mine.grad, Path(folder) / f"{group.rank}.pt")


def test_gathered_features_carry_the_gradient_of_the_mean_of_the_ranks_losses(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    children = [start(gather_on_rank, port, str(tmp_path), environment=shared | {"RANK": str(r)}) for r in range(2)]
    assert finish(*children) == [0, 0]
    whole = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    contrast(whole).backward()
    # Each rank's gradient is summed over both losses; averaging parameters' gradients over ranks halves it again.
    found = torch.cat([torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]) / 2
    torch.testing.assert_close(found, whole.grad)


def without_blind_biases(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Attention is blind to a bias of all keys, and correlation to one of all patches, so their gradient is rounding
    alone, which Adam scales to full steps."""
    blind = (".key.bias", "predictor.blocks.0.feed_forward.2.bias")
    kept = {name: tensor for name, tensor in weights.items() if not name.endswith(blind)}
    for name, tensor in kept.items():
        if name.endswith("query_key_value.bias"):
            query, _, value = tensor.chunk(3)
            kept[name] = torch.cat([query, value])
    return kept


def test_two_ranks_with_half_the_batch_train_the_weights_of_one(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    preset = tiny_preset(
        max_steps=3, batch_size=8, accumulate=2, learning_rate=2e-4, model={"dropout": 0.0}, augment=1.0
    )
    runs = [tmp_path / "one", tmp_path / "two"]
    assert train_on_ranks(preset, store, runs[0], 1) == [0]
    assert train_on_ranks(preset, store, runs[1], 2) == [0, 0]
    one, two = (
        without_blind_biases(load_file(next((run / "state").glob("step-*")) / "model.safetensors")) for run in runs
    )
    torch.testing.assert_close(two, one, atol=1e-5, rtol=0)
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in runs]
    assert len(lines[0]) == len(lines[1]) == 5
    for ours, theirs in zip(*lines, strict=True):
        # How evenly queries are used is measured by each rank on its own sentences.
        numbers = ours.keys() - {"query_entropy", "split"}
        assert {k: ours[k] for k in numbers} == pytest.approx({k: theirs[k] for k in numbers}, rel=2e-4, abs=2e-5)


def test_a_batch_that_ranks_cannot_share_is_refused_on_every_rank(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    assert train_on_ranks(tiny_preset(batch_size=9), store, tmp_path / "run", 2) == [1, 1]

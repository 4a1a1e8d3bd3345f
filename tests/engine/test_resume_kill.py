"""Killed with SIGKILL anywhere and started again: the same losses and the same weights, bit by bit."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from children import train
from tiny_store import tiny_preset, write_store

from placecli.config import Preset

KILLED = -signal.SIGKILL
PRESET = tiny_preset(epochs=3, accumulate=1, model={"dropout": 0.1})
NUM_STEPS = 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("resume") / "store")


@pytest.fixture(scope="module")
def uninterrupted(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("resume") / "run"
    assert train(PRESET, store, run) == 0
    return run


def last_state(run: Path) -> Path:
    return sorted((run / "state").glob("step-*"))[-1]


def assert_same(run: Path, expected: Path) -> None:
    """The same metrics, best model, last model and optimiser, to the byte; nothing half-written is left."""
    assert (run / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    assert (run / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    for name in ("model.safetensors", "optimizer.safetensors", "best.safetensors", "state.json"):
        assert (last_state(run) / name).read_bytes() == (last_state(expected) / name).read_bytes(), name
    assert [path.name for path in run.rglob("*.tmp*")] == []
    assert not list(run.rglob(".*.tmp-*"))


def test_the_uninterrupted_run_writes_a_line_for_each_step_and_validation(uninterrupted: Path) -> None:
    lines = [json.loads(line) for line in (uninterrupted / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in lines if "split" not in line]
    assert steps == list(range(1, NUM_STEPS + 1))
    assert [line["step"] for line in lines if line.get("split") == "validate"] == [4, 8, 12]


def test_killed_after_steps_and_resumed_each_time(store: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # Before the first saved state, in the middle of an epoch, just before the end.
    for step in (2, 6, 11):
        assert train(PRESET, store, run, die_at_step=step) == KILLED
    assert train(PRESET, store, run) == 0
    assert_same(run, uninterrupted)


def test_killed_at_each_flush_of_a_file(store: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # The n-th flush of each new start: while files of the run are laid out, while the best model and while the parts
    # of a state are written, before and after it gets its name.
    for flush in (2, 6, 9, 12, 14):
        assert train(PRESET, store, run, die_at_flush=flush) == KILLED
    assert train(PRESET, store, run) == 0
    assert_same(run, uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_request_to_stop_saves_after_the_step_and_exits_with_75(
    number: signal.Signals, store: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert train(PRESET, store, run, stop=(6, number)) == 75
    # The handler runs in the step's own progress call, so the step after it is the one that is finished and saved.
    assert last_state(run).name == "step-000000007"
    assert train(PRESET, store, run) == 0
    assert_same(run, uninterrupted)


def test_a_damaged_newest_state_falls_back_to_the_one_before(store: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(PRESET, store, run, die_at_step=10) == KILLED
    assert [path.name for path in sorted((run / "state").glob("step-*"))] == ["step-000000004", "step-000000008"]
    damaged = last_state(run) / "optimizer.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert train(PRESET, store, run) == 0
    assert_same(run, uninterrupted)


def test_states_by_the_clock_change_nothing(store: Path, uninterrupted: Path, tmp_path: Path) -> None:
    often = PRESET.model_copy(update={"pretrain": PRESET.pretrain.model_copy(update={"checkpoint_minutes": 1e-9})})
    run = tmp_path / "run"
    assert train(often, store, run, die_at_step=7) == KILLED
    assert last_state(run).name == "step-000000007"
    assert resumed_with(often, store, run)
    assert_same(run, uninterrupted)


def resumed_with(preset: Preset, store: Path, run: Path) -> bool:
    return train(preset, store, run) == 0

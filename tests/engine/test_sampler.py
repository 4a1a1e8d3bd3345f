"""The order of pairs is a function of seed and step alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.engine.sampler import Sampler, derive_seed
from placecli.records import PlaceError


def epoch_of(sampler: Sampler, epoch: int) -> np.ndarray:
    first = epoch * sampler.steps_per_epoch
    steps = range(first, first + sampler.steps_per_epoch)
    return np.concatenate([sampler.indices(step, i) for step in steps for i in range(sampler.accumulate)])


def test_an_epoch_visits_each_pair_at_most_once_and_drops_less_than_one_step() -> None:
    sampler = Sampler(np.arange(103), batch_size=10, accumulate=2, seed=1)
    assert sampler.steps_per_epoch == 5
    visited = epoch_of(sampler, 0)
    assert len(visited) == len(set(visited.tolist())) == 100


def test_epochs_and_seeds_differ_and_repeat_exactly() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return epoch_of(Sampler(np.arange(64), 8, 1, seed), epoch).tolist()

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1)
    assert order(1, 0) != order(2, 0)


def test_any_step_can_be_asked_for_first() -> None:
    walked = Sampler(np.arange(50), 7, 1, 5)
    for step in range(30):
        walked.indices(step, 0)
    np.testing.assert_array_equal(walked.indices(30, 0), Sampler(np.arange(50), 7, 1, 5).indices(30, 0))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(2, 9), st.integers(0, 999))
def test_no_batch_holds_a_study_twice_while_others_are_left(images_per_study: int, batch: int, seed: int) -> None:
    studies = np.repeat(np.arange(40), images_per_study)
    sampler = Sampler(studies, batch, 1, seed)
    order = epoch_of(sampler, 0)
    assert len(set(order.tolist())) == len(order)
    batches = studies[order].reshape(-1, batch)
    repeats = [len(set(row.tolist())) < batch for row in batches]
    # Only what was put off to the very end may meet its own study again.
    assert not any(repeats[: max(0, len(batches) - 3)])


def test_too_few_pairs_for_one_step_names_the_sizes() -> None:
    with pytest.raises(PlaceError, match=r"train split has 7 examples.*4 x 2.*batch_size"):
        Sampler(np.arange(7), 4, 2, 0)


def test_derived_seeds_differ_by_stream_and_position() -> None:
    seeds = {
        derive_seed(seed, stream, a, b) for seed in (0, 1) for stream in range(4) for a in range(3) for b in range(3)
    }
    assert len(seeds) == 2 * 4 * 3 * 3
    assert derive_seed(3, 1, 5) == derive_seed(3, 1, 5)
    assert all(0 <= seed < 2**63 for seed in seeds)

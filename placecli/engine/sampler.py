"""Which pairs a step sees: a function of seed and step alone, so that a position is one integer."""

from __future__ import annotations

from collections import deque

import numpy as np

from placecli.records import PlaceError

ORDER, SENTENCES, AUGMENT, MODEL = range(4)
"""Streams of random numbers: order of pairs, order of sentences, augmentation, the model's own (dropout)."""


def derive_seed(seed: int, stream: int, *position: int) -> int:
    """A 63-bit seed for one use at one position; equal arguments give equal seeds on every machine."""
    state = np.random.SeedSequence([seed, stream, *position]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


class Sampler:
    """Fixed-length permutations: every epoch has the same number of full batches, whatever the number of ranks.

    The incomplete last batch of an epoch is dropped. No batch holds two pairs of one study as long as
    enough other studies are left. batch_size counts pairs over all ranks.
    """

    def __init__(self, studies: np.ndarray, batch_size: int, accumulate: int, seed: int) -> None:
        """studies: int [n], equal for pairs of the same study. Raises PlaceError if n is below one step."""
        self.num_pairs, self.batch_size, self.accumulate, self.seed = len(studies), batch_size, accumulate, seed
        self.steps_per_epoch = self.num_pairs // (batch_size * accumulate)
        if self.steps_per_epoch == 0:
            raise PlaceError(
                f"the train split has {self.num_pairs} examples, fewer than one step of {batch_size} x {accumulate};"
                " lower batch_size or accumulate"
            )
        self._studies = studies
        self._has_repeats = len(np.unique(studies)) < len(studies)
        self._current = (-1, np.empty(0, np.int64))

    def epoch_of(self, step: int) -> int:
        """The epoch, from 0, that step `step`, from 0, belongs to."""
        return step // self.steps_per_epoch

    def indices(self, step: int, micro_batch: int) -> np.ndarray:
        """int64 [batch_size]: the pairs of one micro-batch of a step, over all ranks."""
        epoch, position = divmod(step, self.steps_per_epoch)
        known, order = self._current
        if known != epoch:
            order = self._permutation(epoch)
            self._current = (epoch, order)
        start = (position * self.accumulate + micro_batch) * self.batch_size
        return order[start : start + self.batch_size]

    def _permutation(self, epoch: int) -> np.ndarray:
        order = np.random.default_rng([self.seed, ORDER, epoch]).permutation(self.num_pairs)
        return _spread(order, self._studies, self.batch_size) if self._has_repeats else order


def _spread(order: np.ndarray, studies: np.ndarray, batch_size: int) -> np.ndarray:
    """`order` with a pair put off to a later batch where its study is already in the batch at hand."""
    spread: list[int] = []
    seen: set[int] = set()
    put_off: deque[int] = deque()

    def place(pair: int) -> None:
        if len(spread) % batch_size == 0:
            seen.clear()
        if int(studies[pair]) in seen:
            put_off.append(pair)
            return
        seen.add(int(studies[pair]))
        spread.append(pair)

    for pair in order.tolist():
        if len(spread) % batch_size == 0:
            for _ in range(len(put_off)):
                place(put_off.popleft())
        place(pair)
    return np.asarray([*spread, *put_off], np.int64)

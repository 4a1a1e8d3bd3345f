"""Pre-training as the loop sees it: image-report pairs, PLACE's objective, retrieval on the validate split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from placecli.config import PretrainConfig
from placecli.data.pairs import PairBatch, Pairs
from placecli.engine import sampler
from placecli.engine.augment import Augmentation, draw
from placecli.engine.distributed import Ranks
from placecli.engine.place import Place, Shares
from placecli.engine.step import Autocast, ObjectivePass, Prepared, shares_at, to_model_input
from placecli.engine.training import total_steps
from placecli.engine.validation import validate
from placecli.records import Row

Stored = tuple[PairBatch, Augmentation | None, Shares]


@dataclass
class PairLearner:
    """A `Learner` over pairs; the model is trained in place."""

    model: Place
    config: PretrainConfig
    ranks: Ranks
    train: Pairs
    held_out: Pairs
    """The validate split."""

    @cached_property
    def objective(self) -> ObjectivePass:
        """PLACE's objective over a batch."""
        return ObjectivePass(self.model, self.config.objective)

    @property
    def rows(self) -> Sequence[Row]:
        """The row of each example."""
        return self.train.rows

    @property
    def groups(self) -> np.ndarray:
        """Pairs of one study do not share a batch."""
        return self.train.studies

    @property
    def may_leave_unused(self) -> bool:
        """Without one of the terms a part of an encoder may have no gradient."""
        weights = self.config.objective
        return min(weights.instance_weight, weights.pcma_weight, weights.correlation_weight) == 0

    @cached_property
    def _total_steps(self) -> int:
        config = self.config
        batches = sampler.Sampler(self.groups, config.batch_size, config.accumulate, config.seed)
        return total_steps(batches.steps_per_epoch, config)

    def read(self, indices: np.ndarray, part: slice, step: int, micro_batch: int) -> Stored:
        """Random numbers are drawn for the whole batch, so that shares join to the same batch."""
        config = self.config
        order = None
        if config.shuffle_sentences:
            source = np.random.default_rng([config.seed, sampler.SENTENCES, step, micro_batch])
            order = source.random((len(indices), self.train.max_report_sentences))
        batch = self.train.batch(indices, part=part, order=order)
        if self.ranks.device.type == "cuda":
            batch = batch.pin()
        shares = shares_at(step, self._total_steps, config.objective).without_faded()
        if config.augment == 0:
            return batch, None, shares
        seed = sampler.derive_seed(config.seed, sampler.AUGMENT, step, micro_batch)
        return batch, draw(len(indices), config.augment, torch.Generator().manual_seed(seed)).part(part), shares

    def prepare(self, stored: Stored) -> Prepared:
        """Float images on the device, augmented."""
        batch, augmentation, shares = stored
        return Prepared.of(to_model_input(batch, augmentation, self.config, self.ranks.device), shares)

    def can_validate(self) -> bool:
        """One pair alone always finds itself."""
        return len(self.held_out) > 1

    def validate(self, autocast: Autocast) -> tuple[float, dict[str, float]]:
        """Recall or minus the loss, as `select_by` says, and all numbers by name."""
        found = validate(self.model, self.held_out, self.config, self.ranks, autocast)
        return found.score(self.config.select_by), found.values()

"""The training loop: steps, validations and saved states, from wherever a run stands to its end.

What is trained and on what is a `Learner`: pre-training and every fine-tuning bring their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from placecli.config import TrainingConfig
from placecli.engine import checkpoint, optim, sampler, signals
from placecli.engine.checkpoint import Best, TrainingState
from placecli.engine.distributed import Ranks, mean_over_ranks
from placecli.engine.journal import Journal
from placecli.engine.step import Autocast, choose_autocast, defer_gradients, wrap
from placecli.records import PlaceError, Row

Progress = Callable[[int, int, float, float], None]
"""Called after each step with steps done, steps in all, loss, and pairs per second."""


class Learner(Protocol):
    """What the loop trains: a model, an objective over it, and examples by number."""

    @property
    def model(self) -> nn.Module:
        """Its weights are what the run keeps."""

    @property
    def objective(self) -> nn.Module:
        """forward(prepared batch) gives scalars by name, the one to minimise first, as "loss"; it holds `model`."""

    @property
    def rows(self) -> Sequence[Row]:
        """The row of the store behind each example."""

    @property
    def groups(self) -> np.ndarray:
        """int64 [examples]: equal for examples that should not share a batch."""

    @property
    def may_leave_unused(self) -> bool:
        """Whether some trainable parameter may get no gradient in a step."""

    def read(self, indices: np.ndarray, part: slice, step: int, micro_batch: int) -> Any:
        """The share `part` of the batch of these examples, on the CPU; called from a thread of its own."""

    def prepare(self, stored: Any) -> Any:
        """What `read` gave, on the device and ready for `objective`."""

    def can_validate(self) -> bool:
        """Whether there is anything to validate on."""

    def validate(self, autocast: Autocast) -> tuple[float, dict[str, float]]:
        """The number that model selection maximises, and all numbers by name; equal on all ranks."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run trains with; the model is trained in place."""

    run: Path
    config: TrainingConfig
    ranks: Ranks
    learner: Learner


class Training:
    """A run between two saved states. `state` is where it stands; only rank 0 writes files."""

    def __init__(self, setting: Setting, state: TrainingState, folder: Path | None) -> None:
        """folder: the state folder to continue from, None for a new run."""
        self.setting, self.state = setting, state
        config, ranks = setting.config, setting.ranks
        self.learner = setting.learner
        self.sampler = sampler.Sampler(self.learner.groups, config.batch_size, config.accumulate, config.seed)
        self.total_steps = total_steps(self.sampler.steps_per_epoch, config)
        self.share = ranks.share(config.batch_size)
        self.optimizer = optim.build_optimizer(self.learner.model, config, state.pretrained)
        if folder is not None:
            checkpoint.load_state(folder, self.learner.model, self.optimizer)
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        self.pass_over = wrap(self.learner.objective, config, ranks, may_leave_unused=self.learner.may_leave_unused)
        self.autocast = choose_autocast(config.precision, ranks.device)
        self.journal = Journal(setting.run, state.metrics_bytes, state.step) if ranks.is_first else None
        self._saved = time.monotonic()

    def run(self, stop: signals.StopRequest, progress: Progress | None) -> None:
        """Train to the end. Raises Interrupted, state saved, if `stop` is set; PlaceError on a loss not finite."""
        self.learner.model.train()
        rate = _Rate(self.setting.config.batch_size * self.setting.config.accumulate)
        try:
            for stored in self._stored_batches():
                values, is_stopping = self._step(stored, bool(stop))
                self._after_step(values, rate.tick(), is_stopping)
                if progress is not None:
                    progress(self.state.step, self.total_steps, values["loss"], rate.value)
                if self.state.finished:
                    return
                if is_stopping:
                    raise signals.Interrupted(
                        f"{self.setting.run}: stopped by {stop.name or 'a signal'} after step {self.state.step} of"
                        f" {self.total_steps}, state saved; run the same command to continue"
                    )
        finally:
            if self.journal is not None:
                self.journal.close()

    def _step(self, stored: list[Any], is_asked_to_stop: bool) -> tuple[dict[str, float], bool]:
        """One optimiser step; returns its numbers, equal on all ranks, and whether any rank is asked to stop."""
        step, config, ranks = self.state.step, self.setting.config, self.setting.ranks
        rate = optim.learning_rate(step, self.total_steps, config)
        optim.set_learning_rate(self.optimizer, rate)
        self.optimizer.zero_grad()
        sums: dict[str, torch.Tensor] = {}
        for i, batch in enumerate(stored):
            prepared = self.learner.prepare(batch)
            torch.manual_seed(sampler.derive_seed(config.seed, sampler.MODEL, step, i, ranks.rank))
            is_last = i == len(stored) - 1
            with contextlib.nullcontext() if is_last else defer_gradients(self.pass_over):
                with self.autocast():
                    terms = self.pass_over(prepared)
                (terms["loss"] / len(stored)).backward()
            sums = {name: sums.get(name, 0.0) + value.detach().float() / len(stored) for name, value in terms.items()}
        norm = optim.clip(self.parameters, config.clip_norm)
        asked = torch.tensor(float(is_asked_to_stop), device=ranks.device)
        numbers = mean_over_ranks(torch.stack([*sums.values(), norm.float(), asked])).tolist()
        values = dict(zip([*sums, "gradient_norm"], numbers[:-1], strict=True))
        if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
            self._refuse(values)
        self.optimizer.step()
        return {**values, "learning_rate": rate}, numbers[-1] > 0

    def _after_step(self, values: dict[str, float], pairs_per_second: float, is_stopping: bool) -> None:
        """Write the step down, validate at the end of an epoch, save when it is time to."""
        step = self.state.step + 1
        epoch = self.sampler.epoch_of(self.state.step) + 1
        self.state = dataclasses.replace(self.state, step=step)
        if self.journal is not None:
            self.journal.step(step, epoch, values)
        is_last = step == self.total_steps
        is_epoch_end = is_last or step % self.sampler.steps_per_epoch == 0
        if is_epoch_end:
            self._end_epoch(epoch, is_last)
            if self.journal is not None:
                self.journal.speed(step, pairs_per_second)
        if is_epoch_end or is_stopping or time.monotonic() - self._saved > 60 * self.setting.config.checkpoint_minutes:
            self._save()

    def _end_epoch(self, epoch: int, is_last: bool) -> None:
        """Validate, keep the model if it is the best so far, decide whether training ends."""
        setting, state = self.setting, self.state
        values: dict[str, float] = {}
        score = float(state.step)  # without a validate split the last model is the best
        if self.learner.can_validate():
            score, values = self.learner.validate(self.autocast)
            if self.journal is not None:
                self.journal.validation(state.step, epoch, values)
        best, stale = state.best, state.stale_epochs + 1
        if best is None or score > best.value:
            digest = checkpoint.save_model(setting.run, self.learner.model) if setting.ranks.is_first else ""
            best, stale = Best(score, epoch, state.step, digest, values), 0
        is_stale = 0 < setting.config.patience <= stale
        finished = "all steps done" if is_last else f"no better validation in {stale} epochs" if is_stale else ""
        self.state = dataclasses.replace(state, best=best, stale_epochs=stale, finished=finished)

    def _save(self) -> None:
        if self.journal is not None:
            self.state = dataclasses.replace(self.state, metrics_bytes=self.journal.commit())
            checkpoint.save_state(self.setting.run, self.state, self.learner.model, self.optimizer)
        self._saved = time.monotonic()

    def _refuse(self, values: dict[str, float]) -> None:
        """Name the batch in a file of the run and raise; the model is still as it was before this step."""
        step, config = self.state.step, self.setting.config
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        batches = [self.sampler.indices(step, i) for i in range(config.accumulate)]
        if self.setting.ranks.is_first:
            rows = [self.learner.rows[int(index)] for indices in batches for index in indices]
            examples = [{"image_id": r.image_id, "study_id": r.study_id, "shard": r.shard, "row": r.row} for r in rows]
            record = {"step": step + 1, "not_finite": bad, "examples": examples}
            checkpoint.write_json(self.setting.run / checkpoint.FAILED_BATCH, record)
        raise PlaceError(
            f"{', '.join(bad)} of step {step + 1} is not a finite number; nothing was updated; the batch is named in"
            f" {self.setting.run / checkpoint.FAILED_BATCH}; lower learning_rate or set precision"
            " to float32"
        )

    def _stored_batches(self) -> Iterator[list[Any]]:
        """The micro-batches of each remaining step, the next step's being read while this one is computed."""
        with ThreadPoolExecutor(1, "batches") as reader:
            upcoming = reader.submit(self._read, self.state.step)
            for step in range(self.state.step + 1, self.total_steps + 1):
                ready = upcoming.result()
                if step < self.total_steps:
                    upcoming = reader.submit(self._read, step)
                yield ready

    def _read(self, step: int) -> list[Any]:
        return [
            self.learner.read(self.sampler.indices(step, i), self.share, step, i)
            for i in range(self.setting.config.accumulate)
        ]


def total_steps(steps_per_epoch: int, config: TrainingConfig) -> int:
    """Optimiser steps of a whole run: `max_steps` where it is set, else all of `epochs`."""
    return config.max_steps or config.epochs * steps_per_epoch


class _Rate:
    """Pairs per second, smoothed over about twenty steps."""

    def __init__(self, pairs_per_step: int) -> None:
        self.value = 0.0
        self._pairs, self._last = pairs_per_step, time.monotonic()

    def tick(self) -> float:
        now = time.monotonic()
        latest = self._pairs / max(now - self._last, 1e-9)
        self.value = latest if self.value == 0 else 0.95 * self.value + 0.05 * latest
        self._last = now
        return self.value

"""`place pretrain`: a store and a preset in, a run folder out; the same command continues a run that was stopped."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from placecli.config import Preset
from placecli.data.pairs import Pairs
from placecli.data.store import Store, open_store
from placecli.engine import checkpoint, sampler, signals
from placecli.engine.card import write_card
from placecli.engine.checkpoint import TrainingState
from placecli.engine.distributed import Ranks, barrier, ranks
from placecli.engine.pair_learner import PairLearner
from placecli.engine.place import Place
from placecli.engine.planning import PretrainPlan, check_reports, plan
from placecli.engine.run_folder import open_run, run_folder
from placecli.engine.text import build_tokenizer
from placecli.engine.training import Progress, Setting, Training
from placecli.records import PlaceError

__all__ = ["PretrainPlan", "PretrainSummary", "plan", "pretrain"]


@dataclass(frozen=True, slots=True)
class PretrainSummary:
    """How a pre-training ended. best: validation score, epoch and step of the model that the run keeps.

    seconds and pairs_per_second are of this call alone (a resumed run counts from where it resumed).
    """

    run: str
    data: str
    already_done: bool
    finished: str
    steps: int
    resumed_from_step: int
    train_pairs: int
    validate_pairs: int
    pairs_without_report: int
    parameters: int
    device: str
    processes: int
    best_epoch: int
    best_step: int
    validation: dict[str, float]
    digest: str
    seconds: float
    pairs_per_second: float

    def to_record(self) -> dict[str, Any]:
        """The summary as plain values, ready for JSON."""
        return dataclasses.asdict(self)


def pretrain(
    preset: Preset, data: Path, out: Path, *, device: str = "auto", progress: Progress | None = None
) -> PretrainSummary:
    """Train the model of `preset.pretrain` on the store `data`; the run folder `out` appears or is continued.

    A finished run is left as it is (`already_done`). Under torchrun or srun every process calls this. Raises
    PlaceError for a changed config or store (naming the keys), a missing or unusable input or a loss that is no
    number; Interrupted (exit code 75) after SIGTERM or SIGUSR1, with the state saved.
    """
    started = time.monotonic()
    store, out = open_store(data), Path(out)
    check_reports(store)
    # The run keeps how its images were made, so that a query is prepared in the same way.
    resolved = preset.model_copy(update={"preprocess": store.config.preprocess})
    with ranks(device) as group, signals.listen() as stop, run_folder(out, group):
        folder, state = open_run(out, resolved, store, group, {"pretrain": resolved.pretrain})
        learner = _set_up(out, resolved, store, group, is_new=folder is None)
        if state is None:
            pretrained = sorted(learner.model.pretrained_parameters(resolved.pretrain.model))
            state = TrainingState(0, 0, 0, "", store.digest, tuple(pretrained))
        first_step, already_done = state.step, bool(state.finished)
        if not already_done:
            training = Training(Setting(out, resolved.pretrain, group, learner), state, folder)
            training.run(stop, progress)
            state = training.state
        if group.is_first:
            _finish(out, learner, resolved, state)
        barrier(group)
        return _summarise(out, learner, store, state, first_step, already_done, time.monotonic() - started)


def _finish(out: Path, learner: PairLearner, preset: Preset, state: TrainingState) -> None:
    """Write the card; safe to repeat, should the process have been killed between the last state and this."""
    pairs = {"train": len(learner.train), "validate": len(learner.held_out)}
    num_parameters = sum(parameter.numel() for parameter in learner.model.parameters())
    device = f"{learner.ranks.world_size} x {learner.ranks.device.type}"
    write_card(out, preset, state, parameters=num_parameters, num_pairs=pairs, device=device)


def _summarise(
    out: Path,
    learner: PairLearner,
    store: Store,
    state: TrainingState,
    first_step: int,
    already_done: bool,
    seconds: float,
) -> PretrainSummary:
    if state.best is None:
        raise PlaceError(f"{out}: finished without a model; remove the folder and run the command again")
    pairs = (state.step - first_step) * learner.config.batch_size * learner.config.accumulate
    return PretrainSummary(
        run=str(out),
        data=str(store.path),
        already_done=already_done,
        finished=state.finished,
        steps=state.step,
        resumed_from_step=first_step,
        train_pairs=len(learner.train),
        validate_pairs=len(learner.held_out),
        pairs_without_report=learner.train.skipped + learner.held_out.skipped,
        parameters=sum(parameter.numel() for parameter in learner.model.parameters()),
        device=str(learner.ranks.device),
        processes=learner.ranks.world_size,
        best_epoch=state.best.epoch,
        best_step=state.best.step,
        validation=dict(state.best.validation),
        digest=state.best.digest,
        seconds=round(seconds, 2),
        pairs_per_second=round(pairs / seconds, 2),
    )


def _set_up(out: Path, preset: Preset, store: Store, group: Ranks, *, is_new: bool) -> PairLearner:
    """Tokenizer, model and pairs on every rank; what rebuilds the model is on disk before training starts."""
    config = preset.pretrain
    rows = {split: store.select(split) for split in ("train", "validate")}
    texts = [sentence for row in rows["train"] for sentence in row.sentences]
    if is_new:
        tokenizer = build_tokenizer(config.model, texts)
        torch.manual_seed(sampler.derive_seed(config.seed, sampler.MODEL))
        model = Place.from_config(config.model, config.objective, tokenizer)
        if group.is_first:
            checkpoint.save_shape(out, model, tokenizer)
    else:
        tokenizer, model = checkpoint.rebuild(out, preset)
    limits = {"max_tokens": config.model.max_tokens, "max_sentences": config.model.max_sentences}
    train, validate = (Pairs(store, rows[split], tokenizer, **limits) for split in rows)
    return PairLearner(model.to(group.device), config, group, train, validate)

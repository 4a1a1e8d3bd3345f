"""`place finetune`: a start and a labelled store in, tuned runs out, one for each seed; the same command continues."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from placecli.config import Preset, TuningConfig
from placecli.data.store import Store, open_store
from placecli.engine import checkpoint, signals
from placecli.engine.checkpoint import TrainingState
from placecli.engine.distributed import Ranks, barrier, ranks
from placecli.engine.run_folder import open_run, run_folder
from placecli.engine.start import Start
from placecli.engine.training import Setting, Training
from placecli.records import PlaceError
from placecli.tasks.evaluate_tuned import check_test, test_once
from placecli.tasks.probe_run import fit_probe
from placecli.tasks.tuned_card import write_tuned_card
from placecli.tasks.tuning import build_model, choose_examples, from_start, plan, resolve
from placecli.tasks.use import Examples, Use
from placecli.tasks.uses import load_use

__all__ = ["FinetuneSummary", "SeedResult", "finetune", "plan"]

Progress = Callable[[str, int, int], None]
"""Called as progress(stage, done, total)."""

FEATURES = "features"
"""Folder of the features that probes have computed."""


@dataclass(frozen=True, slots=True)
class SeedResult:
    """One tuned run. best_epoch 0: a probe, which has no epochs. metrics: of the test split, with intervals."""

    run: str
    seed: int
    already_done: bool
    steps: int
    finished: str
    best_epoch: int
    validation: dict[str, float]
    metrics: dict[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class FinetuneSummary:
    """The last word of `place finetune`.

    metrics: by name {"value": mean over seeds, "sd" (null for one seed), "values", "ci95" (of a single run, by
    patient)}; of the test split, scored once for each run. tune: probe, frozen or full.
    """

    task: str
    data: str
    start: str
    tune: str
    fraction: float
    train_images: int
    validate_images: int
    test_images: int
    seeds: list[int]
    metrics: dict[str, dict[str, Any]]
    runs: list[SeedResult]
    device: str
    seconds: float

    def to_record(self) -> dict[str, Any]:
        """The summary as plain values; the metrics of single labels are in each run's test.json."""
        record = dataclasses.asdict(self)
        for run in record["runs"]:
            run["metrics"] = {name: value for name, value in run["metrics"].items() if "[" not in name}
        return record


def finetune(
    task: str,
    preset: Preset,
    data: Path,
    start: Start,
    out: Path,
    *,
    seeds: Sequence[int],
    protocol: str = "clean",
    device: str = "auto",
    progress: Progress | None = None,
) -> FinetuneSummary:
    """Tune the encoder of `start` for `task` on the store `data`, once for each seed.

    One seed writes the run `out`, several `out/seed-<n>`. The best model by the validate split is kept and scored once
    on the test split. A finished run is left as it is. Raises PlaceError for a changed config, store or start (naming
    the keys), a store that holds nothing for this task, or a loss that is no number; Interrupted after SIGTERM.
    """
    began = time.monotonic()
    store, use = open_store(data), load_use(task)
    resolved = resolve(task, preset, start, store)
    check_test(task, store, resolved, protocol)
    stages = progress or (lambda stage, done, total: None)
    results, sizes = [], (0, 0, 0)
    with ranks(device) as group, signals.listen() as stop:
        for seed in seeds:
            run = Path(out) if len(seeds) == 1 else Path(out) / f"seed-{seed}"
            one = _with_seed(resolved, use, seed)
            result, sizes = _tune_one(use, one, store, start, run, group, stop, protocol, stages)
            results.append(result)
    return FinetuneSummary(
        task=task,
        data=str(store.path),
        start=str(start.run) if start.kind == "run" else start.kind,
        tune=use.section(resolved).tune,
        fraction=resolved.finetune.fraction,
        train_images=sizes[0],
        validate_images=sizes[1],
        test_images=sizes[2],
        seeds=list(seeds),
        metrics=_join(results),
        runs=results,
        device=str(group.device),
        seconds=round(time.monotonic() - began, 2),
    )


def _with_seed(preset: Preset, use: Use, seed: int) -> Preset:
    section = use.section(preset).model_copy(update={"seed": seed})
    name = preset.finetune.task.replace("-", "_")
    tuned = preset.finetune.model_copy(update={name: section})
    return preset.model_copy(update={"finetune": tuned})


def _tune_one(
    use: Use,
    preset: Preset,
    store: Store,
    start: Start,
    run: Path,
    group: Ranks,
    stop: signals.StopRequest,
    protocol: str,
    progress: Progress,
) -> tuple[SeedResult, tuple[int, int, int]]:
    began = time.monotonic()
    examples = choose_examples(use, preset, store)
    num_test = len(use.select(store.select("test"), preset))
    with run_folder(run, group):
        folder, state = open_run(run, preset, store, group, {"finetune": preset.finetune})
        was_done = state is not None and bool(state.finished)
        about = use.describe(examples, preset)
        model = build_model(use, preset, start, about, is_new=state is None).to(group.device)
        if state is None:
            state = TrainingState(0, 0, 0, "", store.digest, from_start(model, preset))
            if group.is_first:
                checkpoint.write_json(run / checkpoint.TASK, about)
        if not was_done:
            fit = _Fit(use, preset, about, model, examples, run, group, progress)
            state = (
                fit.probe(state, start, stop) if use.section(preset).tune == "probe" else fit.train(state, folder, stop)
            )
        metrics = test_once(run, store, protocol, group, _stopping(stop, run, progress))
        if group.is_first:
            write_tuned_card(run, preset, state, about, metrics, examples, num_test)
        barrier(group)
    best = state.best
    if best is None:
        raise PlaceError(f"{run}: finished without a model; remove the folder and run the command again")
    result = SeedResult(
        run=str(run),
        seed=use.section(preset).seed,
        already_done=was_done,
        steps=state.step,
        finished=state.finished,
        best_epoch=best.epoch,
        validation=dict(best.validation),
        metrics=metrics,
        seconds=round(time.monotonic() - began, 2),
    )
    return result, (len(examples.train), len(examples.validate), num_test)


@dataclass(frozen=True)
class _Fit:
    """One model and what it learns from; the two ways to fit it."""

    use: Use
    preset: Preset
    about: dict[str, Any]
    model: nn.Module
    examples: Examples
    run: Path
    group: Ranks
    progress: Progress

    def probe(self, state: TrainingState, start: Start, stop: signals.StopRequest) -> TrainingState:
        """Features are kept in the run that they, or the shape of their encoder, come from, else beside this one."""
        home = start.run if start.run is not None else self.run.parent
        return fit_probe(
            self.model,
            self.preset,
            self.about,
            self.examples,
            self.run,
            state,
            self.group,
            Path(home) / FEATURES,
            _stopping(stop, self.run, self.progress),
        )

    def train(self, state: TrainingState, folder: Path | None, stop: signals.StopRequest) -> TrainingState:
        """Steps to the end, from the state in `folder` if there is one."""
        config = _fitting(self.use.section(self.preset), len(self.examples.train), self.group)
        learner = self.use.learner(self.model, self.preset, self.about, self.examples, self.group)
        training = Training(Setting(self.run, config, self.group, learner), state, folder)
        stage = f"finetune {self.run.name}"
        training.run(stop, lambda done, total, loss, rate: self.progress(stage, done, total))
        return training.state


def _stopping(stop: signals.StopRequest, run: Path, progress: Progress) -> Progress:
    """`progress` that ends the work once a stop is asked for: what is not steps of training has nothing to save."""

    def advance(stage: str, done: int, total: int) -> None:
        if stop:
            raise signals.Interrupted(f"{run}: stopped by {stop.name}; run the same command to continue")
        progress(stage, done, total)

    return advance


def _fitting(section: TuningConfig, num_examples: int, group: Ranks) -> TuningConfig:
    """A batch no larger than the few examples that a small share leaves."""
    largest = max(num_examples // section.accumulate // group.world_size, 1) * group.world_size
    return section.model_copy(update={"batch_size": min(section.batch_size, largest)})


def _join(results: Sequence[SeedResult]) -> dict[str, dict[str, Any]]:
    """Mean, standard deviation and values over the runs, of each metric that is not of one label alone."""
    joined: dict[str, dict[str, Any]] = {}
    for name in results[0].metrics:
        values = [result.metrics[name]["value"] for result in results if name in result.metrics]
        if "[" in name:
            continue
        numbers = [value for value in values if value is not None and math.isfinite(value)]
        joined[name] = {
            "value": statistics.fmean(numbers) if numbers else None,
            "sd": statistics.stdev(numbers) if len(numbers) > 1 else None,
            "values": values,
            "ci95": results[0].metrics[name].get("ci95") if len(results) == 1 else None,
        }
    return joined

"""Fine-tuned runs, and predictions of other programs, on a store: what they say of each image, and how good it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from placecli.config import EvaluateConfig, Preset
from placecli.data.atomic import commit, flush_file, temporary_path
from placecli.data.store import Store
from placecli.engine.distributed import Ranks, barrier
from placecli.records import PlaceError, Row
from placecli.tasks.evaluation import Evaluation, Findings, Resampling
from placecli.tasks.predictions import read_predictions, write_predictions
from placecli.tasks.tuned import PREDICTIONS, TEST, TunedRun, load_tuned
from placecli.tasks.uses import load_use

Progress = Callable[[str, int, int], None]


def evaluate_tuned(
    run: TunedRun,
    store: Store,
    *,
    split: str,
    protocol: str,
    config: EvaluateConfig,
    predictions: Path | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Predict the split and score it. predictions: a file that the predictions are written to, one a line.

    Raises PlaceError for a split without anything to score.
    """
    rows = _rows(run.use.select(store.select(split), run.preset), run.task, store, split)
    device = next(run.model.parameters()).device
    stage = f"predict {split}"

    def advance(done: int, total: int) -> None:
        if progress is not None:
            progress(stage, done, total)

    made = list(run.use.predict(run.model, run.preset, run.about, store, rows, device, advance))
    if predictions is not None:
        write_predictions(predictions, made)
    resampling = Resampling(config.bootstrap, config.seed)
    findings = run.use.score(made, store, rows, run.preset, run.about, protocol, resampling)
    return _evaluation(run.task, str(run.path), store, split, protocol, resampling, findings)


def evaluate_predictions(
    task: str,
    file: Path,
    store: Store,
    preset: Preset,
    *,
    split: str,
    protocol: str,
    about: dict[str, Any] | None = None,
) -> Evaluation:
    """Score predictions that another program, or an earlier `place`, wrote for this split; the same code as for a run.

    about: of the run that made them; None takes labels from the preset or the store. Raises PlaceError naming the
    line of the file that is not readable.
    """
    use = load_use(task)
    rows = _rows(use.select(store.select(split), preset), task, store, split)
    resampling = Resampling(preset.evaluate.bootstrap, preset.evaluate.seed)
    if about is None:
        about = use.about_predictions(list(read_predictions(file)), rows, preset)
    findings = use.score(list(read_predictions(file)), store, rows, preset, about, protocol, resampling)
    return _evaluation(task, str(file), store, split, protocol, resampling, findings)


def test_once(run: Path, store: Store, protocol: str, group: Ranks, progress: Progress) -> dict[str, Any]:
    """Metrics of the test split by the run's best model, from its test.json if it was scored before; {} without one.

    Rank 0 works, all wait.
    """
    metrics: dict[str, Any] = {}
    if group.is_first:
        metrics = _test_once(run, store, protocol, group, progress)
    barrier(group)
    return metrics


def _test_once(run: Path, store: Store, protocol: str, group: Ranks, progress: Progress) -> dict[str, Any]:
    loaded = load_tuned(run, group.device)
    kept = _read_test(run / TEST)
    if kept is None or kept["digest"] != loaded.digest or kept["protocol"] != protocol:
        if not loaded.use.select(store.select("test"), loaded.preset):
            return {}
        found = evaluate_tuned(
            loaded,
            store,
            split="test",
            protocol=protocol,
            config=loaded.preset.evaluate,
            predictions=run / PREDICTIONS,
            progress=progress,
        )
        kept = {"digest": loaded.digest, **found.to_record()}
        temporary = temporary_path(run / TEST)
        temporary.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        flush_file(temporary)
        commit(temporary, run / TEST)
    metrics: dict[str, Any] = kept["metrics"]
    return metrics


def _read_test(file: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and {"digest", "protocol", "metrics"} <= kept.keys() else None


def _rows(rows: list[Row], task: str, store: Store, split: str) -> list[Row]:
    if not rows:
        raise PlaceError(f'{store.path}: split "{split}" holds nothing to score {task} on; choose another --split')
    return rows


def _evaluation(
    task: str, run: str, store: Store, split: str, protocol: str, resampling: Resampling, findings: Findings
) -> Evaluation:
    return Evaluation(task, run, str(store.path), split, protocol, task, resampling, findings)  # type: ignore[arg-type]

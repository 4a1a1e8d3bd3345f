"""Fine-tuned runs, and predictions of other programs, on a store: what they say of each image, and how good it is."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from placecli.config import EvaluateConfig, Preset
from placecli.data.atomic import commit, flush_file, temporary_path
from placecli.data.store import Store, open_store
from placecli.engine.distributed import Ranks, barrier
from placecli.records import PlaceError, Row
from placecli.tasks.evaluate_predictions import KEYS, read_checked
from placecli.tasks.evaluation import Evaluation, Findings, Resampling
from placecli.tasks.leaks import clean_rows, training_store_of
from placecli.tasks.material import TunedMaterial
from placecli.tasks.predictions import match_predictions, write_predictions
from placecli.tasks.tuned import PREDICTIONS, TEST, TunedRun, load_tuned
from placecli.tasks.use import Prediction, Use
from placecli.tasks.uses import load_use

Progress = Callable[[str, int, int], None]

NEEDS: Final = {
    "classification": "images with labels",
    "segmentation": "images with masks",
    "detection": "images with boxes",
    "report-generation": "images with a report",
}
SPOKEN_OF: Final = "predictions"
"""How messages about predictions begin that do not know their file."""


def evaluate_tuned(
    run: TunedRun,
    store: Store,
    *,
    split: str,
    protocol: str,
    config: EvaluateConfig,
    predictions: Path | None = None,
    progress: Progress | None = None,
    keeps_material: bool = False,
) -> Evaluation:
    """Predict the split and score it. predictions: a file that the predictions are written to, one a line.

    Raises PlaceError for a split without anything to score, or with images that leaked into a clean score.
    """
    selected = run.use.select(store.select(split), run.preset)
    rows, left_out = _scored_rows(selected, run.task, store, split, protocol, run.path, config)
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
    material = TunedMaterial(store, rows, made, run.preset, run.about) if keeps_material else None
    return _evaluation(run.task, str(run.path), store, split, protocol, resampling, findings, left_out, material)


def evaluate_predictions(
    task: str,
    file: Path,
    store: Store,
    preset: Preset,
    *,
    split: str,
    protocol: str,
    about: dict[str, Any] | None = None,
    keeps_material: bool = False,
) -> Evaluation:
    """Score predictions that another program, or an earlier `place`, wrote for this split; the same code as for a run.

    about: of the run that made them; None takes labels from the preset or the store. Raises PlaceError naming the
    line of the file that is not readable, or as `evaluate_tuned` does.
    """
    use = _use_of_predictions(task)
    made = read_checked(file, task)
    selected = use.select(store.select(split), preset)
    rows, left_out = _scored_rows(selected, task, store, split, protocol, None, preset.evaluate)
    resampling = Resampling(preset.evaluate.bootstrap, preset.evaluate.seed)
    if about is None:
        about = use.about_predictions(made, rows, preset)
    try:
        findings = use.score(made, store, rows, preset, about, protocol, resampling)
    except PlaceError as error:  # what the score says of "predictions" is of this file
        said = str(error)
        raise PlaceError(f"{file}{said.removeprefix(SPOKEN_OF)}" if said.startswith(SPOKEN_OF) else said) from None
    material = None
    if keeps_material:
        material = TunedMaterial(store, rows, _matched(task, made, rows), preset, about)
    return _evaluation(task, str(file), store, split, protocol, resampling, findings, left_out, material)


def plan_predictions(task: str, file: Path, store: Store, preset: Preset, split: str) -> dict[str, Any]:
    """What an evaluation of a file of predictions would read; scores nothing. Raises PlaceError as reading it would."""
    use, rows = _use_of_predictions(task), store.select(split)
    return {
        "predictions": str(file),
        "task": task,
        "data": str(store.path),
        "split": split,
        "lines": len(read_checked(file, task)),
        "images": len(rows),
        "patients": len({row.patient_id for row in rows}),
        "images_scored": len(use.select(rows, preset)),
    }


def _use_of_predictions(task: str) -> Use:
    if task not in KEYS:
        raise PlaceError(f"--predictions goes with --task {', '.join(KEYS)}; {task} needs a --run")
    return load_use(task)


def _matched(task: str, made: list[Prediction], rows: list[Row]) -> list[Prediction]:
    """The prediction of each row, found as the score of the task finds it."""
    if task == "report-generation":
        from placecli.tasks.report_scores import match_reports

        return match_reports(made, rows)
    return match_predictions(made, rows, "image_id")


def check_test(task: str, store: Store, preset: Preset, protocol: str) -> None:
    """Raises PlaceError where a clean score of the test split would be refused, so that nothing is learnt in vain."""
    rows = load_use(task).select(store.select("test"), preset)
    if rows:
        _scored_rows(rows, task, store, "test", protocol, None, preset.evaluate)


def plan_tuned(run: Path, data: Path | None, split: str) -> dict[str, Any]:
    """What an evaluation of a tuned run would read; predicts nothing. Raises PlaceError as the evaluation itself would."""
    loaded = load_tuned(run)
    store = open_store(data) if data is not None else training_store_of(run)
    if store is None:
        raise PlaceError(f"{run}: its training store is not known or not there any more; name a store with --data")
    rows = store.select(split)
    return {
        "run": str(run),
        "task": loaded.task,
        "model": loaded.digest,
        "data": str(store.path),
        "split": split,
        "images": len(rows),
        "patients": len({row.patient_id for row in rows}),
        "images_scored": len(loaded.use.select(rows, loaded.preset)),
    }


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


def _scored_rows(
    rows: list[Row], task: str, store: Store, split: str, protocol: str, run: Path | None, config: EvaluateConfig
) -> tuple[list[Row], int]:
    """What is scored, and how many images were left out because they leaked."""
    kept = clean_rows(rows, store, split, task, run, config.leaks) if protocol == "clean" else rows
    if not kept:
        raise PlaceError(
            f'{store.path}: split "{split}" holds nothing to score {task} on, which needs {NEEDS[task]};'
            " choose another --split or --data"
        )
    return kept, len(rows) - len(kept)


def _evaluation(
    task: str,
    run: str,
    store: Store,
    split: str,
    protocol: str,
    resampling: Resampling,
    findings: Findings,
    left_out: int,
    material: TunedMaterial | None,
) -> Evaluation:
    if left_out:
        findings = dataclasses.replace(findings, counts={**findings.counts, "left_out_as_leaked": left_out})
    return Evaluation(
        task,  # type: ignore[arg-type]
        run,
        str(store.path),
        split,
        protocol,  # type: ignore[arg-type]
        task,
        resampling,
        findings,
        material,
    )

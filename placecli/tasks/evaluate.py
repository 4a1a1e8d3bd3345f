"""`place evaluate`: one run, one store, one task -> numbers with intervals by patient, and what chance would give."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from placecli.config import EvaluateConfig, ObjectiveConfig, load_preset
from placecli.data.store import open_store
from placecli.engine.checkpoint import CONFIG, load_model
from placecli.engine.distributed import choose_device
from placecli.records import PlaceError
from placecli.tasks.class_retrieval import evaluate_class_retrieval
from placecli.tasks.embed import Progress
from placecli.tasks.evaluate_tuned import evaluate_tuned
from placecli.tasks.evaluation import Evaluation, Protocol, Resampling, Task
from placecli.tasks.gallery import INDEX, open_gallery, training_store
from placecli.tasks.grounding import evaluate_grounding
from placecli.tasks.leaks import training_store_of
from placecli.tasks.material import PretrainedMaterial
from placecli.tasks.retrieval import evaluate_retrieval
from placecli.tasks.scores import trained_score
from placecli.tasks.tuned import is_tuned, load_tuned
from placecli.tasks.zero_shot import evaluate_zero_shot

logger = logging.getLogger(__name__)

TASKS: Final[tuple[Task, ...]] = ("retrieval", "zero-shot", "grounding")
"""Of a pre-trained run, where none is named."""


def tasks_of(run: Path, wanted: Task | None) -> tuple[Task, ...]:
    """The task that is wanted of a run, else its own: the one it was tuned for, or the three of a pre-trained run.

    Raises PlaceError where the run cannot do what is wanted.
    """
    if not is_tuned(run):
        if wanted in (None, *TASKS, "class-retrieval"):
            return TASKS if wanted is None else (wanted,)
        raise PlaceError(
            f"{run}: not tuned for {wanted}; make a run that is: `place finetune --task {wanted} --run {run}`"
        )
    own = load_preset(str(run / CONFIG)).finetune.task
    if wanted not in (None, own):
        raise PlaceError(f"{run}: tuned for {own}, not for {wanted}; leave out --task, or name another --run")
    assert own, "a tuned run names its task"
    return (own,)


def evaluate(
    run: Path,
    data: Path | None,
    task: Task,
    *,
    split: str = "test",
    protocol: Protocol = "clean",
    config: EvaluateConfig | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    keeps_material: bool = False,
) -> Evaluation:
    """Evaluate the model of a run folder on one split of a store ("all": every row).

    data: a store; None is the one that the run was trained on. config: None takes the run's. Protocol "compat" of a
    pre-trained run differs from "clean" in retrieval alone, where it does not merge equal reports. keeps_material: for
    a page of pictures. Raises PlaceError for a run or store that cannot be opened, an empty split, a store that holds
    nothing this task can be measured on, or images that leaked from train into a clean score of a tuned run.
    """
    if is_tuned(run):
        return _evaluate_tuned(run, data, split, protocol, config, device, progress, keeps_material)
    loaded = load_model(run, choose_device(device))
    store = open_store(data) if data is not None else training_store(loaded, "--data")
    chosen = _with_trained_scores(config or loaded.preset.evaluate, loaded.preset.pretrain.objective)
    if task != "grounding":  # boxes have labels of their own
        _warn_of_unknown(chosen.labels, store.labels(), store.path)
    gallery = open_gallery(loaded, store, split, cache=run / INDEX, batch_size=chosen.batch_size, progress=progress)
    resampling = Resampling(chosen.bootstrap, chosen.seed)
    match task:
        case "retrieval":
            findings = evaluate_retrieval(loaded, gallery, chosen, resampling, protocol, progress)
        case "zero-shot":
            findings = evaluate_zero_shot(loaded, gallery, chosen, resampling)
        case "grounding":
            findings = evaluate_grounding(loaded, gallery, chosen, resampling, progress)
        case "class-retrieval":
            findings = evaluate_class_retrieval(loaded, gallery, chosen, resampling, protocol, progress)
        case _:
            raise PlaceError(f'task "{task}": choose retrieval, zero-shot, grounding or class-retrieval')
    score = chosen.zero_shot_score if task == "zero-shot" else chosen.score
    material = PretrainedMaterial(loaded, gallery, chosen) if keeps_material else None
    return Evaluation(task, str(run), str(store.path), split, protocol, score, resampling, findings, material)


def _evaluate_tuned(
    run: Path,
    data: Path | None,
    split: str,
    protocol: Protocol,
    config: EvaluateConfig | None,
    device: str,
    progress: Progress | None,
    keeps_material: bool,
) -> Evaluation:
    loaded = load_tuned(run, choose_device(device))
    store = open_store(data) if data is not None else training_store_of(run)
    if store is None:
        raise PlaceError(f"{run}: its training store is not known or not there any more; name a store with --data")
    return evaluate_tuned(
        loaded,
        store,
        split=split,
        protocol=protocol,
        config=config or loaded.preset.evaluate,
        progress=progress,
        keeps_material=keeps_material,
    )


def _with_trained_scores(config: EvaluateConfig, objective: ObjectiveConfig) -> EvaluateConfig:
    names = ("score", "zero_shot_score")
    return config.model_copy(update={name: trained_score(getattr(config, name), objective) for name in names})


def _warn_of_unknown(wanted: Sequence[str], known: Sequence[str], data: Path) -> None:
    """A preset may name labels that this store lacks; a misspelt one must not vanish without a word."""
    for label in wanted if known else ():
        if label not in known:
            near = difflib.get_close_matches(label, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            logger.warning('evaluate.labels: %s has no label "%s"%s', data, label, hint)

"""`place evaluate`: one run, one store, one task -> numbers with intervals by patient, and what chance would give."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from placecli.config import EvaluateConfig, ObjectiveConfig
from placecli.data.store import open_store
from placecli.engine.checkpoint import load_model
from placecli.engine.distributed import choose_device
from placecli.records import PlaceError
from placecli.tasks.embed import Progress
from placecli.tasks.evaluation import Evaluation, Protocol, Resampling, Task
from placecli.tasks.gallery import INDEX, open_gallery, training_store
from placecli.tasks.grounding import evaluate_grounding
from placecli.tasks.retrieval import evaluate_retrieval
from placecli.tasks.scores import trained_score
from placecli.tasks.zero_shot import evaluate_zero_shot

logger = logging.getLogger(__name__)

TASKS: Final[tuple[Task, ...]] = ("retrieval", "zero-shot", "grounding")


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
) -> Evaluation:
    """Evaluate the model of a run folder on one split of a store ("all": every row).

    data: a store; None is the one that the run was trained on. config: None takes the run's. protocol "compat" differs
    from "clean" in retrieval alone, where it does not merge equal reports. Raises PlaceError for a run or store that
    cannot be opened, an empty split, or a store that holds nothing this task can be measured on.
    """
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
        case _:
            raise PlaceError(f'task "{task}": choose retrieval, zero-shot or grounding')
    score = chosen.zero_shot_score if task == "zero-shot" else chosen.score
    return Evaluation(task, str(run), str(store.path), split, protocol, score, resampling, findings)


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

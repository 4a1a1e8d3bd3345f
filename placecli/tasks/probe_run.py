"""A linear probe as a fine-tuned run: features once, a penalty chosen by the validate split, the layer kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from placecli.config import Preset
from placecli.engine import checkpoint
from placecli.engine.checkpoint import Best, TrainingState
from placecli.engine.distributed import Ranks, barrier
from placecli.engine.journal import Journal
from placecli.metrics.averages import macro
from placecli.metrics.classification import auroc
from placecli.tasks.classify import Classifier, image_size_of
from placecli.tasks.features import extract_features
from placecli.tasks.probe import Linear, fit_path
from placecli.tasks.targets import read_targets
from placecli.tasks.use import Examples

Progress = Callable[[str, int, int], None]


def fit_probe(
    model: nn.Module,
    preset: Preset,
    about: dict[str, Any],
    examples: Examples,
    run: Path,
    state: TrainingState,
    group: Ranks,
    cache: Path,
    progress: Progress,
) -> TrainingState:
    """Fit the layer of `model` in place, keep it in the run and return the finished state. Rank 0 works, all wait.

    The penalty with the best macro AUROC on the validate split is taken, the strongest among equals; without labels
    to validate on, the middle one.
    """
    if group.is_first:
        state = _fit(model, preset, about, examples, run, state, group, cache, progress)
    barrier(group)
    return state


def _fit(
    model: nn.Module,
    preset: Preset,
    about: dict[str, Any],
    examples: Examples,
    run: Path,
    state: TrainingState,
    group: Ranks,
    cache: Path,
    progress: Progress,
) -> TrainingState:
    assert isinstance(model, Classifier)
    config, labels = preset.finetune.classification, about["labels"]
    size = image_size_of(preset, config)
    # All labelled images at once: whatever share is learnt from next finds its features there.
    splits = {split: examples.store.select(split) for split in ("train", "validate")}
    features = {}
    for split, rows in splits.items():

        def advance(done: int, total: int, stage: str = f"features of {split}") -> None:
            progress(stage, done, total)

        whole = extract_features(model.encoder, examples.store, rows, size, group.device, cache, advance)
        places = {row.image_id: i for i, row in enumerate(rows)}
        chosen = examples.train if split == "train" else examples.validate
        features[split] = whole[[places[row.image_id] for row in chosen]]
    targets = read_targets(examples.train, labels, config)
    wanted = read_targets(examples.validate, labels, config)
    journal = Journal(run, 0, 0)
    found: list[tuple[float, float, Linear]] = []
    fitted = fit_path(features["train"], targets, config.penalties, is_exclusive=about["kind"] == "multi-class")
    for number, (penalty, linear) in enumerate(fitted, start=1):
        score = _score(linear, features["validate"], wanted)
        found.append((score, penalty, linear))
        journal.validation(number, 0, {"penalty": penalty, "auroc_macro": score})
        progress("probe", number, len(config.penalties))
    journal.commit()
    journal.close()
    score, penalty, linear = _choose(found)
    with torch.no_grad():
        model.head.weight.copy_(torch.from_numpy(linear.weight))
        model.head.bias.copy_(torch.from_numpy(linear.bias))
    digest = checkpoint.save_model(run, model)
    best = Best(score, 0, 0, digest, {"auroc_macro": score, "penalty": penalty})
    state = dataclasses.replace(state, finished="the probe is fitted", best=best)
    checkpoint.save_state(run, state, model, torch.optim.SGD(model.head.parameters(), lr=0.0))
    return state


def _score(linear: Linear, features: np.ndarray, wanted: np.ndarray) -> float:
    """Macro AUROC; minus infinity where no label has both kinds of cases."""
    has_both = ((wanted == 1).any(axis=0) & (wanted == 0).any(axis=0)).any() if len(wanted) else False
    return float(macro(auroc, wanted, linear.logits(features))) if has_both else -np.inf


def _choose(found: list[tuple[float, float, Linear]]) -> tuple[float, float, Linear]:
    if not np.isfinite([score for score, _, _ in found]).any():
        _, penalty, linear = found[len(found) // 2]
        return 0.0, penalty, linear
    return max(found, key=lambda each: each[0])  # the first among equals: penalties fall

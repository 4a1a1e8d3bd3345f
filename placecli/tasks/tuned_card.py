"""card.md of a fine-tuned run: what it was tuned for and on, what it reached and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from placecli import __version__
from placecli.config import ClassificationConfig, Preset
from placecli.data.atomic import write_file
from placecli.engine.checkpoint import CARD, TrainingState
from placecli.tasks.use import Examples
from placecli.tasks.uses import load_use


def write_tuned_card(
    run: Path,
    preset: Preset,
    state: TrainingState,
    about: Mapping[str, Any],
    metrics: Mapping[str, Any],
    examples: Examples,
    num_test: int,
) -> None:
    """Write the card; it names no patient, study or file of the data."""
    write_file(run / CARD, render_tuned_card(preset, state, about, metrics, examples, num_test).encode())


def render_tuned_card(
    preset: Preset,
    state: TrainingState,
    about: Mapping[str, Any],
    metrics: Mapping[str, Any],
    examples: Examples,
    num_test: int,
) -> str:
    """The card as Markdown."""
    tuned = preset.finetune
    section = load_use(tuned.task).section(preset)
    is_synthetic = preset.preprocess.release == "demo"
    start = f"a pre-trained run, weights SHA-256 `{tuned.start_digest}`" if tuned.start == "run" else tuned.start
    observes = isinstance(section, ClassificationConfig) and section.features == "observations"
    lines = [
        f"# Model card: {preset.name}, {tuned.task}",
        "",
        f"Made with `place finetune`, placecli {__version__}, torch {torch.__version__}.",
        "",
        "**Research only. Not a medical device; not for diagnosis or any clinical use.**",
        "",
        f"- starts from: {start}; encoder `{preset.pretrain.model.image_encoder}`, {section.tune}"
        + (", on the global feature and the V-PORs" if observes else ""),
        f"- data: release `{preset.preprocess.release}`"
        + (", **synthetic** radiographs, no real patient" if is_synthetic else "")
        + f", store digest `{state.store}`",
        f"- {len(examples.train):,} images learnt from (a share of {tuned.fraction:g} by {tuned.sampling}),"
        f" {len(examples.validate):,} that chose the model, {num_test:,} scored once",
        *([f"- labels: {', '.join(about['labels'])}"] if "labels" in about else []),
        f"- ended because: {state.finished}; seed {section.seed}; every setting is in `config.yaml`",
        "",
        "## Test split",
        "",
        *_table(metrics),
    ]
    return "\n".join(lines) + "\n"


def _table(metrics: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, entry in metrics.items():
        value, ends = entry["value"], entry.get("ci95")
        shown = "-" if value is None else f"{value:.4f}"
        interval = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "-"
        rows.append(f"| {name} | {shown} | {interval} | {entry['n']} |")
    if not rows:
        return ["The store has no test split for this task."]
    return ["| measure | value | 95 % interval by patient | n |", "|---|---|---|---|", *rows]

"""card.md: what a run is, what it was trained on, what it reached and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from placecli import __version__
from placecli.config import Preset, PretrainConfig
from placecli.data.atomic import write_file
from placecli.engine.checkpoint import CARD, TrainingState


def write_card(
    run: Path, preset: Preset, state: TrainingState, *, parameters: int, num_pairs: Mapping[str, int], device: str
) -> None:
    """Write the card of a finished run; it names no patient, study or file of the data.

    num_pairs: by split. device: what it was trained on.
    """
    write_file(run / CARD, render_card(preset, state, parameters, num_pairs, device).encode())


def render_card(
    preset: Preset, state: TrainingState, parameters: int, num_pairs: Mapping[str, int], device: str
) -> str:
    """The card as Markdown."""
    config, best = preset.pretrain, state.best
    is_synthetic = preset.preprocess.release == "demo"
    lines = [
        f"# Model card: {preset.name}",
        "",
        "A chest radiograph and report encoder pre-trained with `place pretrain` (PLACE: pathological-level alignment",
        f"and correlation exploration), placecli {__version__}, torch {torch.__version__}.",
        "",
        "**Research only. Not a medical device; not for diagnosis or any clinical use.**",
        "",
        "## Model",
        "",
        f"- {parameters:,} parameters; image encoder `{config.model.image_encoder}` ({config.model.image_weights}) at"
        f" {config.model.image_size} px; text encoder `{config.model.text_encoder}` ({config.model.text_weights})",
        f"- {config.model.num_queries} pathology queries, shared space of {config.model.embed_dim} dimensions",
        f"- weights: `model.safetensors`, SHA-256 `{best.digest if best else ''}`",
        "",
        "## Data",
        "",
        f"- release `{preset.preprocess.release}`"
        + (": **synthetic** radiographs and reports, no real patient" if is_synthetic else ""),
        *(f"- {split}: {num:,} image-report pairs" for split, num in num_pairs.items()),
        f"- store digest `{state.store}`",
        "",
        "## Training",
        "",
        *_training(config, state, device),
        "",
        "## Validation",
        "",
        *_validation(state),
        "",
        "Figures are on the validate split, which also chose this model; measure the test split with `place evaluate`.",
        "The model has seen only what its data holds: other scanners, views, ages and languages are unknown to it.",
    ]
    return "\n".join(lines) + "\n"


def _training(config: PretrainConfig, state: TrainingState, device: str) -> list[str]:
    objective = config.objective
    weights = (
        f"instance {objective.instance_weight:g}, PCMA {objective.pcma_weight:g}, CCE {objective.correlation_weight:g}"
    )
    return [
        f"- {state.step:,} steps of {config.batch_size * config.accumulate} pairs, ended because: {state.finished}",
        f"- objective weights: {weights}; baseline term: {objective.baseline}",
        f"- AdamW, learning rate {config.learning_rate:g}, weight decay {config.weight_decay:g}, seed {config.seed}",
        f"- device: {device}; every setting is in `config.yaml`, every step in `metrics.jsonl`",
    ]


def _validation(state: TrainingState) -> list[str]:
    best = state.best
    if best is None or not best.validation:
        return ["There was no validate split: the model of the last step was kept."]
    rows = [f"| {name} | {value:.4f} |" for name, value in best.validation.items()]
    return [f"Best epoch {best.epoch} (step {best.step:,}).", "", "| measure | value |", "|---|---|", *rows]

"""A fine-tuned run folder: what is in it beside what every run has, and how it is opened again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from placecli.config import Preset, load_saved_preset
from placecli.data.atomic import checksum
from placecli.engine import checkpoint
from placecli.engine.start import build_empty_encoder
from placecli.records import PlaceError
from placecli.tasks.use import Use
from placecli.tasks.uses import load_use

TASK: Final = checkpoint.TASK
PREDICTIONS: Final = "predictions.jsonl"
"""Of the test split, by the model that the run keeps."""
TEST: Final = "test.json"
"""What `place evaluate` says of those."""


@dataclass(frozen=True, slots=True)
class TunedRun:
    """A tuned model ready for use, in evaluation mode."""

    path: Path
    task: str
    use: Use
    model: nn.Module
    preset: Preset
    about: dict[str, Any]
    digest: str


def is_tuned(run: Path) -> bool:
    """Whether the folder is that of a fine-tuned run."""
    return (Path(run) / TASK).is_file()


def load_tuned(run: Path, device: torch.device | str = "cpu") -> TunedRun:
    """The best model of a fine-tuned run, from its folder alone. Raises PlaceError where a file is missing or damaged."""
    run = Path(run)
    if not is_tuned(run):
        raise PlaceError(f"{run}: no {TASK}; this is no fine-tuned run: make one with `place finetune`")
    for name in (checkpoint.CONFIG, checkpoint.MODEL):
        if not (run / name).exists():
            raise PlaceError(f"{run}: no {name}; the run is unfinished: run `place finetune` again")
    preset, about = load_saved_preset(run / checkpoint.CONFIG), read_about(run)
    use = load_use(preset.finetune.task)
    section = use.section(preset)
    encoder = build_empty_encoder(preset.pretrain.model, section.image_size)
    model = use.build(preset, about, encoder)
    checkpoint.load_weights(model, run / checkpoint.MODEL)
    return TunedRun(
        run, preset.finetune.task, use, model.to(device).eval(), preset, about, checksum(run / checkpoint.MODEL)
    )


def read_about(run: Path) -> dict[str, Any]:
    """Content of task.json."""
    try:
        about = json.loads((run / TASK).read_text("utf-8"))
    except (OSError, ValueError):
        about = None
    if not isinstance(about, dict):
        raise PlaceError(f"{run / TASK}: missing or not JSON; the run folder is damaged")
    return about

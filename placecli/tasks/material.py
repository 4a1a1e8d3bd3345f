"""What an evaluation leaves for a page of pictures: the model and its vectors, or predictions with their rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from placecli.config import EvaluateConfig, Preset
from placecli.data.store import Store
from placecli.engine.checkpoint import LoadedRun
from placecli.records import Row
from placecli.tasks.gallery import Gallery
from placecli.tasks.use import Prediction


@dataclass(frozen=True, slots=True)
class PretrainedMaterial:
    """A pre-trained run and the split as it sees it."""

    run: LoadedRun
    gallery: Gallery
    config: EvaluateConfig


@dataclass(frozen=True, slots=True)
class TunedMaterial:
    """Predictions of a use, in the order of the rows that they are scored on."""

    store: Store
    rows: list[Row]
    predictions: list[Prediction]
    preset: Preset
    about: dict[str, Any]

"""What a use of an encoder is to the command that tunes it: each of classify, segment, detect and report offers one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from placecli.config import Preset, TuningConfig
from placecli.data.store import Store
from placecli.engine.distributed import Ranks
from placecli.engine.encoders import ImageEncoder
from placecli.engine.training import Learner
from placecli.records import Row
from placecli.tasks.evaluation import Findings, Resampling

Prediction = dict[str, Any]
"""What a tuned model says of one image or study: plain values, ready for JSON, with its "image_id"."""

Advance = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True, slots=True)
class Examples:
    """The rows that are learnt from and those that choose the model."""

    store: Store
    train: list[Row]
    validate: list[Row]
    pool: list[Row] = field(default_factory=list)
    """All rows that `train` is a share of; empty where it is no share."""

    def population(self) -> list[Row]:
        """What labels are taken from, so that every share and seed is scored on the same ones."""
        return self.pool or self.train


class Use(Protocol):
    """One use. `about` is what its model needs to know of the training data, JSON, kept in the run as task.json."""

    def section(self, preset: Preset) -> TuningConfig:
        """The sub-section of the preset that says how it is tuned."""

    def select(self, rows: Sequence[Row], preset: Preset) -> list[Row]:
        """The rows that can be learnt from or scored."""

    def describe(self, examples: Examples, preset: Preset) -> dict[str, Any]:
        """`about`. Raises PlaceError in one line where the store holds nothing for this use."""

    def build(self, preset: Preset, about: dict[str, Any], encoder: ImageEncoder) -> nn.Module:
        """The model around the encoder, what is new in it with weights from torch's generator."""

    def learner(
        self, model: nn.Module, preset: Preset, about: dict[str, Any], examples: Examples, ranks: Ranks
    ) -> Learner:
        """What the training loop trains."""

    def predict(
        self,
        model: nn.Module,
        preset: Preset,
        about: dict[str, Any],
        store: Store,
        rows: Sequence[Row],
        device: torch.device,
        advance: Advance,
    ) -> Iterator[Prediction]:
        """One prediction for each row, in their order; the model is in evaluation mode."""

    def about_predictions(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], preset: Preset
    ) -> dict[str, Any]:
        """`about` for predictions that no run of ours made, from what they hold."""

    def score(
        self,
        predictions: Sequence[Prediction],
        store: Store,
        rows: Sequence[Row],
        preset: Preset,
        about: dict[str, Any],
        protocol: str,
        resampling: Resampling,
    ) -> Findings:
        """Metrics of predictions, from this model or another, of these rows. Raises PlaceError for one that is missing."""

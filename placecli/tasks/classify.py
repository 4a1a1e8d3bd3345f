"""Classification: a linear layer on the encoder's global feature, or on that and the V-PORs, by probe, by steps or with
the encoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from placecli.config import ClassificationConfig, Preset
from placecli.data.store import Store
from placecli.engine.distributed import Ranks
from placecli.engine.encoders import ImageEncoder
from placecli.engine.observing import ObservingImageEncoder
from placecli.engine.step import Autocast
from placecli.metrics.averages import macro
from placecli.metrics.classification import auroc
from placecli.records import PlaceError, Row
from placecli.tasks.classification_scores import score_classification
from placecli.tasks.evaluation import Findings, Resampling
from placecli.tasks.image_batches import Images, in_batches, read_images
from placecli.tasks.targets import choose_labels, read_targets
from placecli.tasks.use import Advance, Examples, Prediction


class Classifier(nn.Module):
    """logits [B, L] of images [B, 1, S, S]: a linear layer on the encoder's global feature [B, G].

    With `is_frozen` the encoder takes no gradient and stays in evaluation mode also while the layer trains, so that
    no batch statistic moves.
    """

    def __init__(self, encoder: ImageEncoder | ObservingImageEncoder, num_labels: int, *, is_frozen: bool) -> None:
        super().__init__()
        self.encoder, self.is_frozen = encoder, is_frozen
        self.head = nn.Linear(encoder.global_width, num_labels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        if is_frozen:
            encoder.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            features = self.encoder(images)[0]
        logits: Tensor = self.head(features)
        return logits.float()

    def train(self, mode: bool = True) -> Classifier:
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
        return self


class ClassificationLoss(nn.Module):
    """Mean cross-entropy of (images [B, 1, S, S], targets [B, L]); nan targets are left out."""

    def __init__(self, model: Classifier, *, is_exclusive: bool) -> None:
        super().__init__()
        self.model, self.is_exclusive = model, is_exclusive

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, targets = batch
        logits, known = self.model(images), ~targets.isnan()
        if self.is_exclusive:
            rows = known.all(dim=1)
            loss = F.cross_entropy(logits[rows], targets[rows].argmax(dim=1), reduction="sum") / rows.sum().clamp(min=1)
        else:
            cells = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(), reduction="none")
            loss = (cells * known).sum() / known.sum().clamp(min=1)
        return {"loss": loss}


@dataclass
class ClassificationLearner:
    """A `Learner` over labelled images; the model is trained in place and chosen by macro AUROC."""

    model: Classifier
    config: ClassificationConfig
    image_size: int
    labels: tuple[str, ...]
    examples: Examples
    ranks: Ranks

    @property
    def may_leave_unused(self) -> bool:
        """A convolutional network has weights for its patches alone, which the global feature does not pass."""
        return not self.model.is_frozen and bool(self.model.encoder.only_for_patches)

    @cached_property
    def objective(self) -> ClassificationLoss:
        """Cross-entropy, softmax over the labels where they exclude each other."""
        return ClassificationLoss(self.model, is_exclusive=self.config.kind == "multi-class")

    @cached_property
    def targets(self) -> np.ndarray:
        """float64 [n, L] of the train rows."""
        return read_targets(self.examples.train, self.labels, self.config)

    @property
    def rows(self) -> Sequence[Row]:
        """The row of each example."""
        return self.examples.train

    @property
    def groups(self) -> np.ndarray:
        """Any images may share a batch."""
        return np.arange(len(self.examples.train))

    def read(self, indices: np.ndarray, part: slice, step: int, micro_batch: int) -> tuple[Images, Tensor]:
        """Images and targets of this rank's share."""
        rows = [self.examples.train[int(index)] for index in indices]
        images = read_images(self.examples.store, rows, part, self.config, step, micro_batch)
        return images, torch.from_numpy(self.targets[indices[part]]).float()

    def prepare(self, stored: tuple[Images, Tensor]) -> tuple[Tensor, Tensor]:
        """Both on the device."""
        images, targets = stored
        return images.prepared(self.image_size, self.ranks.device), targets.to(self.ranks.device)

    def can_validate(self) -> bool:
        """Whether some label has both kinds of cases in the validate split."""
        wanted = read_targets(self.examples.validate, self.labels, self.config)
        return bool(((wanted == 1).any(axis=0) & (wanted == 0).any(axis=0)).any())

    def validate(self, autocast: Autocast) -> tuple[float, dict[str, float]]:
        """Macro AUROC over the validate split."""
        wanted = read_targets(self.examples.validate, self.labels, self.config)
        with autocast():
            logits = predict_logits(
                self.model, self.examples.store, self.examples.validate, self.image_size, self.ranks.device
            )
        value = float(macro(auroc, wanted, logits))
        return value, {"auroc_macro": value}


class Classification:
    """The use; see `tasks.use.Use`. A prediction is {"image_id", "scores": {label: probability}}."""

    def section(self, preset: Preset) -> ClassificationConfig:
        return preset.finetune.classification

    def select(self, rows: Sequence[Row], preset: Preset) -> list[Row]:
        """Labelled rows."""
        return [row for row in rows if row.labels]

    def describe(self, examples: Examples, preset: Preset) -> dict[str, Any]:
        """{"labels": [...], "kind"}."""
        config = self.section(preset)
        labels = choose_labels(examples.population(), config)
        if config.kind == "multi-class" and len(labels) < 2:
            raise PlaceError("finetune.classification.kind multi-class needs at least two labels")
        return {"labels": list(labels), "kind": config.kind}

    def build(self, preset: Preset, about: dict[str, Any], encoder: ImageEncoder) -> Classifier:
        config = self.section(preset)
        model = preset.pretrain.model
        read = encoder if config.features == "global" else ObservingImageEncoder(encoder, model)
        return Classifier(read, len(about["labels"]), is_frozen=config.tune != "full")

    def learner(
        self, model: nn.Module, preset: Preset, about: dict[str, Any], examples: Examples, ranks: Ranks
    ) -> ClassificationLearner:
        assert isinstance(model, Classifier)
        config = self.section(preset)
        return ClassificationLearner(
            model, config, image_size_of(preset, config), tuple(about["labels"]), examples, ranks
        )

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
        size, done = image_size_of(preset, self.section(preset)), 0
        for chosen, images in in_batches(store, rows, size, device):
            with torch.inference_mode():
                logits = model(images).double()
            scores = logits.softmax(dim=1) if about["kind"] == "multi-class" else logits.sigmoid()
            for row, values in zip(chosen, scores.cpu().tolist(), strict=True):
                yield {"image_id": row.image_id, "scores": dict(zip(about["labels"], values, strict=True))}
            done += len(chosen)
            advance(done, len(rows))

    def about_predictions(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], preset: Preset
    ) -> dict[str, Any]:
        """The labels that the first prediction scores."""
        labels = sorted(predictions[0].get("scores", ())) if predictions else []
        return {"labels": labels, "kind": self.section(preset).kind}

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
        return score_classification(predictions, rows, tuple(about["labels"]), self.section(preset), resampling)


def image_size_of(preset: Preset, config: Any) -> int:
    """Side of the images that the tuned encoder reads."""
    return int(config.image_size or preset.pretrain.model.image_size)


@torch.inference_mode()
def predict_logits(
    model: nn.Module, store: Store, rows: Sequence[Row], image_size: int, device: torch.device
) -> np.ndarray:
    """float64 [n, L] of the rows, the model in evaluation mode for the time of it."""
    was_training = model.training
    model.eval()
    parts = [model(images).double().cpu().numpy() for _, images in in_batches(store, rows, image_size, device)]
    model.train(was_training)
    return np.concatenate(parts)

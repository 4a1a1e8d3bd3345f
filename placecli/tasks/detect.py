"""Detection: the boxes of findings, by a detector of mmdet on the encoder's maps, trained by our loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from placecli.config import DetectionConfig, Preset
from placecli.data.store import Store
from placecli.engine.detection.configuration import compose
from placecli.engine.detection.detector import BoxTargets, Detector, require_mmdet
from placecli.engine.detection.maps import map_shapes
from placecli.engine.distributed import Ranks
from placecli.engine.encoders import ImageEncoder
from placecli.engine.start import build_empty_encoder
from placecli.engine.step import Autocast
from placecli.metrics.detection import match, mean_average_precision
from placecli.records import PlaceError, Row
from placecli.tasks.classify import image_size_of
from placecli.tasks.detection_boxes import (
    box_labels,
    known_rows,
    place_boxes,
    predicted_boxes,
    read_boxes,
    to_prediction,
    true_boxes,
)
from placecli.tasks.detection_scores import score_detection
from placecli.tasks.evaluation import Findings, Resampling
from placecli.tasks.image_batches import Images, in_batches, read_images
from placecli.tasks.use import Advance, Examples, Prediction

Batch: TypeAlias = tuple[Tensor, list[BoxTargets]]


class DetectionLoss(nn.Module):
    """ "loss", the sum of mmdet's losses of (images [B, 1, S, S], targets of each), and each of them by name."""

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model(*batch)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}


@dataclass
class DetectionLearner:
    """A `Learner` over images with boxes; the model is trained in place and chosen by COCO mAP."""

    model: Detector
    config: DetectionConfig
    image_size: int
    labels: tuple[str, ...]
    examples: Examples
    ranks: Ranks
    may_leave_unused: bool = True
    """A convolutional encoder's projection to patches, which the detector does without."""

    @cached_property
    def objective(self) -> DetectionLoss:
        """mmdet's losses."""
        return DetectionLoss(self.model)

    @property
    def rows(self) -> Sequence[Row]:
        """The row of each example."""
        return self.examples.train

    @property
    def groups(self) -> np.ndarray:
        """Any images may share a batch."""
        return np.arange(len(self.examples.train))

    def read(self, indices: np.ndarray, part: slice, step: int, micro_batch: int) -> tuple[Images, list[BoxTargets]]:
        """Images and boxes of this rank's share, both moved by the same draw."""
        rows = [self.examples.train[int(index)] for index in indices]
        store = self.examples.store
        images = read_images(store, rows, part, self.config, step, micro_batch)
        moves = images.augmentation
        targets = [
            place_boxes(
                *read_boxes(row, self.labels, store.size),
                self.image_size,
                None if moves is None else moves.part(slice(i, i + 1)),
                self.config.turned_box,
            )
            for i, row in enumerate(rows[part])
        ]
        return images, targets

    def prepare(self, stored: tuple[Images, list[BoxTargets]]) -> Batch:
        """Both on the device."""
        images, targets = stored
        device = self.ranks.device
        moved = [BoxTargets(target.boxes.to(device), target.labels.to(device)) for target in targets]
        return images.prepared(self.image_size, device), moved

    def can_validate(self) -> bool:
        """Whether there is a box in the validate split."""
        return any(len(true_boxes(row, self.labels).boxes) for row in self.examples.validate)

    def validate(self, autocast: Autocast) -> tuple[float, dict[str, float]]:
        """COCO mAP over the validate split, every image counted, and that at an overlap of one half."""
        store, rows, device = self.examples.store, self.examples.validate, self.ranks.device
        was_training = self.model.training
        self.model.eval()
        with autocast():
            made = list(_predict(self.model, store, rows, self.labels, self.image_size, device))
        self.model.train(was_training)
        found = [predicted_boxes(prediction, self.labels) for prediction in made]
        wanted = [true_boxes(row, self.labels) for row in rows]
        value = mean_average_precision(match(found, wanted))
        return value, {"map": value, "map_50": mean_average_precision(match(found, wanted, (0.5,)))}


class Detection:
    """The use; see `tasks.use.Use`. A prediction is {"image_id", "boxes": [{"label", "x", "y", "width", "height", "score"}]}."""

    def section(self, preset: Preset) -> DetectionConfig:
        return preset.finetune.detection

    def select(self, rows: Sequence[Row], preset: Preset) -> list[Row]:
        """Rows of which it is known where the boxes are; see `detection_boxes.known_rows`."""
        return known_rows(rows, self.section(preset))

    def describe(self, examples: Examples, preset: Preset) -> dict[str, Any]:
        """{"labels": [...], "mmdet": the configuration that the detector is built from, in mmdet's form}."""
        require_mmdet()
        config = self.section(preset)
        # Of the whole split, not of the share that is learnt from: every share and seed is scored on the same labels.
        labels = box_labels(examples.store.select("train"), config)
        if not any(box.label in labels for row in examples.train for box in row.boxes):
            raise PlaceError(
                f"{examples.store.path}: no image of the train split has a box"
                + (f" of {', '.join(labels)}" if labels else "")
                + "; check finetune.detection.labels, or learn from another store"
            )
        size = image_size_of(preset, config)
        encoder = build_empty_encoder(preset.pretrain.model, size)
        shapes = map_shapes(encoder, size, config.finest_stride)
        return {"labels": list(labels), "mmdet": compose(preset.pretrain.model, size, shapes, len(labels), config)}

    def build(self, preset: Preset, about: dict[str, Any], encoder: ImageEncoder) -> Detector:
        config = self.section(preset)
        return Detector(
            encoder,
            about.get("mmdet", {}),
            is_frozen=config.tune == "frozen",
            adapts_statistics=config.freeze == "weights",
        )

    def learner(
        self, model: nn.Module, preset: Preset, about: dict[str, Any], examples: Examples, ranks: Ranks
    ) -> DetectionLearner:
        assert isinstance(model, Detector)
        config = self.section(preset)
        return DetectionLearner(model, config, image_size_of(preset, config), tuple(about["labels"]), examples, ranks)

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
        assert isinstance(model, Detector)
        size = image_size_of(preset, self.section(preset))
        for done, prediction in enumerate(_predict(model, store, rows, about["labels"], size, device), start=1):
            yield prediction
            advance(done, len(rows))

    def about_predictions(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], preset: Preset
    ) -> dict[str, Any]:
        """The labels of the preset, or those of the rows' boxes."""
        return {"labels": list(box_labels(rows, self.section(preset)))}

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
        learnt_from = known_rows(store.select("train"), self.section(preset))
        return score_detection(predictions, rows, tuple(about["labels"]), protocol, resampling, learnt_from)


def _predict(
    model: Detector, store: Store, rows: Sequence[Row], labels: Sequence[str], size: int, device: torch.device
) -> Iterator[Prediction]:
    """One prediction a row; the model is in evaluation mode."""
    for chosen, images in in_batches(store, rows, size, device):
        for row, found in zip(chosen, model.detect(images), strict=True):
            yield to_prediction(row.image_id, found, labels, store.size / size, store.size)

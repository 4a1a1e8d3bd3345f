"""Segmentation: a decoder on the maps of the encoder, one mask an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from placecli.config import Preset, SegmentationConfig
from placecli.data.store import Store
from placecli.engine.augment import apply_mask, prepare_mask
from placecli.engine.builtin import BuiltinImageEncoder
from placecli.engine.decoders import Decoder, build_decoder
from placecli.engine.distributed import Ranks
from placecli.engine.encoders import ImageEncoder
from placecli.engine.step import Autocast
from placecli.metrics.segmentation import Overlap, join
from placecli.records import PlaceError, Row
from placecli.tasks.classify import image_size_of
from placecli.tasks.evaluation import Findings, Resampling
from placecli.tasks.image_batches import Images, in_batches, read_images
from placecli.tasks.segmentation_baseline import best_constant_mask
from placecli.tasks.segmentation_losses import dice_loss, focal_dice_loss
from placecli.tasks.segmentation_runs import encode_runs
from placecli.tasks.segmentation_scores import measure_rows, score_segmentation, validation_values
from placecli.tasks.use import Advance, Examples, Prediction


class Segmenter(nn.Module):
    """logits [B, 1, S, S] of images [B, 1, S, S]: a decoder on the encoder's maps.

    With `is_frozen` the encoder takes no gradient and stays in evaluation mode also while the decoder trains;
    `adapts_statistics` leaves its BatchNorm in training mode all the same, as the field's code does by oversight.
    """

    def __init__(
        self,
        encoder: ImageEncoder,
        image_size: int,
        decoder: Decoder,
        width: int,
        *,
        is_frozen: bool,
        adapts_statistics: bool = False,
    ) -> None:
        super().__init__()
        self.encoder, self.is_frozen, self.adapts_statistics = encoder, is_frozen, adapts_statistics
        self.decoder = build_decoder(decoder, encoder, image_size, width)
        if is_frozen:
            encoder.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            maps = self.decoder.read(self.encoder, images)
        logits: Tensor = self.decoder(images, maps)
        return logits.float()

    def train(self, mode: bool = True) -> Segmenter:
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
            if mode and self.adapts_statistics:
                for part in self.encoder.modules():
                    if isinstance(part, nn.BatchNorm2d):
                        part.train()
        return self


class SegmentationLoss(nn.Module):
    """The loss of (images [B, 1, S, S], masks [B, 1, S, S] in 0 to 1)."""

    def __init__(self, model: Segmenter, *, is_focal: bool) -> None:
        super().__init__()
        self.model, self.is_focal = model, is_focal

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        images, masks = batch
        logits = self.model(images)
        return {"loss": focal_dice_loss(logits, masks) if self.is_focal else dice_loss(logits, masks)}


@dataclass
class SegmentationLearner:
    """A `Learner` over images with masks; the model is trained in place and chosen by pooled Dice."""

    model: Segmenter
    config: SegmentationConfig
    image_size: int
    examples: Examples
    ranks: Ranks

    @property
    def may_leave_unused(self) -> bool:
        """The projection to patches is not read, and some timm networks have a normalisation behind their maps."""
        return not (self.model.is_frozen or isinstance(self.model.encoder, BuiltinImageEncoder))

    @cached_property
    def objective(self) -> SegmentationLoss:
        """The loss that the configuration names."""
        return SegmentationLoss(self.model, is_focal=self.config.loss == "focal-dice")

    @property
    def rows(self) -> Sequence[Row]:
        """The row of each example."""
        return self.examples.train

    @property
    def groups(self) -> np.ndarray:
        """Any images may share a batch."""
        return np.arange(len(self.examples.train))

    def read(self, indices: np.ndarray, part: slice, step: int, micro_batch: int) -> tuple[Images, Tensor]:
        """Images and their masks, uint8 [B, 1, S, S], of this rank's share."""
        rows = [self.examples.train[int(index)] for index in indices]
        images = read_images(self.examples.store, rows, part, self.config, step, micro_batch)
        return images, torch.from_numpy(self.examples.store.masks(rows[part])).unsqueeze(1)

    def prepare(self, stored: tuple[Images, Tensor]) -> tuple[Tensor, Tensor]:
        """Both on the device, under the same augmentation."""
        images, masks = stored
        on_device = masks.to(self.ranks.device, non_blocking=True)
        if images.augmentation is None:
            wanted = prepare_mask(on_device, self.image_size)
        else:
            wanted = apply_mask(on_device, self.image_size, images.augmentation)
        return images.prepared(self.image_size, self.ranks.device), wanted

    def can_validate(self) -> bool:
        """Whether anything is marked in the validate split."""
        return self._has_positive

    def validate(self, autocast: Autocast) -> tuple[float, dict[str, float]]:
        """Pooled Dice over the validate split, and Dice over positives and all."""
        with autocast():
            overlap = measure_model(
                self.model,
                self.examples.store,
                self.examples.validate,
                self.image_size,
                self.config.threshold,
                self.ranks.device,
            )
        values = validation_values(overlap)
        return values["dice_pooled"], values

    @cached_property
    def _has_positive(self) -> bool:
        return any(self.examples.store.masks([row]).any() for row in self.examples.validate)


class Segmentation:
    """The use; see `tasks.use.Use`. A prediction is {"image_id", "size": [S, S], "counts": [...]}."""

    def section(self, preset: Preset) -> SegmentationConfig:
        return preset.finetune.segmentation

    def select(self, rows: Sequence[Row], preset: Preset) -> list[Row]:
        """Rows that somebody looked at; their mask may be empty."""
        return [row for row in rows if row.mask_row >= 0]

    def describe(self, examples: Examples, preset: Preset) -> dict[str, Any]:
        """{"constant_mask": run lengths}: the baseline, from what is learnt from."""
        constant = best_constant_mask(examples.store, examples.train)
        if constant is None:
            raise PlaceError(
                f"{examples.store.path}: every mask that would be learnt from is empty; raise --fraction or"
                " `place preprocess` a release with masks (docs/data.md says which)"
            )
        return {"constant_mask": encode_runs(constant)}

    def build(self, preset: Preset, about: dict[str, Any], encoder: ImageEncoder) -> Segmenter:
        config = self.section(preset)
        return Segmenter(
            encoder,
            image_size_of(preset, config),
            config.decoder,
            config.width,
            is_frozen=config.tune == "frozen",
            adapts_statistics=config.freeze == "weights",
        )

    def learner(
        self, model: nn.Module, preset: Preset, about: dict[str, Any], examples: Examples, ranks: Ranks
    ) -> SegmentationLearner:
        assert isinstance(model, Segmenter)
        config = self.section(preset)
        return SegmentationLearner(model, config, image_size_of(preset, config), examples, ranks)

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
        config, done = self.section(preset), 0
        size = image_size_of(preset, config)
        for chosen, masks in predict_masks(model, store, rows, size, config.threshold, device):
            for row, mask in zip(chosen, masks, strict=True):
                yield {"image_id": row.image_id, **encode_runs(mask)}
            done += len(chosen)
            advance(done, len(rows))

    def about_predictions(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], preset: Preset
    ) -> dict[str, Any]:
        """Nothing: the baseline then comes from the train split of the store."""
        return {}

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
        return score_segmentation(predictions, store, rows, self.section(preset), about, protocol, resampling)


def predict_masks(
    model: nn.Module, store: Store, rows: Sequence[Row], image_size: int, threshold: float, device: torch.device
) -> Iterator[tuple[Sequence[Row], NDArray[np.bool_]]]:
    """The rows in their order, batch by batch, with their masks bool [n, S, S] in the store's frame.

    Logits are brought to that frame by bilinear interpolation before they are cut.
    """
    frame = (store.size, store.size)
    for chosen, images in in_batches(store, rows, image_size, device):
        with torch.inference_mode():
            logits = model(images).float()
            inside = F.interpolate(logits, size=frame, mode="bilinear", align_corners=False).sigmoid() > threshold
        yield chosen, inside[:, 0].cpu().numpy()


def measure_model(
    model: nn.Module, store: Store, rows: Sequence[Row], image_size: int, threshold: float, device: torch.device
) -> Overlap:
    """Pixel numbers of the rows, padding left out, the model in evaluation mode for the time of it."""
    was_training = model.training
    model.eval()
    parts = [
        measure_rows(masks, store, chosen, is_clipped=True)
        for chosen, masks in predict_masks(model, store, rows, image_size, threshold, device)
    ]
    model.train(was_training)
    return join(parts)

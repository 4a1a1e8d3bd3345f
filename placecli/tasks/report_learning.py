"""What the training loop trains when reports are to be written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from placecli.config import ReportGenerationConfig
from placecli.engine.distributed import Ranks
from placecli.engine.step import Autocast
from placecli.metrics import bleu, cider
from placecli.records import Row
from placecli.tasks.image_batches import Images
from placecli.tasks.report_rarity import Rarity
from placecli.tasks.report_scores import words_for_score
from placecli.tasks.report_telling import decode_greedily
from placecli.tasks.report_text import Vocabulary
from placecli.tasks.report_views import Patches, augmented, find_views, join_views, views_of
from placecli.tasks.report_writer import ReportBatch, ReportLoss, ReportWriter, Views, summed_loss
from placecli.tasks.use import Examples

VALIDATION_BATCH = 32


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A share of a batch on the CPU: images as stored, or kept patches; rows of its studies; tokens int64 [B, T] and
    weights float32 [B, T], if they count differently."""

    images: Images | None
    patches: Views | None
    studies: list[tuple[Row, ...]]
    tokens: Tensor
    weights: Tensor | None


@dataclass
class ReportLearner:
    """A `Learner` over studies with reports; the model is trained in place."""

    model: ReportWriter
    config: ReportGenerationConfig
    image_size: int
    vocabulary: Vocabulary
    examples: Examples
    ranks: Ranks
    may_leave_unused: bool = False

    @cached_property
    def objective(self) -> ReportLoss:
        """Cross-entropy of the next word."""
        mean_words = float(np.mean([len(numbers) - 1 for numbers in self.tokens]))
        return ReportLoss(self.model, max(mean_words, 1.0), self.ignored)

    @cached_property
    def tokens(self) -> list[list[int]]:
        """Numbers of each train report."""
        return [self.vocabulary.encode(row, self.config.max_tokens) for row in self.examples.train]

    @cached_property
    def rarity(self) -> Rarity | None:
        """How much words count by their sentence; None: all alike."""
        if self.config.rarity == 0 or self.config.cleaning == "compat":
            return None
        return Rarity.of_reports(self.tokens, self.vocabulary, self.config.rarity)

    @cached_property
    def ignored(self) -> tuple[int, ...]:
        """Padding, and rare words unless they are to be written as such."""
        pad = self.vocabulary.special.pad
        return (pad,) if self.config.cleaning == "compat" else (pad, self.vocabulary.unknown)

    @cached_property
    def studies(self) -> list[tuple[Row, ...]]:
        """Images of each train study."""
        return find_views(self.examples.store, self.examples.train, self.config.views)

    @cached_property
    def validate_studies(self) -> list[tuple[Row, ...]]:
        """Images of each validate study."""
        return find_views(self.examples.store, self.examples.validate, self.config.views)

    @cached_property
    def patches(self) -> Patches | None:
        """Patches of all images, where the encoder is frozen and nothing is augmented; None: they are computed anew."""
        if not self.model.is_frozen or self.config.augment > 0:
            return None
        studies = [*self.studies, *self.validate_studies]
        return Patches.compute(self.model, self.examples.store, studies, self.image_size, self.ranks.device)

    @property
    def rows(self) -> Sequence[Row]:
        """The row of each example."""
        return self.examples.train

    @property
    def groups(self) -> np.ndarray:
        """Equal for studies of one patient."""
        names = [row.patient_id for row in self.examples.train]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    def read(self, indices: np.ndarray, part: slice, step: int, micro_batch: int) -> StoredBatch:
        """Images or patches, and reports, of this rank's share."""
        studies = [self.studies[int(index)] for index in indices]
        tokens, weights = self._pad([self.tokens[int(index)] for index in indices[part]])
        if self.patches is not None:
            return StoredBatch(None, self.patches.of(studies[part], self.config.views), studies[part], tokens, weights)
        images = augmented(self.examples.store, studies, part, self.config, step, micro_batch)
        return StoredBatch(images, None, studies[part], tokens, weights)

    def prepare(self, stored: StoredBatch) -> ReportBatch:
        """All on the device."""
        device = self.ranks.device
        tokens = stored.tokens.to(device)
        weights = None if stored.weights is None else stored.weights.to(device)
        if stored.patches is not None:
            return ReportBatch(_to(stored.patches, device), tokens, weights)
        assert stored.images is not None
        images = stored.images.prepared(self.image_size, device)
        joined, present = join_views(images, stored.studies, self.config.views)
        return ReportBatch(Views(joined, None, present), tokens, weights)

    def can_validate(self) -> bool:
        """Whether there are validate studies."""
        return bool(self.examples.validate)

    def validate(self, autocast: Autocast) -> tuple[float, dict[str, float]]:
        """Loss per word over the validate split, weighed as in training; BLEU-4 and CIDEr-D of greedy reports of a fixed
        part of it."""
        was_training = self.model.training
        self.model.eval()
        with torch.no_grad(), autocast():
            values = {"loss": self._loss(), **self._written()}
        self.model.train(was_training)
        chosen = self.config.select_by
        return (-values["loss"] if chosen == "loss" else values[chosen]), values

    def _loss(self) -> float:
        total, count = 0.0, 0.0
        for rows, views in self._batches(self.examples.validate, self.validate_studies):
            tokens, weights = self._pad([self.vocabulary.encode(row, self.config.max_tokens) for row in rows])
            device = self.ranks.device
            batch = ReportBatch(views, tokens.to(device), None if weights is None else weights.to(device))
            summed, counted = summed_loss(self.model, batch, self.ignored)
            total, count = total + float(summed), count + float(counted)
        return total / max(count, 1.0)

    def _written(self) -> dict[str, float]:
        num = min(self.config.validate_reports, len(self.examples.validate))
        chosen = [round(place) for place in np.linspace(0, len(self.examples.validate) - 1, num)]
        rows = [self.examples.validate[i] for i in chosen]
        written: list[str] = []
        for _, views in self._batches(rows, [self.validate_studies[i] for i in chosen]):
            written += decode_greedily(self.model, self.vocabulary, self.config, views)
        candidates, references = words_for_score(written, rows, self.vocabulary, self.config)
        return {
            "bleu_4": float(bleu.bleu(bleu.count(candidates, references))),
            "cider": float(cider.cider_d(cider.count(candidates, references))),
        }

    def _batches(
        self, rows: Sequence[Row], studies: Sequence[tuple[Row, ...]]
    ) -> Iterator[tuple[Sequence[Row], Views]]:
        num, device = self.config.views, self.ranks.device
        for first in range(0, len(rows), VALIDATION_BATCH):
            part = studies[first : first + VALIDATION_BATCH]
            if self.patches is not None:
                views = _to(self.patches.of(part, num), device)
            else:
                views = views_of(self.examples.store, part, num, self.image_size, device)
            yield rows[first : first + VALIDATION_BATCH], views

    def _pad(self, reports: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, T] and their weights."""
        longest = max(len(report) for report in reports)
        pad, rarity = self.vocabulary.special.pad, self.rarity
        tokens = torch.tensor([[*report, *[pad] * (longest - len(report))] for report in reports])
        if rarity is None:
            return tokens, None
        weighed = [[*rarity.weigh(report), *[1.0] * (longest - len(report))] for report in reports]
        return tokens, torch.tensor(weighed)


def _to(views: Views, device: torch.device) -> Views:
    assert views.patches is not None
    return Views(None, views.patches.to(device, non_blocking=True), views.present.to(device))

"""Report generation: a decoder that writes the report of a study while it looks at the patches of its images."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from placecli.config import Preset, ReportGenerationConfig
from placecli.data.store import Store
from placecli.engine.distributed import Ranks
from placecli.engine.encoders import ImageEncoder
from placecli.records import PlaceError, Row
from placecli.tasks.classify import image_size_of
from placecli.tasks.evaluation import Findings, Resampling
from placecli.tasks.image_batches import in_batches
from placecli.tasks.report_candidates import Known, about_known, open_known
from placecli.tasks.report_grounding import Grounder, load_grounder, observe_reference, reference_shape
from placecli.tasks.report_learning import ReportLearner
from placecli.tasks.report_scores import NEAREST, score_reports
from placecli.tasks.report_telling import Seen, tell
from placecli.tasks.report_text import Vocabulary, one_per_study, read_vocabulary
from placecli.tasks.report_views import find_views, views_of
from placecli.tasks.report_writer import ReportWriter
from placecli.tasks.use import Advance, Examples, Prediction

logger = logging.getLogger(__name__)

BATCH: Final = 32
NUM_NEIGHBOURS: Final = 2048
"""Train images among which the nearest is sought, evenly spread."""


class ReportGeneration:
    """The use; see `tasks.use.Use`. A prediction is {"image_id", "study_id", "findings", "impression", "report",
    "taken_from", "sentences", "nearest_study_id"}; each row stands for its study."""

    def section(self, preset: Preset) -> ReportGenerationConfig:
        return preset.finetune.report_generation

    def select(self, rows: Sequence[Row], preset: Preset) -> list[Row]:
        """One row for each study that has a report."""
        return one_per_study(rows, self.section(preset).sections)

    def describe(self, examples: Examples, preset: Preset) -> dict[str, Any]:
        """{"words", "sections", "vocabulary", "known"}: how many words of the train split are written, and which; and the
        store whose train reports compete."""
        vocabulary = Vocabulary.of_reports(examples.train, self.section(preset))
        return {
            "words": len(vocabulary),
            "sections": list(vocabulary.sections),
            "vocabulary": vocabulary.to_record(),
            "known": about_known(examples.store),
        }

    def build(self, preset: Preset, about: dict[str, Any], encoder: ImageEncoder) -> ReportWriter:
        return ReportWriter(encoder, read_vocabulary(about), self.section(preset), reference_shape(preset))

    def learner(
        self, model: nn.Module, preset: Preset, about: dict[str, Any], examples: Examples, ranks: Ranks
    ) -> ReportLearner:
        assert isinstance(model, ReportWriter)
        config = self.section(preset)
        model.reference.copy_(observe_reference(preset, examples.store, examples.train, ranks.device))
        size = image_size_of(preset, config)
        return ReportLearner(model, config, size, read_vocabulary(about), examples, ranks)

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
        assert isinstance(model, ReportWriter)
        config, vocabulary = self.section(preset), read_vocabulary(about)
        size = image_size_of(preset, config)
        grounder: Grounder | None = None
        if config.grounding != "none":
            grounder = load_grounder(preset, model.reference, device)
        known: Known | None = None
        try:
            known = open_known(preset, about, vocabulary, device, store)
        except PlaceError as error:
            logger.warning("%s", error)
        nearest = nearest_studies(model, store, rows, self.select(store.select("train"), preset), size, device)
        studies = find_views(store, rows, config.views)
        for first in range(0, len(rows), BATCH):
            part = studies[first : first + BATCH]
            views = views_of(store, part, config.views, size, device)
            pixels = store.images([study[0] for study in part])
            seen = [Seen(pixels[i], study[0].content, study[0].patient_id) for i, study in enumerate(part)]
            for i, told in enumerate(tell(model, vocabulary, config, views, seen, grounder, known)):
                row = rows[first + i]
                ids = {"image_id": row.image_id, "study_id": row.study_id}
                yield {**ids, **told, **({NEAREST: nearest[first + i]} if nearest else {})}
            advance(min(first + BATCH, len(rows)), len(rows))

    def about_predictions(
        self, predictions: Sequence[Prediction], rows: Sequence[Row], preset: Preset
    ) -> dict[str, Any]:
        """Nothing: reports are scored as they stand."""
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
        return score_reports(predictions, store, rows, self.section(preset), protocol, resampling)


def nearest_studies(
    model: ReportWriter, store: Store, rows: Sequence[Row], train: Sequence[Row], size: int, device: torch.device
) -> list[str]:
    """For each row the train study whose image is most like it by the encoder's global feature; none without a train split.

    Cosine of features minus the mean of the train images.
    """
    if not train:
        return []
    places = np.linspace(0, len(train) - 1, min(NUM_NEIGHBOURS, len(train))).round().astype(int)
    pool = [train[place] for place in places]
    known, asked = (_global_features(model, store, each, size, device) for each in (pool, rows))
    mean = known.mean(dim=0)
    similarity = F.normalize(asked - mean, dim=1) @ F.normalize(known - mean, dim=1).T
    return [pool[int(place)].study_id for place in similarity.argmax(dim=1)]


@torch.inference_mode()
def _global_features(model: ReportWriter, store: Store, rows: Sequence[Row], size: int, device: torch.device) -> Tensor:
    return torch.cat([model.encoder(images)[0].float().cpu() for _, images in in_batches(store, rows, size, device)])

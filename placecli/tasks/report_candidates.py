"""Reports of like train studies that compete with what the decoder writes; the one that most of them agree with is told.

n images, N known studies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from placecli.config import Preset, ReportGenerationConfig
from placecli.data.store import Store, open_store
from placecli.engine.checkpoint import LoadedRun
from placecli.metrics.tokenization import tokenize
from placecli.records import PlaceError, Row
from placecli.tasks.embed import ImageVectors, TextVectors, embed_images
from placecli.tasks.gallery import INDEX, open_gallery
from placecli.tasks.report_consensus import Weighing, agreement, share_out
from placecli.tasks.report_grounding import load_start
from placecli.tasks.report_text import Sentence, Vocabulary, one_per_study
from placecli.tasks.scores import global_scores, observation_scores, standardize
from placecli.tasks.shares import draw_share

NUM_KNOWN: Final = 8192
"""Train studies that may be like an image, evenly spread where there are more."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A report: its numbers, start and end included, and its sentences. taken_from: the train study whose report it is,
    "" where the decoder wrote it."""

    numbers: list[int]
    sentences: list[Sentence]
    taken_from: str = ""

    @property
    def words(self) -> list[str]:
        """Its text, as words."""
        return tokenize(" ".join(each.text for each in self.sentences))


@dataclass(frozen=True)
class Known:
    """N train studies: patients, drafts of their reports and what these weigh [N, G], vectors of images and of reports."""

    run: LoadedRun
    patients: NDArray[np.str_]
    drafts: Sequence[Draft]
    weighing: Weighing
    weights: Any
    images: ImageVectors
    texts: TextVectors

    def embed(self, pixels: NDArray[np.uint8]) -> ImageVectors:
        """Vectors of uint8 images [n, S, S] as a store holds them, by the pre-trained run."""
        return embed_images(self.run, pixels)

    def likeness(self, images: ImageVectors, patients: Sequence[str]) -> NDArray[np.float64]:
        """How like each known study is to each image, float64 [n, N]; -inf for one of the same patient ("": not known).

        The mean of z-scores over the known studies: of the image with the study's report and with its image, by global
        embedding and by observations, as far as the run learnt these. Images are compared after the mean is taken off.
        """
        objective, parts = self.run.preset.pretrain.objective, []
        if objective.instance_weight > 0 or objective.pcma_weight == 0:
            parts += [
                global_scores(images.embedding, self.texts.embedding),
                _centred_cosine(images.embedding, self.images.embedding),
            ]
        if objective.pcma_weight > 0:
            texts, temperature = self.texts, objective.match_temperature
            parts += [
                observation_scores(images.observations, texts.observations, texts.mask, temperature),
                _centred_cosine(images.observations, self.images.observations),
            ]
        found = np.mean([standardize(part) for part in parts], axis=0)
        is_own = (np.asarray(patients)[:, None] == self.patients[None]) & (self.patients[None] != "")
        return np.asarray(np.where(is_own, -np.inf, found))

    def choose(self, written: Draft, likeness: NDArray[np.float64], config: ReportGenerationConfig) -> Draft:
        """Of `written` and the reports of the `num_nearest` most like studies, likeness [N], the one that the known
        reports, each by its likeness, agree with most."""
        order = np.argsort(-likeness, kind="stable")[: config.num_nearest]
        nearest = order[np.isfinite(likeness[order])]
        if not len(nearest):
            return written
        shares = share_out(likeness[None], config.agreement_temperature)[0]
        candidates = sparse.vstack([self.weighing.weigh([written.words]), self.weights[nearest]]).tocsr()
        best = int(agreement(candidates, shares, self.weights).argmax())
        return written if best == 0 else self.drafts[nearest[best - 1]]


def about_known(store: Store) -> dict[str, str]:
    """What a run of reports notes of the store whose train studies compete: {"store", "digest"}."""
    return {"store": str(store.path.resolve()), "digest": store.digest}


def open_known(
    preset: Preset, about: Mapping[str, Any], vocabulary: Vocabulary, device: torch.device, store: Store | None = None
) -> Known | None:
    """The train studies that a run of reports learnt from, or None where none compete by its settings or start.

    store: one at hand, used if it is that of the run. The start run's index is made on first use and kept beside it.
    Raises PlaceError, saying why only the decoder writes, where the start or the store is gone or changed.
    """
    tuned, config = preset.finetune, preset.finetune.report_generation
    if config.candidates == "written" or config.cleaning == "compat" or tuned.start != "run":
        return None
    try:
        run = load_start(preset, device)
        known = _store_of(about.get("known") or {}, store)
    except PlaceError as error:
        raise PlaceError(f"no train report competes with what the decoder writes: {error}") from None
    chosen = draw_share(
        one_per_study(known.select("train"), config.sections), tuned.fraction, config.seed, tuned.sampling
    )
    places = np.linspace(0, len(chosen) - 1, min(NUM_KNOWN, len(chosen))).round().astype(int)
    return gather_known(run, known, [chosen[place] for place in places], vocabulary, config)


def gather_known(
    run: LoadedRun, store: Store, rows: Sequence[Row], vocabulary: Vocabulary, config: ReportGenerationConfig
) -> Known | None:
    """The studies of these train rows that have a report which the run can read; None where there is none."""
    gallery = open_gallery(run, store, "train", cache=run.path / INDEX)
    names = store.rows.column("image_id")
    place_of = {names[int(position)]: place for place, position in enumerate(gallery.positions)}
    places = np.array([place_of[row.image_id] for row in rows], dtype=np.int64)
    numbers = gallery.text_of_image[places]
    laid = [vocabulary.lay_out(row, config.max_tokens) for row in rows]
    kept = [i for i, (_, sentences) in enumerate(laid) if sentences and numbers[i] >= 0]
    if not kept:
        return None
    drafts = [Draft(*laid[i], taken_from=rows[i].study_id) for i in kept]
    words = [draft.words for draft in drafts]
    weighing = Weighing.of_reports(words)
    return Known(
        run,
        np.array([rows[i].patient_id for i in kept]),
        drafts,
        weighing,
        weighing.weigh(words),
        gallery.images.take(places[kept]),
        gallery.texts.take(numbers[kept]),
    )


def _store_of(noted: Mapping[str, str], store: Store | None) -> Store:
    path, digest = noted.get("store", ""), noted.get("digest", "")
    if store is not None and store.digest == digest:
        return store
    if not path:
        raise PlaceError("the run does not name the store it learnt from; run `place finetune` anew")
    if not Path(path).is_dir():
        raise PlaceError(f"the store {path} that the run learnt from is gone; bring it back to that place")
    found = open_store(Path(path))
    if found.digest != digest:
        raise PlaceError(f"the store {path} is no longer the one that the run learnt from")
    return found


def _centred_cosine(asked: NDArray[Any], known: NDArray[Any]) -> NDArray[np.float32]:
    """Cosine [n, N] of arrays [n, ...] and [N, ...] from which the mean of the known ones is taken."""
    one, other = (np.asarray(each, np.float32).reshape(len(each), -1) for each in (asked, known))
    mean = other.mean(axis=0)
    one, other = one - mean, other - mean
    lengths = [np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-12) for each in (one, other)]
    return np.asarray((one / lengths[0]) @ (other / lengths[1]).T)

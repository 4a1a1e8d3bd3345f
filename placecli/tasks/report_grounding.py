"""Does the pre-trained run agree with a written sentence? Its observation score, against what other images get for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from placecli.config import Preset
from placecli.data.store import Store
from placecli.engine.checkpoint import LoadedRun, load_model
from placecli.records import PlaceError, Row
from placecli.tasks.embed import embed_images, embed_texts
from placecli.tasks.scores import observation_scores, sentence_scores

NUM_REFERENCE: Final = 128
"""Train images whose observations a run of reports keeps, to know what a sentence's score is worth."""
_SMALL: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Support:
    """score: cosine of PCMA in -1..1. support: standard deviations of it above the mean over the reference images."""

    score: float
    support: float


@dataclass
class Grounder:
    """A pre-trained run and the observations [R, K, d] of reference images."""

    run: LoadedRun
    reference: NDArray[np.float32]
    known: dict[str, tuple[NDArray[Any], float, float] | None] = field(default_factory=dict)
    """By sentence its T-POR [d], mean and standard deviation over the reference; None: no word of it is known."""

    def observe(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """V-PORs [n, K, d] of uint8 images [n, S, S] as a store holds them."""
        return embed_images(self.run, pixels).observations

    def judge(self, sentences: Sequence[str], observations: NDArray[Any]) -> list[Support | None]:
        """For each sentence its support by an image with V-PORs [K, d]; None where the run knows no word of it."""
        self._learn([text for text in dict.fromkeys(sentences) if text not in self.known])
        found = [self.known[text] for text in sentences]
        readable = [each for each in found if each is not None]
        if not readable:
            return [None] * len(found)
        scores = iter(sentence_scores(observations, np.stack([each[0] for each in readable]), self._temperature))
        judged: list[Support | None] = []
        for each in found:
            score = 0.0 if each is None else float(next(scores))
            judged.append(None if each is None else Support(score, (score - each[1]) / max(each[2], _SMALL)))
        return judged

    @property
    def _temperature(self) -> float:
        return self.run.preset.pretrain.objective.match_temperature

    def _learn(self, sentences: Sequence[str]) -> None:
        if not sentences:
            return
        vectors = embed_texts(self.run, [[text] for text in sentences])
        textual, mask = vectors.observations[:, :1], vectors.mask[:, :1]
        scores = observation_scores(self.reference, textual, mask, self._temperature)  # [R, n]
        for i, text in enumerate(sentences):
            mean, spread = float(scores[:, i].mean()), float(scores[:, i].std())
            self.known[text] = (textual[i, 0], mean, spread) if mask[i, 0] else None


def reference_shape(preset: Preset) -> tuple[int, int, int]:
    """[R, K, d] of what a run of reports keeps; R is 0 where its start learnt no observations."""
    model = preset.pretrain.model
    is_grounded = preset.finetune.start == "run" and preset.pretrain.objective.pcma_weight > 0
    return (NUM_REFERENCE if is_grounded else 0, model.num_queries, model.embed_dim)


def observe_reference(preset: Preset, store: Store, rows: Sequence[Row], device: torch.device) -> torch.Tensor:
    """float32 [R, K, d]: observations of evenly spread train images by the run that was started from."""
    shape = reference_shape(preset)
    if shape[0] == 0 or preset.finetune.start_run is None:
        return torch.zeros(shape)
    run = load_model(preset.finetune.start_run, device)
    chosen = [rows[round(place)] for place in np.linspace(0, len(rows) - 1, shape[0])]
    return torch.from_numpy(embed_images(run, store.images(chosen)).observations.astype(np.float32))


def load_grounder(preset: Preset, reference: torch.Tensor, device: torch.device) -> Grounder:
    """The pre-trained run behind a run of reports. Raises PlaceError saying why sentences cannot be scored without it."""
    if not len(reference):
        raise PlaceError("sentences have no score: this run did not start from one that learnt observations (PCMA)")
    try:
        run = load_start(preset, device)
    except PlaceError as error:
        raise PlaceError(f"sentences have no score: {error}") from None
    return Grounder(run, reference.cpu().numpy().astype(np.float32))


def load_start(preset: Preset, device: torch.device) -> LoadedRun:
    """The pre-trained run that a run of reports started from. Raises PlaceError where it is gone or changed."""
    tuned = preset.finetune
    if tuned.start_run is None or not (Path(tuned.start_run) / "model.safetensors").is_file():
        raise PlaceError(f"the pre-trained run {tuned.start_run} is gone; bring it back to that place")
    run = load_model(tuned.start_run, device)
    if run.digest != tuned.start_digest:
        raise PlaceError(f"{tuned.start_run} is no longer the run that this one started from")
    return run

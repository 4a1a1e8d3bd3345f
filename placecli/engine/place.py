"""PLACE's objective over a batch of pairs, its observation score, and the maps that show where a sentence was found."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from placecli.config import ObjectiveConfig
from placecli.engine import losses, matching
from placecli.engine.correlation import patches_with_content, pixel_patches
from placecli.engine.model import ImageOutput, Place, TextOutput, unit
from placecli.engine.pcma import Gather, Observed, Pcma, align_observations

if TYPE_CHECKING:
    from placecli.data.pairs import PairBatch

__all__ = ["ImageOutput", "Place", "Shares", "Terms", "TextOutput", "objective", "observation_scores", "sentence_maps"]

_TOKEN_TEMPERATURE, _CLUSTER_TEMPERATURE = 0.1, 0.2
_REPORT_CHUNK = 256


@dataclass(frozen=True)
class Terms:
    """Scalars of one batch. `total` alone carries a gradient; a term that is switched off is 0."""

    total: Tensor
    instance: Tensor
    """ITA"""
    pcma_batch: Tensor
    """observation contrast over the batch"""
    pcma_sighting: Tensor
    """which image of the batch shows a sentence"""
    pcma_sentence: Tensor
    """contrast between the sentences of one report"""
    correlation: Tensor
    """CCE"""
    baseline: Tensor
    """token-wise or cluster alignment"""
    diversity: Tensor
    imbalance: Tensor
    query_entropy: Tensor
    """nats, of the share of sentences that each query answers; below 0.5 log K the queries have collapsed"""
    query_similarity: Tensor
    """mean |<v_k, v_k'>| over pairs of different queries"""


@dataclass(frozen=True)
class Shares:
    """The parts of two fading weights that are in force, 0 to 1 (see step.shares_at)."""

    correlation: Tensor | float | None = 1.0
    """of CCE's; None: it has faded away and is not computed"""
    within_report: Tensor | float = 1.0
    """of L_sent's"""

    def without_faded(self) -> Shares:
        """The same with None for a CCE of which nothing is in force: on a small model it is a fifth of the step."""
        return replace(self, correlation=None) if self.correlation == 0 else self


@dataclass(frozen=True)
class _Batch:
    """What the terms share: features of this process's pairs, and how to reach those of the others."""

    images: Tensor
    patches: Tensor
    global_image: Tensor
    words: Tensor
    global_text: Tensor
    patch_mask: Tensor
    pairs: PairBatch
    gather: Gather
    text_key: Tensor
    """int64 [G], of all processes"""
    target: Tensor
    """int64 [B], where this process's pairs stand among all"""


def objective(
    model: Place,
    batch: PairBatch,
    config: ObjectiveConfig,
    *,
    gather: Gather = lambda part: part,
    shares: Shares = Shares(),
) -> Terms:
    """L = instance ITA + pcma PCMA (`pcma.Pcma.weighted_sum`) + correlation CCE + baseline term.

    `batch.images` float [B, 1, S, S], (pixel - 0.5) / 0.5. `gather` joins equal batches of several processes; the mean
    over processes of `total` is then the total of the joined batch. `shares` are the parts of CCE's and L_sent's weights
    that are in force. Encoders and heads run under the caller's autocast; similarities, softmax and losses in float32.
    """
    shared = _encode(model, batch, gather)
    zero = shared.global_image.new_zeros((), dtype=torch.float32)
    instance = baseline = correlation = zero
    pcma: Pcma | None = None
    if config.instance_weight > 0:
        instance = _instance(model, shared, config)
    if config.pcma_weight > 0:
        pcma = _pcma(model, shared, config)
    if config.correlation_weight > 0:
        correlation = _correlation(model, shared) if shares.correlation is not None else _reach_predictor(model)
    if config.baseline == "token":
        baseline = _token_baseline(model, shared)
    elif config.baseline == "cluster":
        baseline = _cluster_baseline(model, shared)
    share = 1.0 if shares.correlation is None else shares.correlation
    total = config.instance_weight * instance + config.correlation_weight * share * correlation
    total = total + config.baseline_weight * baseline
    if pcma is not None:
        total = total + config.pcma_weight * pcma.weighted_sum(config, shares.within_report)
    return Terms(
        total=total,
        instance=instance.detach(),
        pcma_batch=pcma.batch.detach() if pcma else zero,
        pcma_sighting=pcma.sighting.detach() if pcma else zero,
        pcma_sentence=pcma.sentence.detach() if pcma else zero,
        correlation=correlation.detach(),
        baseline=baseline.detach(),
        diversity=pcma.diversity.detach() if pcma else zero,
        imbalance=pcma.imbalance.detach() if pcma else zero,
        query_entropy=pcma.query_entropy if pcma else zero,
        query_similarity=pcma.query_similarity if pcma else zero,
    )


def _encode(model: Place, batch: PairBatch, gather: Gather) -> _Batch:
    global_image, patches = model.image_encoder(batch.images)
    global_text, words = model.text_encoder(batch.tokens, batch.attention, batch.sentence_index)
    rows, size = gather(batch.row), len(batch.row)
    # A batch holds a pair once, so its rows tell which part of the whole is this process's.
    part = (rows.view(-1, size) == batch.row).all(dim=1).int().argmax()
    return _Batch(
        images=batch.images,
        patches=patches,
        global_image=global_image,
        words=words,
        global_text=global_text,
        patch_mask=patches_with_content(batch.content, model.image_encoder.grid),
        pairs=batch,
        gather=gather,
        text_key=gather(batch.text_key),
        target=part * size + torch.arange(size, device=rows.device),
    )


def _instance(model: Place, shared: _Batch, config: ObjectiveConfig) -> Tensor:
    images, texts = unit(model.image_head(shared.global_image)), unit(model.text_head(shared.global_text))
    excluded = None
    if config.false_negatives != "none":
        excluded = shared.pairs.text_key[:, None] == shared.text_key
    with _full_precision(images):
        return losses.instance_contrast(
            images,
            texts,
            shared.gather(images),
            shared.gather(texts),
            shared.target,
            config.instance_temperature,
            excluded,
        )


def _pcma(model: Place, shared: _Batch, config: ObjectiveConfig) -> Pcma:
    keys = shared.pairs.sentence_key
    visual, _ = model.observe(shared.patches)
    textual, mask = model.read_sentences(shared.words, shared.pairs.sentence_index, keys.shape[1])
    observed = Observed(
        visual=visual,
        textual=textual,
        mask=mask,
        keys=torch.where(mask, keys, -1),  # a sentence that the token limit left out is not there
        text_key=shared.pairs.text_key,
        all_text_key=shared.text_key,
        target=shared.target,
    )
    with _full_precision(visual):
        return align_observations(observed, config, shared.gather)


def _correlation(model: Place, shared: _Batch) -> Tensor:
    assert model.predictor is not None, "the model was built for an objective without this term"
    states = model.predictor(shared.patches, shared.words, shared.pairs.attention)
    with _full_precision(states):
        source, textured = pixel_patches(shared.images, model.image_encoder.grid)
        mask = shared.patch_mask & textured
        target = losses.correlation_matrix(source, mask)
        # A patch that varies in nothing correlates with nothing: it says nothing about its neighbours.
        mask = mask & (target.diagonal(dim1=1, dim2=2) > 0.5)
        return losses.correlation_loss(losses.correlation_matrix(states.float(), mask), target, mask).mean()


def _reach_predictor(model: Place) -> Tensor:
    """0 with a gradient of 0 for the predictor of a CCE that is left out: averaging over processes waits for every
    parameter's gradient, and the optimiser goes on with the parameter as it would for a weight of 0."""
    assert model.predictor is not None, "the model was built for an objective without this term"
    return 0.0 * torch.stack([parameter.sum() for parameter in model.predictor.parameters()]).sum()


def _token_baseline(model: Place, shared: _Batch) -> Tensor:
    assert model.patch_head is not None, "the model was built for another baseline"
    assert model.word_head is not None
    patches, words = unit(model.patch_head(shared.patches)), unit(model.word_head(shared.words))
    with _full_precision(patches):
        return losses.token_alignment(
            words, shared.pairs.sentence_index >= 0, patches, shared.patch_mask, _TOKEN_TEMPERATURE
        ).mean()


def _cluster_baseline(model: Place, shared: _Batch) -> Tensor:
    assert model.prototypes is not None, "the model was built for another baseline"
    images, texts = unit(model.image_head(shared.global_image)), unit(model.text_head(shared.global_text))
    with _full_precision(images):
        prototypes = unit(model.prototypes)
        image_scores, text_scores = images @ prototypes.T, texts @ prototypes.T
        image_codes = losses.sinkhorn(shared.gather(image_scores.detach()))[shared.target]
        text_codes = losses.sinkhorn(shared.gather(text_scores.detach()))[shared.target]
        return losses.cluster_alignment(image_scores, text_scores, image_codes, text_codes, _CLUSTER_TEMPERATURE).mean()


def _full_precision(example: Tensor) -> torch.autocast:
    return torch.autocast(example.device.type, enabled=False)


def observation_scores(observations: Tensor, textual: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """PCMA's S^t, float32 [M, N]: V-PORs [M, K, d], T-PORs [N, S, d], mask bool [N, S].

    See matching.observation_scores; both galleries are taken in chunks, a report without a sentence scores 0.
    """
    with _full_precision(observations):
        rows = [
            matching.observation_scores(images.float(), textual.float(), mask, temperature)
            for images in torch.split(observations, _REPORT_CHUNK)
        ]
    return torch.cat(rows) if rows else observations.new_zeros(0, len(textual), dtype=torch.float32)


def sentence_maps(
    observations: Tensor, attention: Tensor, grid: tuple[int, int], textual: Tensor, temperature: float
) -> Tensor:
    """Where each sentence was found: float32 [..., S, rows, columns], each map non-negative with sum 1.

    V-PORs [..., K, d] and their attention [..., K, rows * columns] of an image, T-PORs [..., S, d]:

        map_s = sum_k softmax_k(<t_s, v_k> / temperature) attention_k
    """
    with _full_precision(observations):
        similarity = textual.float() @ observations.float().transpose(-2, -1)
        maps = F.normalize((similarity / temperature).softmax(dim=-1) @ attention.float(), p=1, dim=-1)
    return maps.reshape(*maps.shape[:-1], *grid)

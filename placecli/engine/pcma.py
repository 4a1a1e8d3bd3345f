"""PCMA over a batch: visual observations (V-PORs) aligned with sentences (T-PORs) without labels.

B studies of this process, G of all processes (G = B with one), K queries, S sentences, d the shared width. Each value is
a mean over this process's studies, so that the mean over processes is the value of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from placecli.config import ObjectiveConfig
from placecli.engine import losses, matching
from placecli.engine.model import unit

Gather = Callable[[Tensor], Tensor]
"""[B, ...] of this process -> [processes * B, ...] of all in order of rank, with gradient where it is float."""


@dataclass(frozen=True)
class Observed:
    """What was seen and said in this process's studies, float32."""

    visual: Tensor
    """V-PORs, unit [B, K, d]"""
    textual: Tensor
    """T-PORs, unit [B, S, d]"""
    mask: Tensor
    """bool [B, S]"""
    keys: Tensor
    """int64 [B, S], equal for equal sentences, -1 at padding"""
    text_key: Tensor
    """int64 [B], equal for reports that say the same"""
    all_text_key: Tensor
    """int64 [G], of all processes"""
    target: Tensor
    """int64 [B], where this process's studies stand among all"""


@dataclass(frozen=True)
class Pcma:
    """The terms, scalars with gradient, and two diagnostics without."""

    batch: Tensor
    """L_obs: which report belongs to this image, and which image to this report"""
    sighting: Tensor
    """L_img: which image of the batch shows this sentence"""
    sentence: Tensor
    """L_sent: which of its report's sentences an answer belongs to"""
    diversity: Tensor
    imbalance: Tensor
    query_entropy: Tensor
    query_similarity: Tensor

    def weighted_sum(self, config: ObjectiveConfig, within_report_share: Tensor | float = 1.0) -> Tensor:
        """L_obs + sighting L_img + share within_report L_sent + diversity L_div + balance L_bal; `within_report_share` is
        the part of L_sent's weight that is in force."""
        total = self.batch + config.sighting_weight * self.sighting
        total = total + config.within_report_weight * within_report_share * self.sentence
        return total + config.diversity_weight * self.diversity + config.balance_weight * self.imbalance


def align_observations(observed: Observed, config: ObjectiveConfig, gather: Gather) -> Pcma:
    """The terms of PCMA; `gather` joins equal batches of several processes."""
    visual, textual, mask, keys = observed.visual, observed.textual, observed.mask, observed.keys
    weights = matching.match_weights(textual @ visual.transpose(1, 2), config.match_temperature)
    equal = None if config.false_negatives == "none" else keys[:, :, None] == keys[:, None, :]
    temperature = config.observation_temperature
    sentence = losses.sentence_contrast(textual, unit(weights @ visual), mask, temperature, equal)
    answers = (weights * mask[:, :, None]).sum(dim=(0, 1))
    usage = gather(answers[None]).sum(dim=0)
    usage = usage / usage.sum().clamp(min=1e-12)
    reports, sightings = _contrast_over_batch(observed, config, gather)
    return Pcma(
        batch=reports,
        sighting=sightings,
        sentence=sentence.mean(),
        diversity=losses.query_diversity(visual).mean(),
        imbalance=losses.usage_imbalance(usage),
        query_entropy=torch.special.entr(usage.detach()).sum(),
        query_similarity=losses.query_similarity(visual.detach()).mean(),
    )


def _contrast_over_batch(observed: Observed, config: ObjectiveConfig, gather: Gather) -> tuple[Tensor, Tensor]:
    """L_obs and L_img."""
    visual, textual, mask, keys = observed.visual, observed.textual, observed.mask, observed.keys
    all_visual, all_textual, all_mask, all_keys = gather(visual), gather(textual), gather(mask), gather(keys)
    scores = matching.sentence_scores(all_visual, textual, mask, config.match_temperature)  # [G, B, S]
    columns = rows = matching.mean_over_sentences(scores, mask)
    if len(all_visual) > len(visual):
        rows = matching.observation_scores(visual, all_textual, all_mask, config.match_temperature)
    excluded = (None, None) if config.false_negatives == "none" else _find_false_negatives(observed, all_keys)
    reports = losses.report_contrast(rows, columns, observed.target, config.observation_temperature, *excluded)
    sightings = losses.sighting_contrast(
        scores,
        observed.target,
        config.observation_temperature,
        matching.rarity(keys, all_keys),
        matching.rarity(all_keys, all_keys).sum(dim=1).mean(),
        matching.says_the_same(all_keys, keys),
    )
    return reports, sightings.mean()


def _find_false_negatives(observed: Observed, all_keys: Tensor) -> tuple[Tensor, Tensor]:
    """Whether these images' own reports say the reports of all, bool [B, G], and those of all these, bool [G, B]."""
    keys, text_key, all_text_key = observed.keys, observed.text_key, observed.all_text_key
    says, said = matching.says_the_same(keys, all_keys), matching.says_the_same(all_keys, keys)
    return (
        matching.says_report(says, text_key, all_keys, all_text_key),
        matching.says_report(said, all_text_key, keys, text_key),
    )

"""PCMA: matching visual observations (V-PORs) and sentences (T-PORs) without labels, as pure functions.

M images, N reports, K visual observations per image, S sentences per report, d the shared width; unit vectors, float32.
The order of the observations and of the sentences means nothing, and padded sentences count for nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Matching = Literal["soft", "hungarian"]

_CHUNK_ELEMENTS = 2**24


def match_weights(similarity: Tensor, mask: Tensor, temperature: float, matching: Matching = "soft") -> Tensor:
    """How much each observation answers each sentence, [..., S, K] from similarity [..., S, K] and mask [..., S].

    soft: softmax over K of similarity / temperature, each row summing to 1. hungarian: 0 or 1, one observation per
    valid sentence and none twice, the highest sum; with S > K some sentences stay without one.
    """
    if matching == "soft":
        return (similarity / temperature).softmax(dim=-1)
    shape = similarity.shape
    costs = (1 - similarity.detach()).reshape(-1, *shape[-2:]).cpu().double().numpy()
    valid = mask.expand(shape[:-1]).reshape(-1, shape[-2]).cpu().numpy()
    weights = torch.zeros(costs.shape, dtype=similarity.dtype)
    for index, (cost, rows) in enumerate(zip(costs, valid, strict=True)):
        sentences = rows.nonzero()[0]
        chosen, observations = linear_sum_assignment(cost[sentences])
        weights[index, torch.from_numpy(sentences[chosen]), torch.from_numpy(observations)] = 1.0
    return weights.view(shape).to(similarity.device)


def sentence_scores(
    visual: Tensor, textual: Tensor, mask: Tensor, temperature: float, matching: Matching = "soft"
) -> tuple[Tensor, Tensor]:
    """How well image i answers sentence s of report j, float32 [M, N, S] in -1..1, and bool [M, N, S]: is it answered.

    V-PORs [M, K, d], T-PORs [N, S, d], mask bool [N, S]; where a sentence is absent, or `hungarian` left it without an
    observation, the score is 0.

        A_sk = match_weights(<t_js, v_ik>),  v^_s = normalize(sum_k A_sk v_ik),  score = <t_js, v^_s>

    v^ is never formed: its length is sqrt(A V V^T A^T). Reports are taken in chunks, whose intermediate values are
    computed again for the gradient.
    """
    per_report = max(1, visual.shape[0] * visual.shape[1] * textual.shape[1])
    chunk = max(1, _CHUNK_ELEMENTS // per_report)
    if chunk >= len(textual):
        return _scores(visual, textual, mask, temperature, matching)
    parts = [
        checkpoint(_scores, visual, part, part_mask, temperature, matching, use_reentrant=False)
        for part, part_mask in zip(torch.split(textual, chunk), torch.split(mask, chunk), strict=True)
    ]
    return torch.cat([scores for scores, _ in parts], dim=1), torch.cat([answered for _, answered in parts], dim=1)


def observation_scores(
    visual: Tensor, textual: Tensor, mask: Tensor, temperature: float, matching: Matching = "soft"
) -> Tensor:
    """S^t(i, j) = mean over j's answered sentences of `sentence_scores`, float32 [M, N]; 0 without a sentence."""
    return mean_answered(*sentence_scores(visual, textual, mask, temperature, matching))


def mean_answered(scores: Tensor, answered: Tensor) -> Tensor:
    """Mean of scores [..., S], 0 where not answered bool [..., S], over the answered ones; 0 without any."""
    return scores.sum(dim=-1) / answered.sum(dim=-1).clamp(min=1)


def _scores(
    visual: Tensor, textual: Tensor, mask: Tensor, temperature: float, matching: Matching
) -> tuple[Tensor, Tensor]:
    num_reports, num_sentences, width = textual.shape
    similarity = textual.reshape(1, -1, width) @ visual.transpose(1, 2)  # [M, N S, K]
    valid = mask.reshape(1, -1)
    if matching == "hungarian":  # one assignment per image and report
        paired = similarity.view(len(visual), num_reports, num_sentences, -1)
        weights = match_weights(paired, mask, temperature, matching).flatten(1, 2)
        valid = weights.sum(dim=2) > 0
    else:
        weights = match_weights(similarity, valid, temperature)
    gram = visual @ visual.transpose(1, 2)
    squared_length = ((weights @ gram) * weights).sum(dim=2)
    cosine = (weights * similarity).sum(dim=2) * squared_length.clamp(min=1e-8).rsqrt()
    shape = (len(visual), num_reports, num_sentences)
    return cosine.masked_fill(~valid, 0.0).view(shape), valid.expand(len(visual), -1).view(shape)


@torch.no_grad()
def centre_sentences(textual: Tensor, mask: Tensor) -> Tensor:
    """T-PORs [G, S, d] minus the mean valid sentence, to unit length.

    Without this the sentences of an untrained encoder all look alike, and every negative would pass for a duplicate.
    """
    weight = mask.to(textual.dtype)[:, :, None]
    mean = (textual * weight).sum(dim=(0, 1)) / weight.sum().clamp(min=1)
    return F.normalize(textual - mean, dim=2)


@torch.no_grad()
def sentence_likeness(textual: Tensor, keys: Tensor, other: Tensor, other_keys: Tensor) -> Tensor:
    """How far report i says sentence t of report j, [I, J, T] in -1..1: the best match of the sentence in i.

    Sentences [I, S, d] and [J, T, d] are centred unit vectors; keys int64 [I, S] and [J, T] are equal for equal
    sentences (likeness 1) and -1 at padding, where the value means nothing.
    """
    similarity = torch.einsum("isd,jtd->ijst", textual, other)
    similarity = similarity.masked_fill(keys[:, None, :, None] == other_keys[None, :, None, :], 1.0)
    return similarity.masked_fill((keys < 0)[:, None, :, None], -1.0).amax(dim=2)


@torch.no_grad()
def report_likeness(likeness: Tensor, text_key: Tensor, other_keys: Tensor, other_text_key: Tensor) -> Tensor:
    """How far report j is said by report i, [I, J] in -1..1: the mean of `likeness` (or truth) [I, J, T] over j's sentences.

    `other_keys` int64 [J, T] is -1 at padding; text keys [I] and [J] are equal for reports that say the same, which is
    likeness 1. The measure has a direction: "no effusion" is said by a longer normal report, not the other way round.
    """
    counted = other_keys >= 0
    mean = likeness.float().masked_fill(~counted, 0.0).sum(dim=2) / counted.sum(dim=1).clamp(min=1)
    return mean.masked_fill(text_key[:, None] == other_text_key[None, :], 1.0)


def says_the_same(keys: Tensor, other_keys: Tensor) -> Tensor:
    """bool [I, J, T]: report i holds sentence t of report j word for word. Keys int64 [I, S] and [J, T], -1: padding.

    Only words count here: sentences that an encoder in training finds alike would be taken out of the negatives, and
    it would then find ever more of them alike.
    """
    same = (keys[:, None, None, :] == other_keys[None, :, :, None]) & (keys >= 0)[:, None, None, :]
    return same.any(dim=3)


@torch.no_grad()
def rarity(keys: Tensor, all_keys: Tensor) -> Tensor:
    """Weight of each sentence, float32 [B, S]: 1 over the number of reports of the batch that have the same sentence.

    keys int64 [B, S] of this process's reports and [G, S] of all, -1 at padding (weight 0). Stock sentences of
    normality stand in most reports and would drown the rare ones, which say what is to be seen.
    """
    kinds, index = torch.unique(torch.cat([all_keys.flatten(), keys.flatten()]), return_inverse=True)
    everyone, own = index[: all_keys.numel()].view(all_keys.shape), index[all_keys.numel() :].view(keys.shape)
    # A report that says a sentence twice counts once.
    holds = torch.zeros(len(all_keys), len(kinds), dtype=torch.bool, device=keys.device).scatter_(1, everyone, True)
    count = holds.sum(dim=0)[own]
    return torch.where(keys >= 0, 1.0 / count.clamp(min=1), 0.0)

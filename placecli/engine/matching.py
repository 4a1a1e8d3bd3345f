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


def observation_scores(
    visual: Tensor, textual: Tensor, mask: Tensor, temperature: float, matching: Matching = "soft"
) -> Tensor:
    """S^t(i, j), float32 [M, N]: how well image i answers the sentences of report j, in -1..1.

    V-PORs [M, K, d], T-PORs [N, S, d], mask bool [N, S]; a report without a sentence gets 0.

        A_sk = match_weights(<t_js, v_ik>),  v^_s = normalize(sum_k A_sk v_ik),  S^t = mean_s <t_js, v^_s>

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
    return torch.cat(parts, dim=1)


def _scores(visual: Tensor, textual: Tensor, mask: Tensor, temperature: float, matching: Matching) -> Tensor:
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
    total = cosine.masked_fill(~valid, 0.0).view(shape).sum(dim=2)
    return total / valid.expand(len(visual), -1).view(shape).sum(dim=2).clamp(min=1)


@torch.no_grad()
def centre_sentences(textual: Tensor, mask: Tensor) -> Tensor:
    """T-PORs [G, S, d] minus the mean valid sentence, to unit length.

    Without this the sentences of an untrained encoder all look alike, and every negative would pass for a duplicate.
    """
    weight = mask.to(textual.dtype)[:, :, None]
    mean = (textual * weight).sum(dim=(0, 1)) / weight.sum().clamp(min=1)
    return F.normalize(textual - mean, dim=2)


@torch.no_grad()
def report_likeness(
    textual: Tensor, keys: Tensor, text_key: Tensor, other: Tensor, other_keys: Tensor, other_text_key: Tensor
) -> Tensor:
    """How far report j is said by report i, [I, J] in -1..1: the mean over j's sentences of its best match in i.

    Sentences [I, S, d] and [J, S, d] are centred unit vectors; keys int64 [I, S] and [J, S] are equal for equal
    sentences (likeness 1) and -1 at padding; text keys [I] and [J] are equal for reports that say the same. The measure
    has a direction: "no effusion" is said by a longer normal report, not the other way round.
    """
    similarity = torch.einsum("isd,jtd->ijst", textual, other)
    similarity = similarity.masked_fill(keys[:, None, :, None] == other_keys[None, :, None, :], 1.0)
    best = similarity.masked_fill((keys < 0)[:, None, :, None], -1.0).amax(dim=2)
    counted = other_keys >= 0
    likeness = best.masked_fill(~counted, 0.0).sum(dim=2) / counted.sum(dim=1).clamp(min=1)
    return likeness.masked_fill(text_key[:, None] == other_text_key[None, :], 1.0)

"""PCMA: matching visual observations (V-PORs) and sentences (T-PORs) without labels, as pure functions.

M images, N reports, K visual observations per image, S sentences per report, d the shared width; unit vectors, float32.
The order of the observations and of the sentences means nothing, and padded sentences count for nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_CHUNK_ELEMENTS = 2**24


def match_weights(similarity: Tensor, temperature: float) -> Tensor:
    """How much each observation answers each sentence: softmax over K of similarity / temperature, [..., S, K]."""
    return (similarity / temperature).softmax(dim=-1)


def sentence_scores(visual: Tensor, textual: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """How well image i answers sentence s of report j, float32 [M, N, S] in -1..1; 0 where a sentence is absent.

    V-PORs [M, K, d], T-PORs [N, S, d], mask bool [N, S]:

        A_sk = match_weights(<t_js, v_ik>),  v^_s = normalize(sum_k A_sk v_ik),  score = <t_js, v^_s>

    v^ is never formed: its length is sqrt(A V V^T A^T). Reports are taken in chunks, whose intermediate values are
    computed again for the gradient.
    """
    per_report = max(1, visual.shape[0] * visual.shape[1] * textual.shape[1])
    chunk = max(1, _CHUNK_ELEMENTS // per_report)
    if chunk >= len(textual):
        return _scores(visual, textual, mask, temperature)
    parts = [
        checkpoint(_scores, visual, part, part_mask, temperature, use_reentrant=False)
        for part, part_mask in zip(torch.split(textual, chunk), torch.split(mask, chunk), strict=True)
    ]
    return torch.cat(parts, dim=1)


def observation_scores(visual: Tensor, textual: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """S^t(i, j) = mean over j's sentences of `sentence_scores`, float32 [M, N]; 0 without a sentence."""
    return mean_over_sentences(sentence_scores(visual, textual, mask, temperature), mask)


def mean_over_sentences(scores: Tensor, mask: Tensor) -> Tensor:
    """Mean [M, N] of scores [M, N, S], 0 where mask bool [N, S] is False, over the sentences; 0 without any."""
    return scores.sum(dim=2) / mask.sum(dim=1).clamp(min=1)


def _scores(visual: Tensor, textual: Tensor, mask: Tensor, temperature: float) -> Tensor:
    num_reports, num_sentences, width = textual.shape
    similarity = textual.reshape(1, -1, width) @ visual.transpose(1, 2)  # [M, N S, K]
    weights = match_weights(similarity, temperature)
    gram = visual @ visual.transpose(1, 2)
    squared_length = ((weights @ gram) * weights).sum(dim=2)
    cosine = (weights * similarity).sum(dim=2) * squared_length.clamp(min=1e-8).rsqrt()
    return cosine.view(len(visual), num_reports, num_sentences).masked_fill(~mask, 0.0)


def says_the_same(keys: Tensor, other_keys: Tensor) -> Tensor:
    """bool [I, J, T]: report i holds sentence t of report j word for word. Keys int64 [I, S] and [J, T], -1: padding.

    Only words count here: sentences that an encoder in training finds alike would be taken out of the negatives, and
    it would then find ever more of them alike.
    """
    same = (keys[:, None, None, :] == other_keys[None, :, :, None]) & (keys >= 0)[:, None, None, :]
    return same.any(dim=3)


def says_report(said: Tensor, text_key: Tensor, other_keys: Tensor, other_text_key: Tensor) -> Tensor:
    """bool [I, J]: report i says all that report j says; `said` bool [I, J, T] is `says_the_same` of its sentences.

    `other_keys` int64 [J, T] is -1 at padding; a report without a sentence is said by none but those with its text key
    (int64 [I] and [J], equal for reports that say the same). The measure has a direction: "no effusion" is said by a
    longer normal report, not the other way round.
    """
    counted = other_keys >= 0
    says_all = (said | ~counted).all(dim=2) & counted.any(dim=1)
    return says_all | (text_key[:, None] == other_text_key[None, :])


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

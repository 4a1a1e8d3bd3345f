"""The objectives as pure functions: float32 tensors in, a scalar (or one value per study) out.

B studies of this process, G studies of all processes (G = B with one), S sentences, K visual observations, N patches,
L words, d the shared width. Every value is a mean over this process's B studies of one value per study, so the mean
over processes of equal batches is the value of the whole batch. `target` int64 [B] is where a study of this process
stands among all G.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_CORRELATION = 0.05
"""Below this, correlation between patches is taken for chance: a share of next to nothing would be noise."""


def info_nce(logits: Tensor, target: Tensor, excluded: Tensor | None = None) -> Tensor:
    """-log softmax(logits)[target] by row, [R] from logits [R, C]; `excluded` bool [R, C] leaves the denominator.

    A target is never left out. No negative left gives 0.
    """
    if excluded is not None:
        keep = F.one_hot(target, logits.shape[1]).bool()
        logits = logits.masked_fill(excluded & ~keep, float("-inf"))
    return F.cross_entropy(logits, target, reduction="none")


def instance_contrast(
    images: Tensor,
    texts: Tensor,
    all_images: Tensor,
    all_texts: Tensor,
    target: Tensor,
    temperature: float,
    excluded: Tensor | None = None,
) -> Tensor:
    """ITA: symmetric InfoNCE on unit embeddings, images and texts [B, d], all of them [G, d]; a scalar.

        s_ij = <image_i, text_j> / temperature
        L = mean_i CE(s_i., i) + mean_j CE(s_.j, j)            (the sum of both directions)

    `excluded` bool [B, G] is True where study j's report equals study i's.
    """
    rows = info_nce(images @ all_texts.T / temperature, target, excluded)
    columns = info_nce(texts @ all_images.T / temperature, target, excluded)
    return rows.mean() + columns.mean()


def report_contrast(
    rows: Tensor,
    columns: Tensor,
    target: Tensor,
    temperature: float,
    row_excluded: Tensor | None = None,
    column_excluded: Tensor | None = None,
) -> Tensor:
    """L_obs = 1/2 [ mean_i CE(S(i, .) / temperature, i) + mean_j CE(S(., j) / temperature, j) ], a scalar.

    rows [B, G] are the scores of this process's images with all reports, columns [G, B] those of all images with its
    reports. `row_excluded` and `column_excluded`, bool of the same shapes (see matching.says_report), take pairs out of
    the negatives whose report is true of the image too.
    """
    images = info_nce(rows / temperature, target, row_excluded)
    texts = info_nce(columns.T / temperature, target, None if column_excluded is None else column_excluded.T)
    return 0.5 * (images.mean() + texts.mean())


def sighting_contrast(
    scores: Tensor, target: Tensor, temperature: float, weights: Tensor, mean_weight: Tensor, excluded: Tensor
) -> Tensor:
    """L_img: which image of the batch shows this sentence? One value per study [B].

    scores [G, B, S] say how well each of all images answers each sentence of this process's reports:

        L_b = sum_s w_bs CE_i(scores_.bs / temperature, b) / mean_weight

    for weights [B, S] (0 at padding) and the mean over all G studies of their sum, so that the mean over studies is the
    weighted mean over sentences. `excluded` bool [G, B, S] marks images whose own report says the sentence.
    """
    num_images = len(scores)
    logits = scores.permute(1, 2, 0).flatten(0, 1) / temperature
    own = target[:, None].expand_as(weights).flatten()
    each = info_nce(logits, own, excluded.permute(1, 2, 0).reshape(-1, num_images)).view_as(weights)
    return (weights * each).sum(dim=1) / mean_weight.clamp(min=1e-12)


def sentence_contrast(
    textual: Tensor, answers: Tensor, mask: Tensor, temperature: float, excluded: Tensor | None = None
) -> Tensor:
    """Within-report InfoNCE: each sentence [B, S, d] finds its own answer [B, S, d] and back; one value per study [B].

        l_st = <t_s, a_t> / temperature
        L = 1/2 mean_s [ CE_t(l_s., s) + CE_t(l_.s, s) ]         over valid sentences s, t of one report

    `mask` bool [B, S]; `excluded` bool [B, S, S] marks pairs that say the same. One valid sentence gives 0.
    """
    num_sentences = textual.shape[1]
    itself = torch.eye(num_sentences, dtype=torch.bool, device=textual.device)
    hidden = ~(mask[:, :, None] & mask[:, None, :])
    if excluded is not None:
        hidden = hidden | excluded
    logits = (textual @ answers.transpose(1, 2) / temperature).masked_fill(hidden & ~itself, float("-inf"))
    own = logits.diagonal(dim1=1, dim2=2)
    both = (logits.logsumexp(dim=2) - own) + (logits.logsumexp(dim=1) - own)
    return 0.5 * mean_where(both, mask)


def query_diversity(observations: Tensor) -> Tensor:
    """1/(K(K-1)) sum_{k != k'} max(0, <v_k, v_k'>)^2 of unit observations [B, K, d]; one value per study [B]."""
    num_queries = observations.shape[1]
    overlap = (observations @ observations.transpose(1, 2)).clamp(min=0).square()
    others = overlap.sum(dim=(1, 2)) - overlap.diagonal(dim1=1, dim2=2).sum(dim=1)
    return others / max(num_queries * (num_queries - 1), 1)


def usage_imbalance(usage: Tensor) -> Tensor:
    """L_bal = log K - H(usage) in nats, for shares [K] of the sentences: 0 where all queries answer equally many, log K
    where one answers all.
    """
    return math.log(len(usage)) - torch.special.entr(usage).sum()


def query_similarity(observations: Tensor) -> Tensor:
    """Mean |<v_k, v_k'>| over pairs of different unit observations [B, K, d], by study [B]; 1 when all are one."""
    num_queries = observations.shape[1]
    overlap = (observations @ observations.transpose(1, 2)).abs()
    others = overlap.sum(dim=(1, 2)) - overlap.diagonal(dim1=1, dim2=2).sum(dim=1)
    return others / max(num_queries * (num_queries - 1), 1)


def correlation_matrix(patches: Tensor, mask: Tensor | None = None) -> Tensor:
    """Correlation between the patches of each image, [B, N, N] from [B, N, D], after double centring.

        X~ = X - mean over channels of each patch, then - mean patch of the image
        C_ij = <x~_i, x~_j> / (|x~_i| |x~_j|)

    Symmetric, positive semi-definite, diagonal 1; 0 in the row of a patch that varies in nothing. A common scale and a
    shift of the channels change nothing. `mask` bool [B, N] names the patches that the mean patch is made of.
    """
    centred = patches - patches.mean(dim=2, keepdim=True)
    if mask is None:
        centred = centred - centred.mean(dim=1, keepdim=True)
    else:
        weight = mask.to(centred.dtype)[:, :, None]
        centred = centred - (centred * weight).sum(dim=1, keepdim=True) / weight.sum(dim=1, keepdim=True).clamp(min=1)
    # Relative to the image's own scale, so that neither a small common scale nor rounding decides.
    size = centred.square().mean(dim=(1, 2), keepdim=True).clamp(min=1e-20).sqrt()
    unit = F.normalize(centred / size, dim=2, eps=1e-4)
    return unit @ unit.transpose(1, 2)


def correlation_loss(predicted: Tensor, target: Tensor, mask: Tensor, delta: float = 0.1) -> Tensor:
    """CCE: the share of the correlation between patches that is left unexplained; one value per study [B].

        L = sum_{i != j} huber(predicted_ij - target_ij; delta) / sum_{i != j} huber(target_ij; delta)

    over the n patches with mask bool [B, N], of two correlation matrices [B, N, N]. 0 is exact, 1 what predicting no
    correlation at all costs, whatever the target's own strength; a target that is weaker than LEAST_CORRELATION on the
    whole counts as that strong. No gradient reaches the target. An image with fewer than two such patches gives 0.
    """
    target = target.detach()
    pairs = mask[:, :, None] & mask[:, None, :]
    pairs = (pairs & ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)).flatten(1)
    missed = F.huber_loss(predicted, target, reduction="none", delta=delta)
    there = F.huber_loss(torch.zeros_like(target), target, reduction="none", delta=delta)
    least = 0.5 * LEAST_CORRELATION**2
    return mean_where(missed.flatten(1), pairs) / mean_where(there.flatten(1), pairs).clamp(min=least)


def token_alignment(
    words: Tensor, word_mask: Tensor, patches: Tensor, patch_mask: Tensor, temperature: float
) -> Tensor:
    """CTA, the token-wise peer: each word finds its patches within its own pair, and each patch its words; [B].

    For unit words [B, L, d] and patches [B, N, d] with masks bool [B, L] and [B, N]:

        c_l = normalize(sum_n softmax_n(<w_l, p_n> / temperature) p_n)
        L_words = 1/2 mean_l [ CE(<w_l, c_.>, l) + CE(<c_l, w_.>, l) ],   L_patches alike,   L = L_words + L_patches
    """
    similarity = words @ patches.transpose(1, 2) / temperature
    to_patches = similarity.masked_fill(~patch_mask[:, None, :], torch.finfo(similarity.dtype).min).softmax(dim=2)
    to_words = similarity.masked_fill(~word_mask[:, :, None], torch.finfo(similarity.dtype).min).softmax(dim=1)
    word_contexts = F.normalize(to_patches @ patches, dim=2)
    patch_contexts = F.normalize(to_words.transpose(1, 2) @ words, dim=2)
    return sentence_contrast(words, word_contexts, word_mask, temperature) + sentence_contrast(
        patches, patch_contexts, patch_mask, temperature
    )


def cluster_alignment(
    image_scores: Tensor, text_scores: Tensor, image_codes: Tensor, text_codes: Tensor, temperature: float
) -> Tensor:
    """CPA, the cluster peer: each modality predicts the prototype assignment of the other; one value per study [B].

    Scores [B, P] are cosines with P prototypes; codes [B, P] are their balanced assignments (`sinkhorn`), detached.

        L = 1/2 [ CE(text_codes, softmax(image_scores / temperature)) + CE(image_codes, softmax(text_scores / ...)) ]
    """
    of_images = -(text_codes.detach() * (image_scores / temperature).log_softmax(dim=1)).sum(dim=1)
    of_texts = -(image_codes.detach() * (text_scores / temperature).log_softmax(dim=1)).sum(dim=1)
    return 0.5 * (of_images + of_texts)


@torch.no_grad()
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Balanced assignment of G studies to P prototypes from scores [G, P]: rows sum to 1, columns nearly to G / P."""
    codes = ((scores - scores.max()) / epsilon).exp()
    for _ in range(iterations):
        codes = codes / codes.sum(dim=0, keepdim=True).clamp(min=1e-12) / codes.shape[1]
        codes = codes / codes.sum(dim=1, keepdim=True).clamp(min=1e-12) / codes.shape[0]
    return codes * codes.shape[0]


def mean_where(values: Tensor, mask: Tensor) -> Tensor:
    """Mean along the last axis of values [..., n] where mask bool [..., n] is True; 0 where it is nowhere True."""
    return values.masked_fill(~mask, 0.0).sum(dim=-1) / mask.sum(dim=-1).clamp(min=1)

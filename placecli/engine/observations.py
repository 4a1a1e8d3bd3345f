"""Observations on both sides: V-PORs that queries read from patches (VPOE), T-PORs pooled from sentences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from placecli.engine.layers import CrossAttention, FeedForward, SelfAttention, initialise, sine_positions
from placecli.records import PlaceError


class VisualObservationExtractor(nn.Module):
    """VPOE: K learnable pathology queries read the patches.

    Pre-norm blocks, for H_0 = Q in R^{K x D} drawn from N(0, 1), so that the residual stream keeps the queries apart:

        H = H + SelfAttention(LN(H))
        H = H + CrossAttention(query=LN(H), key=LN(V) + position, value=LN(V))
        H = H + FFN(LN(H))
    """

    def __init__(
        self, width: int, grid: tuple[int, int], num_queries: int, blocks: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        if width % heads:
            raise PlaceError(f"pretrain.model.query_heads {heads} does not divide the patch width {width}")
        self.queries = nn.Parameter(torch.randn(num_queries, width))
        self.register_buffer("positions", sine_positions(*grid, width), persistent=False)
        self.positions: Tensor
        self.patch_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_QueryBlock(width, heads, dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        initialise(self.blocks)

    def forward(self, patches: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The observations [B, K, D] and the last block's attention, float32 [B, K, N].

        The attention is averaged over heads; each row sums to 1. `mask` bool [B, N] is False at patches that hold
        padding, which are never read; an image without any True is read whole.
        """
        if mask is not None:
            mask = mask | ~mask.any(dim=1, keepdim=True)
        values = self.patch_norm(patches)
        keys = values + self.positions
        observations = self.queries.expand(len(patches), -1, -1)
        attention = patches.new_zeros(0)
        for block in self.blocks:
            observations, attention = block(observations, keys, values, mask)
        return self.norm(observations), attention


class _QueryBlock(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(width)
        self.self_attention = SelfAttention(width, heads)
        self.cross_norm = nn.LayerNorm(width)
        self.cross_attention = CrossAttention(width, width, heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, observations: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        observations = observations + self.dropout(self.self_attention(self.self_norm(observations)))
        read, weights = self.cross_attention.with_weights(self.cross_norm(observations), keys, values, mask)
        observations = observations + self.dropout(read)
        return observations + self.feed_forward(self.feed_forward_norm(observations)), weights


def pool_sentences(words: Tensor, sentence_index: Tensor, num_sentences: int) -> tuple[Tensor, Tensor]:
    """One vector per sentence, the mean of its words: p_s = sum over the words l of sentence s of W_l / number of them.

    From words [B, L, D] and sentence_index int [B, L] (-1: no sentence): [B, S, D] and mask bool [B, S]. A sentence
    without a word is zero and masked out; words of sentences past `num_sentences` are not read.
    """
    numbers = torch.arange(num_sentences, device=words.device)
    member = sentence_index[:, None, :] == numbers[:, None]
    weights = member.to(words.dtype)
    weights = weights / weights.sum(dim=2, keepdim=True).clamp(min=1)
    return weights @ words, member.any(dim=2)

"""Small building blocks shared by the encoders, the observation extractor and the correlation predictor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from placecli.engine.distributed import gather, num_ranks


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens [B, N, D] -> [B, N, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` is True where a token may be read, bool [B, N] by all or [B, N, N] by the token of that row; each
        token needs at least one to read."""
        query, key, value = (
            self.query_key_value(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        )
        if mask is not None:
            mask = mask[:, None] if mask.dim() == 3 else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Multi-head attention of queries [B, Q, D] to a context [B, N, C]; keys and values may differ."""

    def __init__(self, width: int, context_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(context_width, width)
        self.value = nn.Linear(context_width, width)
        self.output = nn.Linear(width, width)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """The answers [B, Q, D]; `mask` bool [B, N] is True where the context may be read."""
        query, key, value = self._split(queries, keys, values)
        allowed = None if mask is None else mask[:, None, None, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.output(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def with_weights(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The answers and the weights averaged over heads, float32 [B, Q, N], each row summing to 1."""
        query, key, value = self._split(queries, keys, values)
        scores = (query @ key.transpose(-2, -1)).float() * query.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        weights = scores.softmax(dim=-1)
        mixed = weights.to(value.dtype) @ value
        return self.output(mixed.transpose(1, 2).flatten(2)), weights.mean(dim=1)

    def _split(self, queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        projected = self.query(queries), self.key(keys), self.value(values)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in projected)
        return query, key, value


class FeedForward(nn.Sequential):
    """Linear, GELU, Linear with a hidden layer four times as wide."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width), nn.Dropout(dropout, inplace=True)
        )


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: x + attention(LN(x)), then x + FFN(LN(x))."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads)
        self.dropout = nn.Dropout(dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, dropout)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens = tokens + self.dropout(self.attention(self.attention_norm(tokens), mask))
        return tokens + self.feed_forward(self.feed_forward_norm(tokens))  # type: ignore[no-any-return]


class ProjectionHead(nn.Sequential):
    """Linear, LayerNorm, GELU, Linear into the shared space; the caller normalises to unit length.

    LayerNorm, not BatchNorm: the value of one study then depends on no other study, on no padding and not
    on how a batch is divided between processes.
    """

    def __init__(self, width: int, hidden: int, embed_dim: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, embed_dim))


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation of feature maps [B, C, H, W] whose statistics are those of the batch over all processes.

    Two processes with B images each so compute what one with 2B would. Accumulated micro-batches each have their own.
    """

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or num_ranks() == 1:
            return super().forward(features)
        own = torch.stack([features.float().mean(dim=(0, 2, 3)), features.float().square().mean(dim=(0, 2, 3))])
        everyone = gather(own[None])
        mean, square = everyone.mean(dim=0)
        variance = (square - mean.square()).clamp(min=0.0)
        self._remember(mean.detach(), variance.detach(), len(everyone) * features[:, 0].numel())
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return (features * scale[:, None, None] + shift[:, None, None]).to(features.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        share = self.momentum or 0.0
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / max(count - 1, 1)), share)


def sine_positions(rows: int, columns: int, width: int) -> Tensor:
    """Two-dimensional sine-cosine positions, float32 [rows * columns, width].

    The first half of the channels codes the row, the second the column, at frequencies 10000^(-i/n). A width
    that is no multiple of 4 leaves its last channels at zero.
    """
    num_frequencies = width // 4
    frequencies = 10000.0 ** (-torch.arange(num_frequencies, dtype=torch.float64) / max(num_frequencies, 1))
    row_angles = torch.arange(rows, dtype=torch.float64)[:, None] * frequencies
    column_angles = torch.arange(columns, dtype=torch.float64)[:, None] * frequencies
    row_codes = torch.cat([row_angles.sin(), row_angles.cos()], dim=1)[:, None].expand(rows, columns, -1)
    column_codes = torch.cat([column_angles.sin(), column_angles.cos()], dim=1)[None].expand(rows, columns, -1)
    codes = torch.cat([row_codes, column_codes], dim=2).flatten(0, 1).float()
    return F.pad(codes, (0, width - codes.shape[1]))


def initialise(module: nn.Module) -> None:
    """Starting weights of transformer parts: Xavier for linear layers, N(0, 0.02) for embeddings, zero biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)

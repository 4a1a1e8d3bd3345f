"""CCE: from patches and the report, predict how the patches of an image correlate."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from placecli.engine.layers import CrossAttention, FeedForward, SelfAttention, initialise, sine_positions

Target = Literal["pixels", "features", "responses"]

_MAX_WIDTH = 256
_PATCH_SIDE = 8
_FLAT_DEVIATION = 1e-3


class CorrelationPredictor(nn.Module):
    """Patch vectors Z whose correlation is compared with the target's.

    pixels     patches that have attended to the report's words, so the image encoder learns from the loss:
               Z = V + CrossAttention(V, words), then FFN
    features   patches rebuilt from the words alone, the patch only asking: Z = CrossAttention(V, words), then FFN,
               plus the position, without which few words give a matrix of low rank
    responses  patches alone, as the target already speaks of the report: Z = V, then FFN

    In training a share `mask_ratio` of the patches, drawn anew by torch's generator, is replaced by a learnt token:
    what is said of them must then come from their position and the report. The predictor works in half the patch
    width, at most 256 channels: enough for a matrix of patches, and the encoders remain what costs.
    """

    def __init__(
        self,
        target: Target,
        patch_width: int,
        word_width: int,
        grid: tuple[int, int],
        *,
        heads: int,
        blocks: int,
        mask_ratio: float = 0.0,
    ) -> None:
        super().__init__()
        width = heads * max(min(patch_width // 2, _MAX_WIDTH) // heads, 1)
        self.target = target
        self.mask_ratio = mask_ratio
        self.patches = nn.Sequential(nn.LayerNorm(patch_width), nn.Linear(patch_width, width))
        self.words = None
        if target != "responses":
            self.words = nn.Sequential(nn.LayerNorm(word_width), nn.Linear(word_width, width))
        self.mask_token = nn.Parameter(torch.zeros(width)) if mask_ratio > 0 else None
        self.register_buffer("positions", sine_positions(*grid, width), persistent=False)
        self.positions: Tensor
        self.blocks = nn.ModuleList(_CorrelationBlock(target, index, width, heads) for index in range(blocks))
        initialise(self)

    def forward(self, patches: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """Z [B, N, C] from patches [B, N, D] and words [B, L, E] with word_mask bool [B, L] (True: may be read)."""
        states: Tensor = self.patches(patches)
        if self.mask_token is not None and self.training:
            hidden = torch.rand(states.shape[:2], device=states.device) < self.mask_ratio
            states = torch.where(hidden[:, :, None], self.mask_token.to(states.dtype), states)
        states = states + self.positions
        context = None if self.words is None else self.words(words)
        for block in self.blocks:
            states = block(states, context, word_mask)
        if self.target == "features":
            states = states + self.positions
        return states


class _CorrelationBlock(nn.Module):
    def __init__(self, target: Target, index: int, width: int, heads: int) -> None:
        super().__init__()
        self.keeps_patches = target != "features" or index > 0
        self.attention: SelfAttention | CrossAttention | None = None
        if target == "features" and index > 0:
            self.attention = SelfAttention(width, heads)
        elif target != "responses":
            self.attention = CrossAttention(width, width, heads)
        self.attention_norm = nn.LayerNorm(width) if self.attention is not None else None
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, states: Tensor, context: Tensor | None, word_mask: Tensor) -> Tensor:
        if self.attention is not None and self.attention_norm is not None:
            normed = self.attention_norm(states)
            if isinstance(self.attention, SelfAttention):
                read = self.attention(normed)
            else:
                read = self.attention(normed, context, context, word_mask)
            states = states + read if self.keeps_patches else read
        return states + self.feed_forward(self.feed_forward_norm(states))  # type: ignore[no-any-return]


def pixel_patches(images: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Raw patches [B, N, P] of images [B, 1, H, W], each averaged down to at most 8 x 8 pixels, and bool [B, N].

    The mask is False where a patch is flat (standard deviation below 0.001 of the input's scale): it has no
    texture to correlate, and rounding would decide its row.
    """
    rows, columns = grid
    side = max(1, min(_PATCH_SIDE, images.shape[-2] // rows, images.shape[-1] // columns))
    cells = images.detach().float()
    if cells.shape[-2:] != (rows * side, columns * side):
        cells = F.adaptive_avg_pool2d(cells, (rows * side, columns * side))
    patches = F.unfold(cells, kernel_size=side, stride=side).transpose(1, 2)
    return patches, patches.std(dim=2, correction=0) > _FLAT_DEVIATION


def patches_with_content(content: Tensor, grid: tuple[int, int], least: float = 0.1) -> Tensor:
    """bool [B, rows * columns]: patches of which at least the share `least` is image and not padding.

    `content` float [B, 4] holds (x0, y0, x1, y1) as fractions of the frame.
    """
    rows, columns = grid
    covered_y = _covered(content[:, 1], content[:, 3], rows)
    covered_x = _covered(content[:, 0], content[:, 2], columns)
    return (covered_y[:, :, None] * covered_x[:, None, :] >= least).flatten(1)


def _covered(start: Tensor, end: Tensor, cells: int) -> Tensor:
    edges = torch.arange(cells + 1, device=start.device, dtype=torch.float32) / cells
    overlap = torch.minimum(end[:, None], edges[1:]) - torch.maximum(start[:, None], edges[:-1])
    return overlap.clamp(min=0) * cells

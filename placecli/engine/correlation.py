"""CCE: from patches and the report, predict how the patches of an image correlate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from placecli.engine.layers import CrossAttention, FeedForward, initialise, sine_positions

_MAX_WIDTH = 256
_PATCH_SIDE = 8
_FLAT_DEVIATION = 1e-3


class CorrelationPredictor(nn.Module):
    """Patch vectors Z whose correlation is compared with that of the raw pixels.

    The patches attend to the report's words, so that image and text encoder learn from the loss:

        Z = Linear(LN V) + position;  for each block  Z = Z + CrossAttention(LN Z, words),  Z = Z + FFN(LN Z)

    The predictor works in half the patch width, at most 256 channels: enough for a matrix of patches, and the encoders
    remain what costs.
    """

    def __init__(self, patch_width: int, word_width: int, grid: tuple[int, int], *, heads: int, blocks: int) -> None:
        super().__init__()
        width = heads * max(min(patch_width // 2, _MAX_WIDTH) // heads, 1)
        self.patches = nn.Sequential(nn.LayerNorm(patch_width), nn.Linear(patch_width, width))
        self.words = nn.Sequential(nn.LayerNorm(word_width), nn.Linear(word_width, width))
        self.register_buffer("positions", sine_positions(*grid, width), persistent=False)
        self.positions: Tensor
        self.blocks = nn.ModuleList(_CorrelationBlock(width, heads) for _ in range(blocks))
        initialise(self)

    def forward(self, patches: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """Z [B, N, C] from patches [B, N, D] and words [B, L, E] with word_mask bool [B, L] (True: may be read)."""
        states = self.patches(patches) + self.positions
        context = self.words(words)
        for block in self.blocks:
            states = block(states, context, word_mask)
        return states  # type: ignore[no-any-return]


class _CorrelationBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = CrossAttention(width, width, heads)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, states: Tensor, context: Tensor, word_mask: Tensor) -> Tensor:
        states = states + self.attention(self.attention_norm(states), context, context, word_mask)
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

"""The built-in pair of encoders: small, initialised at random, trained from nothing on the corpus at hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from placecli.engine.layers import BatchNorm, TransformerBlock, initialise, sine_positions
from placecli.engine.reading import Context, arrange_reading
from placecli.records import PlaceError


class BuiltinImageEncoder(nn.Module):
    """Convolutional network and, on its last map, pre-norm transformer blocks, for grayscale images.

    Input: float [B, 1, S, S], the pixel value in [0, 1] minus 0.5 over 0.5. Output: the global feature [B, 2 D], the
    mean and the maximum over patches (a small finding moves the maximum and hardly the mean), and the patches
    [B, N, D] in row order. `depth` 0 is the convolutional network alone.
    """

    only_for_patches: tuple[str, ...] = ()

    def __init__(self, image_size: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        _check_heads("image", width, heads)
        if image_size % patch:
            raise PlaceError(
                f"pretrain.model.image_size {image_size} is no multiple of image_patch {patch};"
                f" use {image_size // patch * patch or patch}"
            )
        self.width, self.global_width = width, 2 * width
        self.grid = (image_size // patch, image_size // patch)
        self.stem = _stem(patch, width)
        self.register_buffer("positions", sine_positions(*self.grid, width), persistent=False)
        self.positions: Tensor
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        initialise(self.blocks)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        # channels_last: twice as fast on a CPU, and the token layout then costs no copy.
        features = self.stem(images.contiguous(memory_format=torch.channels_last))
        patches = features.permute(0, 2, 3, 1).flatten(1, 2) + self.positions
        for block in self.blocks:
            patches = block(patches)
        patches = self.norm(patches)
        return torch.cat([patches.mean(dim=1), patches.amax(dim=1)], dim=1), patches


def _stem(patch: int, width: int) -> nn.Sequential:
    """Two convolutions a halving of the side (the first halving: one), the width doubling up to `width`."""
    layers: list[nn.Module] = []
    channels, stride = 1, 1
    while stride < patch:
        stride *= 2
        wider = max(8, width * stride // patch)
        # 4 x 4 with stride 2 looks at the middle of the two by two pixels that it stands for; 3 x 3 would look half a
        # pixel up and left, and after several halvings so would every heat-map.
        layers += [nn.Conv2d(channels, wider, 4, stride=2, padding=1, bias=False), BatchNorm(wider), nn.ReLU()]
        if channels > 1:  # at half resolution a second one would cost as much as all that follow
            layers += [nn.Conv2d(wider, wider, 3, padding=1, bias=False), BatchNorm(wider), nn.ReLU()]
        channels = wider
    layers.append(nn.Conv2d(channels, width, 1))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class BuiltinTextEncoder(nn.Module):
    """Token and learned position embeddings and a pre-norm transformer.

    Input: tokens int64 [B, L], attention bool [B, L], False at padding, which influences nothing, and sentence_index
    int64 [B, L]; `context` says what a word may read (`reading.Context`). Output: the global feature [B, D], the mean
    over attended tokens, and the tokens [B, L, D].
    """

    def __init__(
        self,
        vocabulary_size: int,
        max_tokens: int,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        context: Context = "sentence",
    ) -> None:
        super().__init__()
        _check_heads("text", width, heads)
        self.width = width
        self.context: Context = context
        self.architecture: dict[str, Any] = {"kind": "builtin"}
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.position_embedding = nn.Embedding(max_tokens, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        initialise(self)

    def forward(self, tokens: Tensor, attention: Tensor, sentence_index: Tensor) -> tuple[Tensor, Tensor]:
        length = tokens.shape[1]
        if length > self.position_embedding.num_embeddings:
            raise PlaceError(
                f"a text of {length} tokens is longer than pretrain.model.max_tokens"
                f" {self.position_embedding.num_embeddings}; cut it when encoding"
            )
        readable, positions = arrange_reading(attention, sentence_index, self.context)
        words = self.dropout(self.token_embedding(tokens) + self.position_embedding(positions))
        for block in self.blocks:
            words = block(words, readable)
        words = self.norm(words)
        return masked_mean(words, attention), words


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of tokens [B, L, D] where mask [B, L] is True -> [B, D]; zero where it is nowhere True."""
    weight = mask.to(tokens.dtype).unsqueeze(1)
    return (weight @ tokens).squeeze(1) / weight.sum(dim=2).clamp(min=1)


def _check_heads(kind: str, width: int, heads: int) -> None:
    if width % heads:
        raise PlaceError(f"pretrain.model.{kind}_width {width} is no multiple of {kind}_heads {heads}")

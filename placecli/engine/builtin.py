"""The built-in pair of encoders: small, initialised at random, trained from nothing on the corpus at hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from placecli.engine.layers import TransformerBlock, initialise, sine_positions
from placecli.records import PlaceError


class BuiltinImageEncoder(nn.Module):
    """Convolutional stem and pre-norm vision transformer for grayscale images.

    Input: float [B, 1, S, S], the pixel value in [0, 1] minus 0.5 over 0.5. Output: the global feature
    [B, D], which is the mean over patches (it learns from fewer images than a class token), and the patches
    [B, N, D] in row order. The stem is a chain of 3x3 convolutions of stride 2 that ends at the patch stride,
    with GroupNorm over each image alone.
    """

    def __init__(self, image_size: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        _check_heads("image", width, heads)
        if image_size % patch:
            raise PlaceError(
                f"pretrain.model.image_size {image_size} is no multiple of image_patch {patch};"
                f" use {image_size // patch * patch or patch}"
            )
        self.width = self.global_width = width
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
        return patches.mean(dim=1), patches


def _stem(patch: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 1
    stride = 1
    while stride < patch:
        stride *= 2
        is_last = stride == patch
        next_channels = width if is_last else min(8 * stride, width)
        # A chain of symmetric paddings would centre each patch's field on the patch's upper left corner; padding
        # the last map on its far sides alone puts it within half a pixel of the middle.
        layers += [nn.ZeroPad2d((0, 1, 0, 1))] if is_last else []
        layers += [nn.Conv2d(channels, next_channels, 3, stride=2, padding=0 if is_last else 1, bias=False)]
        layers += [nn.GroupNorm(1, next_channels), nn.ReLU(inplace=True)]
        channels = next_channels
    layers.append(nn.Conv2d(channels, width, 1))
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


class BuiltinTextEncoder(nn.Module):
    """Token and learned position embeddings and a pre-norm transformer.

    Input: tokens int64 [B, L] and attention bool [B, L], False at padding, which influences nothing. Output:
    the global feature [B, D], the mean over attended tokens, and the tokens [B, L, D].
    """

    def __init__(
        self, vocabulary_size: int, max_tokens: int, width: int, depth: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        _check_heads("text", width, heads)
        self.width = width
        self.architecture: dict[str, Any] = {"kind": "builtin"}
        self.token_embedding = nn.Embedding(vocabulary_size, width)
        self.position_embedding = nn.Embedding(max_tokens, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        initialise(self)

    def forward(self, tokens: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        length = tokens.shape[1]
        if length > self.position_embedding.num_embeddings:
            raise PlaceError(
                f"a text of {length} tokens is longer than pretrain.model.max_tokens"
                f" {self.position_embedding.num_embeddings}; cut it when encoding"
            )
        words = self.dropout(self.token_embedding(tokens) + self.position_embedding.weight[:length])
        for block in self.blocks:
            words = block(words, attention)
        words = self.norm(words)
        return masked_mean(words, attention), words


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of tokens [B, L, D] where mask [B, L] is True -> [B, D]; zero where it is nowhere True."""
    weight = mask.to(tokens.dtype).unsqueeze(1)
    return (weight @ tokens).squeeze(1) / weight.sum(dim=2).clamp(min=1)


def _check_heads(kind: str, width: int, heads: int) -> None:
    if width % heads:
        raise PlaceError(f"pretrain.model.{kind}_width {width} is no multiple of {kind}_heads {heads}")

"""The maps that an image encoder makes on its way, finest first: what decoders join and raise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from placecli.engine.builtin import BuiltinImageEncoder
from placecli.engine.encoders import ImageEncoder


@dataclass(frozen=True, slots=True)
class MapShape:
    """A map [B, channels, H, W] with one place for each stride x stride pixels of the image."""

    channels: int
    stride: int


def map_shapes(encoder: ImageEncoder, image_size: int) -> tuple[MapShape, ...]:
    """Shapes of what `read_maps` gives. The last is the encoder's patches on their grid.

    Before it, finest first: for a convolutional network one map a halving of the side that is finer than the patches;
    for a vision transformer, whose maps are all of one size, the tokens after a third and two thirds of its blocks.
    """
    last = MapShape(encoder.width, -(-image_size // encoder.grid[0]))
    if isinstance(encoder, BuiltinImageEncoder):
        convolutions = [layer for layer in encoder.stem if isinstance(layer, nn.Conv2d)]
        halvings = [convolution.in_channels for convolution in convolutions if convolution.stride == (2, 2)]
        return (*(MapShape(channels, 2**i) for i, channels in enumerate(halvings) if i > 0), last)
    if _is_transformer(encoder):
        return (*(MapShape(encoder.width, last.stride) for _ in _blocks(encoder)), last)
    stages = encoder.backbone.feature_info
    return (*(MapShape(int(stages[i]["num_chs"]), int(stages[i]["reduction"])) for i in _stages(encoder)), last)


def read_maps(encoder: ImageEncoder, images: Tensor) -> list[Tensor]:
    """Maps [B, C, H, W] of images [B, 1, S, S], finest first; the last holds the patches that `encoder` gives.

    A map is computed once, on the way to the patches.
    """
    if isinstance(encoder, BuiltinImageEncoder):
        return _read_builtin(encoder, images)
    if _is_transformer(encoder):
        return _read_transformer(encoder, images)
    return _read_convolutional(encoder, images)


def last_map(encoder: ImageEncoder, images: Tensor) -> Tensor:
    """The patches of images [B, 1, S, S] as a map [B, D, rows, columns]."""
    return lay_out(encoder(images)[1], encoder.grid)


def lay_out(patches: Tensor, grid: tuple[int, int]) -> Tensor:
    """Patches [B, N, D] in row order -> [B, D, rows, columns]."""
    return patches.transpose(1, 2).reshape(len(patches), -1, *grid)


def _read_builtin(encoder: BuiltinImageEncoder, images: Tensor) -> list[Tensor]:
    features, maps = images.contiguous(memory_format=torch.channels_last), []
    for layer in encoder.stem:
        is_halving = isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)
        if is_halving and features.shape[1] > 1:
            maps.append(features)
        features = layer(features)
    patches = features.permute(0, 2, 3, 1).flatten(1, 2) + encoder.positions
    for block in encoder.blocks:
        patches = block(patches)
    return [*maps, lay_out(encoder.norm(patches), encoder.grid)]


def _read_transformer(encoder: Any, images: Tensor) -> list[Tensor]:
    tokens, maps = encoder.backbone.forward_intermediates(encoder.normalise(images), indices=_blocks(encoder))
    return [*maps, lay_out(tokens[:, encoder.backbone.num_prefix_tokens :], encoder.grid)]


def _read_convolutional(encoder: Any, images: Tensor) -> list[Tensor]:
    prepared = encoder.normalise(images).contiguous(memory_format=torch.channels_last)
    stages = [*_stages(encoder), encoder.stage]
    last, (*maps, middle) = encoder.backbone.forward_intermediates(prepared, indices=stages)
    raised = F.interpolate(encoder.top(last), size=encoder.grid, mode="bilinear", align_corners=False)
    patches = encoder.norm((encoder.lateral(middle) + raised).flatten(2).transpose(1, 2))
    return [*maps, lay_out(patches, encoder.grid)]


def _is_transformer(encoder: ImageEncoder) -> bool:
    from placecli.engine.timm_encoders import TransformerImageEncoder  # timm takes seconds to import

    return isinstance(encoder, TransformerImageEncoder)


def _blocks(encoder: Any) -> list[int]:
    """Index of the last block of the first and of the second third."""
    depth = len(encoder.backbone.blocks)
    return sorted({max(depth // 3, 1) - 1, max(2 * depth // 3, 1) - 1})


def _stages(encoder: Any) -> list[int]:
    """Index of the last stage at each stride that is finer than the patches'."""
    stages = encoder.backbone.feature_info
    finer = {int(info["reduction"]): i for i, info in enumerate(stages) if i < encoder.stage}
    return sorted(i for reduction, i in finer.items() if 1 < reduction < int(stages[encoder.stage]["reduction"]))

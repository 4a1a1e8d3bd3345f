"""The maps that an image encoder makes on its way, finest first: what decoders join and raise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from placecli.engine.builtin import BuiltinImageEncoder
from placecli.engine.encoders import ImageEncoder


@dataclass(frozen=True, slots=True)
class MapShape:
    """A map [B, channels, H, W] with one place for each stride x stride pixels of the image."""

    channels: int
    stride: int


def map_shapes(encoder: ImageEncoder, image_size: int) -> tuple[MapShape, ...]:
    """Shapes of what `read_maps` gives, finest first.

    Built-in encoder: one map a halving of the side that is finer than the patches, then the patches on their grid. Vision
    transformer, whose maps are all of one size: the tokens after a third and two thirds of its blocks, then the patches.
    Convolutional network: the last stage at each stride, then the network's output. Its patches are left out: they pass
    through a projection that published weights do not have, so that a frozen encoder would be judged by random numbers.
    """
    if isinstance(encoder, BuiltinImageEncoder):
        convolutions = [layer for layer in encoder.stem if isinstance(layer, nn.Conv2d)]
        halvings = [convolution.in_channels for convolution in convolutions if convolution.stride == (2, 2)]
        return (
            *(MapShape(channels, 2**i) for i, channels in enumerate(halvings) if i > 0),
            _patches(encoder, image_size),
        )
    if _is_convolutional(encoder):
        return _stage_shapes(encoder)
    return (_patches(encoder, image_size),) * (len(_blocks(encoder)) + 1)


def read_maps(encoder: ImageEncoder, images: Tensor) -> list[Tensor]:
    """Maps [B, C, H, W] of images [B, 1, S, S] with the shapes that `map_shapes` tells, each computed once."""
    if isinstance(encoder, BuiltinImageEncoder):
        return _read_builtin(encoder, images)
    if _is_convolutional(encoder):
        return _read_convolutional(encoder, images)
    return _read_transformer(encoder, images)


def last_map(encoder: ImageEncoder, images: Tensor) -> Tensor:
    """The last of the maps of images [B, 1, S, S] alone: the patches, or what a convolutional network ends in."""
    if _is_convolutional(encoder):
        return _read_convolutional(encoder, images)[-1]
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
    last, maps = encoder.backbone.forward_intermediates(prepared, indices=_stages(encoder))
    return [*maps, last]


def _patches(encoder: ImageEncoder, image_size: int) -> MapShape:
    return MapShape(encoder.width, -(-image_size // encoder.grid[0]))


def _stage_shapes(encoder: Any) -> tuple[MapShape, ...]:
    stages = encoder.backbone.feature_info
    finer = (MapShape(int(stages[i]["num_chs"]), int(stages[i]["reduction"])) for i in _stages(encoder))
    return (*finer, MapShape(encoder.global_width, max(int(stage["reduction"]) for stage in stages)))


def _is_convolutional(encoder: ImageEncoder) -> bool:
    from placecli.engine.timm_encoders import ConvolutionalImageEncoder  # timm takes seconds to import

    return isinstance(encoder, ConvolutionalImageEncoder)


def _blocks(encoder: Any) -> list[int]:
    """Index of the last block of the first and of the second third."""
    depth = len(encoder.backbone.blocks)
    return sorted({max(depth // 3, 1) - 1, max(2 * depth // 3, 1) - 1})


def _stages(encoder: Any) -> list[int]:
    """Index of the last stage at each stride between those of the image and of the network's output."""
    strides = [int(info["reduction"]) for info in encoder.backbone.feature_info]
    last = {stride: i for i, stride in enumerate(strides)}
    return sorted(i for stride, i in last.items() if 1 < stride < max(strides))

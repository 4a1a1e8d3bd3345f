"""The feature maps of an encoder from which a detector sees, finest first: at several scales where the encoder has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from placecli.engine import feature_maps
from placecli.engine.builtin import BuiltinImageEncoder
from placecli.engine.encoders import ImageEncoder
from placecli.engine.feature_maps import MapShape, last_map


def read_maps(encoder: ImageEncoder, images: Tensor, finest_stride: int) -> list[Tensor]:
    """Maps [B, C, H, W] of images [B, 1, S, S], none finer than `finest_stride` but the last, which is always there.

    Built-in encoder: those of its stem, the patches last. Vision transformer: the patches alone. Convolutional network:
    the last map of each stage, the network's output last. Its patches are left out: they pass through a projection
    that published weights do not have, so that a frozen encoder with those would be judged by random numbers.
    """
    if isinstance(encoder, BuiltinImageEncoder):
        shapes = feature_maps.map_shapes(encoder, images.shape[-1])
        maps = feature_maps.read_maps(encoder, images)
        return [
            m for m, shape in zip(maps, shapes, strict=True) if shape.stride >= finest_stride or shape is shapes[-1]
        ]
    if not hasattr(encoder, "stage"):
        return [last_map(encoder, images)]
    prepared = encoder.normalise(images).contiguous(memory_format=torch.channels_last)
    last, stages = encoder.backbone.forward_intermediates(prepared, indices=_stages(encoder, finest_stride))
    return [*stages, last]


def map_shapes(encoder: ImageEncoder, image_size: int, finest_stride: int) -> tuple[MapShape, ...]:
    """Shapes of what `read_maps` gives."""
    if isinstance(encoder, BuiltinImageEncoder):
        *finer, last = feature_maps.map_shapes(encoder, image_size)
        return (*(shape for shape in finer if shape.stride >= finest_stride), last)
    if not hasattr(encoder, "stage"):
        return (MapShape(encoder.width, image_size // encoder.grid[0]),)
    stages = encoder.backbone.feature_info
    chosen = (MapShape(int(stages[i]["num_chs"]), int(stages[i]["reduction"])) for i in _stages(encoder, finest_stride))
    return (*chosen, MapShape(encoder.global_width, max(int(stage["reduction"]) for stage in stages)))


def _stages(encoder: Any, finest_stride: int) -> list[int]:
    """Of each stride but the coarsest the last stage."""
    reductions = [int(stage["reduction"]) for stage in encoder.backbone.feature_info]
    coarsest = max(reductions)
    last = {reduction: i for i, reduction in enumerate(reductions)}
    return sorted(i for reduction, i in last.items() if finest_stride <= reduction < coarsest)

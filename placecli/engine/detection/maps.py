"""The feature maps of an encoder from which a detector sees, finest first: at several scales where the encoder has them."""

from __future__ import annotations

from torch import Tensor

from placecli.engine import feature_maps
from placecli.engine.encoders import ImageEncoder
from placecli.engine.feature_maps import MapShape, last_map


def read_maps(encoder: ImageEncoder, images: Tensor, finest_stride: int) -> list[Tensor]:
    """Maps [B, C, H, W] of images [B, 1, S, S], none finer than `finest_stride` but the last, which is always there.

    Those of `feature_maps.read_maps`; of a vision transformer, whose maps are all of one size, the last alone.
    """
    shapes = feature_maps.map_shapes(encoder, images.shape[-1])
    if _is_of_one_size(shapes):
        return [last_map(encoder, images)]
    *finer, last = feature_maps.read_maps(encoder, images)
    return [*(m for m, shape in zip(finer, shapes[:-1], strict=True) if shape.stride >= finest_stride), last]


def map_shapes(encoder: ImageEncoder, image_size: int, finest_stride: int) -> tuple[MapShape, ...]:
    """Shapes of what `read_maps` gives."""
    shapes = feature_maps.map_shapes(encoder, image_size)
    *finer, last = shapes
    if _is_of_one_size(shapes):
        return (last,)
    return (*(shape for shape in finer if shape.stride >= finest_stride), last)


def _is_of_one_size(shapes: tuple[MapShape, ...]) -> bool:
    return len({shape.stride for shape in shapes}) == 1

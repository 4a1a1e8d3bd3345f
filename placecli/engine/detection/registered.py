"""Our encoders and pyramid under names that mmdet's configurations know. Importing this module imports mmdet."""

from __future__ import annotations

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor, nn

from placecli.config import ModelConfig
from placecli.engine.detection.maps import read_maps
from placecli.engine.detection.pyramid import SimpleFeaturePyramid
from placecli.engine.encoders import ImageEncoder
from placecli.engine.start import build_empty_encoder


@MODELS.register_module()
class PlaceEncoder(nn.Module):
    """An image encoder as a backbone: images [B, 1, S, S] in [-1, 1] -> its maps.

    encoder: one that its owner holds, trains and saves, so that it is no part of this module's state; None builds
    one with random weights from `model`, the keys of `pretrain.model` that describe it.
    """

    def __init__(
        self, model: dict[str, Any], image_size: int, finest_stride: int, encoder: ImageEncoder | None = None
    ) -> None:
        super().__init__()
        self.finest_stride = finest_stride
        if encoder is None:
            self.own = build_empty_encoder(ModelConfig.model_validate(model), image_size)
        self._encoder = (self.own if encoder is None else encoder,)  # in a tuple, which torch does not look into

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(read_maps(self._encoder[0], images, self.finest_stride))


MODELS.register_module(name="PlaceFeaturePyramid", module=SimpleFeaturePyramid)

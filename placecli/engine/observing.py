"""An image encoder together with the extractor that reads it: the global feature and the V-PORs side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from placecli.config import ModelConfig
from placecli.engine.encoders import ImageEncoder
from placecli.engine.layers import ProjectionHead
from placecli.engine.model import unit
from placecli.engine.observations import VisualObservationExtractor


class ObservingImageEncoder(nn.Module):
    """An image encoder whose global feature [B, G + K d] is that of `image_encoder` followed by the K V-PORs of the
    image, each a unit vector of d; patches [B, N, D] are the encoder's. The extractor starts at random, from torch's
    generator, until `start.load_extractor` fills it; parts have the names they have in `Place`."""

    only_for_patches: tuple[str, ...] = ()

    def __init__(self, image_encoder: ImageEncoder, model: ModelConfig) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.width, self.grid = image_encoder.width, image_encoder.grid
        self.global_width = image_encoder.global_width + model.num_queries * model.embed_dim
        self.observer = VisualObservationExtractor(
            self.width, self.grid, model.num_queries, model.query_blocks, model.query_heads, model.dropout
        )
        self.observation_head = ProjectionHead(self.width, model.head_hidden, model.embed_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Global feature and patches of images [B, 1, S, S]."""
        global_feature, patches = self.image_encoder(images)
        observations = unit(self.observation_head(self.observer(patches)[0]))
        return torch.cat([global_feature, observations.flatten(1)], dim=1), patches

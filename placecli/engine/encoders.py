"""Image and text encoders by name: the built-in pair, timm, transformers, and the two packaged models.

Every image encoder takes float [B, 1, S, S], the pixel value in [0, 1] minus 0.5 over 0.5, and gives the global
feature [B, global_width] and patches [B, N, width] on its `grid` (rows, columns). Every text encoder takes tokens int64
[B, L], attention bool [B, L] and sentence_index int64 [B, L] and gives the global feature [B, width] and tokens
[B, L, width].

Nothing touches a network: published weights are read from an installed package, a local folder or file, or the local
cache of the Hugging Face hub; where they are absent, the error says how to fetch them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from placecli.config import ModelConfig
from placecli.engine.builtin import BuiltinImageEncoder, BuiltinTextEncoder
from placecli.records import PlaceError

if TYPE_CHECKING:
    from placecli.engine.timm_encoders import ConvolutionalImageEncoder, TransformerImageEncoder
    from placecli.engine.transformer_encoders import TransformerTextEncoder

ImageEncoder: TypeAlias = "BuiltinImageEncoder | TransformerImageEncoder | ConvolutionalImageEncoder"
TextEncoder: TypeAlias = "BuiltinTextEncoder | TransformerTextEncoder"


def build_image_encoder(model: ModelConfig, *, weights: str) -> ImageEncoder:
    """The image encoder that `model` names; `weights` is `random`, `pretrained` or a safetensors file.

    Raises PlaceError in one line when the name is unknown or the weights are not on this machine.
    """
    if model.image_encoder != "builtin":
        from placecli.engine.timm_encoders import build_timm_encoder  # timm takes seconds to import

        return build_timm_encoder(model, weights)
    if weights != "random":
        raise PlaceError("pretrain.model.image_weights: the builtin encoder starts at random; name a timm encoder")
    return BuiltinImageEncoder(
        model.image_size, model.image_patch, model.image_width, model.image_depth, model.image_heads
    )


def freeze_stages(encoder: ImageEncoder, num_stages: int) -> None:
    """Keep the first `num_stages` parts of a timm network as they are: the stem, then stage by stage (of a vision
    transformer, block by block). A backward pass ends there, which saves much of a step: the first stages of a
    convolutional network have the largest maps. Raises PlaceError where the network has fewer."""
    if isinstance(encoder, BuiltinImageEncoder):
        raise PlaceError("pretrain.model.image_frozen_stages: the builtin encoder starts at random, 0 is its value")
    from timm.models import group_parameters  # as above

    names = group_parameters(encoder.backbone, encoder.backbone.group_matcher(coarse=True))
    if num_stages > len(names):
        raise PlaceError(
            f"pretrain.model.image_frozen_stages {num_stages}: this image encoder has {len(names)} with its stem;"
            f" use {len(names)} or fewer"
        )
    frozen = {name for stage in sorted(names)[:num_stages] for name in names[stage]}
    for name, parameter in encoder.backbone.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)


def build_text_encoder(
    model: ModelConfig, vocabulary_size: int, *, architecture: dict[str, Any] | None = None
) -> TextEncoder:
    """The text encoder that `model` names, or the one that `architecture` describes, then with random weights.

    Raises PlaceError in one line when its files are not on this machine.
    """
    if model.text_encoder == "builtin":
        return BuiltinTextEncoder(
            vocabulary_size,
            model.max_tokens,
            model.text_width,
            model.text_layers or 3,
            model.text_heads,
            model.dropout,
            model.text_context,
        )
    from placecli.engine.transformer_encoders import build_transformer, rebuild_transformer  # as above

    return build_transformer(model) if architecture is None else rebuild_transformer(architecture, model.text_context)

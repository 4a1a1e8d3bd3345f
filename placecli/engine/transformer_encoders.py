"""Text encoders of the BERT family, through transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig
from transformers import logging as transformers_logging

from placecli.config import ModelConfig
from placecli.engine.builtin import masked_mean
from placecli.engine.pretrained_packages import MINILM, text_model_folder
from placecli.engine.reading import Context, cut_sentences
from placecli.records import PlaceError

_CLINICAL_BERT: Final = {
    "model_type": "bert",
    "vocab_size": 28996,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
}
PUBLISHED_SHAPES: Final[Mapping[str, Mapping[str, Any]]] = {"emilyalsentzer/Bio_ClinicalBERT": _CLINICAL_BERT}
"""Sizes of models whose files may be absent, as the config.json of each one's page on the Hugging Face hub gives them."""


Read = Callable[[Tensor, Tensor], Tensor]
"""Tokens int64 [n, L] and attention bool [n, L] -> features [n, L, D]."""


class TransformerTextEncoder(nn.Module):
    """A transformers model of the BERT family.

    Input: tokens int64 [B, L], attention bool [B, L] and sentence_index int64 [B, L]; `context` says what a word may
    read (`reading.Context`). Output: the global feature [B, D] (the first token, or
    the mean over attended tokens where the model was trained so) and the tokens [B, L, D]. `architecture` is what
    rebuilds it without weights: JSON-able, without paths.
    """

    def __init__(self, backbone: Any, pooling: str, context: Context) -> None:
        super().__init__()
        self.context: Context = context
        if getattr(backbone, "pooler", None) is not None:
            backbone.pooler = None  # its output is not used, so its weights would never get a gradient
        self.backbone = backbone
        self.pooling = pooling
        self.width = int(backbone.config.hidden_size)
        private = {"_name_or_path", "auto_map", "transformers_version"}
        config = {key: value for key, value in backbone.config.to_dict().items() if key not in private}
        self.architecture: dict[str, Any] = {"kind": "transformers", "pooling": pooling, "config": config}

    def forward(self, tokens: Tensor, attention: Tensor, sentence_index: Tensor) -> tuple[Tensor, Tensor]:
        return self.encode(tokens, attention, sentence_index, self.read)

    def read(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """Features [n, L, D] of texts as the backbone reads them: tokens int64 and attention bool [n, L]."""
        return self.backbone(input_ids=tokens, attention_mask=attention.long()).last_hidden_state  # type: ignore[no-any-return]

    def encode(self, tokens: Tensor, attention: Tensor, sentence_index: Tensor, read: Read) -> tuple[Tensor, Tensor]:
        """What `forward` gives, where `read` stands for `self.read`: a caller that remembers features brings its own."""
        if self.context == "sentence":
            return self._encode_sentences(tokens, attention, sentence_index, read)
        words = read(tokens, attention)
        return (masked_mean(words, attention) if self.pooling == "mean" else words[:, 0]), words

    def _encode_sentences(
        self, tokens: Tensor, attention: Tensor, sentence_index: Tensor, read: Read
    ) -> tuple[Tensor, Tensor]:
        """Each sentence between special tokens of its own, as the model was trained; equal ones once.

        The global feature is the mean over words, or over the sentences' first tokens. Special tokens give zeros.
        """
        last = (attention.sum(dim=1) - 1).clamp(min=0)
        parts = cut_sentences(tokens, sentence_index, tokens[:, 0], tokens.gather(1, last[:, None])[:, 0])
        distinct, index = torch.unique(
            torch.cat([parts.tokens, parts.attention.long()], dim=1), dim=0, return_inverse=True
        )
        ids, mask = distinct.chunk(2, dim=1)
        features = read(ids, mask.bool())
        words = features.new_zeros(*tokens.shape, self.width)
        words[parts.report, parts.place] = features[index[parts.sentence], parts.offset]
        is_word = attention & (sentence_index >= 0)
        if self.pooling == "mean":
            return masked_mean(words, is_word), words
        first = features[index, 0]
        of_report = torch.zeros(len(tokens), len(first), dtype=torch.bool, device=tokens.device)
        of_report[parts.report, parts.sentence] = True
        return masked_mean(first.expand(len(tokens), -1, -1), of_report), words


def build_transformer(model: ModelConfig) -> TransformerTextEncoder:
    """The encoder that `model.text_encoder` names, from files of this machine alone."""
    folder = text_model_folder(model.text_encoder)
    config = _text_config(folder, model)
    pooling = "mean" if model.text_encoder == MINILM else "first"
    is_random = model.text_weights == "random"
    backbone = AutoModel.from_config(config) if is_random else _load_text_weights(folder, config)  # type: ignore[no-untyped-call]
    return TransformerTextEncoder(backbone, pooling, model.text_context)


def rebuild_transformer(architecture: dict[str, Any], context: Context) -> TransformerTextEncoder:
    """An encoder of that `architecture` with random weights; reads no file."""
    content = dict(architecture["config"])
    config = AutoConfig.for_model(content.pop("model_type"), **content)
    backbone = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    return TransformerTextEncoder(backbone, architecture["pooling"], context)


def published_architecture(model: ModelConfig) -> dict[str, Any] | None:
    """What `rebuild_transformer` takes, for a model whose published sizes are known and fit `model`; reads no file."""
    shape = PUBLISHED_SHAPES.get(model.text_encoder)
    if shape is None or model.text_layers > shape["num_hidden_layers"]:
        return None
    layers = model.text_layers or shape["num_hidden_layers"]
    return {"kind": "transformers", "pooling": "first", "config": {**shape, "num_hidden_layers": layers}}


def _text_config(folder: str, model: ModelConfig) -> PretrainedConfig:
    config = cast(PretrainedConfig, AutoConfig.from_pretrained(folder, local_files_only=True))
    if model.text_layers > config.num_hidden_layers:
        raise PlaceError(
            f"pretrain.model.text_layers {model.text_layers}: {model.text_encoder} has {config.num_hidden_layers}"
        )
    config.num_hidden_layers = model.text_layers or config.num_hidden_layers
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = model.dropout
    if model.max_tokens > config.max_position_embeddings:
        raise PlaceError(
            f"pretrain.model.max_tokens {model.max_tokens}: {model.text_encoder} reads {config.max_position_embeddings}"
        )
    return config


def _load_text_weights(folder: str, config: PretrainedConfig) -> Any:
    level = transformers_logging.get_verbosity()
    # Layers cut by text_layers would be reported one by one.
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        return AutoModel.from_pretrained(folder, config=config, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise PlaceError(f"{folder}: no readable weights (model.safetensors): {str(error).splitlines()[0]}") from None
    finally:
        transformers_logging.set_verbosity(level)
        transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]

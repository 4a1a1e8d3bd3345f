"""A transformer decoder that writes tokens while it looks at patches; beam search and its cache are transformers' own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig, GenerationMixin, MBartConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.mbart.modeling_mbart import MBartDecoder

from placecli.records import PlaceError

_CACHE_NAMES: Final = ("cache", "past_key_values")


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the tokens that are no words."""

    pad: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Search:
    """How tokens are chosen. max_tokens: of the answer, its prompt included. min_tokens: before it may end.

    suppressed: tokens that are never written. use_cache False computes every prefix anew: slower, equal.
    """

    num_beams: int
    max_tokens: int
    length_penalty: float = 1.0
    min_tokens: int = 0
    suppressed: tuple[int, ...] = ()
    use_cache: bool = True


class ReportDecoder(PreTrainedModel, GenerationMixin):  # type: ignore[misc, no-untyped-call]
    """Pre-norm decoder blocks (self-attention, attention to the memory, feed-forward) over learned positions, built at
    random; the output layer is the token embedding."""

    config_class = MBartConfig
    base_model_prefix = "decoder"
    main_input_name = "memory"  # of the encoder that is not here; the prompt would be taken for its input otherwise
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: MBartConfig) -> None:
        super().__init__(config)
        self.decoder = MBartDecoder(config)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def of_size(
        cls,
        vocabulary: int,
        special: SpecialTokens,
        *,
        width: int,
        layers: int,
        heads: int,
        dropout: float,
        length: int,
        feed_forward: int = 0,
    ) -> ReportDecoder:
        """A decoder for reports of at most `length` tokens; weights come from torch's generator. feed_forward: its
        hidden width, 0 for four times `width`."""
        if width % heads:
            raise PlaceError(f"finetune.report_generation.width {width} is no multiple of heads {heads}")
        config = MBartConfig(
            vocab_size=vocabulary,
            d_model=width,
            encoder_layers=0,
            decoder_layers=layers,
            decoder_attention_heads=heads,
            decoder_ffn_dim=feed_forward or 4 * width,
            dropout=dropout,
            attention_dropout=dropout,
            max_position_embeddings=length,
            pad_token_id=special.pad,
            bos_token_id=special.start,
            eos_token_id=special.end,
            decoder_start_token_id=special.start,
            forced_eos_token_id=None,
            is_encoder_decoder=True,
        )
        return cls(config)

    def forward(
        self,
        decoder_input_ids: Tensor,
        encoder_outputs: Any,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        """Logits float32 [B, T, V] of the token after each of decoder_input_ids int64 [B, T].

        encoder_outputs[0] is the memory [B, N, D] of which attention_mask bool [B, N] says what may be read. The rest is
        handed on, among it the cache, which this and other versions of transformers name differently.
        """
        kwargs.pop("return_dict", None)
        kwargs.pop("decoder_attention_mask", None)  # prompts are not padded; what is right of a token is not read
        output = self.decoder(
            input_ids=decoder_input_ids,
            encoder_hidden_states=encoder_outputs[0],
            encoder_attention_mask=attention_mask,
            **kwargs,
        )
        logits = F.linear(output.last_hidden_state, self.decoder.embed_tokens.weight).float()
        cache = {name: output[name] for name in _CACHE_NAMES if name in output.keys()}  # noqa: SIM118
        return Seq2SeqLMOutput(logits=logits, cross_attentions=output.get("cross_attentions"), **cache)

    def get_encoder(self, *_: Any, **__: Any) -> None:
        """There is none: the memory comes from outside."""

    def _reorder_cache(self, cache: Any, beams: Tensor) -> Any:
        """Called by beam search. Beams of a study look at the same memory, so only what they wrote changes places."""
        getattr(cache, "self_attention_cache", cache).reorder_cache(beams)
        return cache

    @torch.no_grad()
    def write(self, memory: Tensor, mask: Tensor, prompt: Tensor, search: Search) -> Tensor:
        """Tokens int64 [B, T], the prompt [B, P] first, padded behind the end token."""
        config, num_prompt = self.config, prompt.shape[1]
        answer = self.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory),
            attention_mask=mask,
            decoder_input_ids=prompt,
            generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                num_beams=search.num_beams,
                length_penalty=search.length_penalty if search.num_beams > 1 else None,
                do_sample=False,
                max_new_tokens=search.max_tokens - num_prompt,
                min_new_tokens=search.min_tokens or None,
                suppress_tokens=list(search.suppressed) or None,
                use_cache=search.use_cache,
                pad_token_id=config.pad_token_id,
                bos_token_id=config.bos_token_id,
                eos_token_id=config.eos_token_id,
                decoder_start_token_id=config.decoder_start_token_id,
            ),
        )
        return torch.as_tensor(answer)

    @torch.no_grad()
    def look(self, memory: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """Where each of tokens [B, T] looked when it was written: float32 [B, T, N], mean over layers and heads.

        The token at t is written at position t - 1; the first has no place of its own and gets zeros.
        """
        before = self.config._attn_implementation
        self.set_attn_implementation("eager")  # the fused attention keeps no weights
        try:
            output = self(tokens[:, :-1], (memory,), mask, output_attentions=True, use_cache=False)
        finally:
            self.set_attn_implementation(before)
        maps = torch.stack([layer.float().mean(dim=1) for layer in output.cross_attentions]).mean(dim=0)
        return F.pad(maps, (0, 0, 1, 0))

"""A published text encoder kept as it is: what it reads is read once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_CACHE_BYTES = 4 << 30


class FrozenTextEncoder(nn.Module):
    """A `TransformerTextEncoder` in evaluation mode and without gradient, the features of what it has read remembered.

    Input and output as the encoder's own: tokens int64, attention bool, sentence_index int64, all [B, L] -> global
    feature [B, D] and tokens [B, L, D]. What is read at once, a sentence or a report as `encoder.context` says, is
    read alone and without padding, and its features are rounded to float16, so that they depend neither on the rest of
    the batch nor on whether they were remembered: a resumed run sees the same bits. A sentence is remembered whatever
    report it stands in and wherever; a report only in the same order of its sentences.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder.requires_grad_(False)
        self.encoder.eval()
        self.width = int(encoder.width)
        self.architecture: dict[str, Any] = encoder.architecture
        self._features: dict[bytes, Tensor] = {}
        self._bytes = 0

    def train(self, mode: bool = True) -> FrozenTextEncoder:
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def forward(self, tokens: Tensor, attention: Tensor, sentence_index: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(tokens.device.type, enabled=False):
            encoded: tuple[Tensor, Tensor] = self.encoder.encode(tokens, attention, sentence_index, self._recall)
        return encoded

    def _recall(self, tokens: Tensor, attention: Tensor) -> Tensor:
        """float32 [n, L, D], 0 at padding; text by text from memory, or read and remembered while there is room."""
        features = torch.zeros(*tokens.shape, self.width, dtype=torch.float16)
        texts, lengths = tokens.cpu(), attention.sum(dim=1).tolist()
        for i, length in enumerate(lengths):
            features[i, :length] = self._recall_one(texts[i, :length], tokens.device)
        return features.to(tokens.device).float()

    def _recall_one(self, text: Tensor, device: torch.device) -> Tensor:
        """float16 [L, D] on the CPU, of tokens int64 [L] on the CPU."""
        key = text.numpy().tobytes()
        if key not in self._features:
            alone = text[None].to(device)
            kept = self.encoder.read(alone, torch.ones_like(alone, dtype=torch.bool))[0].half().cpu()
            size = 2 * kept.numel()
            if self._bytes + size > _CACHE_BYTES:
                return kept
            self._features[key], self._bytes = kept, self._bytes + size
        return self._features[key]

"""A published text encoder kept as it is: what it reads is read once."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import Tensor, nn

_CACHE_BYTES = 4 << 30


class _Memory:
    """Features of texts, float16 [L, D] on the CPU, by encoder and text, up to `_CACHE_BYTES` in all."""

    def __init__(self) -> None:
        self.features: dict[tuple[str, bytes], Tensor] = {}
        self.num_bytes = 0

    def keep(self, key: tuple[str, bytes], features: Tensor) -> None:
        """Remember while there is room."""
        size = features.element_size() * features.numel()
        if self.num_bytes + size <= _CACHE_BYTES:
            self.features[key] = features
            self.num_bytes += size


_MEMORY = _Memory()
"""One for the process: models with the same published encoder, runs compared or trained in turn, read a text once."""


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
        self._identity = ""

    def train(self, mode: bool = True) -> FrozenTextEncoder:
        super().train(mode)
        self.encoder.eval()
        return self

    def _load_from_state_dict(self, *arguments: Any, **named: Any) -> None:
        self._identity = ""  # other weights remember nothing of these
        super()._load_from_state_dict(*arguments, **named)

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
        key = (self._identify(device), text.numpy().tobytes())
        found = _MEMORY.features.get(key)
        if found is None:
            alone = text[None].to(device)
            found = self.encoder.read(alone, torch.ones_like(alone, dtype=torch.bool))[0].half().cpu()
            _MEMORY.keep(key, found)
        return found

    def _identify(self, device: torch.device) -> str:
        """The kind of device, whose rounding is its own, and the SHA-256 of architecture and weights, taken once."""
        if not self._identity:
            sha = hashlib.sha256(json.dumps(self.architecture, sort_keys=True).encode())
            for name, tensor in sorted(self.encoder.state_dict().items()):
                sha.update(name.encode())
                sha.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
            self._identity = sha.hexdigest()
        return f"{device.type} {self._identity}"

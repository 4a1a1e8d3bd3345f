"""A published text encoder kept as it is: its token features are computed once per report."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_CACHE_BYTES = 4 << 30


class FrozenTextEncoder(nn.Module):
    """`encoder` in evaluation mode and without gradient, its token features remembered.

    Input and output as the encoder's own: tokens int64, attention bool, sentence_index int64, all [B, L] -> global
    feature [B, D] and tokens [B, L, D]. A report is encoded alone and without padding, and its features are rounded to
    float16, so that they depend neither on the rest of the batch nor on whether they were remembered: a resumed run
    sees the same bits.
    """

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder.requires_grad_(False)
        self.encoder.eval()
        self.width = int(encoder.width)
        self.architecture: dict[str, Any] = encoder.architecture
        self._features: dict[bytes, tuple[Tensor, Tensor]] = {}
        self._bytes = 0

    def train(self, mode: bool = True) -> FrozenTextEncoder:
        super().train(mode)
        self.encoder.eval()
        return self

    @torch.no_grad()
    def forward(self, tokens: Tensor, attention: Tensor, sentence_index: Tensor) -> tuple[Tensor, Tensor]:
        words = torch.zeros(*tokens.shape, self.width, device=tokens.device)
        features = []
        for i, length in enumerate(attention.sum(dim=1).tolist()):
            global_feature, of_report = self._encode(tokens[i, :length], sentence_index[i, :length])
            words[i, :length] = of_report.to(tokens.device)
            features.append(global_feature)
        return torch.stack(features).to(tokens.device).float(), words

    def _encode(self, tokens: Tensor, sentence_index: Tensor) -> tuple[Tensor, Tensor]:
        """Global feature [D] and tokens [L, D] of one report, float16 on the CPU."""
        key = torch.stack([tokens, sentence_index]).cpu().numpy().tobytes()
        if key not in self._features:
            with torch.autocast(tokens.device.type, enabled=False):
                feature, words = self.encoder(
                    tokens[None], torch.ones_like(tokens[None], dtype=torch.bool), sentence_index[None]
                )
            kept = feature[0].half().cpu(), words[0].half().cpu()
            size = 2 * (kept[0].numel() + kept[1].numel())
            if self._bytes + size > _CACHE_BYTES:
                return kept
            self._features[key], self._bytes = kept, self._bytes + size
        return self._features[key]

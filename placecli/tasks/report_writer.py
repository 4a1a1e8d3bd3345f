"""The model that writes reports: an image encoder, what of it is read, and a decoder; and its loss."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from placecli.config import ReportGenerationConfig
from placecli.engine.encoders import ImageEncoder
from placecli.engine.report_decoder import ReportDecoder, Search
from placecli.tasks.report_text import Vocabulary


@dataclass(frozen=True, slots=True)
class Views:
    """The images of B studies. images: float32 [B, V, 1, S, S]; or patches: [B, V, N, D] of a frozen encoder.

    present: bool [B, V]; what is not there is not looked at.
    """

    images: Tensor | None
    patches: Tensor | None
    present: Tensor


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """views of B studies and their reports, tokens int64 [B, T] padded on the right.

    weights: float32 [B, T], how much each token counts; None: all alike.
    """

    views: Views
    tokens: Tensor
    weights: Tensor | None = None


class ReportWriter(nn.Module):
    """Logits of the next token from the patches of one or two images.

    Memory: LayerNorm(linear(patch)) + a learnt place + a learnt code of the view. With `is_frozen` the encoder takes no
    gradient and stays in evaluation mode. `reference` [R, K, d]: visual observations of train images by the pre-trained
    run, which grounding compares with; R is 0 where there is no such run.
    """

    reference: Tensor

    def __init__(
        self,
        encoder: ImageEncoder,
        vocabulary: Vocabulary,
        config: ReportGenerationConfig,
        reference_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.encoder, self.is_frozen = encoder, config.tune != "full"
        width, num_patches = config.width, encoder.grid[0] * encoder.grid[1]
        self.project = nn.Linear(encoder.width, width)
        self.norm = nn.LayerNorm(width)
        self.places = nn.Parameter(torch.randn(num_patches, width) * 0.02)
        self.view_codes = nn.Parameter(torch.randn(config.views, width) * 0.02)
        self.decoder = ReportDecoder.of_size(
            len(vocabulary),
            vocabulary.special,
            width=width,
            layers=config.layers,
            heads=config.heads,
            dropout=config.dropout,
            length=config.max_tokens,
        )
        self.register_buffer("reference", torch.zeros(reference_shape))
        if self.is_frozen:
            encoder.requires_grad_(False)

    def look_at(self, images: Tensor) -> Tensor:
        """Patches [B, N, D] of images [B, 1, S, S]."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            patches: Tensor = self.encoder(images)[1]
        return patches

    def remember(self, views: Views) -> tuple[Tensor, Tensor]:
        """Memory [B, V N, width] and mask bool [B, V N], the patches of the first view first."""
        patches = views.patches
        if patches is None:
            assert views.images is not None
            each = self.look_at(views.images.flatten(0, 1))
            patches = each.view(*views.images.shape[:2], *each.shape[1:])
        memory = self.norm(self.project(patches)) + self.places + self.view_codes[: patches.shape[1], None]
        mask = views.present[:, :, None].expand(memory.shape[:3])
        return memory.flatten(1, 2), mask.flatten(1, 2)

    def forward(self, views: Views, tokens: Tensor) -> Tensor:
        """Logits float32 [B, T, V] of what follows each of tokens [B, T]."""
        memory, mask = self.remember(views)
        logits: Tensor = self.decoder(tokens, (memory,), mask, use_cache=False).logits
        return logits

    @torch.no_grad()
    def write(self, memory: Tensor, mask: Tensor, prompt: tuple[int, ...], search: Search) -> Tensor:
        """Tokens int64 [B, T] of what `remember` gave."""
        first = torch.tensor(prompt, device=memory.device).repeat(len(memory), 1)
        return self.decoder.write(memory, mask, first, search)

    def train(self, mode: bool = True) -> ReportWriter:
        super().train(mode)
        if self.is_frozen:
            self.encoder.eval()
        return self


class ReportLoss(nn.Module):
    """Cross-entropy of the words of a batch, each times its weight, summed, over B x `words_per_report`.

    A fixed number of words, not the batch's own, makes the loss of two halves the mean of theirs, and so independent of
    how many processes share the batch. `ignored` tokens, words that are not in the vocabulary, are not learnt.
    """

    def __init__(self, model: ReportWriter, words_per_report: float, ignored: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.words_per_report, self.ignored = model, words_per_report, ignored

    def forward(self, batch: ReportBatch) -> dict[str, Tensor]:
        total, _ = summed_loss(self.model, batch, self.ignored)
        return {"loss": total / (len(batch.tokens) * self.words_per_report)}


def summed_loss(model: ReportWriter, batch: ReportBatch, ignored: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Cross-entropy summed over the counted words, each times its weight, and the sum of the weights."""
    logits, targets = model(batch.views, batch.tokens[:, :-1]), batch.tokens[:, 1:]
    is_counted = torch.ones_like(targets, dtype=torch.bool)
    for token in ignored:
        is_counted &= targets != token
    each = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    counted = is_counted if batch.weights is None else is_counted * batch.weights[:, 1:]
    return (each * counted.flatten()).sum(), counted.sum()

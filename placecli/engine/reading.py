"""What each word of a report may read while it is encoded, and its position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Context = Literal["sentence", "report"]
"""`sentence`: a word reads its own sentence and counts its position from there, so that a sentence means the same in
every report and alone; special tokens read the whole report. `report`: every word reads every other.

Reading the whole report, a sentence comes to carry the report's other sentences. Matched to images it then need not
speak of its own finding, and asked alone, as a prompt, it says nothing (docs/log.md has the figures).
"""


def arrange_reading(attention: Tensor, sentence_index: Tensor, context: Context) -> tuple[Tensor, Tensor]:
    """Which tokens each token may read, bool [B, L, L] (rows read columns), and positions int64 [B, L].

    attention bool [B, L] is False at padding, which nothing reads; sentence_index int64 [B, L] is -1 at special tokens
    and padding. A word's position counts from 1 within its sentence; that of a special token is its place.
    """
    length = attention.shape[1]
    places = torch.arange(length, device=attention.device).expand_as(sentence_index)
    if context == "report":
        return attention[:, None, :].expand(-1, length, -1), places
    is_special = sentence_index < 0
    same = sentence_index[:, :, None] == sentence_index[:, None, :]
    begins = torch.ones_like(attention)
    begins[:, 1:] = sentence_index[:, 1:] != sentence_index[:, :-1]
    first = torch.where(begins, places, 0).cummax(dim=1).values
    positions = torch.where(is_special, places, (places - first + 1).clamp(max=length - 1))
    return (same | is_special[:, :, None]) & attention[:, None, :], positions


@dataclass(frozen=True)
class Sentences:
    """The n sentences of a batch of reports, each between special tokens of its own, and where its words came from.

    tokens int64 and attention bool [n, M]. For each of the W words of the batch: its report, its place there, its
    sentence (a row of `tokens`) and its offset in it, int64 [W].
    """

    tokens: Tensor
    attention: Tensor
    report: Tensor
    place: Tensor
    sentence: Tensor
    offset: Tensor


def cut_sentences(tokens: Tensor, sentence_index: Tensor, first: Tensor, last: Tensor) -> Sentences:
    """The reports [B, L] cut into sentences; `first` and `last` int64 [B] are the special tokens put around each."""
    report, place = (sentence_index >= 0).nonzero(as_tuple=True)
    pair = torch.stack([report, sentence_index[report, place]], dim=1)
    whose, sentence, counts = torch.unique(pair, dim=0, return_inverse=True, return_counts=True)
    starts = counts.cumsum(dim=0) - counts
    # Words of a sentence follow each other, and sentences stand in the order of their numbers only within a report.
    order = torch.argsort(sentence, stable=True)
    offset = torch.empty_like(sentence)
    offset[order] = torch.arange(len(sentence), device=tokens.device) - starts[sentence[order]] + 1
    longest = int(counts.max()) if len(counts) else 0
    cut = tokens.new_zeros(len(counts), longest + 2)
    rows = torch.arange(len(counts), device=tokens.device)
    cut[rows, 0], cut[rows, counts + 1] = first[whose[:, 0]], last[whose[:, 0]]
    cut[sentence, offset] = tokens[report, place]
    attention = torch.arange(longest + 2, device=tokens.device) <= (counts + 1)[:, None]
    return Sentences(cut, attention, report, place, sentence, offset)

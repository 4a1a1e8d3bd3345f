"""What each word of a report may read while it is encoded, and its position."""

from __future__ import annotations

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

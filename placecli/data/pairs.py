"""Image-report pairs of a store: reports tokenised once, images read from memory-mapped shards, batches by index."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from placecli.data.reports import normalize_sentence, text_key
from placecli.records import Row

NUM_UNLIMITED = 1 << 40
"""Passed to the tokenizer so that it cuts nothing: the cut comes after the sentences are put in order."""

SENTENCES_AT_ONCE = 8192
"""Sentences that go through the tokenizer together."""


class ImageSource(Protocol):
    """Where pixels come from; a `Store` is one."""

    def images(self, rows: Sequence[Row]) -> np.ndarray:
        """uint8 [n, S, S] of these rows, in their order."""
        ...


class SentenceEncoder(Protocol):
    """What turns sentences into tokens; a `Tokenizer` is one."""

    pad_id: int

    def encode(
        self, sentences: Sequence[str], max_tokens: int, max_sentences: int
    ) -> tuple[Sequence[int], Sequence[int]]:
        """Token ids between special tokens, and per token the index of its sentence (-1: special)."""
        ...


@dataclass(frozen=True, slots=True)
class PairBatch:
    """B pairs. L tokens and S sentences are those of the longest report of the batch over all ranks.

    images: [B, 1, H, H], uint8 as stored or float32 in [-1, 1] once prepared for the model.
    tokens: int64 [B, L], the padding token where `attention` (bool [B, L]) is false.
    sentence_index: int64 [B, L], -1 at special tokens and padding. num_sentences: int64 [B].
    text_key: int64 [B], equal for reports with the same set of sentences. sentence_key: int64 [B, S], equal
    for equal sentences, -1 at padding. content: float32 [B, 4], the rectangle (x0, y0, x1, y1) that holds image,
    in fractions of the frame. row: int64 [B], positions in the rows that the pairs were made from.
    """

    images: Tensor
    tokens: Tensor
    attention: Tensor
    sentence_index: Tensor
    num_sentences: Tensor
    text_key: Tensor
    sentence_key: Tensor
    content: Tensor
    row: Tensor

    def to(self, device: torch.device) -> PairBatch:
        """The same batch on `device`; from pinned memory the copy does not wait."""
        return PairBatch(*(getattr(self, f.name).to(device, non_blocking=True) for f in dataclasses.fields(self)))

    def pin(self) -> PairBatch:
        """The same batch in page-locked memory, from which a GPU copies while it computes."""
        return PairBatch(*(getattr(self, f.name).pin_memory() for f in dataclasses.fields(self)))

    def __len__(self) -> int:
        return int(self.row.shape[0])


@dataclass(frozen=True, slots=True)
class _Text:
    """All reports as flat arrays: sentence j = first[i] + s of report i holds `ids[starts[j] : starts[j + 1]]`."""

    ids: np.ndarray
    starts: np.ndarray
    first: np.ndarray
    sentence_keys: np.ndarray
    text_keys: np.ndarray
    before: tuple[int, ...]
    after: tuple[int, ...]


class Pairs:
    """The rows of one split that have a report. `len` is their number; `skipped` counts rows without one."""

    def __init__(
        self,
        source: ImageSource,
        rows: Sequence[Row],
        tokenizer: SentenceEncoder,
        *,
        max_tokens: int,
        max_sentences: int,
    ) -> None:
        sentences = _tokenize_sentences(rows, tokenizer)
        self.rows: list[Row] = [row for row in rows if any(sentences.ids[text] for text in row.sentences)]
        self.skipped = len(rows) - len(self.rows)
        self.max_tokens, self.max_sentences = max_tokens, max_sentences
        self._source, self._pad_id = source, tokenizer.pad_id
        self._text = _flatten([row.sentences for row in self.rows], sentences)
        counts = np.diff(self._text.first)
        self.max_report_sentences = int(counts.max()) if len(counts) else 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def studies(self) -> np.ndarray:
        """int64 [n]: equal for pairs of the same study."""
        return _number([row.study_id for row in self.rows])

    @property
    def text_keys(self) -> np.ndarray:
        """int64 [n]: equal for reports with the same set of sentences."""
        return self._text.text_keys

    def batch(self, indices: np.ndarray, *, part: slice | None = None, order: np.ndarray | None = None) -> PairBatch:
        """The pairs `indices[part]`, padded as the whole of `indices` needs.

        indices: int [n], the batch over all ranks; `part` is this rank's share (default: all of it).
        order: float [n, max_report_sentences], sort keys that shuffle the sentences of each report; None keeps
        the report's own order. Every rank that passes the same `indices` and `order` gets equal widths.
        """
        texts = [self._assemble(int(index), None if order is None else order[i]) for i, index in enumerate(indices)]
        width = max(len(ids) for ids, _, _ in texts)
        num_sentences = max(len(keys) for _, _, keys in texts)
        mine = slice(None) if part is None else part
        return self._collate(np.asarray(indices)[mine], texts[mine], width, num_sentences)

    def _assemble(self, index: int, order: np.ndarray | None) -> tuple[list[int], list[int], list[int]]:
        """Token ids, sentence index per token and sentence keys of one report, cut to the limits."""
        text = self._text
        first, last = int(text.first[index]), int(text.first[index + 1])
        sentences = (
            np.arange(first, last) if order is None else first + np.argsort(order[: last - first], kind="stable")
        )
        room = self.max_tokens - len(text.before) - len(text.after)
        ids, index_of = list(text.before), [-1] * len(text.before)
        keys: list[int] = []
        for sentence in sentences[: self.max_sentences].tolist():
            words = text.ids[text.starts[sentence] : text.starts[sentence + 1]][:room].tolist()
            if not words:
                break
            ids += words
            index_of += [len(keys)] * len(words)
            keys.append(int(text.sentence_keys[sentence]))
            room -= len(words)
        return ids + list(text.after), index_of + [-1] * len(text.after), keys

    def _collate(
        self, indices: np.ndarray, texts: Sequence[tuple[list[int], list[int], list[int]]], width: int, sentences: int
    ) -> PairBatch:
        rows = [self.rows[int(index)] for index in indices]
        pixels = self._source.images(rows)
        size = float(pixels.shape[-1])
        tokens = np.full((len(rows), width), self._pad_id, np.int64)
        attention = np.zeros((len(rows), width), bool)
        index_of = np.full((len(rows), width), -1, np.int64)
        keys_of = np.full((len(rows), sentences), -1, np.int64)
        for i, (ids, positions, keys) in enumerate(texts):
            tokens[i, : len(ids)], attention[i, : len(ids)] = ids, True
            index_of[i, : len(ids)], keys_of[i, : len(keys)] = positions, keys
        return PairBatch(
            images=torch.from_numpy(np.ascontiguousarray(pixels)).unsqueeze(1),
            tokens=torch.from_numpy(tokens),
            attention=torch.from_numpy(attention),
            sentence_index=torch.from_numpy(index_of),
            num_sentences=torch.from_numpy((keys_of >= 0).sum(axis=1)),
            text_key=torch.from_numpy(self._text.text_keys[indices]),
            sentence_key=torch.from_numpy(keys_of),
            content=torch.from_numpy(np.asarray([row.content for row in rows], np.float32) / np.float32(size)),
            row=torch.from_numpy(indices.astype(np.int64)),
        )


@dataclass(frozen=True, slots=True)
class _Sentences:
    """Token ids of each distinct sentence, and the special tokens that stand around a report."""

    ids: Mapping[str, list[int]]
    before: tuple[int, ...]
    after: tuple[int, ...]


def _tokenize_sentences(rows: Sequence[Row], tokenizer: SentenceEncoder) -> _Sentences:
    distinct = list(dict.fromkeys(sentence for row in rows for sentence in row.sentences))
    ids: dict[str, list[int]] = {}
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    for start in range(0, len(distinct), SENTENCES_AT_ONCE):
        chunk = distinct[start : start + SENTENCES_AT_ONCE]
        encoded, index_of = tokenizer.encode(chunk, NUM_UNLIMITED, NUM_UNLIMITED)
        tokens, positions = np.asarray(encoded, np.int64), np.asarray(index_of, np.int64)
        inside = np.flatnonzero(positions >= 0)
        if len(inside):
            before, after = tuple(tokens[: inside[0]].tolist()), tuple(tokens[inside[-1] + 1 :].tolist())
        bounds = np.searchsorted(positions[inside], np.arange(len(chunk) + 1))
        for i, sentence in enumerate(chunk):
            ids[sentence] = tokens[inside[bounds[i] : bounds[i + 1]]].tolist()
    return _Sentences(ids, before, after)


def _flatten(reports: Sequence[Sequence[str]], sentences: _Sentences) -> _Text:
    # A sentence of which the tokenizer keeps nothing is no observation.
    kept = [[text for text in report if sentences.ids[text]] for report in reports]
    flat = [text for report in kept for text in report]
    normalized = {text: normalize_sentence(text) for text in dict.fromkeys(flat)}
    return _Text(
        ids=np.asarray([token for text in flat for token in sentences.ids[text]], np.int32),
        starts=np.concatenate([[0], np.cumsum([len(sentences.ids[text]) for text in flat])]).astype(np.int64),
        first=np.concatenate([[0], np.cumsum([len(report) for report in kept])]).astype(np.int64),
        sentence_keys=_number([normalized[text] for text in flat]),
        text_keys=_number([text_key(report) for report in reports]),
        before=sentences.before,
        after=sentences.after,
    )


def _number(names: Sequence[str]) -> np.ndarray:
    """int64 [n]: each distinct name gets the next number, in order of first appearance."""
    numbers: Mapping[str, int] = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.asarray([numbers[name] for name in names], np.int64)

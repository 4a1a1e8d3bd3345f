"""Sentences to token ids: a WordPiece vocabulary trained on the corpus, or the one of a published text encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from placecli.config import ModelConfig
from placecli.engine.pretrained_packages import text_model_folder
from placecli.records import PlaceError

_FILE = "tokenizer.json"
_BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_ROBERTA_TOKENS = ("<pad>", "<unk>", "<s>", "</s>")
_CACHE_LIMIT = 200_000


@dataclass(frozen=True)
class EncodedTexts:
    """A batch of B reports, padded to the longest: L tokens, sentence_index -1 at special tokens and padding."""

    tokens: np.ndarray
    """int64 [B, L]"""
    attention: np.ndarray
    """bool [B, L], False at padding"""
    sentence_index: np.ndarray
    """int64 [B, L], the place of the token's sentence in its report"""
    num_sentences: np.ndarray
    """int64 [B], one more than the largest sentence index that kept a token"""


class Tokenizer:
    """Sentence by sentence between one start and one end token; text is cut at a token and a sentence limit."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        backend.no_truncation()  # published files carry limits of their own, which would cut sentences silently
        backend.no_padding()
        self._backend = backend
        self._cache: dict[str, tuple[int, ...]] = {}
        for names in (_BERT_TOKENS, _ROBERTA_TOKENS):
            ids = [number for name in names if (number := backend.token_to_id(name)) is not None]
            if len(ids) == len(names):
                self.pad_id, self.unknown_id, self.start_id, self.end_id = ids
                break
        else:
            raise PlaceError("the tokenizer has neither [PAD] [UNK] [CLS] [SEP] nor <pad> <unk> <s> </s>; use another")

    @classmethod
    def train(cls, texts: Iterable[str], vocabulary: int) -> Tokenizer:
        """A lower-case WordPiece of at most `vocabulary` pieces (never fewer than the corpus has characters).

        The same texts in the same order always give the same vocabulary.
        """
        corpus = list(texts)
        if not any(text.strip() for text in corpus):
            raise PlaceError("no report sentence to train the vocabulary on; the training split has no text")
        normalizer = normalizers.BertNormalizer(lowercase=True)
        pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        characters = sorted({char for text in corpus for char in normalizer.normalize_str(text) if not char.isspace()})
        # The trainer meets continuation characters in the order of a randomly seeded hash table and breaks ties by
        # it; naming them first takes that chance away.
        pieces = [*_BERT_TOKENS, *(f"##{char}" for char in characters)]
        learner = tokenizers.Tokenizer(models.WordPiece(unk_token=_BERT_TOKENS[1]))
        learner.normalizer, learner.pre_tokenizer = normalizer, pre_tokenizer
        size = max(vocabulary, len(pieces) + len(characters))
        learner.train_from_iterator(
            corpus, trainers.WordPieceTrainer(vocab_size=size, special_tokens=pieces, show_progress=False)
        )
        backend = tokenizers.Tokenizer(models.WordPiece(learner.get_vocab(), unk_token=_BERT_TOKENS[1]))
        backend.normalizer, backend.pre_tokenizer = normalizer, pre_tokenizer
        return cls(backend)

    @classmethod
    def from_transformer(cls, folder: str) -> Tokenizer:
        """The tokenizer of a transformers model in a local folder; PlaceError when there is none."""
        from transformers import AutoTokenizer  # seconds to import, and the built-in encoder never needs it

        try:
            published = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
            return cls(tokenizers.Tokenizer.from_str(published.backend_tokenizer.to_str()))
        except (OSError, ValueError, AttributeError) as error:
            raise PlaceError(f"{folder}: no readable tokenizer: {str(error).splitlines()[0]}") from None

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """The tokenizer that `save` wrote into `folder`."""
        path = folder / _FILE
        if not path.is_file():
            raise PlaceError(f"{path} is missing; the run folder is incomplete")
        try:
            backend = tokenizers.Tokenizer.from_str(path.read_text("utf-8"))
        except Exception as error:  # the Rust library raises plain Exception for a file it cannot parse
            raise PlaceError(f"{path}: not a tokenizer file: {error}") from None
        return cls(backend)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` into `folder`, which is made when absent."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_text(self._backend.to_str(pretty=True), "utf-8")

    @property
    def size(self) -> int:
        """Number of token ids."""
        return int(self._backend.get_vocab_size())

    def encode(self, sentences: Sequence[str], max_tokens: int, max_sentences: int) -> tuple[list[int], list[int]]:
        """Token ids and sentence index of one report: at most `max_tokens` ids, start and end token included.

        A sentence that the limit cuts keeps the tokens before it; sentences past `max_sentences` are left out.
        """
        self._remember(sentences[:max_sentences])
        ids, index = [self.start_id], [-1]
        room = max_tokens - 2
        for number, sentence in enumerate(sentences[:max_sentences]):
            pieces = self._cache[sentence][:room]
            room -= len(pieces)
            ids += pieces
            index += [number] * len(pieces)
        return [*ids, self.end_id], [*index, -1]

    def encode_batch(self, reports: Sequence[Sequence[str]], max_tokens: int, max_sentences: int) -> EncodedTexts:
        """`encode` of every report, padded to the longest; unseen sentences go through the tokenizer together."""
        self._remember([sentence for report in reports for sentence in report[:max_sentences]])
        encoded = [self.encode(report, max_tokens, max_sentences) for report in reports]
        length = max((len(ids) for ids, _ in encoded), default=0)
        tokens = np.full((len(encoded), length), self.pad_id, np.int64)
        sentence_index = np.full((len(encoded), length), -1, np.int64)
        attention = np.zeros((len(encoded), length), np.bool_)
        for row, (ids, index) in enumerate(encoded):
            tokens[row, : len(ids)] = ids
            sentence_index[row, : len(ids)] = index
            attention[row, : len(ids)] = True
        return EncodedTexts(tokens, attention, sentence_index, sentence_index.max(axis=1, initial=-1) + 1)

    def _remember(self, sentences: Sequence[str]) -> None:
        if len(self._cache) > _CACHE_LIMIT:
            self._cache.clear()
        unseen = list(dict.fromkeys(sentence for sentence in sentences if sentence not in self._cache))
        for sentence, encoding in zip(
            unseen, self._backend.encode_batch(unseen, add_special_tokens=False), strict=True
        ):
            self._cache[sentence] = tuple(encoding.ids)


def build_tokenizer(model: ModelConfig, texts: Iterable[str]) -> Tokenizer:
    """The tokenizer that fits `model.text_encoder`: trained on `texts` for the built-in one, else the published one."""
    if model.text_encoder == "builtin":
        return Tokenizer.train(texts, model.vocabulary)
    return Tokenizer.from_transformer(text_model_folder(model.text_encoder))

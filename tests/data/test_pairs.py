"""Pairs against a naive assembly, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from placecli.data.pairs import Pairs
from placecli.records import Row

SIZE = 8


class Letters:
    """A tokenizer whose tokens are letters; 1 begins a report, 2 ends it, 9 pads."""

    pad_id = 9

    def encode(self, sentences: Sequence[str], max_tokens: int, max_sentences: int) -> tuple[list[int], list[int]]:
        ids, index_of = [1], [-1]
        for i, sentence in enumerate(sentences[:max_sentences]):
            letters = [ord(letter) for letter in sentence if letter.isalpha()][: max_tokens - 1 - len(ids)]
            ids, index_of = ids + letters, index_of + [i] * len(letters)
        return [*ids, 2], [*index_of, -1]


class Frames:
    """Image i is filled with the number of its row."""

    def images(self, rows: Sequence[Row]) -> np.ndarray:
        return np.stack([np.full((SIZE, SIZE), row.row, np.uint8) for row in rows])


def row(number: int, *sentences: str, study: str = "") -> Row:
    return Row(
        image_id=f"i{number}", study_id=study or f"s{number}", patient_id="p", split="train", view="PA", shard=0,
        row=number, content=(1, 0, 7, SIZE), sentences=sentences, findings="", impression="", labels={}, boxes=(),
        mask_row=-1, source="",
    )  # fmt: skip


def pairs(*rows: Row, max_tokens: int = 100, max_sentences: int = 10) -> Pairs:
    return Pairs(Frames(), rows, Letters(), max_tokens=max_tokens, max_sentences=max_sentences)


def test_a_batch_holds_images_tokens_and_masks() -> None:
    batch = pairs(row(3, "ab", "c"), row(5, "d"), row(7, "efg")).batch(np.asarray([0, 1]))
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (2, 1, SIZE, SIZE)
    assert batch.images[:, 0, 0, 0].tolist() == [3, 5]
    assert batch.tokens.tolist() == [[1, ord("a"), ord("b"), ord("c"), 2], [1, ord("d"), 2, 9, 9]]
    assert batch.attention.tolist() == [[True] * 5, [True, True, True, False, False]]
    assert batch.sentence_index.tolist() == [[-1, 0, 0, 1, -1], [-1, 0, -1, -1, -1]]
    assert batch.num_sentences.tolist() == [2, 1]
    assert batch.content.tolist() == [[0.125, 0.0, 0.875, 1.0]] * 2
    assert batch.row.tolist() == [0, 1]
    assert len(batch) == 2


def test_without_order_it_is_what_the_tokenizer_gives_for_the_whole_report() -> None:
    rows = [
        row(i, *sentences) for i, sentences in enumerate([("ab", "cde", "f"), ("gh",), ("ij", "klm", "no", "pqrs")])
    ]
    for max_tokens, max_sentences in [(100, 10), (7, 10), (6, 2), (100, 1)]:
        batch = pairs(*rows, max_tokens=max_tokens, max_sentences=max_sentences).batch(np.arange(3))
        for i, each in enumerate(rows):
            ids, index_of = Letters().encode(each.sentences, max_tokens, max_sentences)
            assert batch.tokens[i, batch.attention[i]].tolist() == ids
            assert batch.sentence_index[i, batch.attention[i]].tolist() == index_of


def test_order_permutes_sentences_and_their_keys_together() -> None:
    source = pairs(row(0, "ab", "c", "def"))
    plain = source.batch(np.asarray([0]))
    shuffled = source.batch(np.asarray([0]), order=np.asarray([[0.9, 0.1, 0.5]]))
    assert shuffled.tokens.tolist() == [[1, ord("c"), ord("d"), ord("e"), ord("f"), ord("a"), ord("b"), 2]]
    assert shuffled.sentence_index.tolist() == [[-1, 0, 1, 1, 1, 2, 2, -1]]
    assert shuffled.sentence_key[0].tolist() == plain.sentence_key[0][[1, 2, 0]].tolist()
    assert shuffled.text_key.tolist() == plain.text_key.tolist()


def test_keys_say_which_texts_are_equal() -> None:
    batch = pairs(row(0, "No mass.", "Clear"), row(1, "clear", "no  MASS"), row(2, "No mass")).batch(np.arange(3))
    text, sentence = batch.text_key.tolist(), batch.sentence_key.tolist()
    assert text[0] == text[1] != text[2]
    assert sentence[0] == sentence[1][::-1]
    assert sentence[2] == [sentence[0][0], -1]


def test_a_part_is_padded_like_the_whole_batch() -> None:
    source = pairs(row(0, "abcdef", "gh", "i"), row(1, "j"), row(2, "kl"), row(3, "m"))
    order = np.random.default_rng(0).random((4, source.max_report_sentences))
    whole = source.batch(np.arange(4), order=order)
    for part in (slice(0, 2), slice(2, 4)):
        share = source.batch(np.arange(4), part=part, order=order)
        for name in ("images", "tokens", "attention", "sentence_index", "sentence_key", "text_key", "row"):
            assert torch.equal(getattr(share, name), getattr(whole, name)[part]), name


def test_rows_without_a_readable_report_are_left_out_and_counted() -> None:
    source = pairs(row(0), row(1, "ab"), row(2, "..."), row(3, "...", "c"))
    assert len(source) == 2
    assert source.skipped == 2
    batch = source.batch(np.arange(2))
    assert batch.images[:, 0, 0, 0].tolist() == [1, 3]
    assert batch.num_sentences.tolist() == [1, 1]


def test_studies_are_numbered_alike() -> None:
    source = pairs(row(0, "a", study="x"), row(1, "b", study="y"), row(2, "a", study="x"))
    assert source.studies.tolist() == [0, 1, 0]


@pytest.mark.parametrize("max_tokens", [3, 4, 5])
def test_a_sentence_cut_short_stays_while_one_token_of_it_is_left(max_tokens: int) -> None:
    batch = pairs(row(0, "ab", "cd"), max_tokens=max_tokens).batch(np.asarray([0]))
    assert batch.num_sentences.tolist() == [{3: 1, 4: 1, 5: 2}[max_tokens]]
    assert batch.tokens.shape[1] == max_tokens

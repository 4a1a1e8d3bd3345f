"""What a word reads: sentences cut out of reports and put back, and a report's feature from its sentences."""

from __future__ import annotations

import pytest
import torch

from placecli.engine.reading import arrange_reading, cut_sentences

TOKENS = torch.tensor([[2, 11, 12, 21, 31, 32, 33, 3], [2, 41, 42, 3, 0, 0, 0, 0]])
ATTENTION = TOKENS > 0
SENTENCE = torch.tensor([[-1, 2, 2, 0, 1, 1, 1, -1], [-1, 0, 0, -1, -1, -1, -1, -1]])
"""Sentences stand in another order than their numbers, as after shuffling."""


def test_each_sentence_stands_between_special_tokens_of_its_own() -> None:
    parts = cut_sentences(TOKENS, SENTENCE, torch.tensor([2, 2]), torch.tensor([3, 3]))
    cut = [row[mask].tolist() for row, mask in zip(parts.tokens, parts.attention, strict=True)]
    assert cut == [[2, 21, 3], [2, 31, 32, 33, 3], [2, 11, 12, 3], [2, 41, 42, 3]]
    assert torch.equal(parts.tokens[parts.sentence, parts.offset], TOKENS[parts.report, parts.place])
    assert len(parts.report) == int((SENTENCE >= 0).sum())


def test_reports_without_a_word_have_no_sentence() -> None:
    nothing = cut_sentences(TOKENS, torch.full_like(SENTENCE, -1), torch.tensor([2, 2]), torch.tensor([3, 3]))
    assert nothing.tokens.shape[0] == 0
    assert len(nothing.report) == 0


def test_words_read_their_sentence_and_special_tokens_the_report() -> None:
    readable, positions = arrange_reading(ATTENTION, SENTENCE, "sentence")
    assert readable[0, 1].nonzero().flatten().tolist() == [1, 2]
    assert readable[0, 5].nonzero().flatten().tolist() == [4, 5, 6]
    assert readable[0, 0].tolist() == ATTENTION[0].tolist()
    assert positions[0, 1:7].tolist() == [1, 2, 1, 1, 2, 3]
    assert not readable[1, :, 4:].any()
    whole, places = arrange_reading(ATTENTION, SENTENCE, "report")
    assert torch.equal(whole, ATTENTION[:, None, :].expand(-1, 8, -1))
    assert places[0].tolist() == list(range(8))


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_reports_feature_is_made_of_its_sentences(pooling: str) -> None:
    transformers = pytest.importorskip("transformers")
    from placecli.engine.transformer_encoders import TransformerTextEncoder

    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    torch.manual_seed(0)
    encoder = TransformerTextEncoder(transformers.BertModel(config), pooling, "sentence").eval()
    feature, words = encoder(TOKENS, ATTENTION, SENTENCE)
    alone = [[2, 21, 3], [2, 31, 32, 33, 3], [2, 11, 12, 3]]
    states = [encoder.backbone(input_ids=torch.tensor([ids])).last_hidden_state[0] for ids in alone]
    torch.testing.assert_close(words[0, 1:7], torch.cat([states[2][1:-1], states[0][1:-1], states[1][1:-1]]))
    of_sentences = torch.stack([state[0] for state in states]) if pooling == "first" else words[0, 1:7]
    torch.testing.assert_close(feature[0], of_sentences.mean(dim=0))
    assert not words[0, [0, 7]].any()

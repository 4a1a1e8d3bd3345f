"""A frozen text encoder gives what the encoder gives, and reads nothing twice."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from placecli.engine import frozen_text
from placecli.engine.frozen_text import FrozenTextEncoder
from placecli.engine.reading import Context
from placecli.engine.transformer_encoders import TransformerTextEncoder, rebuild_transformer

SPECIAL, FIRST, SECOND, THIRD = 2, [11, 12, 13], [21, 22, 23, 24], [31, 32]
SHAPE = {
    "model_type": "bert",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 24,
}


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_text, "_MEMORY", frozen_text._Memory())


def make_encoder(context: Context, pooling: str = "mean") -> TransformerTextEncoder:
    torch.manual_seed(0)
    return rebuild_transformer({"pooling": pooling, "config": SHAPE}, context).eval()


def batch(*reports: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, attention and sentence index of reports, each a list of sentences."""
    longest = max(sum(map(len, report)) for report in reports) + 2
    tokens = torch.zeros(len(reports), longest, dtype=torch.long)
    index = torch.full_like(tokens, -1)
    for row, report in enumerate(reports):
        words = [word for sentence in report for word in sentence]
        numbers = [number for number, sentence in enumerate(report) for _ in sentence]
        tokens[row, : len(words) + 2] = torch.tensor([SPECIAL, *words, SPECIAL])
        index[row, 1 : len(words) + 1] = torch.tensor(numbers)
    return tokens, tokens > 0, index


def count_readings(encoder: TransformerTextEncoder, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What the backbone is given from now on, text by text."""
    read, seen = encoder.read, []  # type: ignore[var-annotated]

    def noted(tokens: Tensor, attention: Tensor) -> Tensor:
        seen.extend(tokens.tolist())
        return read(tokens, attention)

    monkeypatch.setattr(encoder, "read", noted)
    return seen


@pytest.mark.parametrize("context", ["sentence", "report"])
@pytest.mark.parametrize("pooling", ["mean", "first"])
def test_it_gives_what_the_encoder_gives(context: Context, pooling: str) -> None:
    encoder = make_encoder(context, pooling)
    reports = batch([FIRST, SECOND], [THIRD], [SECOND, THIRD, FIRST])
    with torch.no_grad():
        features, words = encoder(*reports)
    for _ in range(2):  # read, then remembered
        frozen_features, frozen_words = FrozenTextEncoder(encoder)(*reports)
        torch.testing.assert_close(frozen_features, features, atol=3e-3, rtol=0)
        is_read = reports[1] if context == "report" else reports[2] >= 0
        torch.testing.assert_close(frozen_words[is_read], words[is_read], atol=3e-3, rtol=0)


def test_a_sentence_is_read_once_whatever_report_it_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder("sentence")
    seen = count_readings(encoder, monkeypatch)
    frozen = FrozenTextEncoder(encoder).train()
    frozen(*batch([FIRST, SECOND], [SECOND]))
    frozen(*batch([SECOND, FIRST], [THIRD, SECOND]))
    assert sorted(seen) == [[SPECIAL, *words, SPECIAL] for words in (FIRST, SECOND, THIRD)]
    assert not encoder.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_bits_depend_neither_on_the_batch_nor_on_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = FrozenTextEncoder(make_encoder("sentence"))
    alone = frozen(*batch([FIRST, THIRD]))
    together = frozen(*batch([SECOND, SECOND, SECOND], [FIRST, THIRD]))
    assert torch.equal(alone[1][0, 1:6], together[1][1, 1:6])
    monkeypatch.setattr(frozen_text, "_CACHE_BYTES", 0)
    forgetful = FrozenTextEncoder(make_encoder("sentence"))
    assert all(torch.equal(*pair) for pair in zip(forgetful(*batch([FIRST, THIRD])), alone, strict=True))
    assert len(frozen_text._MEMORY.features) == 3  # those from before


def test_models_with_the_same_encoder_share_what_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = FrozenTextEncoder(make_encoder("sentence")), FrozenTextEncoder(make_encoder("sentence"))
    expected = first(*batch([FIRST, SECOND]))
    seen = count_readings(second.encoder, monkeypatch)
    assert all(torch.equal(*pair) for pair in zip(second(*batch([FIRST, SECOND])), expected, strict=True))
    assert not seen


def test_other_weights_read_for_themselves() -> None:
    first, second = FrozenTextEncoder(make_encoder("sentence")), FrozenTextEncoder(make_encoder("sentence"))
    before = second(*batch([FIRST]))[0]
    weights = {name: tensor + 0.1 for name, tensor in first.state_dict().items()}
    first.load_state_dict(weights)
    second.load_state_dict(weights)
    after = second(*batch([FIRST]))[0]
    assert not torch.allclose(before, after)
    assert torch.equal(first(*batch([FIRST]))[0], after)

"""The decoder: cached as uncached, stepwise as at once, masks, and where it looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from placecli.engine.report_decoder import ReportDecoder, Search, SpecialTokens
from placecli.records import PlaceError

SPECIAL = SpecialTokens(0, 1, 2)


@pytest.fixture(scope="module")
def decoder() -> ReportDecoder:
    torch.manual_seed(0)
    built = ReportDecoder.of_size(60, SPECIAL, width=32, layers=2, heads=4, dropout=0.1, length=24).eval()
    with torch.no_grad():  # as they begin, all words are about equally likely
        for name, weights in built.named_parameters():
            if weights.ndim > 1:
                weights.mul_(60 if "positions" in name else 2 if "tokens" in name else 8)
    return built


@pytest.fixture(scope="module")
def memory() -> tuple[Tensor, Tensor]:
    mask = torch.ones(3, 9, dtype=torch.bool)
    mask[1, 4:] = False
    return torch.randn(3, 9, 32, generator=torch.Generator().manual_seed(1)), mask


PROMPT = torch.tensor([[1, 3]] * 3)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_cache_changes_no_token(decoder: ReportDecoder, memory: tuple[Tensor, Tensor], num_beams: int) -> None:
    cached = decoder.write(*memory, PROMPT, Search(num_beams, 24, min_tokens=20))
    uncached = decoder.write(*memory, PROMPT, Search(num_beams, 24, min_tokens=20, use_cache=False))
    assert torch.equal(cached, uncached)
    assert cached.shape[1] >= 22
    assert torch.equal(cached[:, :2], PROMPT)
    assert len({tuple(row) for row in cached.tolist()}) == 3


def test_greedy_search_is_teacher_forcing_step_by_step(decoder: ReportDecoder, memory: tuple[Tensor, Tensor]) -> None:
    written = decoder.write(*memory, PROMPT, Search(1, 24, min_tokens=22))
    with torch.no_grad():
        logits = decoder(written, memory[:1], memory[1]).logits
        tokens = PROMPT
        for _ in range(22):
            following = decoder(tokens, memory[:1], memory[1]).logits[:, -1]
            torch.testing.assert_close(following, logits[:, tokens.shape[1] - 1], atol=1e-4, rtol=1e-4)
            following[:, SPECIAL.end] = -torch.inf
            tokens = torch.cat([tokens, following.argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(tokens, written)


def test_beam_search_finds_a_report_at_least_as_likely(decoder: ReportDecoder, memory: tuple[Tensor, Tensor]) -> None:
    def likelihood(tokens: Tensor) -> Tensor:
        with torch.no_grad():
            each = decoder(tokens[:, :-1], memory[:1], memory[1]).logits.log_softmax(dim=-1)
        return each.gather(2, tokens[:, 1:, None])[:, 1:, 0].sum(dim=1)

    greedy, beams = (
        likelihood(decoder.write(*memory, PROMPT, Search(num, 8, min_tokens=6, suppressed=(2,)))) for num in (1, 12)
    )
    assert (beams >= greedy - 1e-4).all()


def test_what_is_masked_is_not_read_and_not_looked_at(decoder: ReportDecoder, memory: tuple[Tensor, Tensor]) -> None:
    values, mask = memory
    tokens = torch.randint(3, 60, (3, 10), generator=torch.Generator().manual_seed(2))
    changed = values.clone()
    changed[1, 4:] = 50.0
    with torch.no_grad():
        assert torch.equal(decoder(tokens, (values,), mask).logits[1], decoder(tokens, (changed,), mask).logits[1])
        assert not torch.equal(decoder(tokens, (values,), mask).logits, decoder(tokens, (changed * 2,), mask).logits)
    maps = decoder.look(values, mask, tokens)
    assert maps.shape == (3, 10, 9)
    assert maps[1, :, 4:].abs().max() == 0
    assert maps[:, 0].abs().max() == 0
    torch.testing.assert_close(maps[:, 1:].sum(dim=2), torch.ones(3, 9))


def test_suppressed_tokens_are_never_written(decoder: ReportDecoder, memory: tuple[Tensor, Tensor]) -> None:
    free = decoder.write(*memory, PROMPT, Search(2, 24, min_tokens=20))
    taken = tuple({int(n) for n in free[:, 2:].flatten()} - {0, 2})[:3]
    held = decoder.write(*memory, PROMPT, Search(2, 24, min_tokens=20, suppressed=taken))
    assert not set(held[:, 2:].flatten().tolist()) & set(taken)


def test_looking_leaves_the_fused_attention_in_place(decoder: ReportDecoder, memory: tuple[Tensor, Tensor]) -> None:
    before = decoder.config._attn_implementation
    decoder.look(*memory, PROMPT)
    assert decoder.config._attn_implementation == before == "sdpa"


def test_a_width_that_no_heads_divide_is_refused() -> None:
    with pytest.raises(PlaceError, match="no multiple of heads"):
        ReportDecoder.of_size(60, SPECIAL, width=30, layers=1, heads=4, dropout=0.0, length=8)

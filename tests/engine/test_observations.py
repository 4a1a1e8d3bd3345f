"""VPOE and sentence pooling: shapes, attention, masks, invariances."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from placecli.engine.layers import CrossAttention, SelfAttention, sine_positions
from placecli.engine.observations import VisualObservationExtractor, pool_sentences
from placecli.records import PlaceError


def make_extractor(blocks: int = 2) -> VisualObservationExtractor:
    torch.manual_seed(0)
    return VisualObservationExtractor(24, (3, 4), num_queries=5, blocks=blocks, heads=3, dropout=0.1).eval()


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_attention_rows_sum_to_one_over_the_patches(blocks: int) -> None:
    observations, attention = make_extractor(blocks)(random(2, 12, 24))
    assert observations.shape == (2, 5, 24)
    assert attention.shape == (2, 5, 12)
    assert float(attention.detach().min()) >= 0
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, 5))


def test_masked_patches_are_never_read() -> None:
    extractor, patches = make_extractor(), random(2, 12, 24)
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[:, ::3] = False
    observations, attention = extractor(patches, mask)
    assert float(attention[:, :, ::3].detach().abs().max()) == 0.0
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, 5))
    changed = torch.where(mask[:, :, None], patches, 1e3)
    torch.testing.assert_close(extractor(changed, mask)[0], observations)


def test_an_image_of_padding_alone_is_read_whole() -> None:
    extractor, patches = make_extractor(), random(2, 12, 24)
    observations, _ = extractor(patches, torch.zeros(2, 12, dtype=torch.bool))
    torch.testing.assert_close(observations, extractor(patches)[0])


def test_the_order_of_queries_only_orders_the_observations() -> None:
    extractor, patches = make_extractor(), random(2, 12, 24)
    observations, attention = extractor(patches)
    order = torch.tensor([4, 2, 0, 1, 3])
    with torch.no_grad():
        extractor.queries.copy_(extractor.queries[order].clone())
    permuted, permuted_attention = extractor(patches)
    torch.testing.assert_close(permuted, observations[:, order])
    torch.testing.assert_close(permuted_attention, attention[:, order])


def test_where_a_patch_stands_matters() -> None:
    extractor, patches = make_extractor(), random(1, 12, 24)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    difference = extractor(patches[:, order])[0] - extractor(patches)[0]
    assert difference.abs().max().item() > 1e-4


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(PlaceError, match="query_heads 5 does not divide the patch width 24"):
        VisualObservationExtractor(24, (3, 4), 4, 1, 5, 0.0)


def test_both_ways_to_attend_agree() -> None:
    torch.manual_seed(0)
    attention = CrossAttention(12, 12, 3)
    queries, context, mask = random(2, 4, 12), random(2, 6, 12, seed=1), torch.rand(2, 6) < 0.7
    mask[:, 0] = True
    answer, weights = attention.with_weights(queries, context, context, mask)
    torch.testing.assert_close(answer, attention(queries, context, context, mask))
    assert weights.shape == (2, 4, 6)


def test_self_attention_equals_torchs_own() -> None:
    torch.manual_seed(0)
    ours, theirs = SelfAttention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.in_proj_weight.data.copy_(ours.query_key_value.weight.data)
    theirs.in_proj_bias.data.copy_(ours.query_key_value.bias.data)
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    tokens = random(2, 5, 12)
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]])
    expected, _ = theirs(tokens, tokens, tokens, key_padding_mask=~mask)
    torch.testing.assert_close(ours(tokens, mask), expected)


def test_positions_tell_every_patch_apart() -> None:
    for width in (16, 24, 30):
        codes = sine_positions(5, 7, width)
        assert codes.shape == (35, width)
        assert float(torch.cdist(codes, codes).fill_diagonal_(1.0).min()) > 0.05
    torch.testing.assert_close(sine_positions(1, 3, 4)[:, 2], torch.tensor([0.0, 1.0, 2.0]).sin())


INDEX = torch.tensor([[-1, 0, 0, 1, 2, -1, -1], [-1, 0, 2, 2, 2, 2, -1]])


def test_sentences_are_pooled_from_their_own_words() -> None:
    words = random(2, 7, 6)
    pooled, mask = pool_sentences(words, INDEX, 4)
    assert mask.tolist() == [[True, True, True, False], [True, False, True, False]]
    for b in range(2):
        for s in range(4):
            own = words[b][INDEX[b] == s]
            expected = own.mean(dim=0) if len(own) else torch.zeros(6)
            torch.testing.assert_close(pooled[b, s], expected)


def test_words_of_no_sentence_change_nothing_and_leave_no_nan() -> None:
    words = random(2, 7, 6).requires_grad_()
    pooled, _ = pool_sentences(words, INDEX, 4)
    pooled.sum().backward()
    assert words.grad is not None
    assert torch.isfinite(words.grad).all()
    assert float(words.grad[INDEX < 0].abs().max()) == 0.0
    fewer, mask = pool_sentences(words, INDEX, 1)
    assert mask.tolist() == [[True], [True]]
    torch.testing.assert_close(fewer, pooled[:, :1])

"""Maps of every kind of encoder, and the decoders on them: shapes, sizes, one pass, what a pixel may depend on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from placecli.config import ModelConfig
from placecli.engine.decoders import Decoder, build_decoder
from placecli.engine.encoders import ImageEncoder, build_image_encoder
from placecli.engine.feature_maps import last_map, lay_out, map_shapes, read_maps

SMALL: dict[str, Any] = {"image_width": 32, "image_heads": 2}
ENCODERS: dict[str, tuple[dict[str, Any], list[tuple[int, int]]]] = {
    "builtin convolutions": ({"image_patch": 8, "image_depth": 0, "image_size": 48}, [(8, 2), (16, 4), (32, 8)]),
    "builtin blocks": ({"image_patch": 16, "image_depth": 1, "image_size": 64}, [(8, 2), (8, 4), (16, 8), (32, 16)]),
    "resnet18": ({"image_size": 72}, [(64, 2), (64, 4), (128, 8), (256, 16), (512, 32)]),
    "efficientnet_lite0": ({"image_size": 64}, [(16, 2), (24, 4), (40, 8), (112, 16), (1280, 32)]),
    "convnext_atto": ({"image_size": 64}, [(40, 4), (80, 8), (160, 16), (320, 32)]),
    "vit_tiny_patch16_224": ({"image_size": 48}, [(192, 16), (192, 16), (192, 16)]),
}
CONVOLUTIONAL = ("resnet18", "efficientnet_lite0", "convnext_atto")
PROJECTION = ("lateral.weight", "lateral.bias", "top.weight", "top.bias", "norm.weight", "norm.bias")
"""What makes patches of a convolutional network's stages: no published weights have it."""


def build(kind: str) -> tuple[ImageEncoder, int]:
    settings = ENCODERS[kind][0]
    model = ModelConfig(image_encoder=kind.split()[0], **SMALL | settings)
    torch.manual_seed(0)
    return build_image_encoder(model, weights="random").eval(), model.image_size


def images(size: int, count: int = 2) -> Tensor:
    return torch.randn(count, 1, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", ENCODERS)
def test_maps_have_the_shapes_that_are_told_and_end_in_the_patches_or_the_output(kind: str) -> None:
    encoder, size = build(kind)
    shapes = map_shapes(encoder, size)
    with torch.no_grad():
        maps = read_maps(encoder, images(size))
        pooled, patches = encoder(images(size))
    assert [(shape.channels, shape.stride) for shape in shapes] == ENCODERS[kind][1]
    assert [tuple(one.shape) for one in maps] == [(2, s.channels, *[-(-size // s.stride)] * 2) for s in shapes]
    if kind in CONVOLUTIONAL:
        torch.testing.assert_close(maps[-1].mean(dim=(2, 3)), pooled, rtol=0, atol=0)
    else:
        torch.testing.assert_close(maps[-1], lay_out(patches, encoder.grid), rtol=0, atol=0)
    torch.testing.assert_close(last_map(encoder, images(size)), maps[-1], rtol=0, atol=0)


@pytest.mark.parametrize("decoder", ["unet", "setr"])
@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_a_convolutional_network_is_read_without_its_projection(kind: str, decoder: Decoder) -> None:
    """With published weights the projection is random, and a frozen encoder must not be judged by it."""
    encoder, size = build(kind)
    model = build_decoder(decoder, encoder, size, 16).eval()
    with torch.no_grad():
        before = model(images(size), model.read(encoder, images(size)))
        patches = encoder(images(size))[1]
        for name, weight in encoder.named_parameters():
            if name in PROJECTION:
                weight.add_(1.0)
        assert not torch.equal(encoder(images(size))[1], patches)
        torch.testing.assert_close(model(images(size), model.read(encoder, images(size))), before, rtol=0, atol=0)


def test_patches_are_laid_out_row_by_row() -> None:
    patches = torch.arange(6.0).view(1, 6, 1)
    assert lay_out(patches, (2, 3)).tolist() == [[[[0, 1, 2], [3, 4, 5]]]]


@pytest.mark.parametrize("decoder", ["unet", "setr"])
@pytest.mark.parametrize("kind", ENCODERS)
def test_decoders_give_a_logit_a_pixel_and_a_gradient_to_every_weight(kind: str, decoder: Decoder) -> None:
    encoder, size = build(kind)
    model = build_decoder(decoder, encoder, size, 32).train()
    encoder.train()
    logits = model(images(size), model.read(encoder, images(size)))
    assert logits.shape == (2, 1, size, size)
    logits.square().mean().backward()
    assert [name for name, weight in model.named_parameters() if weight.grad is None] == []
    lacking = [name for name, weight in encoder.named_parameters() if weight.grad is None]
    unread = PROJECTION if kind in CONVOLUTIONAL else ()
    unread += ("backbone.head.norm.weight", "backbone.head.norm.bias") if kind == "convnext_atto" else ()
    assert set(lacking) == set(unread)


@pytest.mark.parametrize(
    ("kind", "widths"), [("builtin blocks", [512, 256, 128, 64]), ("builtin convolutions", [32, 16, 8])]
)
def test_setr_halves_its_channels_at_each_doubling(kind: str, widths: list[int]) -> None:
    encoder, size = build(kind)
    model = build_decoder("setr", encoder, size, widths[0])
    convolutions = [part for part in model.steps.modules() if isinstance(part, nn.Conv2d)]
    assert [part.out_channels for part in convolutions] == widths
    assert {part.kernel_size for part in convolutions} == {(3, 3)}


def test_a_transformers_tokens_are_laid_over_their_own_patch() -> None:
    encoder, size = build("vit_tiny_patch16_224")
    model = build_decoder("unet", encoder, size, 32).eval()
    tokens = torch.zeros(1, 192, 3, 3)
    moved = tokens.clone()
    moved[:, :, 1, 2] = 1
    for layout, factor in zip(model.layouts, (4, 2), strict=True):  # type: ignore[arg-type]
        changed = (layout(moved) != layout(tokens)).any(dim=1)[0]
        expected = torch.zeros(3 * factor, 3 * factor, dtype=torch.bool)
        expected[factor : 2 * factor, 2 * factor :] = True
        assert changed.shape == expected.shape
        assert not bool((changed & ~expected).any())
        assert bool(changed.any())


def test_only_an_encoder_without_a_fine_map_gets_a_path_from_the_image() -> None:
    assert build_decoder("unet", *build("vit_tiny_patch16_224"), 32).shallow is not None  # type: ignore[union-attr]
    assert build_decoder("unet", *build("convnext_atto"), 32).shallow is not None  # type: ignore[union-attr]
    assert build_decoder("unet", *build("builtin blocks"), 32).shallow is None  # type: ignore[union-attr]

"""Decoders from the maps of an image encoder to one logit a pixel."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from placecli.engine.encoders import ImageEncoder
from placecli.engine.feature_maps import last_map, map_shapes, read_maps
from placecli.engine.layers import BatchNorm

Decoder = Literal["unet", "setr"]

_NARROWEST = 8
_SHALLOW = 16
"""Channels of the path that reads the image itself."""


class SetrDecoder(nn.Module):
    """The last map raised step by step: 3 x 3 convolution, BatchNorm, ReLU, twice the side, as often as the image needs.

    Channels: `width`, then half of it at each step. With 512 and patches of 16 px these are the four steps of SETR's
    progressive upsampling (Zheng et al. 2021) as the field uses it: 512, 256, 128, 64. A ResNet's output wants five.
    """

    def __init__(self, encoder: ImageEncoder, image_size: int, width: int) -> None:
        super().__init__()
        shape = map_shapes(encoder, image_size)[-1]
        steps, channels = nn.ModuleList(), shape.channels
        for i in range(max(shape.stride - 1, 0).bit_length()):
            wide = max(width >> i, _NARROWEST)
            steps.append(_convolve(channels, wide))
            channels = wide
        self.steps = steps
        self.head = nn.Conv2d(channels, 1, 1)

    def read(self, encoder: ImageEncoder, images: Tensor) -> list[Tensor]:
        """The maps that `forward` wants."""
        return [last_map(encoder, images)]

    def forward(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        """Logits [B, 1, S, S] of images [B, 1, S, S] with their maps."""
        features = maps[-1]
        for step in self.steps:
            features = F.interpolate(step(features), scale_factor=2, mode="bilinear", align_corners=False)
        return _to_size(self.head(features), images)


class UnetDecoder(nn.Module):
    """A U-Net's way up (Ronneberger et al. 2015): the coarse map raised to the next finer one and joined with it.

    At each step two 3 x 3 convolutions with BatchNorm and ReLU, the channels half of those before. A convolutional network
    is read from its output, as a rule at 32 pixels, through its stages. A vision transformer has no finer map: the tokens
    of its earlier blocks are laid out over the pixels of their patch by a transposed convolution, to a quarter and a half of
    the patch, as in UNETR (Hatamizadeh et al. 2022). Where no map is as fine as two pixels, a shallow path from the
    image is. Logits are made at two pixels and raised.
    """

    def __init__(self, encoder: ImageEncoder, image_size: int, width: int) -> None:
        super().__init__()
        *finer, last = map_shapes(encoder, image_size)
        self.layouts, skips, strides = nn.ModuleList(), [], []
        for i, shape in enumerate(finer):
            factor = 2 ** (len(finer) - i) if shape.stride == last.stride else 1
            channels = max(width >> (len(finer) - i), _NARROWEST) if factor > 1 else shape.channels
            self.layouts.append(_lay_over_patch(shape.channels, channels, factor) if factor > 1 else nn.Identity())
            skips.append(channels)
            strides.append(max(shape.stride // factor, 1))
        self.shallow = None
        if min([last.stride, *strides]) > 2:
            self.shallow = nn.Sequential(
                *_layers(nn.Conv2d(1, _SHALLOW, 4, stride=2, padding=1, bias=False)), *_convolve(_SHALLOW, _SHALLOW)
            )
            skips.insert(0, _SHALLOW)
        self.entry = nn.Sequential(*_layers(nn.Conv2d(last.channels, width, 1, bias=False)))
        self.steps, channels = nn.ModuleList(), width
        for i, skip in enumerate(reversed(skips)):
            wide = max(width >> (i + 1), _NARROWEST)
            self.steps.append(nn.Sequential(*_convolve(channels + skip, wide), *_convolve(wide, wide)))
            channels = wide
        self.head = nn.Conv2d(channels, 1, 3, padding=1)

    def read(self, encoder: ImageEncoder, images: Tensor) -> list[Tensor]:
        """The maps that `forward` wants."""
        return read_maps(encoder, images)

    def forward(self, images: Tensor, maps: list[Tensor]) -> Tensor:
        """Logits [B, 1, S, S] of images [B, 1, S, S] with their maps."""
        *finer, last = maps
        joined = [layout(features) for layout, features in zip(self.layouts, finer, strict=True)]
        if self.shallow is not None:
            joined.insert(0, self.shallow(images))
        features = self.entry(last)
        for step, skip in zip(self.steps, reversed(joined), strict=True):
            raised = F.interpolate(features, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            features = step(torch.cat([raised, skip], dim=1))
        return _to_size(self.head(features), images)


def build_decoder(kind: Decoder, encoder: ImageEncoder, image_size: int, width: int) -> SetrDecoder | UnetDecoder:
    """The decoder of that name for the maps of `encoder` on images of that size; weights from torch's generator."""
    decoder = UnetDecoder if kind == "unet" else SetrDecoder
    return decoder(encoder, image_size, width).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _convolve(channels: int, wide: int) -> nn.Sequential:
    return nn.Sequential(*_layers(nn.Conv2d(channels, wide, 3, padding=1, bias=False)))


def _lay_over_patch(channels: int, wide: int, factor: int) -> nn.Sequential:
    return nn.Sequential(*_layers(nn.ConvTranspose2d(channels, wide, factor, stride=factor, bias=False)))


def _layers(convolution: nn.Conv2d | nn.ConvTranspose2d) -> list[nn.Module]:
    return [convolution, BatchNorm(convolution.out_channels), nn.ReLU()]


def _to_size(logits: Tensor, images: Tensor) -> Tensor:
    if logits.shape[-2:] == images.shape[-2:]:
        return logits
    return F.interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)

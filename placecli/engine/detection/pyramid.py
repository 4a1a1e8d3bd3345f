"""A pyramid of maps from a single one, as in ViTDet (Li et al. 2022): a plain transformer has one scale."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class SimpleFeaturePyramid(nn.Module):
    """One map [B, C, H, W] -> a map [B, out_channels, H 2^-e, W 2^-e] for each exponent e of `exponents`, rising.

    Finer by transposed convolutions, coarser by maximum; then a 1 x 1 and a 3 x 3 convolution, each with LayerNorm over
    channels.
    """

    def __init__(self, in_channels: int, out_channels: int, exponents: Sequence[int]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_level(in_channels, out_channels, exponent) for exponent in exponents)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        (single,) = maps
        return tuple(level(single) for level in self.levels)


class _MapNorm(nn.LayerNorm):
    """LayerNorm over the channels of [B, C, H, W]."""

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _level(in_channels: int, out_channels: int, exponent: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = in_channels
    for step in range(-exponent):
        if step:
            layers += [_MapNorm(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, max(channels // 2, 1), 2, stride=2))
        channels = max(channels // 2, 1)
    layers += [nn.MaxPool2d(2, ceil_mode=True) for _ in range(exponent)]
    layers += [nn.Conv2d(channels, out_channels, 1, bias=False), _MapNorm(out_channels)]
    layers += [nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), _MapNorm(out_channels)]
    return nn.Sequential(*layers)

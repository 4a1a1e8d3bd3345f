"""Store images -> model input, on the device they are on. Random numbers are drawn apart from their use.

No flip, ever: left and right carry meaning in a report.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE_TILE = 1024
"""Side of the field of normal noise, pixels; each image takes a window of it at a random place."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Random parameters of B images, all float32 [B] on the CPU; `neutral` leaves an image as it is.

    rotation: radians, positive turns the picture clockwise. scale: > 1 enlarges. shift_x, shift_y: fractions of the
    frame, positive moves right and down.
    gamma, contrast, brightness: x -> contrast * (x^gamma - 1/2) + 1/2 + brightness for x in [0, 1].
    noise: standard deviation in [0, 1] units; noise_x, noise_y in [0, 1): place of the window of noise.
    """

    rotation: Tensor
    scale: Tensor
    shift_x: Tensor
    shift_y: Tensor
    gamma: Tensor
    contrast: Tensor
    brightness: Tensor
    noise: Tensor
    noise_x: Tensor
    noise_y: Tensor

    def part(self, share: slice) -> Augmentation:
        """The parameters of these images alone: one rank's share of a batch."""
        return Augmentation(*(getattr(self, f.name)[share] for f in dataclasses.fields(self)))


def draw(num_images: int, strength: float, generator: torch.Generator) -> Augmentation:
    """Parameters for `num_images` images. At strength 1: rotation within 10 degrees, scale 0.85 to 1.15, shift within
    6 % of the frame, gamma 0.7 to 1.4, contrast 0.8 to 1.2, brightness within 0.1, noise up to 0.03. At 0: neutral.
    """
    centred = (torch.rand(7, num_images, generator=generator) * 2 - 1) * strength
    placed = torch.rand(3, num_images, generator=generator)
    return Augmentation(
        rotation=centred[0] * math.radians(10),
        scale=torch.exp(centred[1] * math.log(1.15)),
        shift_x=centred[2] * 0.06,
        shift_y=centred[3] * 0.06,
        gamma=torch.exp(centred[4] * 0.35),
        contrast=torch.exp(centred[5] * 0.2),
        brightness=centred[6] * 0.1,
        noise=placed[0] * (0.03 * strength),
        noise_x=placed[1],
        noise_y=placed[2],
    )


def prepare(images: Tensor, size: int) -> Tensor:
    """uint8 [B, 1, S, S] -> float32 [B, 1, size, size] in [-1, 1]: the whole frame resized, (x / 255 - 0.5) / 0.5."""
    resized = F.interpolate(_reduce(images, size), (size, size), mode="bilinear", align_corners=False)
    return resized * 2 - 1


def apply(images: Tensor, size: int, augmentation: Augmentation) -> Tensor:
    """uint8 [B, 1, S, S] -> float32 [B, 1, size, size] in [-1, 1], augmented; padding stays -1."""
    device = images.device
    reduced = _reduce(images, size)
    x = F.grid_sample(
        reduced, _places(augmentation, size, device), mode="bilinear", padding_mode="zeros", align_corners=False
    )
    # Zeros are padding or collimator: they must look the same as in an image that is not augmented.
    is_image = x > 0
    gamma, contrast, brightness = (_column(value, device) for value in _intensity(augmentation))
    x = (torch.exp(x.clamp_min(1e-6).log() * gamma) - 0.5) * contrast + (0.5 + brightness)
    x = (x + _noise(augmentation, size, device)).clamp(0, 1)
    return torch.where(is_image, x, 0) * 2 - 1


def prepare_mask(masks: Tensor, size: int) -> Tensor:
    """uint8 [B, 1, S, S], 255 inside -> float32 [B, 1, size, size]: the share of each pixel that is inside, 0 to 1."""
    return F.interpolate(_reduce(masks, size), (size, size), mode="bilinear", align_corners=False)


def apply_mask(masks: Tensor, size: int, augmentation: Augmentation) -> Tensor:
    """As `prepare_mask`, turned, scaled and shifted as `apply` does with the images; what comes in from outside is 0."""
    places = _places(augmentation, size, masks.device)
    return F.grid_sample(_reduce(masks, size), places, mode="bilinear", padding_mode="zeros", align_corners=False)


def transform_content(content: Tensor, augmentation: Augmentation) -> Tensor:
    """float32 [B, 4] rectangles in fractions of the frame -> the upright rectangles around where they come to lie.

    Clipped to the frame, so what is outside them is padding for certain.
    """
    x0, y0, x1, y1 = (content * 2 - 1).unbind(1)
    corners_x, corners_y = torch.stack([x0, x1, x0, x1], 1), torch.stack([y0, y0, y1, y1], 1)
    cosine, sine = augmentation.rotation.cos()[:, None], augmentation.rotation.sin()[:, None]
    scale = augmentation.scale[:, None]
    moved_x = scale * (cosine * corners_x - sine * corners_y) + 2 * augmentation.shift_x[:, None]
    moved_y = scale * (sine * corners_x + cosine * corners_y) + 2 * augmentation.shift_y[:, None]
    moved = torch.stack([moved_x.amin(1), moved_y.amin(1), moved_x.amax(1), moved_y.amax(1)], 1)
    return ((moved + 1) / 2).clamp(0, 1)


def _reduce(images: Tensor, size: int) -> Tensor:
    """float32 in [0, 1], averaged over blocks where bilinear sampling at `size` would skip pixels."""
    factor = max(1, round(images.shape[-1] / size / 2))
    x = images.float() / 255
    return F.avg_pool2d(x, factor) if factor > 1 else x


def _places(augmentation: Augmentation, size: int, device: torch.device) -> Tensor:
    """[B, size, size, 2]: where each output pixel lies in the input, (x, y) from -1 to 1; undoes scale, turn, shift.

    Written out, because torch's affine_grid spends more time than the sampling itself on a CPU.
    """
    scale, rotation = augmentation.scale.to(device), augmentation.rotation.to(device)
    cosine, sine = (rotation.cos() / scale).view(-1, 1, 1), (rotation.sin() / scale).view(-1, 1, 1)
    centres = (torch.arange(size, device=device) * 2 + 1) / size - 1
    x = centres.view(1, 1, -1) - 2 * augmentation.shift_x.to(device).view(-1, 1, 1)
    y = centres.view(1, -1, 1) - 2 * augmentation.shift_y.to(device).view(-1, 1, 1)
    return torch.stack([cosine * x + sine * y, cosine * y - sine * x], 3)


def _intensity(augmentation: Augmentation) -> tuple[Tensor, Tensor, Tensor]:
    return augmentation.gamma, augmentation.contrast, augmentation.brightness


def _column(values: Tensor, device: torch.device) -> Tensor:
    return values.to(device).view(-1, 1, 1, 1)


_tiles: dict[tuple[torch.device, int], Tensor] = {}


def _noise(augmentation: Augmentation, size: int, device: torch.device) -> Tensor:
    """[B, 1, size, size]: windows of one fixed field of noise, so that a share of a batch gets the noise it would get
    in the whole batch, and a step of a resumed run the noise it had."""
    side = max(NOISE_TILE, 2 * size)
    if (device, side) not in _tiles:
        _tiles[device, side] = torch.randn(side, side, generator=torch.Generator().manual_seed(0)).to(device)
    places = (torch.stack([augmentation.noise_y, augmentation.noise_x]) * (side - size)).long().tolist()
    tile = _tiles[device, side]
    windows = torch.stack([tile[y : y + size, x : x + size] for y, x in zip(*places, strict=True)])
    return windows.unsqueeze(1) * _column(augmentation.noise, device)

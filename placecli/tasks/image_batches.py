"""Images of a store as a fine-tuning reads them: by number, augmented, one rank's share at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from placecli.config import TuningConfig
from placecli.data.store import Store
from placecli.engine import sampler
from placecli.engine.augment import Augmentation, apply, draw, prepare
from placecli.records import Row

BATCH = 32
"""Images that a trained model reads at once."""


@dataclass(frozen=True, slots=True)
class Images:
    """pixels: uint8 [B, 1, S, S] as stored. augmentation: of these images, None: as they are."""

    pixels: Tensor
    augmentation: Augmentation | None

    def prepared(self, size: int, device: torch.device) -> Tensor:
        """float32 [B, 1, size, size] in [-1, 1] on the device."""
        pixels = self.pixels.to(device, non_blocking=True)
        return prepare(pixels, size) if self.augmentation is None else apply(pixels, size, self.augmentation)


def read_images(
    store: Store, rows: Sequence[Row], part: slice, config: TuningConfig, step: int, micro_batch: int
) -> Images:
    """The share `part` of a batch of rows; random numbers are drawn for the whole batch, so that shares join to it."""
    pixels = load_pixels(store, rows[part])
    if config.augment == 0:
        return Images(pixels, None)
    seed = sampler.derive_seed(config.seed, sampler.AUGMENT, step, micro_batch)
    drawn = draw(len(rows), config.augment, torch.Generator().manual_seed(seed))
    return Images(pixels, drawn.part(part))


def load_pixels(store: Store, rows: Sequence[Row]) -> Tensor:
    """uint8 [n, 1, S, S]."""
    return torch.from_numpy(store.images(rows)).unsqueeze(1)


def in_batches(
    store: Store, rows: Sequence[Row], size: int, device: torch.device, batch_size: int = BATCH
) -> Iterator[tuple[Sequence[Row], Tensor]]:
    """The rows in their order, batch by batch, with their images float32 [B, 1, size, size] on the device."""
    for first in range(0, len(rows), batch_size):
        chosen = rows[first : first + batch_size]
        yield chosen, prepare(load_pixels(store, chosen).to(device), size)

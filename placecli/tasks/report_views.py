"""The images of each study as a writer of reports reads them: from a store, augmented or as they are, or as patches kept."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import Final

import torch
from torch import Tensor

from placecli.config import ReportGenerationConfig
from placecli.data.store import Store
from placecli.engine.augment import prepare
from placecli.records import Row
from placecli.tasks.image_batches import BATCH, Images, load_pixels, read_images
from placecli.tasks.report_text import order_views
from placecli.tasks.report_writer import ReportWriter, Views

KEPT_BYTES: Final = 2 * 2**30
"""Patches of a frozen encoder are kept in memory up to this; past it they are computed for each batch."""


def find_views(store: Store, rows: Sequence[Row], num_views: int) -> list[tuple[Row, ...]]:
    """For each row (one of a study) at most `num_views` images of its study, the row's own first."""
    if num_views == 1:
        return [(row,) for row in rows]
    wanted = {row.study_id for row in rows}
    of_study: dict[str, list[Row]] = {}
    positions = [i for i, study in enumerate(store.rows.column("study_id")) if study in wanted]
    for row in store.rows.take(positions):
        of_study.setdefault(row.study_id, []).append(row)
    return [tuple(order_views(of_study[row.study_id], row)[:num_views]) for row in rows]


def flatten(studies: Sequence[Sequence[Row]]) -> list[Row]:
    """All images, study after study."""
    return [row for study in studies for row in study]


def join_views(each: Tensor, studies: Sequence[Sized], num_views: int) -> tuple[Tensor, Tensor]:
    """[B, V, ...] from `each` [images, ...] in the order of `flatten`, zeros where a view lacks; present bool [B, V]."""
    counts = torch.tensor([len(study) for study in studies], device=each.device)
    present = torch.arange(num_views, device=each.device)[None] < counts[:, None]
    joined = each.new_zeros((len(studies), num_views, *each.shape[1:]))
    joined[present] = each
    return joined, present


def views_of(store: Store, studies: Sequence[Sequence[Row]], num_views: int, size: int, device: torch.device) -> Views:
    """The studies' images as stored, ready for the encoder."""
    pixels = load_pixels(store, flatten(studies)).to(device)
    images, present = join_views(prepare(pixels, size), studies, num_views)
    return Views(images, None, present)


def augmented(
    store: Store,
    studies: Sequence[Sequence[Row]],
    part: slice,
    config: ReportGenerationConfig,
    step: int,
    micro_batch: int,
) -> Images:
    """Images of the studies in `part`, augmented; random numbers are drawn for the whole batch."""
    first = sum(len(study) for study in studies[: part.start or 0])
    own = slice(first, first + sum(len(study) for study in studies[part]))
    return read_images(store, flatten(studies), own, config, step, micro_batch)


class Patches:
    """Patches of a frozen encoder, computed once and kept on the CPU."""

    def __init__(self, values: Tensor, places: dict[str, int]) -> None:
        self.values, self.places = values, places

    @classmethod
    def compute(
        cls, model: ReportWriter, store: Store, studies: Sequence[Sequence[Row]], size: int, device: torch.device
    ) -> Patches | None:
        """Of all images of the studies; None where they would take more than `KEPT_BYTES`."""
        rows = list({row.image_id: row for row in flatten(studies)}.values())
        grid = model.encoder.grid
        if len(rows) * grid[0] * grid[1] * model.encoder.width * 4 > KEPT_BYTES:
            return None
        was_training, parts = model.training, []
        model.eval()
        with torch.no_grad():
            for first in range(0, len(rows), BATCH):
                pixels = load_pixels(store, rows[first : first + BATCH]).to(device)
                parts.append(model.look_at(prepare(pixels, size)).float().cpu())
        model.train(was_training)
        return cls(torch.cat(parts), {row.image_id: place for place, row in enumerate(rows)})

    def of(self, studies: Sequence[Sequence[Row]], num_views: int) -> Views:
        """The studies' patches, on the CPU."""
        chosen = self.values[torch.tensor([self.places[row.image_id] for row in flatten(studies)])]
        patches, present = join_views(chosen, studies, num_views)
        return Views(None, patches, present)

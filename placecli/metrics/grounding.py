"""Grounding: does a map over an image point at the region that a person (or the phantom) marked?

A map is a non-negative array [r, c] that covers an image frame; a region is bool [H, W] over the same frame, at any
resolution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def pointing_game(heat: ArrayLike, region: ArrayLike, tolerance: float = 0.0) -> bool:
    """Whether the maximum of the map lies in the region (Zhang et al. 2016).

    The point is the centre of the map cell with the largest value. It hits when the region's pixel under it, or
    any region pixel whose centre is within `tolerance` region pixels of it, is marked. When several cells share the
    maximum all of them must hit, so that a flat map earns nothing. An empty region is never hit.
    """
    values, marked = _checked(heat, region)
    points = np.argwhere(values == values.max()) + 0.5
    points = points / values.shape * marked.shape
    inside = marked[tuple(np.floor(points).astype(int).T)]
    if tolerance > 0 and not inside.all():
        centres = np.argwhere(marked) + 0.5
        if len(centres):
            squared = ((points[:, None, :] - centres[None, :, :]) ** 2).sum(axis=-1).min(axis=1)
            inside = inside | (squared <= tolerance**2)
    return bool(inside.all())


def mask_overlap(heat: ArrayLike, region: ArrayLike, quantile: float = 0.9) -> float:
    """Intersection over union of the region with the map's strongest part, in 0..1.

    The map is resized to the region (bilinear); its strongest part is every pixel above the given quantile of its
    values, so a flat map has an empty one and gets 0. An empty region gets 0.
    """
    values, marked = _checked(heat, region)
    full = resize_bilinear(values, marked.shape)
    strongest = full > np.quantile(full, quantile)
    union = (strongest | marked).sum()
    return float((strongest & marked).sum() / union) if union else 0.0


def mass_inside(heat: ArrayLike, region: ArrayLike) -> float:
    """Share of the map's mass that falls in the region, in 0..1; a flat map gets the region's share of the area.

    A cell's mass is spread evenly over its area. A map that is zero everywhere gets 0.
    """
    values, marked = _checked(heat, region)
    rows, columns = (_coverage(size, count) for size, count in zip(marked.shape, values.shape, strict=True))
    share = rows.T @ marked.astype(np.float64) @ columns
    total = values.sum()
    return float((values * share).sum() / total) if total > 0 else 0.0


def resize_bilinear(values: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """`values` [r, c] resized to `shape` (H, W), linear between cell centres, held constant beyond the outer ones."""
    table = np.asarray(values, dtype=np.float64)
    rows, columns = (_interpolation(size, count) for size, count in zip(shape, table.shape, strict=True))
    resized: Floats = rows @ table @ columns.T
    return resized


def _interpolation(size: int, count: int) -> Floats:
    """Matrix [size, count] that interpolates `count` cell centres at `size` pixel centres."""
    position = np.clip((np.arange(size) + 0.5) * count / size - 0.5, 0, count - 1)
    lower = np.minimum(np.floor(position).astype(int), max(count - 2, 0))
    matrix = np.zeros((size, count))
    matrix[np.arange(size), lower] = 1 - (position - lower)
    matrix[np.arange(size), np.minimum(lower + 1, count - 1)] += position - lower
    return matrix


def _coverage(size: int, count: int) -> Floats:
    """Matrix [size, count]: the share of each cell that each pixel covers; columns sum to 1."""
    pixel, cell = np.arange(size) / size, np.arange(count) / count
    start: Floats = np.maximum(pixel[:, None], cell[None, :])
    end: Floats = np.minimum(pixel[:, None] + 1 / size, cell[None, :] + 1 / count)
    return np.maximum(end - start, 0) * count


def _checked(heat: ArrayLike, region: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    values, marked = np.asarray(heat, dtype=np.float64), np.asarray(region, dtype=bool)
    if values.ndim != 2 or marked.ndim != 2 or not values.size or not marked.size:
        raise ValueError(f"a map [r, c] and a region [H, W] are wanted, not {values.shape} and {marked.shape}")
    if not np.isfinite(values).all():
        raise ValueError("the map holds a value that is not finite")
    return values, marked

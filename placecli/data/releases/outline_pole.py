"""The point of a polygon around which MGCA puts its box: the pole of inaccessibility of the polygon's fattened outline.

Source of the search: mapbox/polylabel, as Shapely 1.8 and 2.0 carry it (squares, best first, halved until no better
point can be more than the tolerance away). Distances come from a raster of one pixel instead of exact geometry.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

MARGIN: Final = 100
"""Pixels by which the outline is fattened on both sides."""
TOLERANCE: Final = 10.0

Point = tuple[float, float]


class _Distances:
    """Signed distances to the edge of the fattened outline, positive in it, at points in the polygon's pixels."""

    def __init__(self, points: NDArray[np.float64]) -> None:
        self.low, self.high = points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN
        self._origin = np.floor(self.low) - 2
        width, height = (np.ceil(self.high) + 3 - self._origin).astype(int)
        canvas = np.full((height, width), 255, np.uint8)
        corners = np.rint(points - self._origin).astype(np.int32)
        cv2.polylines(canvas, [corners], isClosed=True, color=(0,))
        fat = (_distances_to_zero(canvas) <= MARGIN).astype(np.uint8)
        self._signed = _distances_to_zero(fat) - _distances_to_zero(1 - fat)
        moments = cv2.moments(fat, binaryImage=True)
        centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
        self.centroid: Point = tuple((centre + self._origin).tolist())

    def at(self, x: float, y: float) -> float:
        place = (x - float(self._origin[0]), y - float(self._origin[1]))
        patch = cv2.getRectSubPix(self._signed, (1, 1), place)
        return float(patch[0, 0])


def find_pole(polygon: Sequence[Point]) -> Point:
    """(x, y) in the pixels of the polygon's corners: farthest from the edge of the outline fattened by 100 pixels, to 10.

    The answer is a square's centre or the centroid, as in the source, and not refined beyond the tolerance.
    """
    distances = _Distances(np.asarray(polygon, np.float64))
    (left, top), (right, bottom) = distances.low.tolist(), distances.high.tolist()
    side = min(right - left, bottom - top)
    middle = (left + (right - left) / 2, top + (bottom - top) / 2)
    best = middle if distances.at(*middle) > distances.at(*distances.centroid) else distances.centroid
    best_distance = distances.at(*best)
    squares: list[tuple[float, int, float, float, float, float]] = []

    def add(x: float, y: float, half: float) -> None:
        distance = distances.at(x, y)
        # The count keeps the order of squares that promise the same.
        heapq.heappush(squares, (-distance - half * math.sqrt(2), len(squares), x, y, half, distance))

    for x in np.arange(left, right, side).tolist():
        for y in np.arange(top, bottom, side).tolist():
            add(x + side / 2, y + side / 2, side / 2)
    while squares:
        promise, _, x, y, half, distance = heapq.heappop(squares)
        if distance > best_distance:
            best, best_distance = (x, y), distance
        if -promise - best_distance > TOLERANCE:
            for across, down in ((-1, -1), (1, -1), (-1, 1), (1, 1)):
                add(x + across * half / 2, y + down * half / 2, half / 2)
    return best


def _distances_to_zero(canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.distanceTransform(canvas, cv2.DIST_L2, cv2.DIST_MASK_PRECISE), dtype=np.float32)

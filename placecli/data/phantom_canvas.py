"""Geometry on the pixel grid of a synthetic radiograph: splines, filled outlines, strokes, rounded thickness.

Coordinates are centimetres of a standard adult: x grows to the image's right (the patient's left), y grows
downwards, and (0, 0) is the sternal notch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

UNITS_PER_CM = 50
"""Thickness drawn by OpenCV is kept in bytes: 50 is one centimetre, 255 the most that one layer can hold."""
_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws with."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The pixel grid: `matrix` [2, 3] takes centimetres to pixels; `x`, `y` [H, W] are each pixel's centimetres."""

    shape: tuple[int, int]
    matrix: npt.NDArray[np.float64]
    pixels_per_cm: float
    x: Array
    y: Array

    def to_pixels(self, points: Points) -> Points:
        """Points [n, 2] in centimetres as pixels [n, 2] (x, y)."""
        return np.asarray(points @ self.matrix[:, :2].T + self.matrix[:, 2])


def make_frame(
    shape: tuple[int, int], pixels_per_cm: float, degrees: float, shift: tuple[float, float], centre_y: float
) -> Frame:
    """A frame of `shape` (height, width) whose centre shows (0, `centre_y`) moved by `shift` cm and turned."""
    height, width = shape
    cosine = math.cos(math.radians(degrees)) * pixels_per_cm
    sine = math.sin(math.radians(degrees)) * pixels_per_cm
    linear = np.array([[cosine, -sine], [sine, cosine]])
    middle = np.array([width / 2, height / 2]) + np.array(shift) * pixels_per_cm
    offset = middle - linear @ np.array([0.0, centre_y])
    inverse = np.linalg.inv(linear)
    columns, rows = np.arange(width) + 0.5 - offset[0], np.arange(height) + 0.5 - offset[1]
    x = inverse[0, 0] * columns[None, :] + inverse[0, 1] * rows[:, None]
    y = inverse[1, 0] * columns[None, :] + inverse[1, 1] * rows[:, None]
    matrix = np.concatenate([linear, offset[:, None]], axis=1)
    return Frame(shape, matrix, pixels_per_cm, x.astype(np.float32), y.astype(np.float32))


@cache
def _spline_basis(per_segment: int) -> npt.NDArray[np.float64]:
    t = np.arange(per_segment)[:, None] / per_segment
    return np.asarray(
        0.5
        * np.concatenate([-(t**3) + 2 * t**2 - t, 3 * t**3 - 5 * t**2 + 2, -3 * t**3 + 4 * t**2 + t, t**3 - t**2], 1)
    )


def spline(points: Points | Sequence[tuple[float, float]], *, closed: bool = False, per_segment: int = 8) -> Points:
    """Catmull-Rom curve through `points` [n, 2]; returns [m, 2]."""
    knots = np.asarray(points, dtype=np.float64)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    windows = np.stack([padded[i : len(padded) - 3 + i] for i in range(4)], axis=1)
    curve = np.einsum("tk,nkd->ntd", _spline_basis(per_segment), windows).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def mirrored(points: Sequence[tuple[float, float]], side: int) -> Points:
    """Points given for the patient's left (+1) for that `side` (-1: the patient's right)."""
    return np.asarray(points, dtype=np.float64) * np.array([side, 1.0])


def _fixed(frame: Frame, points: Points) -> npt.NDArray[np.int32]:
    return np.rint((frame.to_pixels(points) - 0.5) * (1 << _SHIFT)).astype(np.int32)


def fill(canvas: Mask, frame: Frame, polygon: Points, value: int = 255) -> None:
    """Paint `polygon` [n, 2] on `canvas` in place, edges smoothed."""
    cv2.fillPoly(canvas, [_fixed(frame, polygon)], (value,), lineType=cv2.LINE_AA, shift=_SHIFT)


def stroke(canvas: Mask, frame: Frame, curve: Points, width_cm: float, thickness_cm: float) -> None:
    """Paint a line along `curve` [n, 2] in place; narrower than a pixel it grows fainter instead."""
    width = width_cm * frame.pixels_per_cm
    value = round(min(255.0, thickness_cm * UNITS_PER_CM * min(1.0, width)))
    line = [_fixed(frame, curve)]
    cv2.polylines(canvas, line, False, (value,), max(1, round(width)), cv2.LINE_AA, _SHIFT)


def strokes(canvas: Mask, frame: Frame, starts: Points, ends: Points, widths_cm: Points, thickness_cm: Points) -> None:
    """Paint separate lines `starts` -> `ends` [n, 2], each of its own width and thickness [n], in order."""
    widths = widths_cm * frame.pixels_per_cm
    values = np.rint(np.minimum(255.0, thickness_cm * UNITS_PER_CM * np.minimum(1.0, widths))).astype(int).tolist()
    pixels = np.maximum(1, np.rint(widths)).astype(int).tolist()
    heads, tails = _fixed(frame, starts).tolist(), _fixed(frame, ends).tolist()
    for head, tail, value, width in zip(heads, tails, values, pixels, strict=True):
        cv2.line(canvas, head, tail, (value,), width, cv2.LINE_AA, _SHIFT)


def blank(frame: Frame) -> Mask:
    """An empty canvas [H, W] of the frame."""
    return np.zeros(frame.shape, np.uint8)


def centimetres(canvas: Mask) -> Array:
    """A drawn canvas as thickness in centimetres."""
    return canvas.astype(np.float32) / np.float32(UNITS_PER_CM)


def inside_depth(mask: Mask, frame: Frame) -> Array:
    """Distance in cm [H, W] of each pixel to the outline; 0 outside. The image's edge is not an outline."""
    distance = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5)
    return np.asarray(distance * np.float32(1.0 / frame.pixels_per_cm), dtype=np.float32)


def rounded(depth: Array, radius: float) -> Array:
    """0 at an outline, 1 from `radius` cm inwards, along a quarter circle: a rounded body seen in projection."""
    rest = 1.0 - np.minimum(depth * np.float32(1.0 / radius), 1.0)
    return np.sqrt(1.0 - rest * rest)


def ramp(values: Array, start: float, end: float) -> Array:
    """Smooth step from 0 at `start` to 1 at `end` (either order)."""
    t = np.clip((values - np.float32(start)) * np.float32(1.0 / (end - start)), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def ellipse_radius(frame: Frame, centre: tuple[float, float], axes: tuple[float, float], degrees: float) -> Array:
    """Normalised radius [H, W]: 0 at `centre`, 1 on the ellipse with semi-axes `axes` cm."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    dx, dy = frame.x - np.float32(centre[0]), frame.y - np.float32(centre[1])
    along = (dx * np.float32(cosine) + dy * np.float32(sine)) * np.float32(1 / axes[0])
    across = (dy * np.float32(cosine) - dx * np.float32(sine)) * np.float32(1 / axes[1])
    return np.sqrt(along * along + across * across)


def blur(image: Array, sigma_cm: float, frame: Frame) -> Array:
    """Gaussian blur; wide ones are computed on a smaller grid."""
    sigma = sigma_cm * frame.pixels_per_cm
    if sigma < 6.0:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))
    height, width = image.shape
    factor = min(8, int(sigma / 2.5))
    small = cv2.resize(image, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def smooth_noise(rng: np.random.Generator, frame: Frame, scale_cm: float) -> Array:
    """Random field [H, W] of unit variance with features of about `scale_cm`."""
    height, width = frame.shape
    step = max(1.0, scale_cm * frame.pixels_per_cm / 1.5)
    rows, columns = max(4, int(height / step) + 3), max(4, int(width / step) + 3)
    grid = rng.standard_normal((rows, columns), dtype=np.float32)
    # Cubic interpolation between independent values loses variance; 1.5 restores it to about 1.
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * np.float32(1.5))

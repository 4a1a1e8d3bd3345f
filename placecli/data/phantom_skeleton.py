"""Bones of the synthetic chest as thickness of mineral in cm: ribs as loops in space, spine, shoulder girdle."""

from __future__ import annotations

import numpy as np

from placecli.data.phantom_anatomy import Thorax
from placecli.data.phantom_canvas import (
    Array,
    Frame,
    Mask,
    Points,
    blank,
    centimetres,
    fill,
    mirrored,
    spline,
    stroke,
    strokes,
)

RIB_HALF_WIDTHS = (5.2, 8.4, 10.5, 11.7, 12.6, 13.2, 13.7, 14.0, 14.2, 14.2, 13.8)
RIB_DROPS = (3.2, 5.6, 7.4, 8.8, 9.9, 10.7, 11.2, 11.6, 11.6, 11.0, 9.0)
"""By rib: how far it reaches sideways, and how far it falls from the spine to the front, in cm."""
RIB_SPACING = 2.25
FIRST_RIB_Y = -3.7
VERTEBRAE = tuple(range(-3, 18))
"""Indices of vertebral bodies relative to the first thoracic one."""


def rib_curve(thorax: Thorax, side: int, rib: int, angles: Points) -> Points:
    """Points [n, 3] (x, y, z towards the front) of a rib at `angles` from the spine (0) round to the front (pi)."""
    y0 = FIRST_RIB_Y + RIB_SPACING * rib
    half = RIB_HALF_WIDTHS[rib] * thorax.anatomy.chest_width * thorax.cavity_scale
    drop = RIB_DROPS[rib] * thorax.anatomy.rib_tilt / thorax.cavity_scale**3
    root = thorax.spine_x(np.array([y0]))[0] + 6.0 * thorax.pose.turn
    # The rib leaves the transverse process a little upwards and outwards before it turns down.
    reach = np.sin(angles) ** 0.85
    x = side * (1.3 + (half - 1.3) * reach) + root * np.cos(angles / 2)
    y = y0 - 0.5 * np.sin(2 * np.minimum(angles, np.pi / 2)) + drop * (1 - np.cos(angles)) / 2
    z = -8.0 * np.cos(angles)
    return np.stack([x + z * thorax.pose.turn, y, z], axis=1)


def _rib_segments(curve: Points, width: float, thickness: float) -> tuple[Points, Points, Points, Points]:
    steps = np.diff(curve, axis=0)
    seen = np.hypot(steps[:, 0], steps[:, 1])
    # A tube seen end on is crossed along its length: the path grows with the slope towards the detector.
    path = np.clip(np.sqrt(1 + (steps[:, 2] / np.maximum(seen, 1e-6)) ** 2), 1.0, 2.0)
    return curve[:-1, :2], curve[1:, :2], np.full(len(seen), width), thickness * path


def _draw_ribs(canvas: Mask, frame: Frame, thorax: Thorax, angles: tuple[float, float], width: float) -> None:
    edge = thorax.anatomy.bone
    parts: list[tuple[Points, Points, Points, Points]] = []
    for rib in range(len(RIB_DROPS)):
        last = min(angles[1], np.pi * (0.86 if rib < 6 else 0.78 - 0.07 * (rib - 6)))
        grid = np.linspace(angles[0], last, 12)
        for side in (-1, 1):
            curve = rib_curve(thorax, side, rib, grid)
            parts.append(_rib_segments(curve, width, 0.62 * edge))
            # Marrow: less mineral than the rim, so both edges of a rib stand out.
            parts.append(_rib_segments(curve, width * 0.55, 0.4 * edge))
    starts, ends, widths, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    strokes(canvas, frame, starts, ends, widths, values)


def _draw_spine(canvas: Mask, frame: Frame, thorax: Thorax) -> None:
    bone = thorax.anatomy.bone
    for index in VERTEBRAE:
        grow = min(max(index, -2), 14) / 14
        y = FIRST_RIB_Y + RIB_SPACING * (index + 0.1) + 0.35
        x, x2 = thorax.spine_x(np.array([y - 0.5, y + 0.5]))
        half, tall = 1.45 + 0.65 * grow, 0.86 + 0.1 * grow
        lean = (x2 - x) * 0.9
        corners = np.array(
            [(-half, -tall), (half, -tall), (half * 0.92, 0), (half, tall), (-half, tall), (-half * 0.92, 0)]
        )
        corners[:, 1] += corners[:, 0] * -lean
        centre = np.array([(x + x2) / 2, y])
        fill(canvas, frame, centre + corners, int(26 * bone))
        for edge in ((0, 1), (3, 4)):
            stroke(canvas, frame, centre + corners[list(edge)], 0.3, 0.85 * bone)
        for side in (-1, 1):
            pedicle = centre + np.array([(side * half * 0.62, -0.5), (side * half * 0.62, 0.1)])
            stroke(canvas, frame, pedicle, 0.6, 0.95 * bone)
        stroke(canvas, frame, centre + np.array([(0, 0.2), (0, 0.75)]), 0.5, 1.0 * bone)


def _draw_shoulder(canvas: Mask, frame: Frame, thorax: Thorax, side: int) -> None:
    bone, build = thorax.anatomy.bone, thorax.anatomy.chest_width
    # Hands on the hips turn the shoulder blades out of the lungs; at the bedside they lie over them.
    inward = 2.3 if thorax.pose.view == "AP" else 0.0

    def place(points: list[tuple[float, float]], depth: float) -> Points:
        return mirrored(points, side) * np.array([build, 1.0]) + np.array([depth * thorax.pose.turn, 0.0])

    blade = place(
        [
            (16.0 - inward * 0.4, 2.8),
            (14.6 - inward, 8.0),
            (13.5 - inward, 13.2),
            (12.6 - inward, 12.6),
            (12.2 - inward, 6.0),
            (12.4 - inward, 0.9),
            (14.6 - inward * 0.7, 0.6),
        ],
        -8.0,
    )
    fill(canvas, frame, spline(blade, closed=True), int(17 * bone))
    stroke(canvas, frame, spline(blade[:3]), 0.55, 0.85 * bone)
    stroke(canvas, frame, spline(blade[3:6]), 0.3, 0.55 * bone)
    ridge = place([(12.4 - inward, 3.0), (14.8 - inward * 0.6, 1.4), (17.4, -0.6)], -8.0)
    stroke(canvas, frame, spline(ridge), 0.8, 0.9 * bone)
    head = place([(18.1, 2.6)], -2.0)[0]
    angles = np.linspace(0, 2 * np.pi, 24)
    fill(canvas, frame, head + 2.2 * np.stack([np.cos(angles), np.sin(angles)], 1), int(72 * bone))
    shaft = np.array([head, head + np.array([side * 1.6, 8.0]), head + np.array([side * 3.0, 19.0])])
    stroke(canvas, frame, shaft, 2.3, 1.6 * bone)
    stroke(canvas, frame, shaft, 1.1, 0.9 * bone)


def _draw_clavicle(canvas: Mask, frame: Frame, thorax: Thorax, side: int) -> None:
    bone, build = thorax.anatomy.bone, thorax.anatomy.chest_width
    lift = -1.2 if thorax.pose.view == "AP" else 0.0
    curve = mirrored(
        [(1.7, 0.9), (5.2, -0.2 + lift * 0.5), (9.5, -1.5 + lift), (13.6, -2.1 + lift), (17.0, -1.5)], side
    )
    curve = spline(curve * np.array([build, 1.0])) + np.array([6.5 * thorax.pose.turn, 0.0])
    stroke(canvas, frame, curve[:6], 1.9, 1.1 * bone)
    stroke(canvas, frame, curve, 1.3, 1.25 * bone)
    stroke(canvas, frame, curve[2:], 0.65, 0.85 * bone)


def bone_thickness(frame: Frame, thorax: Thorax) -> Array:
    """Thickness of bone [H, W] in cm along each ray."""
    back, front, girdle, spine = blank(frame), blank(frame), blank(frame), blank(frame)
    _draw_ribs(back, frame, thorax, (0.12, np.pi / 2), 1.15)
    _draw_ribs(front, frame, thorax, (np.pi / 2, np.pi), 1.3)
    _draw_spine(spine, frame, thorax)
    for side in (-1, 1):
        _draw_shoulder(girdle, frame, thorax, side)
    clavicles = blank(frame)
    for side in (-1, 1):
        _draw_clavicle(clavicles, frame, thorax, side)
    total = centimetres(back) + centimetres(girdle) + centimetres(clavicles) + np.float32(0.75) * centimetres(front)
    return np.asarray(total + centimetres(spine), dtype=np.float32)

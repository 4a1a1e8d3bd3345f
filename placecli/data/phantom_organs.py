"""Soft organs of the synthetic chest: body wall, the two lungs, heart and great vessels, diaphragm, gas."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from placecli.data.phantom_anatomy import Thorax
from placecli.data.phantom_canvas import (
    Array,
    Frame,
    Mask,
    Points,
    blank,
    centimetres,
    ellipse_radius,
    fill,
    inside_depth,
    mirrored,
    ramp,
    rounded,
    smooth_noise,
    spline,
    stroke,
    strokes,
)

LUNG_OUTLINE = (
    *((0.6, 5.0), (1.9, 1.5), (2.5, -1.2), (4.4, -2.7), (6.8, -2.0), (8.7, 0.4), (10.3, 3.6), (11.7, 7.5)),
    *((12.9, 12.0), (13.6, 17.0), (13.9, 21.5), (13.6, 25.0), (7.0, 26.0), (-0.5, 26.0), (-0.5, 12.0)),
)
HEART_RIGHT = ((-2.4, -4.0), (-2.5, -1.0), (-2.7, 2.0), (-2.9, 5.0), (-3.2, 7.0))
BASE_WIDTH = 13.3
"""Width in cm of the heart as outlined, over 28 cm of chest: the ratio that `heart_ratio` scales."""
HILA = {-1: (-3.7, 7.9), 1: (3.9, 7.0)}


@dataclass(frozen=True, slots=True)
class Organs:
    """Maps [H, W] that the findings act upon; thickness in cm.

    `air` is the path through lung (air and tissue), `wall_depth` the distance inwards from the chest wall,
    `below` 1 under the diaphragm, `side` -1 or +1, `heart` the outline of heart and great vessels.
    """

    body: Array
    air: Array
    wall_depth: Array
    below: Array
    side: Array
    lungs: Mask
    heart: Mask
    vessels: Array
    texture: Array
    gas: Array


def _body(frame: Frame, thorax: Thorax) -> Array:
    anatomy = thorax.anatomy
    fat = 1.0 + 0.11 * anatomy.habitus
    girth = fat * anatomy.chest_width
    torso, arms = blank(frame), blank(frame)
    half = [(5.4, -12.0), (5.8, -7.0), (7.4, -4.6), (11.0, -3.4), (16.0, -2.9), (19.6, -0.6), (19.0, 4.0), (17.3, 8.0)]
    flank = [(16.5 * girth, 12.0), (16.3 * girth, 18.0), (16.6 * girth, 25.0), (17.5 * girth, 38.0)]
    for side in (-1, 1):
        outline = mirrored([(0.0, -12.0), *half, *flank, (0.0, 38.0)], side)
        fill(torso, frame, spline(outline))
        x = 20.0 if thorax.pose.view == "PA" else 19.3
        arm = mirrored([(x - 2, 2.0), (x + 1.0 * girth, 10.0), (x + 2.2 * girth, 22.0), (x + 2.8, 38.0)], side)
        stroke(arms, frame, spline(arm), 7.8 * fat, 5.0)
    depth = 20.5 * fat + np.float32(0.09) * np.clip(frame.y - 14.0, 0.0, 16.0) * (1.0 + 0.8 * anatomy.habitus)
    depth = depth - np.float32(6.5) * ramp(frame.y, 1.0, -8.0)
    trunk = rounded(inside_depth(torso, frame), 10.0) * depth
    limb = rounded(inside_depth(arms, frame), 3.9) * np.float32(8.5 * fat)
    body = np.maximum(trunk, limb) + np.float32(0.5) * np.minimum(trunk, limb)
    if anatomy.breast > 0:
        for side in (-1, 1):
            sag = 14.0 + 1.6 * anatomy.breast
            r = ellipse_radius(frame, (side * 8.6, sag), (6.2, 4.6 + 1.2 * anatomy.breast), side * 12)
            body = body + np.float32(4.6 * anatomy.breast) * np.sqrt(np.maximum(0.0, 1.0 - r * r))
    return np.asarray(body, dtype=np.float32)


def _lung_mask(frame: Frame, thorax: Thorax) -> Mask:
    mask = blank(frame)
    for side in (-1, 1):
        points = mirrored(LUNG_OUTLINE, side)
        points[:, 0] *= thorax.anatomy.chest_width * thorax.cavity_scale
        points[:, 0] += 0.5 * thorax.spine_x(points[:, 1]) * ramp(points[:, 1].astype(np.float32), 16.0, 4.0)
        fill(mask, frame, spline(points, closed=True))
    return mask


def heart_outline(thorax: Thorax) -> Points:
    """Outline [n, 2] in cm of heart and upper mediastinum."""
    anatomy = thorax.anatomy
    grow = thorax.heart_ratio / (BASE_WIDTH / 28.0) * anatomy.chest_width
    knob, lean = anatomy.knob, anatomy.heart_lean
    up = max(0.0, 17.4 - thorax.dome_right) * 0.45
    bulge = max(0.0, grow - 1.05)
    right = [(-3.9, 9.3), (-4.5, 12.0), (-4.3, 14.8), (-3.2, 17.5)]
    floor = [(0.0, 19.5), (4.5, 19.8), (7.5, 18.9)]
    left = [(8.75, 16.9), (8.35, 14.4), (6.9, 11.6), (5.0, 9.3)]
    lower = np.array([*right, *floor, *left])
    lower[:, 0] = lower[:, 0] * grow * np.where(lower[:, 0] < 0, 1 - 0.06 * lean, 1 + 0.03 * lean)
    lower[:, 1] = lower[:, 1] - up * (lower[:, 1] - 6) / 12 - bulge * 1.5 * (lower[:, 1] < 12)
    waist = [(3.8 + 0.5 * bulge, 7.9), (3.0, 6.5)]
    arch = [(3.2 + 0.9 * knob, 5.1), (3.3 + 1.1 * knob, 3.8 - 0.5 * knob), (2.5 + 0.4 * knob, 2.2 - 0.5 * knob)]
    top = [(2.2, -0.5), (2.3, -4.0)]
    upper = np.array(HEART_RIGHT)
    upper[:, 0] -= 0.5 * max(0.0, knob - 0.7)
    outline = np.concatenate([upper, lower, np.array([*waist, *arch, *top])])
    # Heart in front, vessels nearer the centre of rotation; both are dragged by the curve of the spine.
    front = np.interp(outline[:, 1], [2.0, 10.0], [0.5, 4.0])
    outline[:, 0] += front * thorax.pose.turn + thorax.shift * np.interp(outline[:, 1], [-4, 6], [0.6, 1.0])
    outline[:, 0] += 0.3 * thorax.spine_x(outline[:, 1])
    return spline(outline, closed=True)


def below_diaphragm(frame: Frame, thorax: Thorax) -> Array:
    """1 under the domes of the diaphragm, 0 above, with an edge of about 3 mm; [H, W]."""
    heights = []
    for side in (-1, 1):
        x, top, arch = thorax.dome(side)
        outer = np.abs(frame.x - np.float32(x)) * np.float32(1 / 7.6)
        lateral = (frame.x - np.float32(x)) * side > 0
        fall = np.where(lateral, arch * outer**2.3, 0.36 * arch * outer**2)
        heights.append(np.float32(top) + fall)
    left = ramp(frame.x, -2.5, 2.5)
    return ramp(frame.y - heights[0] * (1.0 - left) - heights[1] * left, -0.12, 0.28)


def _vessels(frame: Frame, thorax: Thorax) -> Array:
    rng = np.random.default_rng(thorax.anatomy.seed)
    canvas = blank(frame)
    parts: list[tuple[Points, Points, Points]] = []
    for side in (-1, 1):
        x, y = HILA[side]
        fan = np.linspace(-1.25, 1.3, 7) + rng.normal(0, 0.1, 7)
        start = np.stack([x + thorax.shift + 0.2 * rng.normal(size=7), y + 1.3 * np.sin(fan)], axis=1)
        width = 0.85 * rng.uniform(0.8, 1.15, 7) * np.where(fan > 0.2, 1.12, 0.88) * thorax.vessel_scale
        length = rng.uniform(1.8, 2.8, 7)
        for _ in range(5):
            end = start + length[:, None] * np.stack([side * np.cos(fan), np.sin(fan)], axis=1)
            parts.append((start, end, width))
            spread = rng.uniform(0.18, 0.55, (2, len(fan))) * np.array([[1.0], [-1.0]])
            fan = (fan + spread + rng.normal(0, 0.07, spread.shape)).reshape(-1)
            start, width = np.tile(end, (2, 1)), np.tile(width * 0.72, 2)
            length = np.tile(length * 0.86, 2) * rng.uniform(0.75, 1.2, len(fan))
    starts, ends, widths = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(widths, kind="stable")
    strokes(canvas, frame, starts[order], ends[order], widths[order], widths[order] * 1.6)
    for side in (-1, 1):
        x, y = HILA[side]
        trunk = np.array([(x - 0.5 * side, y - 1.4), (x, y), (x + 0.3 * side, y + 2.0), (x + 0.9 * side, y + 4.2)])
        stroke(canvas, frame, spline(trunk + np.array([thorax.shift, 0.0])), 1.25, 1.2)
    return centimetres(canvas)


def _gas(frame: Frame, thorax: Thorax) -> Array:
    rng = np.random.default_rng(thorax.anatomy.seed + 1)
    x, top, _ = thorax.dome(1)
    size = 0.6 + 0.7 * thorax.anatomy.gas
    centre = (x - 1.4, top + 2.0 + size)
    r = ellipse_radius(frame, centre, (2.9 * size, 1.7 * size), -8)
    # Fluid stands level below the bubble, so its lower edge is cut off.
    total = (
        np.float32(4.5 * size) * np.sqrt(np.maximum(0.0, 1.0 - r * r)) * ramp(frame.y, centre[1] + 0.9, centre[1] + 0.5)
    )
    canvas = blank(frame)
    for _ in range(int(rng.integers(2, 8))):
        spot = np.array([rng.uniform(-11.0, 11.0), rng.uniform(25.0, 33.0)])
        path = spot + np.cumsum(rng.normal(0, 1.0, (4, 2)), axis=0)
        stroke(canvas, frame, spline(path), rng.uniform(1.0, 2.2), rng.uniform(0.8, 2.2))
    return np.asarray(total + centimetres(canvas), dtype=np.float32)


def _airways(canvas: Mask, frame: Frame, thorax: Thorax) -> None:
    y = np.array([-9.0, -4.0, 0.0, 3.0, 5.6])
    x = 0.35 * thorax.spine_x(y) + thorax.shift * np.interp(y, [-4, 6], [0.2, 0.9]) + 0.5 * thorax.pose.turn
    carina = np.array([x[-1], y[-1]])
    for tip in ((-3.1, 8.2), (3.6, 8.0)):
        stroke(canvas, frame, np.array([carina, carina + np.array(tip) - np.array([0.0, 5.6])]), 1.15, 1.2)
    stroke(canvas, frame, spline(np.stack([x, y], axis=1)), 1.75, 1.9)


def spine_column(frame: Frame, thorax: Thorax) -> Array:
    """x in cm [H, 1] of the middle of the spine by row."""
    return thorax.spine_x(frame.y[:, frame.shape[1] // 2]).astype(np.float32)[:, None]


def make_organs(frame: Frame, thorax: Thorax) -> Organs:
    """All soft organs of `thorax` drawn on `frame`."""
    lungs = _lung_mask(frame, thorax)
    wall_depth = inside_depth(lungs, frame)
    roomy = 11.0 + 4.8 * ramp(frame.y, -1.0, 12.0)
    cavity = rounded(wall_depth, 5.5) * roomy * np.float32(thorax.cavity_scale)
    heart = blank(frame)
    fill(heart, frame, heart_outline(thorax))
    filled = rounded(inside_depth(heart, frame), 5.5) * np.float32(11.0)
    column = np.abs(frame.x - spine_column(frame, thorax)) * np.float32(1 / 3.2)
    filled = filled + np.float32(4.5) * np.sqrt(np.maximum(0.0, 1.0 - column * column))
    below = below_diaphragm(frame, thorax)
    _, top, _ = thorax.dome(1)
    recess = np.float32(0.2) * ramp(frame.y, top + 6.0, top - 2.0)
    air = np.maximum(0.0, cavity - filled) * (1.0 - below * (1.0 - recess))
    airways = blank(frame)
    _airways(airways, frame, thorax)
    gas = np.minimum(_gas(frame, thorax) * below, 6.0) + centimetres(airways) * (1.0 - below)
    rng = np.random.default_rng(thorax.anatomy.seed + 2)
    texture = 0.6 * smooth_noise(rng, frame, 0.5) + 0.5 * smooth_noise(rng, frame, 1.6)
    side = np.where(frame.x < 0.0, np.float32(-1.0), np.float32(1.0))
    return Organs(
        body=_body(frame, thorax),
        air=np.asarray(air, dtype=np.float32),
        wall_depth=wall_depth,
        below=below,
        side=side,
        lungs=lungs,
        heart=heart,
        vessels=_vessels(frame, thorax),
        texture=np.asarray(texture, dtype=np.float32),
        gas=np.asarray(gas, dtype=np.float32),
    )

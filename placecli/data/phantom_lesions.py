"""The findings drawn: each changes thickness or density of tissue, and hands back the mask of what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from placecli.data import phantom_findings as kinds
from placecli.data.phantom_anatomy import Thorax
from placecli.data.phantom_canvas import (
    Array,
    Frame,
    Mask,
    blank,
    centimetres,
    ellipse_radius,
    ramp,
    smooth_noise,
    spline,
    stroke,
)
from placecli.data.phantom_findings import Condition
from placecli.data.phantom_organs import HILA, Organs, spine_column

LOBE_CENTRES = {
    ("right", "upper lobe"): (-6.8, 4.0),
    ("right", "middle lobe"): (-6.6, 12.4),
    ("right", "lower lobe"): (-9.2, 15.2),
    ("left", "upper lobe"): (7.2, 4.0),
    ("left", "lingula"): (8.6, 11.6),
    ("left", "lower lobe"): (10.4, 15.4),
}
ZONE_HEIGHTS = {"upper": 3.2, "mid": 8.6, "lower": 12.9}


@dataclass(slots=True)
class Tissue:
    """Maps [H, W] that the findings change in place.

    `density` is the mass of lung over water along the air path, `soft` and `metal` added thickness in cm,
    `vessels` the thickness of vessels in cm, `gas` what the organs' gas becomes.
    """

    frame: Frame
    thorax: Thorax
    organs: Organs
    density: Array
    soft: Array
    metal: Array
    vessels: Array
    gas: Array

    def fill_lung(self, fraction: Array) -> None:
        """Replaces that fraction [H, W] of the gas in the lung by water."""
        self.density += (1.0 - self.density) * np.clip(fraction, 0.0, 1.0)

    def on_side(self, sign: int) -> Array:
        """1 on one side of the midline, 0 on the other."""
        return np.asarray(self.organs.side == sign, dtype=np.float32)


def _mask(region: np.ndarray) -> Mask:
    return np.asarray(region, dtype=np.uint8) * np.uint8(255)


def draw_consolidation(tissue: Tissue, condition: Condition) -> Mask:
    """Airspace filled with fluid in one lobe; a fissure bounds it where the lobe has one."""
    frame, rng = tissue.frame, np.random.default_rng(condition.seed)
    x, y = LOBE_CENTRES[condition.side, condition.site]
    radius = 2.7 + 2.3 * condition.severity
    centre = (
        x + rng.normal(0, 0.5) + tissue.thorax.shift,
        y + rng.normal(0, 0.6) - 0.5 * tissue.thorax.pose.inspiration,
    )
    r = ellipse_radius(frame, centre, (radius * rng.uniform(0.95, 1.15), radius), rng.uniform(-40, 40))
    rough = r + 0.14 * smooth_noise(rng, frame, 1.2) + 0.06 * smooth_noise(rng, frame, 0.45)
    fraction = (0.6 + 0.3 * condition.severity) * ramp(rough, 1.2, 0.45)
    if (condition.side, condition.site) == ("right", "upper lobe"):
        fraction = fraction * ramp(frame.y + 0.08 * frame.x, 7.6, 7.0)
    if (condition.side, condition.site) == ("right", "middle lobe"):
        fraction = fraction * ramp(frame.y + 0.08 * frame.x, 7.6, 8.2)
    fraction = fraction * tissue.on_side(condition.sign)
    tissue.fill_lung(fraction)
    return _mask((fraction > 0.22) & (tissue.organs.air > 1.5))


def draw_edema(tissue: Tissue, condition: Condition) -> Mask:
    """Haze around both hila, full vessels and short lines at the edges of the bases."""
    frame, rng, s = tissue.frame, np.random.default_rng(condition.seed), condition.severity
    haze = np.zeros(frame.shape, np.float32)
    for side in (-1, 1):
        x, y = HILA[side]
        r = ellipse_radius(frame, (x + 2.6 * side, y + 2.2), (4.6 + s, 6.0 + s), 8 * side)
        haze = np.maximum(haze, np.exp(-1.1 * r * r))
    patches = 0.16 * smooth_noise(rng, frame, 2.2) + 0.1 * smooth_noise(rng, frame, 0.8)
    haze = haze * (1.0 + np.clip(patches, -0.4, 0.4)) + 0.16 * ramp(frame.y, 6.0, 17.0)
    tissue.fill_lung((0.2 + 0.42 * s) * haze)
    tissue.vessels *= np.float32(1.25 + 0.35 * s)
    lines = blank(frame)
    build = tissue.thorax.anatomy.chest_width
    for side in (-1, 1):
        for _ in range(4 + int(6 * s)):
            y = rng.uniform(11.0, 17.5) - 0.6 * tissue.thorax.pose.inspiration
            x = side * build * float(np.interp(y, [8, 12, 17], [11.7, 12.7, 13.4]))
            inner = x - side * rng.uniform(1.2, 2.2)
            stroke(lines, frame, np.array([(x, y), (inner, y + rng.normal(0, 0.12))]), 0.16, 0.9)
    tissue.soft += centimetres(lines)
    return _mask((haze > 0.42) & (tissue.organs.air > 2.0))


def draw_atelectasis(tissue: Tissue, condition: Condition, fluid: float) -> Mask:
    """Plates of collapsed lung above one diaphragm; with more severity a wedge at the base."""
    frame, thorax, rng, s = tissue.frame, tissue.thorax, np.random.default_rng(condition.seed), condition.severity
    side = condition.sign
    x0, top, _ = thorax.dome(side)
    base = top - 1.2 - 7.5 * fluid
    canvas, region = blank(frame), blank(frame)
    for index in range(1 + int(2.4 * s)):
        length, tilt = rng.uniform(4.5, 6.5) + 1.5 * s, rng.uniform(-0.25, 0.25)
        x, y = x0 + side * rng.uniform(-0.5, 2.2), base - 1.5 * index - rng.uniform(0.0, 0.6)
        along = np.array([(-0.5, -0.5 * tilt), (0.0, -0.1), (0.5, 0.5 * tilt)]) * length
        width = rng.uniform(0.6, 0.8) + 0.4 * s
        stroke(canvas, frame, spline(along + np.array([x, y])), width, 3.2 + 1.6 * s)
        stroke(region, frame, spline(along + np.array([x, y])), width + 0.7, 5.0)
    band = cv2.GaussianBlur(centimetres(canvas), (0, 0), 0.12 * frame.pixels_per_cm)
    tissue.soft += np.minimum(band, tissue.organs.air)
    wedge = np.zeros(frame.shape, np.float32)
    if condition.grade == "severe":
        lean = frame.y - np.float32(base - 2.5) - 0.8 * np.abs(frame.x - np.float32(side * 2.0))
        wedge = 0.8 * ramp(lean, -0.5, 0.8) * tissue.on_side(side)
        tissue.fill_lung(wedge)
    return _mask(((region > 100) | (wedge > 0.4)) & (tissue.organs.air > 1.2))


def draw_round(tissue: Tissue, condition: Condition) -> Mask:
    """A nodule (smooth ball) or a mass (lobulated, with spikes) in one zone of one lung."""
    frame, rng, side = tissue.frame, np.random.default_rng(condition.seed), condition.sign
    radius, is_mass = condition.size_cm / 2, condition.label == kinds.MASS
    y = ZONE_HEIGHTS[condition.site] + rng.uniform(-1.0, 1.0) - 0.4 * tissue.thorax.pose.inspiration
    inner = float(np.interp(y, [2.0, 7.0, 14.0], [4.4, 5.6, 6.6 if side < 0 else 9.2])) + 0.4 * radius
    outer = float(np.interp(y, [2.0, 7.0, 14.0], [8.2, 10.6, 12.2])) * tissue.thorax.anatomy.chest_width - 0.7 * radius
    x = side * (inner + (max(outer, inner + 0.2) - inner) * rng.random())
    stretch = rng.uniform(0.9, 1.12)
    r = ellipse_radius(frame, (x, y), (radius * stretch, radius / stretch), rng.uniform(0, 180))
    if is_mass:
        angle = np.arctan2(frame.y - np.float32(y), frame.x - np.float32(x))
        spikes = np.sin(angle * int(rng.integers(3, 6)) + rng.uniform(0, 6)) * 0.07
        spikes = spikes + np.sin(angle * int(rng.integers(9, 14)) + rng.uniform(0, 6)) * 0.06
        r = r + spikes + 0.04 * smooth_noise(rng, frame, 0.8)
    depth = np.float32(2 * radius) * np.sqrt(np.clip(1.0 - r * r, 0.0, 1.0)) ** (0.7 if is_mass else 0.85)
    # A calcified nodule is denser than water.
    gain = 1.2 if is_mass else 1.6 + 0.6 * condition.severity
    tissue.soft += np.minimum(depth, np.maximum(tissue.organs.air, 0.0)) * np.float32(gain) * (1.0 - tissue.density)
    return _mask(r < 1.0)


def draw_pneumothorax(tissue: Tissue, condition: Condition) -> Mask:
    """Free air between chest wall and a shrunken lung, whose edge shows as a fine line."""
    frame, s, side = tissue.frame, condition.severity, condition.sign
    apex, base = 2.0 + 3.2 * s, (2.6 * s if s > 0.3 else 0.0)
    width = np.float32(base) + np.float32(apex - base) * ramp(frame.y, 12.0 + 6.0 * s, -1.0)
    outside = ramp(width - tissue.organs.wall_depth, -0.08, 0.08) * tissue.on_side(side) * (1.0 - tissue.organs.below)
    edge = (
        np.exp(-(((tissue.organs.wall_depth - width) / np.float32(0.13)) ** 2)) * tissue.on_side(side) * (width > 0.5)
    )
    tissue.density *= 1.0 + np.float32(0.35 * s) * tissue.on_side(side)
    tissue.density *= 1.0 - outside
    tissue.vessels *= 1.0 - outside
    tissue.soft *= 1.0 - outside
    tissue.soft += np.float32(1.3) * edge * (tissue.organs.air > 1.0)
    return _mask((outside > 0.5) & (tissue.organs.air > 0.8))


def fluid_level(tissue: Tissue, condition: Condition) -> Array:
    """Height y in cm [H, W] of the top of an effusion: level in the middle, rising along the chest wall."""
    _, top, arch = tissue.thorax.dome(condition.sign)
    middle = top + 0.85 * arch - 1.0 - 9.5 * condition.severity
    half = 13.6 * tissue.thorax.anatomy.chest_width * tissue.thorax.cavity_scale
    wall = np.maximum(half - np.abs(tissue.frame.x), 0.0)
    rise = np.float32(2.0 + 1.6 * condition.severity)
    return np.asarray(np.float32(middle) - rise * np.exp(-wall * np.float32(1 / 2.2)), dtype=np.float32)


def draw_effusion(tissue: Tissue, condition: Condition) -> Mask:
    """Fluid at the base of one pleural space with a meniscus; it hides what lies in it."""
    fraction = ramp(tissue.frame.y - fluid_level(tissue, condition), -0.7, 0.7) * tissue.on_side(condition.sign)
    tissue.fill_lung(fraction)
    tissue.vessels *= 1.0 - fraction
    return _mask((fraction > 0.4) & (tissue.organs.air > 0.9) & (tissue.organs.wall_depth > 0))


def draw_hernia(tissue: Tissue, condition: Condition) -> Mask:
    """Stomach behind the heart: a round shadow above the diaphragm with gas over a fluid level."""
    frame, rng = tissue.frame, np.random.default_rng(condition.seed)
    radius = condition.size_cm / 2
    x = 1.6 + rng.uniform(-0.6, 1.0) + tissue.thorax.shift
    y = tissue.thorax.dome_left - 0.75 * radius - 0.3
    r = ellipse_radius(frame, (x, y), (radius * 1.15, radius * 0.95), rng.uniform(-12, 12))
    inside = np.sqrt(np.maximum(0.0, 1.0 - r * r))
    tissue.fill_lung(0.9 * inside)
    level = np.float32(y - 0.1 * radius)
    hollow = np.sqrt(np.maximum(0.0, 1.0 - (r / 0.86) ** 2)) * ramp(frame.y, float(level) + 0.1, float(level) - 0.15)
    tissue.gas += np.float32(4.4 + 1.2 * condition.severity) * hollow
    tissue.soft += np.float32(2.4) * inside
    return _mask(r < 1.0)


def draw_diffuse(tissue: Tissue, condition: Condition) -> Mask:
    """The mask of a finding that is drawn by moving organs: heart, lungs or spine."""
    frame, thorax = tissue.frame, tissue.thorax
    if condition.label == kinds.CARDIOMEGALY:
        return _mask((tissue.organs.heart > 127) & (frame.y > 7.0) & (tissue.organs.below < 0.5))
    if condition.label == kinds.HYPERINFLATION:
        return _mask((tissue.organs.air > 3.0) & (tissue.organs.below < 0.5))
    return _mask((np.abs(frame.x - spine_column(frame, thorax)) < 2.3) & (frame.y > -4.0) & (frame.y < 24.0))


def fluid_of(conditions: Sequence[Condition], side: str) -> float:
    """Severity of the effusion on that side, 0 without one."""
    return next((c.severity for c in conditions if c.label == kinds.EFFUSION and c.side == side), 0.0)

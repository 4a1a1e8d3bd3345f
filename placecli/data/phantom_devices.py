"""Pacemakers, central lines and tubes as thickness of metal or of radio-opaque plastic."""

from __future__ import annotations

import cv2
import numpy as np

from placecli.data import phantom_findings as kinds
from placecli.data.phantom_canvas import Mask, Points, blank, centimetres, fill, mirrored, spline, stroke
from placecli.data.phantom_findings import Condition
from placecli.data.phantom_lesions import Tissue

SUPERIOR_VENA_CAVA = ((-2.2, 2.6), (-2.6, 5.0), (-2.7, 7.2))


def draw_device(tissue: Tissue, condition: Condition) -> Mask:
    """One device, its opaque parts drawn; the mask is widened by 4 mm, since the parts are thin."""
    canvas = blank(tissue.frame)
    match condition.site:
        case kinds.PACEMAKER:
            _draw_pacemaker(canvas, tissue, condition)
        case kinds.CENTRAL_LINE:
            _draw_central_line(canvas, tissue, condition)
        case _:
            _draw_tube(canvas, tissue, condition)
    tissue.metal += centimetres(canvas) * np.float32(0.07)
    size = 2 * round(0.4 * tissue.frame.pixels_per_cm) + 1
    return np.asarray(cv2.dilate(np.where(canvas > 20, np.uint8(255), np.uint8(0)), np.ones((size, size), np.uint8)))


def _shifted(tissue: Tissue, points: Points, depth: float) -> Points:
    return points + np.array([depth * tissue.thorax.pose.turn + tissue.thorax.shift * 0.7, 0.0])


def _draw_pacemaker(canvas: Mask, tissue: Tissue, condition: Condition) -> None:
    frame, rng, side = tissue.frame, np.random.default_rng(condition.seed), condition.sign
    centre = np.array([side * (10.0 + rng.uniform(-0.5, 0.8)), 2.6 + rng.uniform(-0.6, 1.0)])
    corner = np.linspace(0, 2 * np.pi, 40)
    angle = rng.uniform(-0.5, 0.5)
    # A squircle: the can of a generator.
    shape = np.stack([np.cos(corner), np.sin(corner)], axis=1)
    shape = np.sign(shape) * np.abs(shape) ** 0.6 * np.array([2.5, 2.1])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    vein = mirrored([(8.6, 0.6), (5.5, -0.4), (2.6, 0.9)], side)
    grow = tissue.thorax.heart_ratio / 0.47
    ventricle = np.array([(-2.2, 10.5), (0.5, 14.6), (5.4 * grow, 15.6 - 0.5 * tissue.thorax.pose.inspiration)])
    atrium = np.array([(-2.6, 9.5), (-3.2, 10.6), (-3.3, 9.0)])
    trunk = np.concatenate([centre[None] + np.array([[-side * 1.0, -1.6]]), vein, np.array(SUPERIOR_VENA_CAVA)])
    for tip in (ventricle, atrium)[: 1 + int(rng.random() < 0.7)]:
        lead = _shifted(tissue, np.concatenate([trunk, tip]), 4.0)
        stroke(canvas, frame, spline(lead), 0.24, 3.6)
        stroke(canvas, frame, lead[-2:] * 0.25 + lead[-1:] * 0.75, 0.4, 5.0)
    fill(canvas, frame, centre + shape @ turn.T, 215)
    fill(canvas, frame, centre + shape @ turn.T * 0.5 + np.array([0.2, 0.5]), 255)


def _draw_central_line(canvas: Mask, tissue: Tissue, condition: Condition) -> None:
    rng, side = np.random.default_rng(condition.seed), condition.sign
    if rng.random() < 0.5:
        entry = mirrored([(4.6, -9.5), (4.0, -5.0), (2.8, -0.5)], side)
    else:
        entry = mirrored([(13.5, 2.2), (9.0, 0.0), (5.0, -0.3), (2.4, 1.2)], side)
    path = np.concatenate([entry, np.array(SUPERIOR_VENA_CAVA), [(-2.7, 7.6 + rng.uniform(0.0, 2.0))]])
    stroke(canvas, tissue.frame, spline(_shifted(tissue, path, 2.0)), 0.3, 3.4)


def _draw_tube(canvas: Mask, tissue: Tissue, condition: Condition) -> None:
    rng = np.random.default_rng(condition.seed)
    tip = 3.0 + rng.uniform(-1.0, 0.8)
    y = np.linspace(-9.5, tip, 6)
    x = 0.35 * tissue.thorax.spine_x(y) + tissue.thorax.shift * np.interp(y, [-4, 6], [0.2, 0.9])
    tube = np.stack([x, y], axis=1)
    for offset, opaque in ((-0.42, 1.6), (0.42, 3.4)):
        stroke(canvas, tissue.frame, tube + np.array([offset, 0.0]), 0.2, opaque)
    # A feeding tube goes with it, past the diaphragm into the stomach.
    _, top, _ = tissue.thorax.dome(1)
    gullet = np.array(
        [(0.8, -9.5), (0.9, -2.0), (0.6, 5.0), (1.2, 12.0), (1.6, top - 1.0), (3.4, top + 2.6), (5.6, top + 3.4)]
    )
    stroke(canvas, tissue.frame, spline(_shifted(tissue, gullet, -2.0)), 0.32, 2.8)

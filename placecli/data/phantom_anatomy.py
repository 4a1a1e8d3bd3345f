"""Whom a synthetic radiograph shows and how it was taken: one patient's build, one exposure's pose, one thorax.

A `Thorax` is the geometry that is drawn: the patient's build, changed by pose and by those findings that move
organs (a large heart, a raised diaphragm) rather than fill lung.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

SHAPES = ((288, 256), (288, 264), (280, 256), (272, 272), (296, 256))
"""Frames (height, width) in pixels: detectors and collimation differ a little."""
FRAME_HEIGHT_CM = 42.0


@dataclass(frozen=True, slots=True)
class Anatomy:
    """What stays with a patient; lengths in cm of a standard adult, scales around 1."""

    sex: Literal["M", "F"]
    scale: float
    habitus: float
    """-1 thin, 0 average, 1 obese."""
    chest_width: float
    heart_ratio: float
    """Heart width over chest width in a patient without cardiomegaly."""
    heart_lean: float
    knob: float
    """Prominence of the aortic knob: 0 young, 1 unfolded and tortuous."""
    dome_right: float
    dome_left: float
    breast: float
    rib_tilt: float
    bone: float
    gas: float
    spine_drift: float
    seed: int
    """Fixes the branching of vessels and the texture of lung."""


@dataclass(frozen=True, slots=True)
class Pose:
    """How one radiograph was taken."""

    view: Literal["PA", "AP"]
    shape: tuple[int, int]
    pixels_per_cm: float
    degrees: float
    shift: tuple[float, float]
    turn: float
    """Sine of the rotation about the body's axis: z cm towards the front moves x by z * turn."""
    inspiration: float
    """cm by which the diaphragm stands higher (positive) or lower than in full inspiration."""
    exposure: float
    """Photons per pixel in air, thousands."""
    marker: Literal["L", "R", ""]
    seed: int


@dataclass(frozen=True, slots=True)
class Thorax:
    """Geometry after pose and organ-moving findings."""

    anatomy: Anatomy
    pose: Pose
    heart_ratio: float
    dome_right: float
    dome_left: float
    dome_height: float
    """Curvature of the domes: 4.5 normal, towards 1 flattened."""
    cavity_scale: float
    lung_density: float
    """Mass of lung over water, 0.26 in full inspiration."""
    shift: float
    """cm by which the mediastinum is pushed to the image's right."""
    curve: float
    """cm of lateral curve of the spine, positive towards the image's right."""
    vessel_scale: float

    def spine_x(self, y: np.ndarray) -> np.ndarray:
        """x in cm of the spine's middle at heights `y` cm; the spine stands behind the centre of rotation."""
        arc = self.curve * np.sin(np.clip((y + 4.0) / 27.0, -0.2, 1.2) * math.pi)
        return np.asarray(arc - 0.35 * self.curve - 6.0 * self.pose.turn + self.anatomy.spine_drift)

    def dome(self, side: int) -> tuple[float, float, float]:
        """Top of the diaphragm of a side (-1 patient's right, +1 left) in cm: x, y and the height of its arch."""
        top = self.dome_right if side < 0 else self.dome_left
        return (6.2 if side > 0 else -6.4) * self.anatomy.chest_width, top, self.dome_height


def sample_anatomy(rng: np.random.Generator) -> Anatomy:
    """A patient's build."""
    sex: Literal["M", "F"] = "F" if rng.random() < 0.5 else "M"
    habitus = float(np.clip(rng.normal(0.05, 0.45), -1.0, 1.0))
    knob = float(rng.uniform(0.1, 0.55) if rng.random() < 0.82 else rng.uniform(0.8, 1.0))
    right = rng.normal(17.4, 0.4)
    return Anatomy(
        sex=sex,
        scale=float(np.clip(rng.normal(0.96 if sex == "F" else 1.02, 0.03), 0.88, 1.08)),
        habitus=habitus,
        chest_width=float(np.clip(rng.normal(1.0, 0.03), 0.92, 1.07)),
        heart_ratio=float(rng.uniform(0.41, 0.475)),
        heart_lean=float(rng.uniform(-1.0, 1.0)),
        knob=knob,
        dome_right=float(right),
        dome_left=float(right + rng.uniform(0.6, 1.5)),
        breast=float(np.clip(rng.normal(0.55 + 0.3 * habitus, 0.22), 0.15, 1.1)) if sex == "F" else 0.0,
        rib_tilt=float(rng.uniform(0.86, 1.1)),
        bone=float(rng.uniform(0.85, 1.2)),
        gas=float(rng.random()),
        spine_drift=float(rng.normal(0.0, 0.12)),
        seed=int(rng.integers(2**31)),
    )


def sample_pose(rng: np.random.Generator, anatomy: Anatomy, *, supine_chance: float) -> Pose:
    """One exposure of `anatomy`; AP (at the bedside) with probability `supine_chance`."""
    view: Literal["PA", "AP"] = "AP" if rng.random() < supine_chance else "PA"
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    low = rng.random() < (0.3 if view == "AP" else 0.08)
    turned = rng.random() < (0.22 if view == "AP" else 0.1)
    turn = float(rng.choice([-1.0, 1.0]) * rng.uniform(0.13, 0.2) if turned else rng.normal(0.0, 0.018))
    marker = rng.random()
    return Pose(
        view=view,
        shape=shape,
        pixels_per_cm=float(shape[0] / FRAME_HEIGHT_CM * anatomy.scale * rng.uniform(0.97, 1.06)),
        degrees=float(np.clip(rng.normal(0.0, 1.6), -4.0, 4.0)),
        shift=(float(rng.normal(0.0, 0.5)), float(rng.normal(0.0, 0.6))),
        turn=turn,
        inspiration=float(rng.uniform(2.6, 3.8) if low else rng.uniform(-0.5, 1.0)),
        exposure=float(rng.uniform(40.0, 90.0) if view == "PA" else rng.uniform(15.0, 45.0)),
        marker="L" if marker < 0.4 else "R" if marker < 0.75 else "",
        seed=int(rng.integers(2**31)),
    )

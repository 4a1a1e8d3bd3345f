"""From thickness to stored pixels: Beer-Lambert attenuation, scatter, quantum noise, blur and log response."""

from __future__ import annotations

import cv2
import numpy as np

from placecli.data.phantom_anatomy import Pose
from placecli.data.phantom_canvas import Array, Frame, blur

SOFT = 0.19
"""Attenuation of soft tissue per cm at the effective energy of a chest exposure (about 60 keV), 1/cm."""
BONE = 0.55
METAL = 6.0
STORED_MAXIMUM = 4095
"""Frames hold 12 bits."""


def path_attenuation(soft_cm: Array, bone_cm: Array, metal_cm: Array) -> Array:
    """Line integral sum(mu_i t_i) [H, W]; bone and metal stand in place of soft tissue."""
    total = np.float32(SOFT) * soft_cm + np.float32(BONE - SOFT) * bone_cm + np.float32(METAL) * metal_cm
    return np.maximum(total, 0.0)


def expose(attenuation: Array, frame: Frame, pose: Pose) -> Array:
    """Detector signal in attenuation units [H, W]: -log of the noisy, scattered and blurred transmission."""
    rng = np.random.default_rng(pose.seed)
    primary = np.exp(-attenuation)
    scatter = np.float32(0.55) * blur(primary, 3.5, frame) * np.float32(0.5) + np.float32(0.006)
    intensity = cv2.GaussianBlur(primary + scatter, (0, 0), 0.55)
    photons = intensity * np.float32(1000.0 * pose.exposure)
    # Counts are large enough that a Poisson variable is a normal one of the same variance.
    photons = photons + np.sqrt(photons) * rng.standard_normal(frame.shape, dtype=np.float32)
    return -np.log(np.maximum(photons, 2.0) * np.float32(1.0 / (1000.0 * pose.exposure)))


def develop(signal: Array, frame: Frame) -> Array:
    """The signal as the console shows it, 0..1 with bone white: local contrast raised, dense parts compressed."""
    coarse, fine = signal - blur(signal, 2.4, frame), signal - blur(signal, 0.5, frame)
    shown = signal + np.float32(0.6) * coarse + np.float32(0.5) * fine
    low, high = np.percentile(shown[::4, ::4], (0.5, 99.5))
    scaled = np.clip((shown - low) * np.float32(1.0 / max(float(high - low), 1e-3)), 0.0, 1.06)
    return np.asarray(np.minimum(scaled, 1.0), dtype=np.float32)

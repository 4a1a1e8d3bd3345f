"""The lead letter that tells left from right, in a corner of the frame."""

from __future__ import annotations

import cv2
import numpy as np

from placecli.data.phantom_anatomy import Pose
from placecli.data.phantom_canvas import Array, Frame, blank


def draw_marker(frame: Frame, pose: Pose) -> Array:
    """Thickness of lead in cm [H, W] of the side's letter, on the patient's own side."""
    canvas = blank(frame)
    if pose.marker:
        height, width = frame.shape
        x = width - 24 if pose.marker == "L" else 12
        origin = (x + pose.seed % 5, int(0.075 * height) + pose.seed % 7)
        cv2.putText(canvas, pose.marker, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255,), 2, cv2.LINE_AA)
    return np.asarray(canvas.astype(np.float32) * np.float32(0.7 / 255))

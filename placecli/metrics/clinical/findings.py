"""The fourteen findings that CheXpert (Irvin et al. 2019) made usual, and what a report can say of each."""

from __future__ import annotations

from typing import Final

PRESENT: Final = 1
ABSENT: Final = 0
UNCERTAIN: Final = -1
"""States of a finding that a report mentions; a finding without a state was not mentioned."""

NO_FINDING: Final[str] = "No Finding"
SUPPORT_DEVICES: Final[str] = "Support Devices"

FINDINGS: Final[tuple[str, ...]] = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    SUPPORT_DEVICES,
)
"""Names and order of every table of labels here."""

COMPETITION: Final[tuple[str, ...]] = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
"""The five findings by which CheXpert's competition was judged."""

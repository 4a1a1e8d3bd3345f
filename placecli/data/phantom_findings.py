"""What is planted in a synthetic radiograph: twelve findings, how they occur together and how they change.

Frequencies follow six made-up stories (heart failure, pneumonia, ...), so that findings keep the company they keep
in hospitals; they are not the frequencies of any population.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

CARDIOMEGALY: Final = "Cardiomegaly"
EFFUSION: Final = "Pleural Effusion"
CONSOLIDATION: Final = "Consolidation"
ATELECTASIS: Final = "Atelectasis"
PNEUMOTHORAX: Final = "Pneumothorax"
NODULE: Final = "Lung Nodule"
MASS: Final = "Lung Mass"
EDEMA: Final = "Pulmonary Edema"
HYPERINFLATION: Final = "Hyperinflation"
DEVICE: Final = "Support Device"
HERNIA: Final = "Hiatal Hernia"
SCOLIOSIS: Final = "Scoliosis"

LABELS: Final = (
    *(ATELECTASIS, CARDIOMEGALY, CONSOLIDATION, HERNIA, HYPERINFLATION, MASS),
    *(NODULE, EFFUSION, PNEUMOTHORAX, EDEMA, SCOLIOSIS, DEVICE),
)
"""Every finding that can be planted, in the order of the annotations."""

PACEMAKER: Final = "pacemaker"
CENTRAL_LINE: Final = "central line"
TUBE: Final = "endotracheal tube"

LOBES: Final[Mapping[str, tuple[str, ...]]] = {
    "right": ("upper lobe", "middle lobe", "lower lobe"),
    "left": ("upper lobe", "lingula", "lower lobe"),
}
ZONES: Final = ("upper", "mid", "lower")


@dataclass(frozen=True, slots=True)
class Condition:
    """One finding as it is planted, without pixels.

    `side` is the patient's: left, right, bilateral or "". `site` is a lobe, a zone or a kind of device.
    `severity` runs from 0 (just visible) to 1; `size_cm` is 0 where a size means nothing.
    """

    label: str
    side: str
    site: str
    severity: float
    size_cm: float
    seed: int

    @property
    def grade(self) -> str:
        """mild, moderate or severe."""
        return "mild" if self.severity < 0.34 else "moderate" if self.severity < 0.68 else "severe"

    @property
    def sign(self) -> int:
        """-1 for the patient's right (the image's left), +1 for the left, 0 for both or neither."""
        return {"right": -1, "left": 1}.get(self.side, 0)


STORIES: Final[Sequence[tuple[float, Mapping[str, float]]]] = (
    (0.20, {CARDIOMEGALY: 0.85, EDEMA: 0.68, EFFUSION: 0.55, DEVICE: 0.22, ATELECTASIS: 0.12}),
    (0.16, {CONSOLIDATION: 0.95, EFFUSION: 0.28, ATELECTASIS: 0.12, HYPERINFLATION: 0.08}),
    (0.17, {HYPERINFLATION: 0.85, PNEUMOTHORAX: 0.28, NODULE: 0.22, CONSOLIDATION: 0.1, SCOLIOSIS: 0.06}),
    (0.15, {DEVICE: 0.9, ATELECTASIS: 0.55, EFFUSION: 0.25, PNEUMOTHORAX: 0.25, EDEMA: 0.1, CONSOLIDATION: 0.12}),
    (0.18, {MASS: 0.62, NODULE: 0.55, EFFUSION: 0.18, ATELECTASIS: 0.22, HYPERINFLATION: 0.1}),
    (0.14, {HERNIA: 0.5, SCOLIOSIS: 0.55, CARDIOMEGALY: 0.2, DEVICE: 0.15, ATELECTASIS: 0.15}),
)
"""Chance of each story and, within it, of each finding."""
BACKGROUND: Final = 0.03
"""Chance of any finding that the story does not name; the slow ones below have their own."""
BACKGROUND_SLOW: Final[Mapping[str, float]] = {SCOLIOSIS: 0.07, HERNIA: 0.09, PNEUMOTHORAX: 0.06, NODULE: 0.05}
NORMAL_CHANCE: Final = 0.29
LEAST_SEVERITY: Final = 0.15
"""Below it a finding would change fewer grey levels than the noise of the detector."""
LASTING: Final = frozenset({CARDIOMEGALY, HYPERINFLATION, HERNIA, SCOLIOSIS, MASS, NODULE})
EXCLUSIVE: Final = ((HYPERINFLATION, EDEMA), (HYPERINFLATION, ATELECTASIS))
"""Of each pair the second is dropped: their signs cancel each other."""


def sample_conditions(rng: np.random.Generator) -> tuple[Condition, ...]:
    """The findings of one examination; empty for a normal one."""
    if rng.random() < NORMAL_CHANCE:
        return ()
    weights = np.array([weight for weight, _ in STORIES])
    story = STORIES[int(rng.choice(len(STORIES), p=weights / weights.sum()))][1]
    chances = [story.get(label, BACKGROUND_SLOW.get(label, BACKGROUND)) for label in LABELS]
    present = {label for label, chance in zip(LABELS, chances, strict=True) if rng.random() < chance}
    if not present:
        present = {max(story, key=lambda label: story[label])}
    return _settle(rng, _place(rng, present))


def follow_up(rng: np.random.Generator, before: Sequence[Condition]) -> tuple[Condition, ...]:
    """The findings of the patient's next examination: some last, some heal or grow, some are new."""
    kept: list[Condition] = []
    for condition in before:
        lasts = 0.97 if condition.label in LASTING or condition.site == PACEMAKER else 0.55
        if rng.random() >= lasts:
            continue
        if condition.label in (HERNIA, SCOLIOSIS, DEVICE, HYPERINFLATION):
            kept.append(condition)
            continue
        growth = float(rng.uniform(0.9, 1.2))
        severity = float(np.clip(condition.severity + rng.normal(0, 0.25), LEAST_SEVERITY, 1.0))
        size = round(condition.size_cm * growth, 1)
        if condition.label == NODULE:
            size = min(size, 2.9)
        site = _site_of_air(severity) if condition.label == PNEUMOTHORAX else condition.site
        kept.append(replace(condition, site=site, severity=severity, size_cm=size))
    if rng.random() < 0.4:
        known = {condition.label for condition in kept}
        kept += [c for c in sample_conditions(rng) if c.label not in known and c.label not in LASTING - {CARDIOMEGALY}]
    return _settle(rng, kept)


def _place(rng: np.random.Generator, labels: set[str]) -> list[Condition]:
    placed: list[Condition] = []
    for label in LABELS:
        if label not in labels:
            continue
        side = "right" if rng.random() < 0.52 else "left"
        if (
            (label == EFFUSION and rng.random() < (0.55 if EDEMA in labels or CARDIOMEGALY in labels else 0.15))
            or (label == ATELECTASIS and rng.random() < 0.3)
            or (label == CONSOLIDATION and rng.random() < 0.2)
        ):
            placed += [_condition(rng, label, "right"), _condition(rng, label, "left")]
        elif label == DEVICE and rng.random() < 0.25:
            placed += [_device(rng, CENTRAL_LINE, side), _device(rng, TUBE, side)]
        else:
            placed.append(_condition(rng, label, side))
    return placed


def _condition(rng: np.random.Generator, label: str, side: str) -> Condition:
    severity, size, site = float(rng.uniform(LEAST_SEVERITY, 1.0)), 0.0, ""
    if label in (CARDIOMEGALY, HYPERINFLATION):
        side = ""
    elif label == EDEMA:
        side = "bilateral"
    elif label == CONSOLIDATION:
        site = str(rng.choice(LOBES[side]))
    elif label == ATELECTASIS:
        site = "base"
    elif label == PNEUMOTHORAX:
        site = _site_of_air(severity)
    elif label in (NODULE, MASS):
        site = str(rng.choice(ZONES))
        size = round(float(rng.uniform(1.7, 2.9) if label == NODULE else rng.uniform(3.8, 7.0)), 1)
    elif label == HERNIA:
        side, size = "", round(float(rng.uniform(5.0, 8.5)), 1)
        severity = (size - 5.0) / 3.5
    elif label == DEVICE:
        return _device(rng, str(rng.choice([PACEMAKER, CENTRAL_LINE, TUBE], p=[0.5, 0.3, 0.2])), side)
    return Condition(label, side, site, severity, size, int(rng.integers(2**31)))


def _site_of_air(severity: float) -> str:
    """A small pneumothorax is at the apex alone."""
    return "apical" if severity < 0.45 else ""


def _device(rng: np.random.Generator, kind: str, side: str) -> Condition:
    if kind == PACEMAKER:
        side = "left" if rng.random() < 0.75 else "right"
    elif kind == TUBE:
        side = ""
    return Condition(DEVICE, side, kind, 0.5, 0.0, int(rng.integers(2**31)))


def _settle(rng: np.random.Generator, conditions: Sequence[Condition]) -> tuple[Condition, ...]:
    """Drops contradictions and moves what a large effusion or a collapsed lung would hide."""
    labels = {condition.label for condition in conditions}
    dropped = {second for first, second in EXCLUSIVE if first in labels and second in labels}
    left = [condition for condition in conditions if condition.label not in dropped]
    fluid = {c.side: c.severity for c in left if c.label == EFFUSION}
    settled: list[Condition] = []
    for condition in left:
        if condition.label == PNEUMOTHORAX and condition.side in fluid:
            other = "left" if condition.side == "right" else "right"
            if other in fluid:
                continue
            condition = replace(condition, side=other)
        if condition.label in (CONSOLIDATION, NODULE, MASS) and fluid.get(condition.side, 0.0) > 0.3:
            condition = replace(condition, site="upper lobe" if condition.label == CONSOLIDATION else "upper")
        settled.append(condition)
    taken: set[tuple[str, str]] = set()
    apart: list[Condition] = []
    for condition in settled:
        # Two round shadows in one place would be one shadow.
        if condition.label in (NODULE, MASS, CONSOLIDATION):
            zone = _zone(condition)
            while (condition.side, zone) in taken:
                condition = replace(
                    condition, side=str(rng.choice(["left", "right"])), site=_other_site(rng, condition)
                )
                zone = _zone(condition)
            taken.add((condition.side, zone))
        apart.append(condition)
    seen = _bare_of_air(apart, set(fluid))
    return tuple(sorted(seen, key=lambda c: (LABELS.index(c.label), c.side, c.site)))


def _bare_of_air(conditions: Sequence[Condition], wet: set[str]) -> list[Condition]:
    """Moves free air that would hide a nodule or mass to the other side; drops it where `wet` or a nodule is there too."""
    hidden = {condition.side for condition in conditions if condition.label in (NODULE, MASS)}
    kept: list[Condition] = []
    for condition in conditions:
        # A smaller one stays outside of where nodules and masses are put.
        if condition.label == PNEUMOTHORAX and condition.severity > 0.3 and condition.side in hidden:
            other = "left" if condition.side == "right" else "right"
            if other in hidden | wet:
                continue
            condition = replace(condition, side=other)
        kept.append(condition)
    return kept


def _zone(condition: Condition) -> str:
    return {"upper lobe": "upper", "middle lobe": "mid", "lingula": "mid", "lower lobe": "lower"}.get(
        condition.site, condition.site
    )


def _other_site(rng: np.random.Generator, condition: Condition) -> str:
    if condition.label == CONSOLIDATION:
        return str(rng.choice(["upper lobe", "lower lobe"]))
    return str(rng.choice(ZONES))

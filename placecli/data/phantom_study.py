"""One synthetic examination from its seed: patient, findings, radiograph and report, with no file touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from placecli.data import phantom_findings as kinds
from placecli.data import phantom_lesions as lesions
from placecli.data.phantom_anatomy import Anatomy, Pose, Thorax, sample_anatomy, sample_pose
from placecli.data.phantom_canvas import Array, Mask, make_frame
from placecli.data.phantom_detector import develop, expose, path_attenuation
from placecli.data.phantom_devices import draw_device
from placecli.data.phantom_findings import Condition, follow_up, sample_conditions
from placecli.data.phantom_marker import draw_marker
from placecli.data.phantom_organs import make_organs
from placecli.data.phantom_reports import SyntheticReport, write_report
from placecli.data.phantom_skeleton import bone_thickness
from placecli.records import Box

MAXIMUM_STUDIES = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """A planted finding with the pixels that it changed: `mask` uint8 [H, W] 0 or 255, `box` around it."""

    condition: Condition
    mask: Mask
    box: Box


@dataclass(frozen=True, slots=True)
class PhantomStudy:
    """One synthetic examination: `image` float32 [H, W] in 0..1 (bone white), findings, report, ids."""

    seed: int
    patient_id: str
    study_id: str
    image: Array
    anatomy: Anatomy
    pose: Pose
    findings: tuple[Finding, ...]
    report: SyntheticReport

    @property
    def labels(self) -> dict[str, float]:
        """1.0 or 0.0 for every finding that can be planted."""
        present = {finding.condition.label for finding in self.findings}
        return {label: float(label in present) for label in kinds.LABELS}


def make_study(seed: int, patient: int = 0, study: int = 0) -> PhantomStudy:
    """Study number `study` (from 0) of patient number `patient` (from 0); the same numbers give the same study."""
    return make_patient(seed, patient, only=study)[0]


def make_patient(seed: int, patient: int, only: int | None = None) -> tuple[PhantomStudy, ...]:
    """All studies of one patient, or the one numbered `only`."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, patient)))
    anatomy = sample_anatomy(rng)
    count = int(rng.choice((1, 2, 3), p=(0.58, 0.3, 0.12)))
    count = count if only is None else only + 1
    studies: list[PhantomStudy] = []
    conditions: tuple[Condition, ...] = ()
    for number in range(count):
        own = np.random.default_rng(np.random.SeedSequence((seed, patient, number)))
        conditions = sample_conditions(own) if number == 0 else follow_up(own, conditions)
        if only is None or number == only:
            studies.append(_render(own, seed, anatomy, conditions, f"P{patient + 1:05d}", number))
    return tuple(studies)


def _render(
    rng: np.random.Generator,
    seed: int,
    anatomy: Anatomy,
    conditions: Sequence[Condition],
    patient_id: str,
    number: int,
) -> PhantomStudy:
    intubated = any(c.site == kinds.TUBE for c in conditions)
    pose = sample_pose(rng, anatomy, supine_chance=1.0 if intubated else 0.35)
    image, findings = render_radiograph(anatomy, pose, conditions)
    facts = _facts(anatomy, pose, conditions)
    report = write_report(rng, conditions, facts, is_follow_up=number > 0)
    return PhantomStudy(seed, patient_id, f"{patient_id}-S{number + 1}", image, anatomy, pose, findings, report)


def _thorax(anatomy: Anatomy, pose: Pose, conditions: Sequence[Condition]) -> Thorax:
    """The geometry that is drawn: build and pose, then each finding that moves organs."""
    heart, shift, curve, arch, cavity, density, vessels = anatomy.heart_ratio, 0.0, 0.0, 4.5, 1.0, 0.25, 1.0
    domes = {-1: anatomy.dome_right - pose.inspiration, 1: anatomy.dome_left - pose.inspiration}
    if pose.view == "AP":
        heart += 0.012
    for condition in conditions:
        s, sign = condition.severity, condition.sign
        match condition.label:
            case kinds.CARDIOMEGALY:
                heart = 0.555 + 0.13 * s
                vessels *= 1.05
            case kinds.HYPERINFLATION:
                low = 1.6 + 2.2 * s - max(0.0, 0.8 * pose.inspiration)
                domes = {side: top + low + 0.3 * s for side, top in domes.items()}
                arch, cavity, density = 3.0 - 1.7 * s, 1.02 + 0.03 * s, 0.2 - 0.05 * s
            case kinds.SCOLIOSIS:
                curve += sign * (2.2 + 2.2 * s)
            case kinds.ATELECTASIS if condition.grade != "mild":
                domes[sign] -= 0.3 + 1.2 * s
                shift += sign * 0.8 * s
            case kinds.EFFUSION if s > 0.6:
                shift -= sign * 2.0 * (s - 0.5)
            case kinds.PNEUMOTHORAX if s > 0.68:
                shift -= sign * 2.2 * (s - 0.5)
            case kinds.EDEMA:
                vessels *= 1.1 + 0.15 * s
    if kinds.HYPERINFLATION in {c.label for c in conditions} and heart < 0.5:
        heart *= 0.9
    return Thorax(anatomy, pose, heart, domes[-1], domes[1], arch, cavity, density, shift, curve, vessels)


def render_radiograph(
    anatomy: Anatomy, pose: Pose, conditions: Sequence[Condition]
) -> tuple[Array, tuple[Finding, ...]]:
    """The picture float32 [H, W] in 0..1 and its findings with masks; with fewer `conditions` all else stays the same."""
    thorax = _thorax(anatomy, pose, conditions)
    frame = make_frame(pose.shape, pose.pixels_per_cm, pose.degrees, pose.shift, 11.5)
    organs = make_organs(frame, thorax)
    tissue = lesions.Tissue(
        frame=frame,
        thorax=thorax,
        organs=organs,
        density=np.float32(thorax.lung_density) * (1.0 + np.float32(0.07) * organs.texture),
        soft=np.zeros(frame.shape, np.float32),
        metal=np.zeros(frame.shape, np.float32),
        vessels=organs.vessels.copy(),
        gas=organs.gas,
    )
    masks = {condition: _draw(tissue, condition, conditions) for condition in sorted(conditions, key=_drawing_order)}
    bone = bone_thickness(frame, thorax)
    vessels = np.minimum(tissue.vessels, organs.air) * (1.0 - tissue.density)
    soft = organs.body - organs.air * (1.0 - tissue.density) + vessels + tissue.soft - tissue.gas
    attenuation = path_attenuation(soft, bone, tissue.metal + draw_marker(frame, pose))
    image = develop(expose(attenuation, frame, pose), frame)
    return image, tuple(Finding(c, masks[c], _box(c.label, masks[c])) for c in conditions)


DRAWING_ORDER = (kinds.EDEMA, kinds.CONSOLIDATION, kinds.MASS, kinds.NODULE, kinds.ATELECTASIS, kinds.PNEUMOTHORAX)
"""Air that displaces lung comes after what fills lung, and fluid, which hides all, after that."""


def _drawing_order(condition: Condition) -> int:
    return DRAWING_ORDER.index(condition.label) if condition.label in DRAWING_ORDER else len(DRAWING_ORDER)


def _draw(tissue: lesions.Tissue, condition: Condition, conditions: Sequence[Condition]) -> Mask:
    match condition.label:
        case kinds.EDEMA:
            return lesions.draw_edema(tissue, condition)
        case kinds.CONSOLIDATION:
            return lesions.draw_consolidation(tissue, condition)
        case kinds.MASS | kinds.NODULE:
            return lesions.draw_round(tissue, condition)
        case kinds.ATELECTASIS:
            return lesions.draw_atelectasis(tissue, condition, lesions.fluid_of(conditions, condition.side))
        case kinds.PNEUMOTHORAX:
            return lesions.draw_pneumothorax(tissue, condition)
        case kinds.EFFUSION:
            return lesions.draw_effusion(tissue, condition)
        case kinds.HERNIA:
            return lesions.draw_hernia(tissue, condition)
        case kinds.DEVICE:
            return draw_device(tissue, condition)
        case _:
            return lesions.draw_diffuse(tissue, condition)


def _box(label: str, mask: Mask) -> Box:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise AssertionError(f"phantom: {label} was planted without a pixel")
    x, y = int(columns[0]), int(rows[0])
    return Box(label, float(x), float(y), float(columns[-1] + 1 - x), float(rows[-1] + 1 - y))


def _facts(anatomy: Anatomy, pose: Pose, conditions: Sequence[Condition]) -> frozenset[str]:
    """What else the image shows and a report may remark on."""
    labels = {condition.label for condition in conditions}
    facts: set[str] = {pose.view}
    if pose.inspiration > 2.0 and kinds.HYPERINFLATION not in labels:
        facts.add("low volumes")
    if abs(pose.turn) > 0.1:
        facts.add("rotated left" if pose.turn > 0 else "rotated right")
    if anatomy.knob > 0.7:
        facts.add("tortuous aorta")
    if anatomy.habitus > 0.62:
        facts.add("large habitus")
    if anatomy.breast > 0.75:
        facts.add("breast shadows")
    return frozenset(facts)

"""Synthetic radiographs: fixed by the seed, and every planted finding is where its mask, box and side say it is."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from phantom_cases import NUM_PATIENTS, SEED, studies

from placecli.data import phantom_findings as kinds
from placecli.data.phantom import LABELS, Finding, PhantomStudy, make_study
from placecli.data.phantom_findings import Condition, follow_up, sample_conditions
from placecli.data.phantom_study import make_patient, render_radiograph

BRIGHT = (kinds.EFFUSION, kinds.CONSOLIDATION, kinds.NODULE, kinds.MASS, kinds.EDEMA, kinds.ATELECTASIS)
DARK = (kinds.PNEUMOTHORAX, kinds.HYPERINFLATION)
ONE_SIDED = (
    *(kinds.EFFUSION, kinds.CONSOLIDATION, kinds.ATELECTASIS, kinds.PNEUMOTHORAX, kinds.NODULE, kinds.MASS),
    *(kinds.SCOLIOSIS, kinds.DEVICE),
)


def found(*labels: str) -> Iterator[tuple[PhantomStudy, Finding]]:
    """Every finding of the shared studies, or those with one of `labels`."""
    for study in studies():
        yield from ((study, each) for each in study.findings if not labels or each.condition.label in labels)


def midline(study: PhantomStudy) -> NDArray[np.float64]:
    """Column of the body's midline in each row, from the pose alone: [H, 1]."""
    height, width = study.pose.shape
    centre_y = height / 2 + study.pose.shift[1] * study.pose.pixels_per_cm
    rows = np.arange(height)[:, None] + 0.5 - centre_y
    column = width / 2 + study.pose.shift[0] * study.pose.pixels_per_cm
    return np.asarray(column - rows * np.tan(np.radians(study.pose.degrees)))


def reach(study: PhantomStudy, mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """For each pixel of the mask, cm to the image's right of the midline."""
    columns = np.arange(mask.shape[1])[None, :] + 0.5
    return np.asarray((columns - midline(study))[mask > 0] / study.pose.pixels_per_cm)


def is_same(first: PhantomStudy, second: PhantomStudy) -> bool:
    return (
        first.image.tobytes() == second.image.tobytes()
        and first.report == second.report
        and [each.condition for each in first.findings] == [each.condition for each in second.findings]
        and all((a.mask == b.mask).all() for a, b in zip(first.findings, second.findings, strict=True))
    )


def test_a_study_does_not_depend_on_what_was_made_before_it() -> None:
    for patient in (31, 4, 17):
        whole = make_patient(SEED, patient)
        for number in reversed(range(len(whole))):
            assert is_same(make_study(SEED, patient, number), whole[number])


def test_another_seed_another_patient_and_another_study_differ() -> None:
    pictures = [make_study(seed, patient).image.tobytes() for seed in (1, 2) for patient in (0, 1)]
    pictures.append(make_study(1, 0, 1).image.tobytes())
    assert len(set(pictures)) == len(pictures)


def test_at_least_ten_findings_are_planted_and_some_studies_are_normal() -> None:
    counted = Counter(each.condition.label for _, each in found())
    assert set(counted) == set(LABELS)
    assert len(counted) >= 10
    assert min(counted.values()) >= 5
    assert 0.15 < sum(not study.findings for study in studies()) / len(studies()) < 0.45


def test_patients_have_one_two_or_three_studies() -> None:
    by_patient = Counter(study.patient_id for study in studies())
    assert len(by_patient) == NUM_PATIENTS
    assert set(by_patient.values()) == {1, 2, 3}
    assert len({study.study_id for study in studies()}) == len(studies())


def test_a_patient_keeps_the_body_and_the_lasting_findings_from_study_to_study() -> None:
    lasted, ended = 0, 0
    for first, second in zip(studies(), studies()[1:], strict=False):
        if first.patient_id == second.patient_id:
            assert first.anatomy == second.anatomy
            assert first.pose != second.pose
            before = {each.condition.label for each in first.findings} & kinds.LASTING
            after = {each.condition.label for each in second.findings}
            lasted, ended = lasted + len(before & after), ended + len(before - after)
    assert lasted > 5 * ended > 0 or (lasted > 20 and ended == 0)


def test_attributes_vary_and_apply_to_their_findings() -> None:
    values: dict[str, dict[str, set[object]]] = defaultdict(lambda: defaultdict(set))
    for _, each in found():
        condition = each.condition
        for name in ("side", "site", "grade", "size_cm"):
            values[condition.label][name].add(getattr(condition, name))
    for label in LABELS:
        if label == kinds.DEVICE:
            assert values[label]["site"] == {kinds.PACEMAKER, kinds.CENTRAL_LINE, kinds.TUBE}
        elif label not in (kinds.NODULE, kinds.MASS):  # whose size counts
            assert values[label]["grade"] == {"mild", "moderate", "severe"}, label
        if label in ONE_SIDED:
            assert values[label]["side"] >= {"left", "right"}, label
    assert values[kinds.CONSOLIDATION]["site"] == {"upper lobe", "middle lobe", "lower lobe", "lingula"}
    assert values[kinds.NODULE]["site"] == values[kinds.MASS]["site"] == set(kinds.ZONES)
    nodules, masses = values[kinds.NODULE]["size_cm"], values[kinds.MASS]["size_cm"]
    assert len(nodules) > 3
    assert len(masses) > 3
    assert all(0 < float(str(size)) <= 3.0 for size in nodules)
    assert all(float(str(size)) > 3.0 for size in masses)
    for study, each in found(kinds.CONSOLIDATION):
        assert each.condition.site in kinds.LOBES[each.condition.side], study.study_id
    for study, each in found(kinds.PNEUMOTHORAX):
        assert (each.condition.site == "apical") == (each.condition.severity < 0.45), study.study_id


def test_masks_are_not_empty_and_boxes_are_exactly_their_bounds() -> None:
    for study, each in found():
        mask, box = each.mask, each.box
        assert mask.shape == study.image.shape
        assert set(np.unique(mask)) == {0, 255}, f"{study.study_id}: empty or full"
        x, y, right, bottom = (int(v) for v in (box.x, box.y, box.x + box.width, box.y + box.height))
        assert 0 <= x < right <= mask.shape[1]
        assert 0 <= y < bottom <= mask.shape[0]
        inside = mask[y:bottom, x:right]
        assert (inside > 0).sum() == (mask > 0).sum(), study.study_id
        for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
            assert edge.any(), f"{study.study_id} {box.label}: a smaller box would hold it"
        assert box.label == each.condition.label


def test_masks_lie_on_the_stated_side() -> None:
    """The patient's right is the image's left."""
    lungs = (kinds.EFFUSION, kinds.CONSOLIDATION, kinds.ATELECTASIS, kinds.PNEUMOTHORAX, kinds.NODULE, kinds.MASS)
    seen = Counter[tuple[str, str]]()
    for study, each in found(*lungs):
        sideways = reach(study, each.mask) * each.condition.sign
        assert (sideways > -0.3).mean() > 0.99, f"{study.study_id} {each.condition}"
        assert np.median(sideways) > 2.0, f"{study.study_id} {each.condition}"
        seen[each.condition.label, each.condition.side] += 1
    assert len(seen) == 2 * len(lungs)
    for study, each in found(kinds.EDEMA):
        across = reach(study, each.mask)
        assert across.min() < -4.0, study.study_id
        assert across.max() > 4.0, study.study_id


def test_one_sided_devices_come_from_their_side_and_a_curved_spine_bends_to_its_side() -> None:
    sides = Counter[str]()
    for study, each in found(kinds.DEVICE):
        if each.condition.sign:
            across = reach(study, each.mask) * each.condition.sign
            assert across.max() > -across.min(), f"{study.study_id} {each.condition}"
            sides[each.condition.side] += 1
    assert min(sides["left"], sides["right"]) > 0
    for study, each in found(kinds.SCOLIOSIS):
        rows = np.flatnonzero(each.mask.any(axis=1))
        columns = np.arange(each.mask.shape[1])
        centre = np.array([(columns[each.mask[row] > 0]).mean() - midline(study)[row, 0] for row in rows])
        chord = np.linspace(centre[0], centre[-1], len(centre))
        assert (centre - chord).sum() * each.condition.sign > 0, study.study_id


def changes(study: PhantomStudy, finding: Finding) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """What the finding did to the picture (this picture less the same one without it), and its mask."""
    others = [each.condition for each in study.findings if each is not finding]
    without, _ = render_radiograph(study.anatomy, study.pose, others)
    return study.image - without, finding.mask > 0


def test_each_finding_changes_the_picture_inside_its_mask_and_in_the_right_direction() -> None:
    seen = Counter[str]()
    for study, each in found():
        label = each.condition.label
        if seen[label] == 12:
            continue
        seen[label] += 1
        change, inside = changes(study, each)
        ratio = float(np.abs(change[inside]).mean() / np.abs(change[~inside]).mean())
        # Scoliosis moves all that hangs on the spine; metal shifts the grey scale of the whole picture.
        assert ratio > (1.1 if label in (kinds.SCOLIOSIS, kinds.DEVICE) else 2.0), f"{study.study_id} {label}"
        direction = float(change[inside].mean())
        if label in BRIGHT:
            assert direction > 0.01, f"{study.study_id} {each.condition}"
        if label in DARK:
            assert direction < -0.01, f"{study.study_id} {each.condition}"
        if label == kinds.DEVICE:
            # The mask is widened by 4 mm around the thin opaque parts.
            assert float(np.percentile(change[inside], 90)) > 0.03, f"{study.study_id} {each.condition}"
    assert min(seen[label] for label in LABELS) >= 5


def test_masks_of_local_findings_hold_what_changed_and_little_else() -> None:
    seen = Counter[str]()
    for study, each in found(kinds.EFFUSION, kinds.CONSOLIDATION, kinds.NODULE, kinds.PNEUMOTHORAX):
        label = each.condition.label
        # More air or fluid than this pushes the heart aside.
        if seen[label] == 6 or each.condition.severity > 0.6:
            continue
        seen[label] += 1
        change, inside = changes(study, each)
        is_changed = np.abs(change) > 0.02
        assert (is_changed & inside).sum() > 0.6 * inside.sum(), f"{study.study_id} {each.condition}"
        strong = np.abs(change) > 0.1
        assert (strong & inside).sum() >= 0.5 * strong.sum(), f"{study.study_id} {each.condition}"
    assert set(seen.values()) == {6}


@pytest.mark.parametrize("label", [kinds.EFFUSION, kinds.CONSOLIDATION, kinds.PNEUMOTHORAX, kinds.CARDIOMEGALY])
def test_a_more_severe_finding_covers_more(label: str) -> None:
    study = make_study(SEED, 2)
    areas = []
    for severity in (0.1, 0.5, 0.9):
        side, site = ("", "") if label == kinds.CARDIOMEGALY else ("left", "upper lobe")
        _, (finding,) = render_radiograph(study.anatomy, study.pose, [Condition(label, side, site, severity, 0.0, 9)])
        areas.append(int((finding.mask > 0).sum()))
    assert areas[0] < areas[1] < areas[2]


@pytest.mark.parametrize(("label", "size"), [(kinds.NODULE, 2.0), (kinds.MASS, 5.0)])
def test_a_round_shadow_has_the_size_that_it_is_said_to_have(label: str, size: float) -> None:
    study = make_study(SEED, 2)
    _, (finding,) = render_radiograph(study.anatomy, study.pose, [Condition(label, "right", "mid", 0.5, size, 3)])
    diameter = 2 * np.sqrt((finding.mask > 0).sum() / np.pi) / study.pose.pixels_per_cm
    assert diameter == pytest.approx(size, rel=0.12)


def test_without_findings_the_picture_is_the_same_body() -> None:
    """Findings are drawn on the body; they do not move its random numbers."""
    study = next(each for each, finding in found(kinds.NODULE) if len(each.findings) == 1)
    change, inside = changes(study, study.findings[0])
    far = ~inside & (np.abs(change) < 0.004)
    assert far.sum() > 0.99 * (~inside).sum()


@given(seed=st.integers(0, 2**32 - 1), patient=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_any_seed_and_patient_give_a_valid_study(seed: int, patient: int) -> None:
    study = make_study(seed, patient)
    assert study.image.dtype == np.float32
    assert study.image.shape == study.pose.shape
    assert float(study.image.min()) >= 0.0
    assert float(study.image.max()) == 1.0
    assert float(study.image.std()) > 0.1
    assert set(study.labels) == set(LABELS)
    assert {label for label, value in study.labels.items() if value} == {f.condition.label for f in study.findings}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_findings_never_contradict_or_hide_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    conditions = sample_conditions(rng)
    for _ in range(3):
        labels = {condition.label for condition in conditions}
        assert len({(c.label, c.side, c.site) for c in conditions}) == len(conditions)
        assert not any({first, second} <= labels for first, second in kinds.EXCLUSIVE)
        air = [c for c in conditions if c.label == kinds.PNEUMOTHORAX]
        for one in air:
            assert len(air) == 1
            beside = {c.label for c in conditions if c.side == one.side}
            assert kinds.EFFUSION not in beside
            assert one.severity <= 0.3 or not beside & {kinds.NODULE, kinds.MASS}
        conditions = follow_up(rng, conditions)

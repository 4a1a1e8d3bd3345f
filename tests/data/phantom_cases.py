"""Synthetic studies that several tests look at, made once."""

from __future__ import annotations

from functools import cache

from placecli.data.phantom import PhantomStudy
from placecli.data.phantom_study import make_patient

SEED = 5
NUM_PATIENTS = 110


@cache
def studies() -> tuple[PhantomStudy, ...]:
    """All studies of the first patients of one seed: enough for every finding several times."""
    return tuple(study for patient in range(NUM_PATIENTS) for study in make_patient(SEED, patient))

"""A share of the train split: which patients, or rows, a fine-tuning with few labels learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from placecli.records import PlaceError, Row


def draw_share(
    rows: Sequence[Row], fraction: float, seed: int, sampling: Literal["patients", "rows"] = "patients"
) -> list[Row]:
    """The rows of the share `fraction`, in their order.

    patients: the ceil(fraction * patients) that a keyed hash of their id puts first, so that the share of 1 % lies
    within that of 10 % for one seed, and neither depends on the order of the store. rows: what
    `DataFrame.sample(frac, random_state=seed)` of the field's code draws from a table in this order, in its order of
    drawing undone. Raises PlaceError where nothing is left.
    """
    if fraction >= 1.0:
        return list(rows)
    if sampling == "rows":
        size = round(fraction * len(rows))
        chosen = np.sort(np.random.RandomState(seed).choice(len(rows), size=size, replace=False))
        share = [rows[int(i)] for i in chosen]
    else:
        order = sorted({row.patient_id for row in rows}, key=lambda patient: _place(patient, seed))
        kept = set(order[: int(np.ceil(fraction * len(order)))])
        share = [row for row in rows if row.patient_id in kept]
    if not share:
        raise PlaceError(f"a fraction of {fraction:g} of {len(rows)} images leaves none; raise --fraction")
    return share


def _place(patient: str, seed: int) -> bytes:
    return hashlib.blake2b(patient.encode(), key=f"share {seed}".encode(), digest_size=16).digest()

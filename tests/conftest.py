"""Shared fixtures: real data where it is present, one thread, no network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same-every-time", derandomize=True, deadline=None)
settings.load_profile("same-every-time")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("dicom_cxr")` is that folder of real radiographs; the test is skipped, saying so, without it."""

    def folder(name: str) -> Path:
        root = Path(os.environ.get("PLACE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
        if not (root / name).is_dir():
            pytest.skip(f"real data folder {name} is not present (set PLACE_TEST_DATA)")
        return root / name

    return folder

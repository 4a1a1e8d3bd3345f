"""Shared fixtures: real data where it is present, one thread, no network."""

from __future__ import annotations

import importlib
import importlib.util
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


def pytest_configure(config: pytest.Config) -> None:
    """On its first import yapf, which mmengine brings along, writes its grammar into a cache of the user's where another
    process may read it half written: it is written here, before there are other processes."""
    if not hasattr(config, "workerinput") and importlib.util.find_spec("yapf") is not None:
        importlib.import_module("yapf")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data("dicom_cxr")` is that folder of real radiographs; the test is skipped, saying so, without it."""

    def folder(name: str) -> Path:
        root = Path(os.environ.get("PLACE_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
        if not (root / name).is_dir():
            pytest.skip(f"real data folder {name} is not present (set PLACE_TEST_DATA)")
        return root / name

    return folder

"""Fixtures of the tests of files and stores."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_releases import write_openi


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten studies in the Kaggle layout of Open-i, good and bad (small_releases.write_openi); tests only read it."""
    root = tmp_path_factory.mktemp("openi")
    write_openi(root)
    return root

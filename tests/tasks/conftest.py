"""One small store and one run with random weights for all tests of the tasks; each test that writes makes its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import write_run, write_store

from placecli.data.store import Store, open_store
from placecli.engine.checkpoint import LoadedRun, load_model


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(write_store(tmp_path_factory.mktemp("small") / "store"))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("small") / "run")


@pytest.fixture(scope="session")
def run(run_folder: Path) -> LoadedRun:
    return load_model(run_folder)

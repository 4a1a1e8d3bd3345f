"""kill -9 at every kind of step: the same command continues and ends with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from small_releases import openi_preset, store_bytes, write_openi

from placecli.data.preprocess import preprocess

HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)])}


def killed_runs(root: Path, runs: Sequence[tuple[Path, int]]) -> list[str]:
    """For each (store, step): `killed`, or the number of steps of a run that came to its end."""
    arguments = [str(value) for pair in runs for value in pair]
    command = [sys.executable, str(HERE / "killed_runs.py"), str(root), *arguments]
    answer = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True)
    return answer.stdout.split()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("openi")
    write_openi(root, num_studies=6)
    return root


@pytest.fixture(scope="module")
def undisturbed(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "s"
    preprocess(openi_preset(), release, out, workers=1)
    return store_bytes(out)


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(
    release: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """Each run goes on where the one before was killed, and is killed at a later step itself."""
    answers = killed_runs(release, [(tmp_path / "s", step) for step in (1, 3, 5, 7, 9, 11, 13, 15, 0)])
    assert answers[:-1] == ["killed"] * 8
    assert answers[-1].isdigit()
    assert store_bytes(tmp_path / "s") == undisturbed


def test_a_merge_killed_at_any_step_ends_with_the_same_bytes(
    release: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    preprocess(openi_preset(), release, tmp_path / "parts", workers=1, shard=(0, 1))
    shutil.copytree(tmp_path / "parts", tmp_path / "whole")
    num_steps = int(killed_runs(release, [(tmp_path / "whole", 0)])[0])
    assert num_steps > 12
    stores = {step: tmp_path / str(step) for step in range(1, num_steps + 1)}
    for store in stores.values():
        shutil.copytree(tmp_path / "parts", store)
    assert killed_runs(release, [(store, step) for step, store in stores.items()]) == ["killed"] * num_steps
    killed_runs(release, [(store, 0) for store in stores.values()])
    assert [step for step, store in stores.items() if store_bytes(store) != undisturbed] == []


def test_kill_from_outside_leaves_no_worker_and_the_run_continues(
    release: Path, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from small_releases import openi_preset\n"
        "from placecli.data import pool\n"
        "from placecli.data.preprocess import preprocess\n"
        "start = pool._Worker.__init__\n"
        "def note(self, greeting):\n"
        "    start(self, greeting)\n"
        "    print(self.process.pid, flush=True)\n"
        "pool._Worker.__init__ = note\n"
        "def progress(done, total):\n"
        "    if done == 5:\n"
        "        print('five', flush=True)\n"
        "        sys.stdin.read()\n"
        "preprocess(openi_preset(), Path(sys.argv[1]), Path(sys.argv[2]), workers=2, progress=progress)\n"
    )
    victim = subprocess.Popen(
        [sys.executable, "-c", script, str(release), str(tmp_path / "s")],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with victim:
        assert victim.stdout is not None
        pids = [int(word) for word in iter(lambda: str(victim.stdout and victim.stdout.readline()).strip(), "five")]
        watched = [os.pidfd_open(pid) for pid in pids]
        victim.kill()
    assert len(pids) == 2
    for descriptor in watched:
        assert select.select([descriptor], [], [], 60.0)[0], "a worker outlived its parent"
        os.close(descriptor)
    preprocess(openi_preset(), release, tmp_path / "s", workers=1)
    assert store_bytes(tmp_path / "s") == undisturbed

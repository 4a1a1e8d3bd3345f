"""`--submit`: tasks that really run as processes, the same bytes as a plain run, and what is said when things fail."""

from __future__ import annotations

import io
import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from small_releases import openi_preset, store_bytes

from placecli import cli
from placecli.config import load_preset
from placecli.data import submit
from placecli.data.array_tasks import read_options
from placecli.data.job import open_job
from placecli.data.preprocess import preprocess
from placecli.data.submit import Submission, preprocess_on_cluster
from placecli.records import PlaceError

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = ["--set=preprocess.size=32", "--set=preprocess.images_per_shard=4"]

SBATCH = f"""#!{sys.executable}
import os, pathlib, re, subprocess, sys
home = pathlib.Path(os.environ["FAKE_SLURM"])
script = pathlib.Path(sys.argv[1]).read_text()
(home / "script").write_text(script)
first, last = map(int, re.search(r"--array='?(\\d+)-(\\d+)%", script).groups())
log = re.search(r"--error='?([^'\\n]+)", script)[1].replace("%A", "77")
tasks = []
for task in map(str, range(first, last + 1)):
    if task not in os.environ.get("FAKE_KILLED", "").split():
        own = {{**os.environ, "SLURM_ARRAY_TASK_ID": task}}
        with open(log.replace("%a", task), "wb") as errors:
            run = subprocess.Popen(["bash", sys.argv[1]], env=own, stderr=errors, stdout=subprocess.DEVNULL)
        tasks.append(run)
for run in tasks:
    run.wait()
(home / "queue").write_text(os.environ.get("FAKE_QUEUE", ""))
print("Submitted batch job 77")
"""
SQUEUE = """#!/bin/bash
cat "$FAKE_SLURM/queue"
"""
REFUSING = """#!/bin/bash
echo "sbatch: error: invalid partition specified: moon" >&2
echo "sbatch: error: failed" >&2
exit 1
"""


@pytest.fixture(autouse=True)
def _tasks_find_this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture(scope="module")
def plain(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("plain") / "s"
    preprocess(openi_preset(), release, out, workers=1)
    return store_bytes(out)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands that answer as SLURM does; sbatch runs the tasks and waits for them."""
    home = tmp_path / "slurm"
    home.mkdir()
    for name, text in {"sbatch": SBATCH, "srun": "#!/bin/bash\n", "squeue": SQUEUE}.items():
        write_command(home, name, text)
    (home / "queue").write_text("")
    monkeypatch.setenv("FAKE_SLURM", str(home))
    monkeypatch.setenv("PATH", f"{home}{os.pathsep}{os.environ['PATH']}")
    return home


def write_command(home: Path, name: str, text: str) -> None:
    (home / name).write_text(text)
    (home / name).chmod(0o755)


def place(*arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command line, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


def no_pause(seconds: float) -> None:
    """Tests do not wait for a network file system."""


def test_local_tasks_end_with_the_bytes_of_a_plain_run(
    release: Path, plain: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More tasks asked for than there are parts; relative paths; nothing left but the store."""
    monkeypatch.chdir(tmp_path)
    Path("release").symlink_to(release)
    given = ["preprocess", "--preset", "openi", "--root", "release", "--out", "s", *SETTINGS]
    code, out, err = place(*given, "--submit", "local", "--jobs", "9")
    assert (code, err.count("\n")) == (0, 1)
    assert "waiting for 3 processes of this machine; logs are in s/parts/jobs" in err
    record = json.loads(out)
    assert (record["is_complete"], record["parts"], record["parts_done"]) == (True, 3, 3)
    assert store_bytes(tmp_path / "s") == plain
    code, out, err = place(*given, "--submit", "local")
    assert (code, err, json.loads(out)["already_done"]) == (0, "", True)


def test_a_report_table_and_pseudonyms_reach_the_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slurm: Path
) -> None:
    from small_releases import write_csv, write_dicom

    monkeypatch.chdir(tmp_path)
    for seed in range(3):
        write_dicom(Path("scans") / f"{seed}.dcm", seed)
    write_csv(Path("reports.csv"), ["accession", "findings"], [[f"A{seed}", "The lungs are clear."] for seed in (0, 1)])
    Path("key").write_bytes(b"0123456789abcdef")
    config = load_preset(
        "folder", ["preprocess.size=32", "preprocess.images_per_shard=2", "preprocess.reports=reports.csv"]
    )
    preprocess(config, Path("scans"), Path("plain"), workers=1, pseudonymize=Path("key"))
    preprocess_on_cluster(
        config,
        Path("scans"),
        Path("array"),
        submission=Submission("slurm", 2),
        pseudonymize=Path("key"),
        pause=no_pause,
    )
    assert store_bytes(tmp_path / "array") == store_bytes(tmp_path / "plain")


def test_a_slurm_array_does_each_missing_part_once_and_the_result_is_merged(
    release: Path, plain: dict[str, bytes], tmp_path: Path, slurm: Path
) -> None:
    """The first part is there already, so its task is not submitted."""
    config, out = openi_preset(), tmp_path / "s"
    preprocess(config, release, out, workers=1, shard=(0, 3))
    seen: list[tuple[int, int]] = []
    submission = Submission("slurm", 3, ("partition=cpu", "time=120", "mem_gb=1.5", "exclusive=true"))
    summary = preprocess_on_cluster(
        config, release, out, submission=submission, workers=1, progress=lambda *now: seen.append(now), pause=no_pause
    )
    assert summary.is_complete
    assert store_bytes(out) == plain
    assert seen[-1] == (summary.planned, summary.planned)
    script = (slurm / "script").read_text()
    lines = {line.removeprefix("#SBATCH ").replace("'", "") for line in script.splitlines()}
    assert {"--partition=cpu", "--time=120", "--mem=1536M", "--exclusive", "--array=0-1%2"} <= lines
    assert {"--cpus-per-task=1", "--signal=B:USR1@90", "--job-name=placecli", "shards=(1 2)"} <= lines
    assert "--time=5" not in lines


def test_no_pickle_is_written_and_the_folder_of_the_tasks_is_private(
    release: Path, tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KILLED", "0 1 2")
    with pytest.raises(PlaceError):
        preprocess_on_cluster(
            openi_preset(), release, tmp_path / "s", submission=Submission("slurm", 3), pause=no_pause
        )
    folder = tmp_path / "s" / "parts" / "jobs"
    assert {"array", "preset.yaml"} <= {path.name for path in folder.iterdir()}
    assert not list(tmp_path.rglob("*.pkl"))
    assert "submitit.core" not in (slurm / "script").read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_parts_that_are_missing_at_the_end_are_named_and_submitted_by_the_same_command(
    release: Path, plain: dict[str, bytes], tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KILLED", "1")
    pauses: list[float] = []
    arguments = (openi_preset(), release, tmp_path / "s")
    with pytest.raises(PlaceError, match=r"1 of 3 parts are missing after SLURM job 77 ended.*the same command"):
        preprocess_on_cluster(*arguments, submission=Submission("slurm", 2), workers=1, pause=pauses.append)
    assert sum(pauses) >= submit.SETTLE_SECONDS
    assert not (tmp_path / "s" / "store.yaml").exists()
    monkeypatch.setenv("FAKE_KILLED", "")
    preprocess_on_cluster(*arguments, submission=Submission("slurm", 2), workers=1, pause=no_pause)
    assert "shards=(1)" in (slurm / "script").read_text()
    assert store_bytes(tmp_path / "s") == plain


def test_the_last_words_of_a_task_that_failed_are_passed_on(
    release: Path, tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "placecli.py").write_text("raise SystemExit('place: the disk is full')")
    with pytest.raises(PlaceError, match=r"ended \(place: the disk is full\)"):
        preprocess_on_cluster(
            openi_preset(), release, tmp_path / "s", submission=Submission("slurm", 1), pause=no_pause
        )


def test_an_array_that_is_still_queued_is_waited_for_and_not_submitted_again(
    release: Path, plain: dict[str, bytes], tmp_path: Path, slurm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_QUEUE", "12\n77\n")
    monkeypatch.setenv("FAKE_KILLED", "0 1 2")
    arguments = (openi_preset(), release, tmp_path / "s")
    said: list[str] = []

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preprocess_on_cluster(
            *arguments, submission=Submission("slurm", 3), workers=1, say=said.append, pause=interrupt
        )
    assert said[0].startswith("waiting for SLURM job 77; logs are in ")
    assert said[1:] == ["SLURM job 77 goes on; the same command waits for it and merges; to end it: scancel 77"]
    write_command(slurm, "sbatch", REFUSING)

    def finish(seconds: float) -> None:
        """What the array does meanwhile."""
        for shard in range(3):
            preprocess(*arguments, workers=1, shard=(shard, 3))
        (slurm / "queue").write_text("12\n")

    preprocess_on_cluster(*arguments, submission=Submission("slurm", 3), workers=1, pause=finish)
    assert store_bytes(tmp_path / "s") == plain


def test_an_unknown_answer_of_the_queue_counts_as_running(slurm: Path) -> None:
    tasks = submit.tasks_of_slurm("77")
    assert not tasks.are_alive()
    (slurm / "queue").write_text("77\n")
    assert tasks.are_alive()
    (slurm / "queue").write_text("177\n")
    assert not tasks.are_alive()
    (slurm / "queue").unlink()
    assert tasks.are_alive()


def test_interrupt_leaves_local_tasks_running(release: Path, plain: dict[str, bytes], tmp_path: Path) -> None:
    """Ctrl-C goes to the whole group of the terminal, as here: the waiting command ends, the tasks do not."""
    command = [sys.executable, "-m", "placecli", "preprocess", "--preset", "openi", "--root", str(release)]
    command += ["--out", str(tmp_path / "s"), *SETTINGS, "--submit", "local", "--jobs", "1"]
    waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=tmp_path)
    assert waiting.stderr is not None
    assert "waiting for 1 processes" in waiting.stderr.readline()
    os.killpg(waiting.pid, signal.SIGINT)
    words = waiting.stderr.read()  # ends when the last of the tasks, which hold this pipe too, has ended
    assert waiting.wait() == 130
    assert "goes on; the same command waits for it and merges; to end it: kill " in words
    job = open_job(openi_preset(), release, tmp_path / "s", None, None)
    assert job.missing_parts() == []
    preprocess(openi_preset(), release, tmp_path / "s", workers=1)
    assert store_bytes(tmp_path / "s") == plain


def test_without_submitit_the_command_says_what_to_install(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    code, out, err = place(
        "preprocess", "--preset", "openi", "--root", str(release), "--out", str(tmp_path / "s"), "--submit", "slurm"
    )
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "pip install 'placecli[slurm]'" in err
    assert not (tmp_path / "s").exists()


def test_a_machine_without_slurm_is_named(release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlaceError, match="no sbatch here; run it on a login node, or use --submit local"):
        preprocess_on_cluster(openi_preset(), release, tmp_path / "s", submission=Submission("slurm", 2))


def test_what_sbatch_refuses_is_said_in_its_words(release: Path, tmp_path: Path, slurm: Path) -> None:
    write_command(slurm, "sbatch", REFUSING)
    given = ["preprocess", "--preset", "openi", "--root", str(release), "--out", str(tmp_path / "s"), *SETTINGS]
    code, out, err = place(*given, "--submit", "slurm", "--slurm", "partition=moon")
    assert (code, out) == (1, "")
    assert err == "place: --submit slurm: the tasks were not accepted: invalid partition specified: moon; failed\n"


def test_a_folder_that_another_run_writes_is_refused_before_anything_is_submitted(
    release: Path, tmp_path: Path, slurm: Path
) -> None:
    job = open_job(openi_preset(), release, tmp_path / "s", (0, 2), None)
    with job.locked(), pytest.raises(PlaceError, match="another `place preprocess` is writing"):
        preprocess_on_cluster(openi_preset(), release, tmp_path / "s", submission=Submission("slurm", 2))
    assert not (slurm / "script").exists()


@pytest.mark.parametrize("word", ["partition", "=cpu", "mem_gb=much", "array_parallelism=all", "array=0-3", "output=x"])
def test_options_that_cannot_be_are_refused(word: str) -> None:
    with pytest.raises(PlaceError, match="--slurm"):
        read_options([word])


def test_options_are_taken_by_either_spelling() -> None:
    assert read_options(["--cpus-per-task=4", "name=x", "timeout_min=60"]) == {
        "cpus_per_task": "4",
        "job_name": "x",
        "time": "60",
    }


@pytest.mark.parametrize(
    "arguments", [["--submit", "moon"], ["--submit", "local", "--slurm", "a=b"], ["--slurm", "a=b"], ["--jobs", "0"]]
)
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    code, out, err = place("preprocess", "--dicom-dir", "x", *arguments)
    assert (code, out) == (2, "")
    assert "Usage: place" in err


def test_a_task_and_a_submission_do_not_go_together() -> None:
    assert place("preprocess", "--dicom-dir", "x", "--submit", "local", "--shard", "0/2")[0] == 2

"""Tasks of a cluster or of this machine, started through submitit: each is a command, and nothing is pickled."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from placecli.data.atomic import write_file
from placecli.records import PlaceError

_ENDLESS_MINUTES: Final = 60 * 24 * 365
_OWN_SESSION: Final = "import os, sys; os.setsid(); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
"""Starts Python anew in a session of its own, which Ctrl-C at the terminal does not reach."""


@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks that run or wait to run. `name` is for people, `ids` begin the names of the log files."""

    name: str
    ids: Sequence[str]
    are_alive: Callable[[], bool]
    way_to_end: str


def read_options(words: Sequence[str]) -> dict[str, Any]:
    """Options of sbatch by long name with underscores; "true" is a flag. `mem_gb`, `timeout_min`, `name` are submitit's."""
    options: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        key = key.strip().lstrip("-").replace("-", "_")
        if not key or not value:
            raise PlaceError(f"--slurm {word}: write it as KEY=VALUE, e.g. partition=cpu")
        if key == "mem_gb":
            try:
                value = f"{round(float(value) * 1024)}M"
            except ValueError:
                raise PlaceError(f"--slurm {word}: write the memory as a number of gigabytes") from None
        if key == "array_parallelism" and not value.isdecimal():
            raise PlaceError(f"--slurm {word}: write the number of tasks that may run at once")
        if key in ("array", "output", "error", "ntasks", "nodes"):
            raise PlaceError(f"--slurm {word}: {key} follows from --jobs; leave it out")
        options[{"mem_gb": "mem", "timeout_min": "time", "name": "job_name"}.get(key, key)] = value == "true" or value
    return options


def load_submitit() -> Any:
    """The package, which only --submit needs."""
    try:
        import submitit
    except ImportError:
        raise PlaceError(
            "--submit needs the package submitit; install it with: pip install 'placecli[slurm]'"
        ) from None
    return submitit


def submit_to_slurm(
    submitit: Any,
    folder: Path,
    command: Sequence[str],
    shards: Sequence[int],
    count: int,
    options: dict[str, Any],
    workers: int | None,
) -> Tasks:
    """One array whose tasks do `command --shard I/count` for I of `shards`; its number is left in `folder`/array.

    Raises PlaceError where there is no SLURM, RuntimeError with its words where it refuses.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        raise PlaceError("--submit slurm: there is no sbatch here; run it on a login node, or use --submit local")
    if workers is not None:
        command = [*command, "--workers", str(workers)]
        options = {"cpus_per_task": workers, **options}
    # USR1 to the process itself, a minute and a half before its time is up: it stops between two files.
    options = {"job_name": "placecli", "signal": "B:USR1@90", **options}
    limit = int(options.pop("array_parallelism", len(shards)))
    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(
        time=None,  # the partition's own limit, not the five minutes of submitit
        wckey=None,
        use_srun=False,
        array_parallelism=limit,
        setup=[f"shards=({' '.join(map(str, shards))})"],
        additional_parameters=options,
    )
    executor.parameters["map_count"] = len(shards)
    shard = f"${{shards[$SLURM_ARRAY_TASK_ID]}}/{count}"
    with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
        array = executor._submit_command(f"exec {shlex.join([sys.executable, *command])} --shard {shard}")
    write_file(folder / "array", array.job_id.encode("ascii"))
    return tasks_of_slurm(array.job_id)


def tasks_of_slurm(number: str) -> Tasks:
    """The array with that number, whoever submitted it."""

    def are_alive() -> bool:
        # Without an answer of the scheduler the tasks may well be there.
        question = ["squeue", "--noheader", f"--user={os.getuid()}", "--format=%F"]
        answer = subprocess.run(question, capture_output=True, text=True, check=False)
        return answer.returncode != 0 or number in answer.stdout.split()

    return Tasks(f"SLURM job {number}", (f"{number}_",), are_alive, f"scancel {number}")


def start_here(
    submitit: Any, folder: Path, command: Sequence[str], shards: Sequence[int], count: int, workers: int
) -> Tasks:
    """One process a shard, all at once, under submitit's local controllers."""
    executor = submitit.LocalExecutor(folder=folder)
    executor.update_parameters(timeout_min=_ENDLESS_MINUTES)
    begin = [sys.executable, "-c", _OWN_SESSION, *command, "--workers", str(workers)]
    jobs = [executor._submit_command(shlex.join([*begin, "--shard", f"{shard}/{count}"])) for shard in shards]
    numbers = [job.job_id for job in jobs]
    return Tasks(
        name=f"{len(jobs)} processes of this machine",
        ids=[f"{number}_" for number in numbers],
        are_alive=lambda: any(not job.done() for job in jobs),
        way_to_end=f"kill {' '.join(numbers)}",
    )


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Ctrl-C does nothing inside: what is submitted is also recorded, and processes started inside inherit it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

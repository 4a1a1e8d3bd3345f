"""Array jobs: the parts of one store shared out to tasks of a cluster, waited for, and merged. submitit is optional.

No function is pickled and no result unpickled: a task is the command `python -m placecli preprocess ... --shard I/N`, and
what is done is read off the store. docs/decisions.md, "Array jobs are commands, not pickles", says why.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from placecli.config import Preset, dump_preset
from placecli.data.array_tasks import (
    Tasks,
    ignoring_interrupts,
    load_submitit,
    read_options,
    start_here,
    submit_to_slurm,
    tasks_of_slurm,
)
from placecli.data.atomic import write_file
from placecli.data.job import Job, named_write_errors, open_job
from placecli.data.parts import part_path
from placecli.data.pool import choose_workers
from placecli.data.preprocess import PreprocessSummary, Progress, preprocess
from placecli.data.store import PARTS
from placecli.records import PlaceError

JOBS: Final = "jobs"
"""Folder beside the parts: the preset of the tasks, what was submitted, and their logs. It goes with the parts."""
POLL_SECONDS: Final = {"slurm": 10.0, "local": 0.1}
SETTLE_SECONDS: Final = 60.0
"""So long a network file system may take to show what a task on another machine wrote last."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Where the tasks run and how many at most; `options` are KEY=VALUE of sbatch, for slurm alone."""

    cluster: Literal["slurm", "local"]
    num_tasks: int
    options: Sequence[str] = ()


def preprocess_on_cluster(
    config: Preset,
    root: Path,
    out: Path,
    *,
    submission: Submission,
    workers: int | None = None,
    pseudonymize: Path | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda line: None,
    pause: Callable[[float], None] = time.sleep,
) -> PreprocessSummary:
    """`preprocess` by tasks of a cluster: submit those that have parts to do, wait, merge here; the same bytes.

    Tasks that an interrupted run of this function left in the queue are waited for, not submitted again. `workers` is
    that of each task. Raises PlaceError as `preprocess` does, without submitit or sbatch, and for parts that are
    missing when all tasks have ended; the same call then submits those.
    """
    begun = time.monotonic()
    options, submitit = read_options(submission.options), load_submitit()
    job = open_job(config, Path(root), Path(out), None, pseudonymize)
    if not job.is_finished():
        tasks = _left_running(job, submission)
        if tasks is None and job.missing_parts():
            command = _task_command(job, Path(root), pseudonymize)
            tasks = _submit(job, submission, options, command, workers, submitit)
        if tasks is not None:
            with _told_when_left(tasks, say):
                say(f"waiting for {tasks.name}; logs are in {_folder(job)}")
                _wait(job, tasks, submission, progress, pause)
            _check_parts(job, tasks)
    summary = preprocess(config, root, out, workers=workers, pseudonymize=pseudonymize)
    return replace(summary, seconds=round(time.monotonic() - begun, 3))


def _folder(job: Job) -> Path:
    return job.out / PARTS / JOBS


def _left_running(job: Job, submission: Submission) -> Tasks | None:
    """The array that an earlier run submitted for this store, if the queue still has it."""
    record = _folder(job) / "array"
    if submission.cluster != "slurm" or not record.is_file():
        return None
    tasks = tasks_of_slurm(record.read_text("ascii").strip())
    return tasks if tasks.are_alive() else None


def _task_command(job: Job, root: Path, pseudonymize: Path | None) -> list[str]:
    """Claims the store, leaves the resolved preset for the tasks, and returns their command without --shard."""
    preset = _folder(job) / "preset.yaml"
    with named_write_errors(job.out):
        # Held for a moment: what is wrong with the folder is found here, once, and not in every task.
        with job.locked():
            job.begin()
            job.check_disk()
        _folder(job).mkdir(mode=0o700, exist_ok=True)
        tables = {name: getattr(job.preset.preprocess, name) for name in ("reports", "labels")}
        absolute = {name: path.absolute() for name, path in tables.items() if path is not None}
        section = job.preset.preprocess.model_copy(update=absolute)
        write_file(preset, dump_preset(job.preset.model_copy(update={"preprocess": section})).encode())
    command = ["-m", "placecli", "preprocess", "--preset", str(preset.absolute()), "--root", str(root.absolute())]
    command += ["--out", str(job.out.absolute())]
    return command + (["--pseudonymize", str(pseudonymize.absolute())] if pseudonymize else [])


def _submit(
    job: Job,
    submission: Submission,
    options: dict[str, Any],
    command: Sequence[str],
    workers: int | None,
    submitit: Any,
) -> Tasks:
    count = submission.num_tasks
    shards = sorted({number % count for number in job.missing_parts()})
    try:
        with ignoring_interrupts():
            if submission.cluster == "slurm":
                return submit_to_slurm(submitit, _folder(job), command, shards, count, options, workers)
            if workers is None:
                workers = max(1, choose_workers(job.preset.preprocess.memory_limit_mib) // len(shards))
            return start_here(submitit, _folder(job), command, shards, count, workers)
    except (RuntimeError, OSError) as error:
        lines = [line.removeprefix("sbatch: error: ") for line in str(error).strip().splitlines()]
        words = "; ".join(lines) or type(error).__name__
        raise PlaceError(f"--submit {submission.cluster}: the tasks were not accepted: {words}") from error


def _wait(
    job: Job, tasks: Tasks, submission: Submission, progress: Progress | None, pause: Callable[[float], None]
) -> None:
    """Returns when no task is alive; progress counts the images of finished parts."""
    settling = SETTLE_SECONDS if submission.cluster == "slurm" else 0.0
    seconds = POLL_SECONDS[submission.cluster]
    while True:
        # Asked before the parts are counted, so that the last part of the last task counts.
        are_alive = tasks.are_alive()
        missing = set(_missing_parts(job))
        if progress:
            done = sum(len(job.part(number)) for number in range(job.num_parts) if number not in missing)
            progress(done, len(job.listing.images))
        if not are_alive and (not missing or settling <= 0):
            return
        settling -= 0 if are_alive else seconds
        pause(seconds)


def _missing_parts(job: Job) -> list[int]:
    """Parts that are not there, none once another process has merged. A listing, unlike a question after one file,
    makes a network file system look again."""
    try:
        names = set(os.listdir(job.out / PARTS))  # noqa: PTH208
    except FileNotFoundError:
        return []
    return [number for number in range(job.num_parts) if part_path(job.out, number).name not in names]


def _check_parts(job: Job, tasks: Tasks) -> None:
    if missing := _missing_parts(job):
        raise PlaceError(
            f"{job.out}: {len(missing)} of {job.num_parts} parts are missing after {tasks.name} ended"
            f"{_last_words(job, tasks)}; logs are in {_folder(job)}; the same command submits what is missing"
        )


def _last_words(job: Job, tasks: Tasks) -> str:
    """The last line that one of the tasks wrote to stderr."""
    for log in sorted(_folder(job).glob("*_log.err")):
        lines = log.read_text("utf-8", "replace").strip().splitlines() if log.name.startswith(tuple(tasks.ids)) else []
        if lines:
            return f" ({lines[-1]})"
    return ""


@contextlib.contextmanager
def _told_when_left(tasks: Tasks, say: Callable[[str], None]) -> Iterator[None]:
    """Whoever stops waiting, by Ctrl-C or a signal, learns that the tasks go on."""
    is_over = False
    try:
        yield
        is_over = True
    finally:
        if not is_over:
            say(f"{tasks.name} goes on; the same command waits for it and merges; to end it: {tasks.way_to_end}")

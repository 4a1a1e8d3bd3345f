"""Files -> store: plan the images, decode them in expendable workers, commit part after part, merge.

The order of images, their parts and so every byte follow from the release and the preset alone, not from the
number of workers, the array job or the moments at which a run was killed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from placecli.config import Preset
from placecli.data.decode import decode
from placecli.data.job import Job, free_bytes, named_write_errors, open_job
from placecli.data.layouts import looked_for
from placecli.data.merge import merge_parts, remove_parts
from placecli.data.parts import FindReport, Outcome, PartWriter
from placecli.data.pool import choose_workers, run_expendable
from placecli.data.published_counts import to_record
from placecli.data.releases import folder
from placecli.data.store import PARTS, open_store
from placecli.records import PlaceError

Progress = Callable[[int, int], None]
"""Called with (images done, images in all) of this run, first with what earlier runs did."""


class Stopped(PlaceError):
    """Ctrl-C or SIGTERM ended the run between two files; the same command continues it."""

    def __init__(self, number: int) -> None:
        name = signal.Signals(number).name
        super().__init__(f"stopped by {name}; the finished parts are kept, the same command continues")
        self.signal = number


@dataclass(frozen=True, slots=True)
class PreprocessSummary:
    """The last word of `place preprocess`. `counts` is that of store.yaml, empty until the store is merged."""

    store: str
    already_done: bool
    is_complete: bool
    planned: int
    parts_done: int
    parts: int
    workers: int
    seconds: float
    counts: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, Any] = field(default_factory=dict)
    """Published counts of the release, each with what is here (published_counts.ComparedCount)."""

    def to_record(self) -> dict[str, Any]:
        """The summary as one JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PreprocessPlan:
    """What `--dry-run` prints: what would be read and written, and the files that the reader looks for.

    `splits` counts images; "" stands for those whose patient only the header tells. Sizes are bytes.
    """

    release: str
    root: str
    store: str
    size: int
    studies: int
    images: int
    splits: Mapping[str, int]
    rejects: Mapping[str, int]
    input_bytes: int
    store_bytes: int
    free_bytes: int
    parts: int
    parts_done: int
    workers: int
    looked_for: Mapping[str, bool]
    published: Mapping[str, Any] = field(default_factory=dict)
    """Published counts of the release, each with what is here (published_counts.ComparedCount)."""
    problem: str = ""
    """Why `preprocess` would stop, where it would; the numbers are then 0."""

    def to_record(self) -> dict[str, Any]:
        """The plan as one JSON object."""
        return asdict(self)


def preprocess(
    config: Preset,
    root: Path,
    out: Path,
    *,
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    pseudonymize: Path | None = None,
    progress: Progress | None = None,
) -> PreprocessSummary:
    """Read the release under `root` into the store `out`; continue where an earlier run of the same command stopped.

    `shard` (i, n) does the parts k with k mod n == i and does not merge; a run without it does what is missing
    and merges. `workers` None follows cores and memory. `pseudonymize` names a file with a secret. Raises
    PlaceError for a changed preset or release, a patient in two splits, a store in use, or too little disk.
    """
    begun = time.monotonic()
    job = open_job(config, Path(root), Path(out), shard, pseudonymize)
    num_workers = workers or choose_workers(config.preprocess.memory_limit_mib)
    was_finished = job.is_finished()
    if not was_finished:
        with named_write_errors(job.out), _stopped_by_signals(), job.locked():
            was_finished = job.is_finished()  # by the run that held the lock until now
            if not was_finished:
                _work(job, num_workers, progress)
    counts = _finished_counts(job) if was_finished or shard is None else {}
    return PreprocessSummary(
        store=str(out),
        already_done=was_finished,
        is_complete=bool(counts),
        planned=len(job.listing.images),
        parts_done=job.num_parts if counts else job.num_parts_done(),
        parts=job.num_parts,
        workers=num_workers,
        seconds=round(time.monotonic() - begun, 3),
        counts=counts,
        published=to_record(job.listing.published),
    )


def plan(
    config: Preset,
    root: Path,
    out: Path,
    *,
    workers: int | None = None,
    shard: tuple[int, int] | None = None,
    pseudonymize: Path | None = None,
) -> PreprocessPlan:
    """What `preprocess` with the same arguments would do; reads tables and file sizes, writes nothing.

    A release that cannot be read is a plan too: with the files looked for and the failure as its `problem`. Raises
    PlaceError where `root` is no folder.
    """
    root, out = Path(root), Path(out)
    try:
        job = open_job(config, root, out, shard, pseudonymize)
    except PlaceError as error:
        found = looked_for(config.preprocess, root)
        if not root.is_dir() or all(found.values()):
            raise
        return _plan_of_failure(config, root, out, str(error), found)
    images = job.listing.images
    done = job.num_parts if job.is_finished() else job.num_parts_done()
    return PreprocessPlan(
        release=config.preprocess.release,
        root=str(root),
        store=str(out),
        size=config.preprocess.size,
        studies=job.listing.num_studies,
        images=len(images),
        splits=dict(sorted(Counter(image.split for image in images).items())),
        rejects=dict(sorted(Counter(reject.code for reject in job.listing.rejects).items())),
        input_bytes=sum(image.num_bytes for image in images),
        store_bytes=job.num_bytes(range(job.num_parts)),
        free_bytes=free_bytes(job.out),
        parts=job.num_parts,
        parts_done=done,
        workers=workers or choose_workers(config.preprocess.memory_limit_mib),
        looked_for=looked_for(config.preprocess, root),
        published=to_record(job.listing.published),
    )


def _plan_of_failure(config: Preset, root: Path, out: Path, problem: str, found: Mapping[str, bool]) -> PreprocessPlan:
    return PreprocessPlan(
        release=config.preprocess.release,
        root=str(root),
        store=str(out),
        size=config.preprocess.size,
        studies=0,
        images=0,
        splits={},
        rejects={},
        input_bytes=0,
        store_bytes=0,
        free_bytes=free_bytes(out),
        parts=0,
        parts_done=0,
        workers=0,
        looked_for=found,
        problem=problem,
    )


def _work(job: Job, workers: int, progress: Progress | None) -> None:
    """Decode the missing parts of this run, and merge if the run is for the whole store."""
    job.begin()
    job.check_disk()
    reports = job.preset.preprocess.reports
    table = folder.read_report_table(reports) if reports and job.preset.preprocess.release == "folder" else None
    _decode_parts(job, workers, table.find if table else None, progress)
    if job.shard is None:
        merge_parts(
            job.out,
            job.num_parts,
            job.listing.rejects,
            job.preset,
            job.fingerprint,
            job.pseudonyms,
            len(table) if table else None,
        )


def _decode_parts(job: Job, workers: int, find_report: FindReport | None, progress: Progress | None) -> None:
    config, numbers = job.preset.preprocess, job.missing_parts()
    images = [image for number in numbers for image in job.part(number)]
    outcomes = run_expendable(
        partial(decode, config, find_report is not None),
        images,
        workers=workers,
        memory_limit_mib=config.memory_limit_mib,
        time_limit_seconds=config.time_limit_seconds,
    )
    total = sum(len(job.part(number)) for number in job.own_parts())
    counted = _counted((outcome for _, outcome in outcomes), total - len(images), total, progress)
    writer = PartWriter(job.out, config, job.pseudonyms, find_report)
    with closing(outcomes):
        for number in numbers:
            # zip asks the part first, so at its end no outcome of the next part is lost.
            writer.write(number, zip(job.part(number), counted, strict=False))


def _counted(outcomes: Iterable[Outcome], done: int, total: int, progress: Progress | None) -> Iterator[Outcome]:
    if progress:
        progress(done, total)
    for number, outcome in enumerate(outcomes, start=done + 1):
        if progress:
            progress(number, total)
        yield outcome


def _finished_counts(job: Job) -> Mapping[str, Any]:
    """Counts of the finished store; removes parts that a run killed in its last moment left."""
    if (job.out / PARTS).is_dir():
        with named_write_errors(job.out):
            remove_parts(job.out)
    counts: Mapping[str, Any] = open_store(job.out).description["counts"]
    return counts


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise Stopped inside; only the main thread can do that. An ignored signal stays ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    previous = {
        number: signal.signal(number, stop)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

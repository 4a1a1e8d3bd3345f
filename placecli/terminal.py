"""What the shell shows: JSON lines or tables on stdout, progress and one-line messages on stderr, exit codes.

Light by design: rich is imported when something is drawn, so that `place --help` stays quick.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from placecli.records import Hit, PlaceError, Reject

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_SAVED: Final = 75
"""Stopped by SIGTERM or SIGUSR1 with all finished work on disk: run the same command again (EX_TEMPFAIL)."""
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE_CLOSED: Final = 141

QUIET_SECONDS: Final = 30.0
"""Without a terminal a line of progress is written this often, not more."""


class StoppedBySignal(BaseException):
    """SIGTERM, SIGUSR1 or SIGINT arrived; not an Exception, so that no handler of failures holds it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.exit_code = EXIT_INTERRUPTED if name == "SIGINT" else EXIT_SAVED


def show_warnings() -> None:
    """Warnings of the modules go to stderr in the shape of all talk."""
    logging.basicConfig(format="place: %(message)s", level=logging.WARNING)


def say(message: str) -> None:
    """One line of talk on stderr."""
    print(f"place: {message}", file=sys.stderr, flush=True)


def describe(error: Exception) -> str:
    """One line for a failure: the message alone where it was written for the user, else with its kind and a hint."""
    text = " ".join(str(error).split())
    if isinstance(error, PlaceError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {text or 'no message'} (unexpected; `place --debug ...` shows where)"


def exit_code(error: Exception) -> int:
    """75 or 130 for a failure that stands for a signal, else 1."""
    if getattr(error, "signal", None) == signal.SIGINT:
        return EXIT_INTERRUPTED
    return EXIT_SAVED if hasattr(error, "signal") else int(getattr(error, "exit_code", EXIT_FAILED))


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """SIGTERM and SIGUSR1 (what schedulers send before a time slot ends) and SIGINT raise StoppedBySignal inside.

    Every command writes its files whole or not at all, so unwinding is saving; training has its own way within.
    """
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker inherits the handler; it just ends
            os._exit(128 + number)
        raise StoppedBySignal(signal.Signals(number).name)

    names = [name for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), stop) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def is_first_process() -> bool:
    """False in all but one of the processes that torchrun or SLURM started together: those print nothing."""
    return os.environ.get("RANK", "0") == "0"


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: dataclasses and mappings as objects, paths as text, NaN and infinity as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | bool) or value is None:
        return value
    return plain(value.item()) if hasattr(value, "item") else str(value)


class Output:
    """Rows for stdout: JSON lines when `as_json` or when stdout is no terminal, else Rich tables."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json or not sys.stdout.isatty()
        self.num_written = 0

    def record(self, value: Any, title: str = "") -> None:
        """One object: a line of JSON, or a table of its keys and values."""
        self.num_written += 1
        if not is_first_process():
            return
        record = plain(value.to_record() if hasattr(value, "to_record") else value)
        if self.as_json:
            self._write(json.dumps(record, ensure_ascii=False))
        else:
            self.table(title, ("", ""), [(key, text) for key, text in flatten(record)])

    def hits(self, hits: Iterable[Hit]) -> None:
        """Hits as they come, a line each; on a terminal one table a query."""
        if self.as_json:
            for hit in hits:
                self.record(hit)
            return
        for query, group in itertools.groupby(hits, key=lambda hit: hit.query):
            rows = [(str(hit.rank), text_of(hit.score), hit.study_id, _found(hit)) for hit in group]
            self.table(query, ("rank", "score", "study", "report, and where its sentences were found"), rows)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(title), title_justify="left", show_header=any(columns), title_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        with _quiet_when_closed():
            Console().print(table)

    def _write(self, line: str) -> None:
        with _quiet_when_closed():
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def _found(hit: Hit) -> str:
    """The sentences that matched best with the middle of their regions, or the report alone."""
    if not hit.sentences:
        return hit.report
    return "\n".join(
        f"{match.score:+.2f}  {match.text} (x {100 * (match.box.x + match.box.width / 2):.0f} %,"
        f" y {100 * (match.box.y + match.box.height / 2):.0f} %)"
        for match in hit.sentences
    )


@contextmanager
def skipping_failures() -> Iterator[None]:
    """A named failure inside is said and the program goes on."""
    try:
        yield
    except PlaceError as error:
        say(f"left out: {describe(error)}")


class Refusals:
    """Queries that could not be used: one line each on stderr, by number, for a path may name a patient."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, number: int, reject: Reject) -> None:
        self.count += 1
        say(f"query {number}: {reject.code}: {reject.message}")


@contextmanager
def _quiet_when_closed() -> Iterator[None]:
    """A reader that has gone (`place ... | head -1`) ends the program without a word, as it ends other tools."""
    try:
        yield
    except BrokenPipeError:
        # Python flushes stdout once more at exit; without this it would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_PIPE_CLOSED) from None


def flatten(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of a nested record, with a value and its interval `{"value", "ci95"}` on one line."""
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "value" in value:
            yield name, with_interval(value)
        elif isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        else:
            yield name, text_of(value)


def with_interval(metric: Mapping[str, Any]) -> str:
    """`0.871 (95 % 0.842 to 0.899)` of `{"value": 0.871, "ci95": [0.842, 0.899]}`."""
    low, high = metric.get("ci95") or (None, None)
    value = text_of(metric["value"])
    return value if low is None or high is None else f"{value} (95 % {text_of(low)} to {text_of(high)})"


def text_of(value: Any) -> str:
    """A cell of a table: four significant digits, a dash for null, lists by commas."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(text_of(item) for item in value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)


class Progress:
    """Progress of one command on stderr: bars on a terminal, else a short line now and then, or nothing.

    Called as `progress(task, done, total)`; a new `task` begins a new bar, `total` 0 is not known.
    """

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        if not self._is_quiet and sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def of(self, task: str) -> Callable[..., None]:
        """`f(done, total, ...)` for work that does not name its own task; what else it reports is left out."""
        return lambda done, total, *rest: self(task, done, total)

    def __call__(self, task: str, done: int, total: int) -> None:
        if self._bars is not None:
            if task not in self._tasks:
                self._tasks[task] = self._bars.add_task(task, total=total or None)
            self._bars.update(self._tasks[task], completed=done, total=total or None)
        elif not self._is_quiet:
            self._line(task, done, total)

    def _line(self, task: str, done: int, total: int) -> None:
        now = time.monotonic()
        started = self._started.setdefault(task, now)
        if now - self._last_line < QUIET_SECONDS:
            return
        self._last_line = now
        rate = done / (now - started) if now > started else 0.0
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and total else ""
        say(f"{task}: {done}{f' of {total}' if total else ''}{f', {rate:.1f}/s' if rate else ''}{left}")


def _bars() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    return RichProgress(*columns, console=Console(stderr=True))

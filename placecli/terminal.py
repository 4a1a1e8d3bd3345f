"""Talk on stderr: progress, warnings, one line for a failure; signals and exit codes.

Light by design: rich is imported when something is drawn, so that `place --help` stays quick.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar, Final

from placecli.records import PlaceError, Reject

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
    logging.basicConfig(handlers=[Talk()], level=logging.WARNING)


class Talk(logging.Handler):
    """Says what is logged, the same words once; through `sys.stderr` as it is then, so that bars make room for it."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = " ".join(record.getMessage().split())
        if message not in self._said:
            self._said.add(message)
            say(message)


def say(message: str) -> None:
    """One line of talk on stderr."""
    print(f"place: {message}", file=sys.stderr, flush=True)


REMEDIES: Final = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space and run the same command again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check its rights, or name another place"),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR, errno.EEXIST), "something else is there; name another place"),
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}
"""What helps against an error of the file system, by its number."""

_FOREIGN_ERRNO: Final = re.compile(r"\(os error (\d+)\)")
"""How libraries written in Rust (safetensors, tokenizers) put the number of such an error into their message."""


def describe(error: Exception) -> str:
    """One line for a failure: the message alone where it was written for the user, else with its kind and a hint."""
    text = " ".join(str(error).split())
    if isinstance(error, PlaceError):
        return text
    unexpected = f"{type(error).__name__}: {text or 'no message'} (unexpected; `place --debug ...` shows where)"
    return _describe_file_error(error, text) or unexpected


def _describe_file_error(error: Exception, text: str) -> str:
    """`file: reason; remedy` of a failure of the file system, "" for any other."""
    if isinstance(error, OSError) and error.strerror:
        number, reason, file = error.errno, error.strerror, error.filename
    elif found := _FOREIGN_ERRNO.search(text):
        number, reason, file = int(found[1]), os.strerror(int(found[1])), None
    else:
        return ""
    named = f"{file}: {reason}" if file else reason
    return f"{named}; {REMEDIES[number]}" if number in REMEDIES else named


@contextmanager
def ending_in_one_line(is_debugging: bool) -> Iterator[None]:
    """Leaves by SystemExit with a documented code after one line that names the failure; debugging: its traceback."""
    try:
        with stop_on_signals():
            yield
    except StoppedBySignal as stop:
        say(f"stopped by {stop}; the same command goes on from what was saved")
        sys.exit(stop.exit_code)
    # The rim of the program: every failure becomes one line, and --debug shows where it came from.
    except Exception as error:
        if is_debugging:
            raise
        say(describe(error))
        sys.exit(exit_code(error))


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


class Progress:
    """Progress of one command on stderr: bars on a terminal, else a short line now and then, or nothing.

    Called as `progress(task, done, total)`; a new `task` begins a new bar, `total` 0 is not known.
    """

    _on_screen: ClassVar[Progress | None] = None

    def __init__(self, is_quiet: bool) -> None:
        self._is_quiet = is_quiet
        self._draws = False
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._started: dict[str, float] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        self._draws = not self._is_quiet and sys.stderr.isatty()
        Progress._on_screen = self
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        Progress._on_screen = None

    @classmethod
    def make_room(cls) -> None:
        """End the bars that are drawn, before a result is printed on the same screen; the next call begins new ones."""
        if cls._on_screen is not None:
            cls._on_screen._stop()

    def _stop(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars, self._tasks = None, {}

    def of(self, task: str) -> Callable[..., None]:
        """`f(done, total, ...)` for work that does not name its own task; what else it reports is left out."""
        return lambda done, total, *rest: self(task, done, total)

    def __call__(self, task: str, done: int, total: int) -> None:
        if self._draws:
            if self._bars is None:
                self._bars = _bars()
                self._bars.start()
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
    # Left to itself rich takes stdout too, and what belongs in a file or a pipe would go to the screen.
    return RichProgress(*columns, console=Console(stderr=True), redirect_stdout=False)

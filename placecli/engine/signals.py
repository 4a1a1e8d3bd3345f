"""A request to stop from outside: finish the step, save, leave with a code that says "resume me"."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import ClassVar

from placecli.records import PlaceError

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""SIGTERM: schedulers at their time limit or on preemption. SIGUSR1: SLURM `--signal`, submitit."""


class Interrupted(PlaceError):
    """The run was asked to stop and has saved its state; the same command continues it."""

    exit_code: ClassVar[int] = 75
    """EX_TEMPFAIL of sysexits.h: try again later."""


class StopRequest:
    """Whether a signal has arrived."""

    def __init__(self) -> None:
        self.name = ""

    def __bool__(self) -> bool:
        return bool(self.name)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: remember the name; the loop looks between two steps."""
        self.name = signal.Signals(number).name


@contextmanager
def listen() -> Iterator[StopRequest]:
    """A StopRequest that the signals of `SIGNALS` set while the block runs; the old handlers come back after it.

    Outside the main thread Python allows no handler: the request then stays unset.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.signal(number, request.receive) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""A pool of expendable worker processes: a decoder that crashes, hangs or eats memory costs one item, not the run.

Workers are fresh interpreters (never forks: threads of torch or BLAS do not survive a fork) that import only what
the function needs. The function and its items travel over a socket, so both must be picklable by reference.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import wait
from typing import Any, Final, Literal, TypeVar

from placecli.data.resources import SINGLE_THREAD, available_memory, usable_cores
from placecli.data.worker import EXIT_OUT_OF_MEMORY, READY, RESULT
from placecli.records import PlaceError

Item = TypeVar("Item")
Result = TypeVar("Result")

STARTUP_SECONDS: Final = 120.0
"""A worker that is not ready by then will not be; imports over a slow network file system take tens of seconds."""

_WINDOW = 8
"""Items per worker that may be finished ahead of the one that is due; bounds the memory of waiting results."""

_MAX_ATTEMPTS = 2


@dataclass(frozen=True, slots=True)
class WorkerDeath:
    """Why an item has no result: `crashed` (signal or exit), `timed_out`, `out_of_memory`, `raised` (an exception).

    `detail` names the signal, the limit, or the type and place of the exception; never a value of the item.
    """

    kind: Literal["crashed", "timed_out", "out_of_memory", "raised"]
    detail: str


def choose_workers(memory_limit_mib: int) -> int:
    """Workers for this machine: one a core, as far as the available memory holds a limit each; at least one."""
    return max(1, min(usable_cores(), available_memory() // (memory_limit_mib << 20)))


def run_expendable(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    memory_limit_mib: int,
    time_limit_seconds: float,
) -> Generator[tuple[int, Result | WorkerDeath], None, None]:
    """Yield (index, function(item)) in item order, or (index, WorkerDeath) for an item that failed.

    Each worker holds one item at a time. `memory_limit_mib` is what it may take beyond its idle size,
    `time_limit_seconds` the wall clock of one item. An item that ran out of time or whose worker was killed from
    outside is tried once more: a busy machine must not lose a good file. Closing the iterator ends all workers.
    Raises PlaceError when a worker cannot even start.
    """
    if workers < 1:
        raise PlaceError(f"--workers {workers}: give at least 1")
    crew = _Crew((function, memory_limit_mib, time_limit_seconds), workers, time_limit_seconds)
    try:
        yield from crew.run(items)
    finally:
        crew.stop()


@dataclass(slots=True)
class _Task:
    index: int
    item: Any
    attempts: int = 0


class _Worker:
    """One child process, the socket to it and the task it holds."""

    def __init__(self, greeting: tuple[Any, ...]) -> None:
        self.is_ready = False
        self.task: _Task | None = None
        self.deadline = time.monotonic() + STARTUP_SECONDS
        self.connection, theirs = Pipe()
        with theirs:
            descriptor = theirs.fileno()
            command = f"import sys; sys.path[:] = {sys.path!r}; from placecli.data.worker import serve"
            self.process = subprocess.Popen(
                [sys.executable, "-c", f"{command}; serve({descriptor})"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,  # written to only until the worker is ready
                pass_fds=[descriptor],
                env={**os.environ, **SINGLE_THREAD},
            )
        self._send(greeting)

    def give(self, task: _Task, time_limit_seconds: float) -> None:
        task.attempts += 1
        self.task, self.deadline = task, time.monotonic() + time_limit_seconds
        self._send(task.item)

    def status(self) -> int | None:
        """Exit status of a process whose socket closed; None when it is still there a moment later."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout=1.0)
        return None

    def end(self) -> str:
        """Kill the process and free what it holds; returns the last line that it wrote to stderr."""
        self.connection.close()
        self.process.kill()
        _, errors = self.process.communicate()
        lines = errors.decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "no message"

    def _send(self, message: Any) -> None:
        # A process that died just now is found by its closed socket, in one place: _Crew._hear.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(message)


class _Crew:
    """The parent's side: hands out tasks, replaces the dead, restores the order."""

    def __init__(self, greeting: tuple[Any, ...], size: int, time_limit_seconds: float) -> None:
        self._greeting, self._size, self._limit = greeting, size, time_limit_seconds
        self._workers: list[_Worker] = []
        self._again: deque[_Task] = deque()
        self._finished: dict[int, Any] = {}

    def run(self, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        due = following = 0
        while due < len(items):
            undone = len(items) - due - len(self._finished)
            while len(self._workers) < min(self._size, undone):
                self._workers.append(_Worker(self._greeting))
            end = min(len(items), due + _WINDOW * self._size)
            for worker in self._workers:
                if worker.is_ready and worker.task is None:
                    if self._again:
                        worker.give(self._again.popleft(), self._limit)
                    elif following < end:
                        worker.give(_Task(following, items[following]), self._limit)
                        following += 1
            is_due = due in self._finished
            self._listen(is_patient=not is_due)
            if is_due:
                yield due, self._finished.pop(due)
                due += 1

    def stop(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _listen(self, *, is_patient: bool) -> None:
        """Take in the answers and deaths that are there; if patient, wait for the next one or the next deadline."""
        if not self._workers:
            return
        now = time.monotonic()
        deadlines = [worker.deadline for worker in self._workers if worker.task or not worker.is_ready]
        patience = max(0.0, min(deadlines, default=now) - now) if is_patient else 0.0
        ready = wait([worker.connection for worker in self._workers], timeout=patience)
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            self._hear(worker)
        # Late are only those whose answer is not there yet: a caller that takes its time between two results
        # must not cost items.
        now = time.monotonic()
        for worker in [worker for worker in self._workers if worker.deadline <= now]:
            if (worker.task or not worker.is_ready) and not worker.connection.poll():
                self._bury(worker, WorkerDeath("timed_out", f"{self._limit:g} s"), is_transient=True)

    def _hear(self, worker: _Worker) -> None:
        try:
            kind, value = worker.connection.recv()
        except (EOFError, OSError):
            death, is_transient = _diagnose(worker.status())
            self._bury(worker, death, is_transient=is_transient)
            return
        if kind == READY:
            worker.is_ready = True
        elif worker.task is not None:
            self._finished[worker.task.index] = value if kind == RESULT else WorkerDeath("raised", value)
            worker.task = None

    def _bury(self, worker: _Worker, death: WorkerDeath, *, is_transient: bool) -> None:
        """Remove the worker; its task is tried again or answered with the death. A death while idle costs nothing."""
        self._workers.remove(worker)
        words = worker.end()
        if not worker.is_ready:
            raise PlaceError(
                f"a worker process could not start ({death.kind}, {death.detail}: {words});"
                " check the installation and the memory that is left on this machine"
            )
        if worker.task is None:
            return
        if is_transient and worker.task.attempts < _MAX_ATTEMPTS:
            self._again.append(worker.task)
        else:
            self._finished[worker.task.index] = death


def _diagnose(status: int | None) -> tuple[WorkerDeath, bool]:
    """What ended a worker with that exit status, and whether a second attempt may fare better."""
    if status == EXIT_OUT_OF_MEMORY:
        return WorkerDeath("out_of_memory", "memory limit"), False
    if status == -signal.SIGKILL:
        return WorkerDeath("out_of_memory", "killed by the system"), True
    if status is None:
        return WorkerDeath("crashed", "socket closed"), False
    if status < 0:
        return WorkerDeath("crashed", signal.Signals(-status).name), False
    return WorkerDeath("crashed", f"exit status {status}"), False

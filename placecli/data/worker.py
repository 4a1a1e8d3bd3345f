"""The child process of data/pool.py: receives one item at a time, answers with a result, may die at any moment."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

READY: Final = "ready"
RESULT: Final = "result"
RAISED: Final = "raised"

EXIT_OUT_OF_MEMORY: Final = 77
"""Exit status of a worker that ran into its memory limit."""

_PARENTS_BUSINESS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Ctrl-C and schedulers signal the whole group; a worker that died of that would look like a bad file."""

_MIB = 1 << 20
_OPENCV_NO_MEMORY = -4


def serve(descriptor: int) -> None:
    """Answer the parent over the connected socket `descriptor` until it closes.

    Messages in: (function, memory limit in MiB, time limit in seconds), then items. Messages out: (READY, None), then
    (RESULT, value) or (RAISED, description) for each item. Out of memory ends the process.
    """
    for number in _PARENTS_BUSINESS:
        signal.signal(number, signal.SIG_IGN)
    with Connection(descriptor) as parent, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        function, memory_limit_mib, time_limit_seconds = parent.recv()
        _pin_threads()
        _limit_memory(memory_limit_mib)
        parent.send((READY, None))
        _silence()
        while True:
            item = parent.recv()
            # The parent kills a late worker. Should the parent be gone, the alarm's default action ends even
            # a decoder that never returns to Python.
            signal.setitimer(signal.ITIMER_REAL, 2.0 * time_limit_seconds + 1.0)
            answer = _answer(function, item)
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            _send(parent, answer)


def _answer(function: Callable[[Any], Any], item: Any) -> tuple[str, Any]:
    try:
        return RESULT, function(item)
    except MemoryError:
        os._exit(EXIT_OUT_OF_MEMORY)
    except Exception as error:  # whatever one item raises costs that item, not the run: it is named to the parent
        if getattr(error, "code", None) == _OPENCV_NO_MEMORY:
            os._exit(EXIT_OUT_OF_MEMORY)
        return RAISED, describe(error)


def describe(error: BaseException) -> str:
    """Type and place of an exception. Its message is left out: it may quote a header value."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def _send(parent: Connection, answer: tuple[str, Any]) -> None:
    try:
        parent.send(answer)
    except MemoryError:
        os._exit(EXIT_OUT_OF_MEMORY)
    except (EOFError, OSError):
        raise
    except Exception as error:  # a result that cannot be sent is found before any byte of it is written
        parent.send((RAISED, describe(error)))


def _pin_threads() -> None:
    """One thread a worker: the pool has a worker a core. The environment pins OpenMP and BLAS before their import."""
    opencv = sys.modules.get("cv2")
    if opencv is not None:
        opencv.setNumThreads(1)


def _limit_memory(limit_mib: int) -> None:
    """Allow `limit_mib` more address space than the idle worker has; no core file, which would hold pixels."""
    try:
        import resource
    except ImportError:  # Windows: no such limits
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = _address_space() + limit_mib * _MIB
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses RLIMIT_AS
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _address_space() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
    except (OSError, ValueError):
        return 2048 * _MIB  # what an idle worker maps with all decoders loaded, with room to spare
    return pages * os.sysconf("SC_PAGE_SIZE")


def _silence() -> None:
    """Decoders in C print warnings, some with parts of the file; nobody reads them."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)

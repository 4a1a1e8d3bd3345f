"""Runs `preprocess` in forks of one warm process, each killed with SIGKILL at a chosen step; driven by the kill test.

Usage: killed_runs.py ROOT [OUT STEP]...   Each pair is one run killed just before its STEP-th step (0: never).
Steps are all writes of frames and all fsync, rename, unlink and rmdir calls. Prints for each run the number of steps it
took, or `killed`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from small_releases import openi_preset

from placecli.data.atomic import FrameWriter
from placecli.data.preprocess import plan, preprocess


class Steps:
    """Counts calls of the functions it wraps and kills this process before number `last`."""

    def __init__(self, last: int) -> None:
        self.last, self.count = last, 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counted


def run(root: Path, out: Path, last: int) -> None:
    steps = Steps(last)
    for name in ("fsync", "replace", "unlink", "rmdir"):
        setattr(os, name, steps.wrap(getattr(os, name)))
    FrameWriter.append = steps.wrap(FrameWriter.append)  # type: ignore[method-assign]
    preprocess(openi_preset(), root, out, workers=1)
    print(steps.count, flush=True)


if __name__ == "__main__":
    # Everything is imported before any fork; pyarrow imports pandas, if it is there, at the first table.
    plan(openi_preset(), Path(sys.argv[1]), Path(sys.argv[2]))
    pa.Table.from_pylist([{"text": ""}])
    for out, last in zip(sys.argv[2::2], map(int, sys.argv[3::2]), strict=True):
        child = os.fork()
        if child == 0:
            run(Path(sys.argv[1]), Path(out), last)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            print("killed", flush=True)
        elif status:
            sys.exit(1)

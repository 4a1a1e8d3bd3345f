"""metrics.jsonl and TensorBoard: what happened at each step and each validation."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from placecli.engine.checkpoint import METRICS

SECONDS_BETWEEN_FLUSHES = 2.0
STEPS_BETWEEN_POINTS = 10
"""TensorBoard gets every tenth step; metrics.jsonl gets all."""


class Journal:
    """Appends to the metrics of a run, from the place at which a resumed run continues.

    metrics.jsonl holds no clock and no speed, so that equal training gives equal bytes.
    """

    def __init__(self, run: Path, num_bytes: int, step: int) -> None:
        """num_bytes, step: length of metrics.jsonl and steps done at the state that training continues from."""
        path = run / METRICS
        path.touch()
        os.truncate(path, min(num_bytes, path.stat().st_size))
        self._stream = path.open("a", encoding="utf-8", newline="\n")
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step if step else None)
        self._flushed = time.monotonic()

    def step(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """One line for an optimiser step, both counted from 1."""
        self._write({"step": step, "epoch": epoch, **values})
        if step % STEPS_BETWEEN_POINTS == 0:
            self._points("train", step, values)
        if time.monotonic() - self._flushed > SECONDS_BETWEEN_FLUSHES:
            self._stream.flush()
            self._flushed = time.monotonic()

    def validation(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """One line for a validation after `step`."""
        self._write({"step": step, "epoch": epoch, "split": "validate", **values})
        self._points("validate", step, values)

    def speed(self, step: int, pairs_per_second: float) -> None:
        """TensorBoard only: it differs from run to run."""
        self._board.add_scalar("train/pairs_per_second", pairs_per_second, step)

    def commit(self) -> int:
        """Bring all lines to disk; returns the length of metrics.jsonl in bytes."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        return os.fstat(self._stream.fileno()).st_size

    def close(self) -> None:
        """Write what is left and release the files."""
        self._stream.close()
        self._board.close()

    def _write(self, record: Mapping[str, object]) -> None:
        self._stream.write(json.dumps(record) + "\n")

    def _points(self, split: str, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._board.add_scalar(f"{split}/{name}", value, step)

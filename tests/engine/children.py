"""Training in processes of their own that can be killed. They are forked from one server that has imported all."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from placecli.config import Preset, parse_preset
from placecli.records import PlaceError

# The server starts from nothing: it finds the package and these tests by the environment alone.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent), os.environ.get("PYTHONPATH", "")]
)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["placecli.engine.pretrain", "torch.utils.tensorboard", "torch._dynamo"])
SECONDS = 240
"""Long past any healthy run: a child that hangs fails its test instead of stopping all."""


def start(target: Callable[..., None], *arguments: Any, environment: Mapping[str, str] | None = None) -> Any:
    """A started process that runs `target` with these environment variables added."""
    process = CONTEXT.Process(target=_enter, args=(target, dict(environment or {}), *arguments), daemon=True)
    process.start()
    return process


def finish(*processes: Any) -> list[int]:
    """Exit codes, negative for the signal that ended a process."""
    for process in processes:
        process.join(SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode for process in processes]


def train(
    preset: Preset,
    store: Path,
    run: Path,
    *,
    die_at_step: int = 0,
    die_at_flush: int = 0,
    stop: tuple[int, int] = (0, 0),
) -> int:
    """Exit code of a training process that may kill itself with SIGKILL after a step or at its n-th fsync, or get
    a signal (step, number)."""
    content = preset.model_dump(mode="json")
    return finish(start(_train, content, str(store), str(run), die_at_step, die_at_flush, stop))[0]


def train_on_ranks(preset: Preset, store: Path, run: Path, world_size: int) -> list[int]:
    """Exit codes of `world_size` processes that train together as under torchrun."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": str(world_size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    content = preset.model_dump(mode="json")
    return finish(
        *(
            start(_train, content, str(store), str(run), environment=shared | {"RANK": str(r), "LOCAL_RANK": str(r)})
            for r in range(world_size)
        )
    )


def _enter(target: Callable[..., None], environment: Mapping[str, str], *arguments: Any) -> None:
    os.environ.update({"OMP_NUM_THREADS": "1", **environment})
    import torch

    torch.set_num_threads(1)
    target(*arguments)


def _train(
    preset: Mapping[str, Any],
    store: str,
    run: str,
    die_at_step: int = 0,
    die_at_flush: int = 0,
    stop: Sequence[int] = (0, 0),
) -> None:
    from placecli.engine.pretrain import pretrain

    flush, flushes = os.fsync, 0

    def flush_or_die(descriptor: int) -> None:
        nonlocal flushes
        flushes += 1
        if flushes == die_at_flush:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(descriptor)

    def progress(step: int, total: int, loss: float, rate: float) -> None:
        if step == die_at_step:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == stop[0]:
            os.kill(os.getpid(), stop[1])

    os.fsync = flush_or_die
    try:
        pretrain(parse_preset(preset, "test"), Path(store), Path(run), device="cpu", progress=progress)
    except PlaceError as error:
        os._exit(getattr(error, "exit_code", 1))
    os._exit(0)

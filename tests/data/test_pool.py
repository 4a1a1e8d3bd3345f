"""The pool against functions that crash, hang, eat memory, raise and exit: each costs its own item only."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from placecli.data import pool, resources
from placecli.data.pool import WorkerDeath, choose_workers, run_expendable
from placecli.records import PlaceError


def square(value: int) -> int:
    return value * value


def misbehave(item: tuple[str, int]) -> int:
    """`item` names what to do; anything but a misdeed is answered with the number."""
    deed, number = item
    if deed == "crash":
        ctypes.string_at(0)
    elif deed == "abort":
        os.abort()
    elif deed == "exit":
        os._exit(3)
    elif deed == "hang":
        while True:
            signal.pause()
    elif deed == "eat":
        np.ones(1 << 40, np.uint8)
    elif deed == "raise":
        raise ValueError("a message with a patient's name")
    elif deed == "unpicklable":
        return lambda: number  # type: ignore[return-value]
    return number


def run(
    function: Callable[[Any], Any], items: Sequence[Any], workers: int = 2, time_limit: float = 60.0
) -> list[tuple[int, Any]]:
    return list(run_expendable(function, items, workers=workers, memory_limit_mib=512, time_limit_seconds=time_limit))


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_item_order(workers: int) -> None:
    assert run(square, range(50), workers) == [(i, i * i) for i in range(50)]


def test_no_items_start_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_Worker", None)
    assert run(square, []) == []


def test_each_misdeed_costs_one_item() -> None:
    deeds = ["", "crash", "", "exit", "", "raise", "", "eat", "abort", "unpicklable", "", ""]
    answers = run(misbehave, [(deed, number) for number, deed in enumerate(deeds)])
    assert [index for index, _ in answers] == list(range(len(deeds)))
    kinds = {deeds[index]: answer.kind for index, answer in answers if isinstance(answer, WorkerDeath)}
    assert kinds == {
        "crash": "crashed",
        "abort": "crashed",
        "exit": "crashed",
        "raise": "raised",
        "eat": "out_of_memory",
        "unpicklable": "raised",
    }
    assert [answer for index, answer in answers if deeds[index] == ""] == [0, 2, 4, 6, 10, 11]


def test_deaths_name_signal_and_exception_but_no_message() -> None:
    deaths = dict(run(misbehave, [("crash", 0), ("exit", 1), ("raise", 2)]))
    assert deaths[0].detail == "SIGSEGV"
    assert deaths[1].detail == "exit status 3"
    assert deaths[2].detail.startswith("ValueError at test_pool.py:")
    assert "patient" not in deaths[2].detail


def test_an_item_past_the_time_limit_costs_itself() -> None:
    answers = run(misbehave, [("", 0), ("hang", 1), ("", 2)], time_limit=0.3)
    assert answers == [(0, 0), (1, WorkerDeath("timed_out", "0.3 s")), (2, 2)]


def attempt(folder: Path, number: int) -> int:
    """Number of attempts at this item; the first one dies as under the system's out-of-memory killer."""
    marks = folder / str(number)
    with marks.open("a", encoding="ascii") as stream:
        stream.write(".")
    if marks.read_text("ascii") == ".":
        os.kill(os.getpid(), signal.SIGKILL)
    return len(marks.read_text("ascii"))


def test_an_item_whose_worker_is_killed_from_outside_is_tried_again(tmp_path: Path) -> None:
    assert run(partial(attempt, tmp_path), range(3)) == [(0, 2), (1, 2), (2, 2)]


def always_killed(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_an_item_that_always_kills_its_worker_is_given_up() -> None:
    assert run(always_killed, [7]) == [(0, WorkerDeath("out_of_memory", "killed by the system"))]


def process_id(_: int) -> int:
    return os.getpid()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_closing_the_iterator_ends_the_workers() -> None:
    answers = run_expendable(process_id, range(100), workers=2, memory_limit_mib=512, time_limit_seconds=60)
    pids = {next(answers)[1], next(answers)[1], next(answers)[1]}
    answers.close()
    assert not any(is_alive(pid) for pid in pids)


def survive_signals(_: int) -> str:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    return "alive"


def test_signals_to_the_group_do_not_cost_items() -> None:
    assert run(survive_signals, [0], 1) == [(0, "alive")]


def test_a_slow_caller_costs_no_item() -> None:
    """The deadline passes while the caller holds a result; an answer that is there already is taken."""
    crew = pool._Crew((square, 512, 60.0), 1, 60.0)
    try:
        crew._workers.append(pool._Worker((square, 512, 60.0)))
        crew._listen(is_patient=True)
        worker = crew._workers[0]
        worker.give(pool._Task(0, 3), 60.0)
        assert worker.connection.poll(60.0)
        worker.deadline = 0.0
        crew._listen(is_patient=True)
        assert crew._finished == {0: 9}
    finally:
        crew.stop()


def loaded_modules(_: int) -> list[str]:
    return sorted(sys.modules)


def environment(_: int) -> dict[str, str]:
    return {name: os.environ[name] for name in resources.SINGLE_THREAD}


def test_workers_have_one_thread_and_no_torch() -> None:
    assert run(environment, [0], 1)[0][1] == dict(resources.SINGLE_THREAD)
    assert "torch" not in run(loaded_modules, [0], 1)[0][1]


class Unloadable:
    """An item function that arrives in the worker as a reference to a module that is not there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (__import__, ("a_module_that_is_not_there",))

    def __call__(self, item: int) -> int:
        return item


def test_a_worker_that_cannot_start_is_one_error_not_one_per_item() -> None:
    with pytest.raises(PlaceError, match=r"could not start .*No module named 'a_module_that_is_not_there'"):
        run(Unloadable(), range(1000))


def test_zero_workers_is_a_usage_error() -> None:
    with pytest.raises(PlaceError, match="--workers 0"):
        run(square, [1], workers=0)


class Observed(Sequence[int]):
    """Numbers 0 to 39 that remember the highest one asked for."""

    highest = -1

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: Any) -> Any:
        self.highest = max(self.highest, index)
        return index


def wait_for_last_of_window(folder: Path, number: int) -> int:
    """Item 0 answers only when item 15, the last that may run ahead of it, has begun."""
    (folder / str(number)).touch()
    while number == 0 and not (folder / "15").exists():
        os.sched_yield()
    return number


def test_results_ahead_of_a_slow_item_are_bounded(tmp_path: Path) -> None:
    items = Observed()
    answers = run_expendable(
        partial(wait_for_last_of_window, tmp_path), items, workers=2, memory_limit_mib=512, time_limit_seconds=60
    )
    assert next(answers) == (0, 0)
    assert items.highest == 8 * 2 - 1
    assert [index for index, _ in answers] == list(range(1, 40))


def test_worker_count_follows_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "usable_cores", lambda: 16)
    monkeypatch.setattr(pool, "available_memory", lambda: 5 << 30)
    assert choose_workers(1024) == 5
    assert choose_workers(100) == 16
    assert choose_workers(1 << 20) == 1


def test_resources_are_those_of_this_process() -> None:
    assert 1 <= resources.usable_cores() <= (os.cpu_count() or 1)
    assert 0 < resources.available_memory() < 1 << 50


def test_control_group_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000", "ascii")
    (tmp_path / "memory.max").write_text("1000", "ascii")
    (tmp_path / "memory.current").write_text("700", "ascii")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 300\n", "ascii")
    monkeypatch.setattr(resources, "_control_groups", lambda: iter([tmp_path]))
    assert resources.usable_cores() == 1
    assert resources.available_memory() == 600

"""The shell apart from the work: usage, failures in one line, exit codes, signals, output, progress, `--set`."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from placecli import cli, overrides, results, terminal
from placecli.config import ConfigError
from placecli.records import Box, Hit, PlaceError, Reject, SentenceMatch


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def place(*arguments: str) -> int:
    """Exit code of the command line, run in this process."""
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    return int(end.value.code or 0)


def cli_commands() -> dict[str, Any]:
    """Command objects by name."""
    program: Any = cli.typer.main.get_command(cli.app)
    return dict(program.commands)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["pretrain", "--no-such-option"],
        ["pretrain"],
        ["preprocess", "--preset", "openi"],
        ["preprocess", "--root", "a", "--dicom-dir", "b"],
        ["preprocess", "--root", "a"],
        ["preprocess", "--dicom-dir", "a", "--shard", "3/3"],
        ["preprocess", "--dicom-dir", "a", "--shard", "one"],
        ["preprocess", "--dicom-dir", "a", "--workers", "0"],
        ["retrieve", "--to", "pictures", "x.png"],
        ["retrieve", "--run", "-"],
        ["retrieve", "--text", "effusion", "--split", "tset"],
        ["retrieve", "x.png", "--heatmap", "where.pdf"],
        ["evaluate", "--split", "tset"],
        ["evaluate", "--task", "spelling"],
        ["demo", "--patients", "many"],
    ],
)
def test_usage_errors_exit_2_and_write_nothing_to_stdout(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert place(*arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Usage: place" in said.err
    assert "Traceback" not in said.err


def test_asking_nothing_at_a_terminal_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert place("retrieve") == 2
    assert "ask something" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["preprocess", "--preset", "openj", "--root", "x"], ["openj", "did you mean openi"]),
        (["preprocess", "--dicom-dir", "no-such-folder"], ["no-such-folder: not a folder", "--dicom-dir"]),
        (["preprocess", "--preset", "openi", "--root", "no-such-folder"], ["no-such-folder: not a folder", "--root"]),
        (["preprocess", "--preset", "openi", "--root", ".", "--reports", "r.csv"], ["r.csv", "openi brings its own"]),
        (["pretrain", "--preset", "demo", "--data", "no-such-store"], ["no-such-store"]),
        (["pretrain", "--preset", "demo", "--set", "epoch=3"], ["pretrain.epoch", "pretrain.epochs"]),
        (["pretrain", "--preset", "demo", "--set", "pretrian.epochs=3"], ["pretrian", "pretrain"]),
        (["retrieve", "x.png", "--run", "no-such-run"], ["no-such-run", "place pretrain"]),
        (["evaluate", "--run", "no-such-run", "--data", "x"], ["no-such-run"]),
    ],
)
def test_failures_are_one_line_on_stderr_and_exit_1(
    arguments: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert place(*arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("place: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err


def test_bare_commands_without_a_run_say_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert place("retrieve", "--text", "effusion") == 1
    assert "place pretrain" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlaceError):
        cli.main(["--debug", "pretrain", "--preset", "demo", "--data", "no-such-store"])


class Work:
    """Stands for `pretrain` and runs what a test gives it."""

    def __init__(self, act: Any) -> None:
        self.act, self.given = act, {}

    def __call__(self, config: Any, data: Path, out: Path, **more: Any) -> dict[str, Any]:
        self.given = {"config": config, "data": data, "out": out, **more}
        return {"result": self.act()}


def replace_work(monkeypatch: pytest.MonkeyPatch, act: Any) -> Work:
    from placecli.engine import pretrain

    work = Work(act)
    monkeypatch.setattr(pretrain, "pretrain", work)
    return work


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGUSR1", 75), ("SIGINT", 130)])
def test_signals_end_in_one_line_and_their_code(
    name: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    replace_work(monkeypatch, lambda: os.kill(os.getpid(), getattr(signal, name)))
    assert place("pretrain", "--preset", "demo") == code
    said = capsys.readouterr()
    assert name in said.err
    assert "same command" in said.err
    assert said.err.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) is before


def fail(error: Exception) -> Any:
    def act() -> None:
        raise error

    return act


class Saved(PlaceError):
    exit_code = 75


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (PlaceError("the store is gone; make it again"), 1, "place: the store is gone; make it again\n"),
        (Saved("saved at step 7"), 75, "place: saved at step 7\n"),
        (FileNotFoundError(2, "No such file or directory", "a.npy"), 1, "place: a.npy: No such file or directory\n"),
        (
            OSError(28, "No space left on device", "runs/a"),
            *(1, "place: runs/a: No space left on device; free some space and run the same command again\n"),
        ),
        (
            RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
            *(1, "place: No space left on device; free some space and run the same command again\n"),
        ),
        (
            PermissionError(13, "Permission denied", "runs"),
            *(1, "place: runs: Permission denied; check its rights, or name another place\n"),
        ),
        (
            NotADirectoryError(20, "Not a directory", "a.txt"),
            *(1, "place: a.txt: Not a directory; something else is there; name another place\n"),
        ),
        (ValueError("two\nlines"), 1, "place: ValueError: two lines (unexpected; `place --debug ...` shows where)\n"),
    ],
)
def test_every_failure_is_one_line(
    error: Exception, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_work(monkeypatch, fail(error))
    assert place("pretrain", "--preset", "demo") == code
    assert capsys.readouterr().err == line


def test_flags_reach_the_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    work = replace_work(monkeypatch, lambda: 1)
    arguments = [
        "--preset",
        "openi",
        "--seed",
        "5",
        "--device",
        "cpu",
        "--set",
        "epochs=3",
        "--set",
        "pretrain.accumulate=2",
    ]
    assert place("pretrain", *arguments) == 0
    assert work.given["config"].pretrain.seed == 5
    assert work.given["config"].pretrain.epochs == 3
    assert work.given["config"].pretrain.accumulate == 2
    assert (work.given["data"], work.given["out"]) == (Path("stores/openi"), Path("runs/openi"))
    assert work.given["device"] == "cpu"
    assert json.loads(capsys.readouterr().out) == {"result": 1}


def test_only_the_first_of_several_processes_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_work(monkeypatch, lambda: 1)
    monkeypatch.setenv("RANK", "1")
    assert place("pretrain", "--preset", "demo") == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    assert place("pretrain", "--preset", "demo") == 0
    assert capsys.readouterr().out == '{"result": 1}\n'


@pytest.mark.parametrize("command", ["preprocess", "pretrain", "evaluate", "demo"])
def test_what_draws_random_numbers_takes_a_seed(command: str) -> None:
    options = {name for parameter in cli_commands()[command].params for name in parameter.opts}
    assert {"--seed", "--set", "--dry-run"} <= options


def test_the_seed_of_preprocess_is_that_of_the_split_and_wins_over_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = replace_preprocess(monkeypatch, {})
    for more in ([], ["--seed", "7"], ["--set", "split_seed=5"], ["--seed", "7", "--set", "split_seed=5"]):
        assert place("preprocess", "--dicom-dir", str(tmp_path), *more) == 0
    assert [config.preprocess.split_seed for config in seen] == [0, 7, 5, 7]


@pytest.mark.parametrize(("unused", "says"), [(3, ["place: 3 lines of the table of reports fit no image"]), (0, [])])
def test_reports_that_fit_no_image_are_told(
    unused: int, says: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_preprocess(monkeypatch, {"unused_reports": unused})
    assert place("preprocess", "--dicom-dir", str(tmp_path), "--reports", "r.csv") == 0
    said = capsys.readouterr()
    assert [line.partition(";")[0] for line in said.err.splitlines()] == says
    assert json.loads(said.out)["counts"] == {"unused_reports": unused}


def replace_preprocess(monkeypatch: pytest.MonkeyPatch, counts: dict[str, int]) -> list[Any]:
    """The presets that `place preprocess` is then called with; it says it made a store with these counts."""
    from placecli.data import preprocess

    seen: list[Any] = []

    def work(config: Any, root: Path, out: Path, **_: Any) -> preprocess.PreprocessSummary:
        seen.append(config)
        return preprocess.PreprocessSummary(str(out), False, True, 0, 0, 0, 1, 0.0, counts)

    monkeypatch.setattr(preprocess, "preprocess", work)
    return seen


def make_run_folders(folder: Path, *names: str) -> None:
    """What counts as a run to the search for the newest one, each written later than the one before."""
    for age, name in enumerate(names):
        (folder / "runs" / name).mkdir(parents=True)
        for file in ("config.yaml", "model.safetensors"):
            (folder / "runs" / name / file).write_text("{}")
        os.utime(folder / "runs" / name / "model.safetensors", (age, age))


def test_a_run_that_cannot_be_opened_is_told_once_not_by_each_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run_folders(tmp_path, "demo")
    monkeypatch.chdir(tmp_path)
    assert place("evaluate", "--run", "runs/demo") == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("command", [["retrieve", "--text", "effusion"], ["evaluate"]])
def test_the_run_that_a_bare_command_takes_is_said(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run_folders(tmp_path, "zeal", "demo")
    monkeypatch.chdir(tmp_path)
    line = "place: using runs/demo, the newest; name another with --run\n"
    assert place(*command) == 1  # these runs hold no model
    assert capsys.readouterr().err.startswith(line)
    for more in (["--quiet"], ["--run", "runs/zeal"]):
        assert place(*command, *more) == 1
        assert "newest" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "given", "full"),
    [
        ("pretrain", "epochs=3", "pretrain.epochs=3"),
        ("pretrain", "model.image_size=96", "pretrain.model.image_size=96"),
        ("pretrain", "pretrain.epochs=3", "pretrain.epochs=3"),
        ("pretrain", "preprocess.size=64", "preprocess.size=64"),
        ("preprocess", "size=64", "preprocess.size=64"),
        ("evaluate", "bootstrap=0", "evaluate.bootstrap=0"),
        ("retrieve", "index=approximate", "retrieve.index=approximate"),
        ("pretrain", "epoch=3", "pretrain.epoch=3"),
        ("pretrain", "pretrian.epochs=3", "pretrian.epochs=3"),
        ("demo", "name=x", "name=x"),
    ],
)
def test_set_keys_may_leave_out_the_commands_section(section: str, given: str, full: str) -> None:
    assert overrides.qualify(section, given) == full


@pytest.mark.parametrize(
    "name", ["with space.csv", "010", "a: b.csv", 'it\'s "so".csv', "[x].csv", "größe.csv", "null"]
)
def test_a_path_of_a_flag_stays_the_path_it_is(name: str) -> None:
    config = overrides.load("folder", "preprocess", overrides.assign("preprocess.reports", Path(name)))
    assert config.preprocess.reports == Path(name)


def test_a_path_from_stdin_is_a_line_or_under_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO('a b\n\n{"store": "s", "data": "d"}\n{"x": 1}\n{broken\na b\n'))
    assert overrides.piped_all([Path("first"), Path("-")], "data") == [Path("first"), Path("a b"), Path("d")]
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"run": "r", "data": "d"}'))
    assert overrides.piped(Path("-"), "store", "data") == Path("d")
    assert overrides.piped(None, "run") is None
    said = {"\n": "stdin is empty, so it names no run", '{"rank": 1}': "no line of stdin names a run"}
    for nothing, message in said.items():
        monkeypatch.setattr(sys, "stdin", io.StringIO(nothing))
        with pytest.raises(PlaceError, match=message):
            overrides.piped(Path("-"), "run")


def test_a_preset_file_goes_by_its_own_name() -> None:
    assert overrides.default_folder("runs", "my/lungs.yaml") == Path("runs/lungs")
    assert overrides.default_folder("stores", "mimic") == Path("stores/mimic")
    with pytest.raises(ConfigError):
        overrides.load("my/lungs.yaml", "pretrain", [])


def test_plain_holds_what_json_can_hold() -> None:
    record = {
        "path": Path("a/b"),
        "nan": math.nan,
        "numbers": (np.float32(0.5), np.int64(3)),
        "box": Box("x", 1, 2, 3, 4),
    }
    assert results.plain(record) == {
        "path": "a/b",
        "nan": None,
        "numbers": [0.5, 3],
        "box": {"label": "x", "x": 1, "y": 2, "width": 3, "height": 4},
    }


HIT = Hit(
    *("query.png", 1, 0.5, "study", "image", "A report."),
    sentences=(SentenceMatch("Large effusion [right].", 0.75, Box("", 0.5, 0.25, 0.25, 0.5)),),
)


def test_hits_are_json_lines_on_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    results.Output(as_json=False).hits([HIT, HIT])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert list(json.loads(lines[0])) == ["query", "rank", "score", "study_id", "image_id", "report", "sentences"]
    assert json.loads(lines[0])["sentences"][0]["box"]["width"] == 0.25


def test_hits_are_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "120")
    results.Output(as_json=False).hits([HIT])
    text = screen.getvalue()
    assert "query.png" in text
    assert "Large effusion [right]. (x 62 %, y 50 %)" in text
    results.Output(as_json=True).hits([HIT])
    assert json.loads(screen.getvalue().splitlines()[-1])["rank"] == 1


def test_metrics_carry_their_interval_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "120")
    record = {
        "n": 3,
        "metrics": {"recall@10": {"value": 0.25, "ci95": [0.125, 0.5]}, "x": {"value": None, "ci95": None}},
    }
    results.Output(as_json=False).record(record, "evaluation")
    lines = screen.getvalue()
    assert "metrics.recall@10" in lines
    assert "0.25 (95 % 0.125 to 0.5)" in lines


def test_a_reader_that_goes_away_ends_the_program_without_a_word() -> None:
    script = (
        "from placecli.results import Output\noutput = Output(True)\nfor i in range(200000): output.record({'i': i})"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stderr is not None
    assert json.loads(writer.stdout.readline()) == {"i": 0}
    writer.stdout.close()
    assert writer.stderr.read() == ""
    writer.stderr.close()
    assert writer.wait(timeout=60) == terminal.EXIT_PIPE_CLOSED


def test_progress_is_silent_when_quiet_and_rare_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: float(next(now)))
    with terminal.Progress(is_quiet=False) as progress:
        for done in range(1, 8):
            progress("read", done, 10)
    assert len(capsys.readouterr().err.splitlines()) == 2
    with terminal.Progress(is_quiet=True) as progress:
        progress.of("read")(10, 10, "loss", 0.5)
    assert capsys.readouterr().err == ""


def test_progress_draws_a_bar_with_rate_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with terminal.Progress(is_quiet=False) as progress:
        for done in range(11):
            progress("read images", done, 10)
    assert "read images" in screen.getvalue()
    assert "10/10" in screen.getvalue()


def test_a_refused_query_is_told_by_number_not_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    refusals = terminal.Refusals()
    refusals.add(3, Reject("/home/doe^john/x.dcm", "missing", "no such file"))
    assert refusals.count == 1
    assert capsys.readouterr().err == "place: query 3: missing: no such file\n"

"""`place evaluate` through a real shell: bytes on stdout, one object a line, differences, leaks and the page."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_run import FINDINGS, make_rows, write_rows

from placecli import cli
from placecli.data.store import Store, open_store


@pytest.fixture(scope="module")
def place_here(tmp_path_factory: pytest.TempPathFactory, run_folder: Path) -> Path:
    """A folder with a store, two copies of one run and two files of predictions."""
    folder = tmp_path_factory.mktemp("shell")
    rows, images, masks = make_rows({"train": 8, "test": 16}, seed=3)
    store = open_store(write_rows(folder / "store", rows, images, masks))
    shutil.copytree(run_folder, folder / "one")
    shutil.copytree(run_folder, folder / "two")
    write_predictions(folder / "good.jsonl", store, lead=0.8)
    lines = (folder / "good.jsonl").read_text("utf-8").splitlines(keepends=True)
    (folder / "short.jsonl").write_text("".join(lines[:-1]), "utf-8")
    (folder / "typo.jsonl").write_text("".join([lines[0], lines[1].replace("scores", "scroes")]), "utf-8")
    bare = [dataclasses.replace(row, labels={}) for row in rows]
    write_rows(folder / "plain", bare, images, masks)
    write_predictions(folder / "poor.jsonl", store, lead=-0.2)
    return folder


def write_predictions(file: Path, store: Store, lead: float) -> None:
    lines = []
    for i, row in enumerate(store.select("test")):
        scores = {name: 0.2 + i / 100 + max(lead, 0) * row.labels[name] * 0.7 for name in FINDINGS}
        lines.append(json.dumps({"image_id": row.image_id, "scores": scores}))
    file.write_text("\n".join(lines) + "\n", "utf-8")


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PLACE": f"{sys.executable} -m placecli"}
    return subprocess.run(
        ["/bin/sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def lines_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_runs_on_a_pipe_give_one_object_each_and_then_their_difference(place_here: Path) -> None:
    done = shell(
        place_here,
        "printf 'one\\ntwo\\n' | $PLACE evaluate --run - --task retrieval --data store -q --set bootstrap=10 | cat",
    )
    first, second, difference = lines_of(done)
    assert done.stderr == ""
    assert [each["run"] for each in (first, second)] == ["one", "two"]
    assert (difference["run"], difference["against"], difference["task"]) == ("two", "one", "retrieval")
    assert {each["difference"] for each in difference["metrics"].values()} == {0.0}
    assert difference["metrics"]["recall@1"]["ci95"] == [0.0, 0.0]
    assert set(difference["metrics"]) == set(first["metrics"])


def test_files_of_predictions_compare_as_runs_do_and_the_page_is_written(place_here: Path) -> None:
    done = shell(
        place_here,
        "$PLACE evaluate --task classification --data store --predictions poor.jsonl --predictions good.jsonl"
        " --html report/ -q --set bootstrap=50 | cat",
    )
    poor, good, difference = lines_of(done)
    assert good["metrics"]["auroc_macro"]["value"] == 1.0 > poor["metrics"]["auroc_macro"]["value"]
    lead = difference["metrics"]["auroc_macro"]
    assert lead["difference"] == pytest.approx(1.0 - poor["metrics"]["auroc_macro"]["value"])
    assert lead["ci95"][0] > 0
    assert done.stderr == "place: wrote report/index.html\n"
    page = (place_here / "report" / "index.html").read_text("utf-8")
    assert "image-0" not in page
    assert "<h2>Classification</h2>" in page


def test_leaks_are_printed_with_ids_as_json_and_never_on_stderr(place_here: Path) -> None:
    done = shell(place_here, "$PLACE evaluate --task leaks --data store")
    (record,) = lines_of(done)
    assert (record["task"], record["data"]) == ("leaks", ["store"])
    assert list(record["counts"]) == ["train-test"]
    assert record["counts"]["train-test"]["texts"]["shared"] == len(record["found"]["train-test"]["texts"]) > 0
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("--task leaks", 1, "name them by --data"),
        ("--task leaks --data store --html x.html", 2, "--html does not go with"),
        ("--task classification --run one", 1, "not tuned for classification; make a run that is"),
        ("--run one --data store --data store2", 2, "several --data"),
        ("--task classification --predictions good.jsonl", 2, "--predictions needs --task and --data"),
        ("--task retrieval --data store --predictions good.jsonl", 1, "retrieval needs a --run"),
        ("--task classification --data store --predictions typo.jsonl", 1, 'line 2: no "scores" (it has "scroes")'),
        ("--task classification --data store --predictions short.jsonl", 1, "short.jsonl: 1 of 16 images of the split"),
        (
            "--task classification --data store --predictions good.jsonl --html good.jsonl/page",
            1,
            "good.jsonl is a file",
        ),
        ("--task detection --data plain --predictions good.jsonl", 1, 'no "boxes"'),
        ("--task classification --data plain --predictions good.jsonl", 1, "which needs images with labels"),
        (f"--task classification --data store {5 * '--predictions good.jsonl '} --html x", 1, "up to 4 runs, not 5"),
        ("--task classification --data store --predictions store/store.yaml", 1, "line 1: not a JSON object"),
    ],
)
def test_what_does_not_fit_together_is_said_in_one_line(
    place_here: Path,
    arguments: str,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place_here)
    with pytest.raises(SystemExit) as end:
        cli.main(["evaluate", *arguments.split()])
    said = capsys.readouterr()
    assert (end.value.code, said.out) == (code, "")
    assert words in " ".join(said.err.replace("│", " ").split())
    assert "Traceback" not in said.err


def test_a_dry_run_of_predictions_says_what_would_be_read(place_here: Path) -> None:
    done = shell(place_here, "$PLACE evaluate --task classification --data store --predictions good.jsonl --dry-run")
    (plan,) = lines_of(done)
    assert plan == {
        "predictions": "good.jsonl",
        "task": "classification",
        "data": "store",
        "split": "test",
        "lines": 16,
        "images": 16,
        "patients": 8,
        "images_scored": 16,
    }


def test_on_a_terminal_numbers_stand_beside_their_interval_and_chance(
    place_here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place_here)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with pytest.raises(SystemExit) as end:
        cli.main(
            "evaluate --task classification --data store --predictions poor.jsonl -q --set bootstrap=50".split()  # noqa: SIM905
        )
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert "classification of poor.jsonl on store, split test, protocol clean" in said
    assert "n 16, patients 8, labels 2" in said
    (line,) = (line for line in said.splitlines() if "auroc_macro" in line)
    name, value, interval, chance = (cell.strip() for cell in line.strip("│").split("│"))
    assert (name, chance) == ("auroc_macro", "0.5")
    low, high = map(float, interval.split(" to "))
    assert low <= float(value) <= high

"""Lines that people type, through a real shell with real files: what is on stdout, and silence where it is due."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_dicom import draw_picture, write
from worked_folder import make_folder

STUDY_IDS = (
    "jq -r .study_id"
    if shutil.which("jq")
    else f"{shlex.quote(sys.executable)} -c 'import json, sys; [print(json.loads(line)[\"study_id\"]) for line in sys.stdin]'"
)
"""jq, or what does the same where it is not installed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_folder(tmp_path_factory.mktemp("pipelines"))
    (root / "dicom" / "deep").mkdir(parents=True)
    write(root / "dicom" / "one.dcm", draw_picture())
    write(root / "dicom" / "deep" / "two.dcm", draw_picture()[::-1])
    return root


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    place = f'place() {{ {shlex.quote(sys.executable)} -m placecli "$@"; }}\n'
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-c", place + line], cwd=folder, capture_output=True, text=True, timeout=180, env=environment
    )


def test_found_files_are_asked_about_and_study_ids_come_out(folder: Path) -> None:
    done = shell(f"find dicom -name '*.dcm' | sort | place retrieve - --top-k 3 --run runs/openi | {STUDY_IDS}", folder)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("study-") for line in lines)
    assert "Traceback" not in done.stderr


def test_reports_are_written_for_a_list_and_scored(folder: Path) -> None:
    trained = shell(
        "place finetune --task report-generation --data stores/openi --run runs/openi --out runs/reports --quiet",
        folder,
    )
    assert trained.returncode == 0, trained.stderr
    said = trained.stderr.splitlines()
    assert len(said) == 1, "no progress, and the one warning once"
    assert "have a report that is also in train" in said[0]
    assert len(trained.stdout.splitlines()) == 1
    line = (
        "ls scans/*.png > list.txt; place generate-report - --run runs/reports --quiet < list.txt > reports.jsonl;"
        " place evaluate --task report-generation --data stores/openi --predictions reports.jsonl --set bootstrap=10 --quiet"
    )
    scored = shell(line, folder)
    assert scored.returncode == 0, scored.stderr
    written = [json.loads(each) for each in (folder / "reports.jsonl").read_text().splitlines()]
    assert len(written) == 8
    assert all(report["report"] for report in written)
    (record,) = (json.loads(each) for each in scored.stdout.splitlines())
    assert record["task"] == "report-generation"
    assert record["metrics"]["bleu_4"]["value"] is not None


def test_hits_of_retrieve_are_images_to_write_about(folder: Path) -> None:
    done = shell(
        "place retrieve image.png --run runs/openi --top-k 1 --json --quiet"
        " | place generate-report - --run runs/reports --quiet",
        folder,
    )
    assert done.returncode == 0, done.stderr
    (record,) = (json.loads(each) for each in done.stdout.splitlines())
    assert record["report"]


def test_a_reader_that_goes_away_ends_it_without_a_word(folder: Path) -> None:
    done = shell(
        "ls scans/*.png | place retrieve - --run runs/openi --top-k 20 --quiet | head -1;"
        ' echo "codes ${PIPESTATUS[*]}"',
        folder,
    )
    first, codes = done.stdout.splitlines()
    assert json.loads(first)["rank"] == 1
    assert codes == "codes 0 141 0"
    assert done.stderr == ""

"""`place generate-report`: what can be asked, what is refused, and that its output is what is scored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_run import small_preset, write_run, write_store

from placecli import cli
from placecli.config import Preset
from placecli.data.store import open_store
from placecli.engine.start import Start
from placecli.records import PlaceError, Reject
from placecli.tasks import finetune, meteor_java
from placecli.tasks.evaluate_tuned import evaluate_predictions
from placecli.tasks.report_files import Asked, gather, generate_reports, newest_report_run, read_lines

SMALL = {"epochs": 1, "batch_size": 8, "layers": 1, "width": 32, "heads": 2, "max_tokens": 24, "min_count": 1}
PRESET = Preset.model_validate(
    small_preset().model_dump() | {"finetune": {"report_generation": SMALL}, "evaluate": {"bootstrap": 10}}
)


@pytest.fixture(autouse=True)
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each start of METEOR's program takes ten seconds, and test_meteor_java.py tests it."""
    monkeypatch.setattr(meteor_java, "is_available", lambda: False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """store, runs/reports, and the test images as files under their ids."""
    root = tmp_path_factory.mktemp("files")
    store = write_store(root / "store", {"train": 16, "validate": 4, "test": 6})
    pretrained = write_run(root / "pretrained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meteor_java, "is_available", lambda: False)
        finetune.finetune(
            "report-generation",
            PRESET,
            store,
            Start("run", pretrained),
            root / "runs" / "reports",
            seeds=[0],
            device="cpu",
        )
    opened = open_store(store)
    rows = opened.select("test")
    (root / "images").mkdir()
    for row, pixels in zip(rows, opened.images(rows), strict=True):
        cv2.imwrite(str(root / "images" / f"{row.image_id}.png"), pixels)
    return root


def test_lines_of_a_pipe_ask_for_studies() -> None:
    lines = [
        "a/one.png\n",
        "",
        '{"image": "two.png", "image_id": "x", "study_id": "s"}',
        '{"path": "three.dcm"}',
        '{"images": ["front.png", "side.png"], "study_id": 7}',
        '{"query": "four.png", "rank": 1, "image_id": "of-the-hit", "study_id": "of-the-hit"}',
        '{"query": "four.png", "rank": 2, "image_id": "of-another"}',
        '{"text": "effusion"}',
        '{"images": []}',
        "{",
    ]
    found = list(read_lines(lines))
    assert found[:5] == [
        Asked("a/one.png", (Path("a/one.png"),), "one"),
        Asked("two.png", (Path("two.png"),), "x", "s"),
        Asked("three.dcm", (Path("three.dcm"),), "three"),
        Asked("front.png", (Path("front.png"), Path("side.png")), "front", "7"),
        Asked("four.png", (Path("four.png"),), "four"),
    ]
    assert [each.source for each in found[5:] if isinstance(each, Reject)] == ["line 8", "line 9", "line 10"]


@given(st.text(alphabet='{}[]":,ab1 imagequery\n', max_size=40))
def test_any_line_is_an_answer_or_a_reject(line: str) -> None:
    for each in read_lines([line]):
        assert isinstance(each, Asked | Reject)


def test_nothing_asked_is_said() -> None:
    with pytest.raises(PlaceError, match="nothing was asked"):
        list(gather((), ["\n"]))
    assert [each.image_id for each in gather(["x.png"], []) if isinstance(each, Asked)] == ["x"]


def test_files_give_the_reports_of_the_store(folder: Path) -> None:
    run, images = folder / "runs" / "reports", folder / "images"
    kept = {
        record["image_id"]: record for record in map(json.loads, (run / "predictions.jsonl").read_text().splitlines())
    }
    refused: list[tuple[int, str]] = []
    asked = gather([str(images), str(folder / "missing.png")], [])
    told = list(generate_reports(run, asked, device="cpu", refused=lambda n, why: refused.append((n, why.code))))
    assert refused == [(7, "missing")]
    assert [each["image_id"] for each in told] == sorted(path.stem for path in images.iterdir())
    for record in told:
        assert record["query"].endswith(f"{record['image_id']}.png")
        assert record["study_id"] is None
        if record["image_id"] in kept:
            assert record["report"] == kept[record["image_id"]]["report"]
        for sentence in record["sentences"]:
            assert -1 <= sentence["score"] <= 1
            assert sentence["contradicted"] in (True, False)
            assert all(0 <= value <= 1 for value in sentence["box"])


def test_without_the_pretrained_run_scores_are_null_and_said(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "moved"
    run.mkdir()
    for name in ("task.json", "model.safetensors", "config.yaml"):
        (run / name).write_bytes((folder / "runs" / "reports" / name).read_bytes())
    config = (run / "config.yaml").read_text().replace(str(folder / "pretrained"), str(folder / "elsewhere"))
    (run / "config.yaml").write_text(config)
    record = next(iter(generate_reports(run, gather([str(folder / "images")], []), device="cpu")))
    assert "is gone" in caplog.text
    assert all(each["score"] is None and each["contradicted"] is None for each in record["sentences"])
    report = PRESET.finetune.report_generation.model_copy(update={"grounding": "drop"})
    with pytest.raises(PlaceError, match="is gone"):
        next(iter(generate_reports(run, [], config=report, device="cpu")))


def test_a_run_of_another_use_and_a_longer_report_are_refused(folder: Path) -> None:
    longer = PRESET.finetune.report_generation.model_copy(update={"max_tokens": 99})
    with pytest.raises(PlaceError, match="at most 24"):
        next(iter(generate_reports(folder / "runs" / "reports", [], config=longer, device="cpu")))
    with pytest.raises(PlaceError, match=r"no task\.json"):
        next(iter(generate_reports(folder / "pretrained", [], device="cpu")))
    with pytest.raises(PlaceError, match="no run that writes reports"):
        newest_report_run(folder / "images")
    assert newest_report_run(folder / "runs") == folder / "runs" / "reports"


def shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    place = f'"{sys.executable}" -m placecli'
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parent.parent.parent), "OMP_NUM_THREADS": "1"}
    line = ["bash", "-c", command.replace("place ", f"{place} ", 1)]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, env=environment)


def test_a_list_through_a_real_shell_becomes_predictions_that_are_scored(folder: Path) -> None:
    (folder / "list.txt").write_text("".join(f"images/{path.name}\n" for path in (folder / "images").iterdir()))
    said = shell(folder, "place generate-report - < list.txt > reports.jsonl")
    assert said.returncode == 0, said.stderr
    assert "using runs/reports" in said.stderr
    assert "Traceback" not in said.stderr
    found = evaluate_predictions(
        "report-generation",
        folder / "reports.jsonl",
        open_store(folder / "store"),
        PRESET,
        split="test",
        protocol="clean",
    )
    kept: dict[str, Any] = json.loads((folder / "runs" / "reports" / "test.json").read_text())["metrics"]
    metrics = found.to_record()["metrics"]
    assert metrics["bleu_4"] == kept["bleu_4"]
    assert found.to_record()["counts"]["judged_sentences"] > 0


def test_the_command_refuses_in_one_line_and_plans(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    for arguments, code in (
        (["generate-report", "missing.png", "--device", "cpu"], 1),
        (["generate-report", "images/x", "--run", "pretrained"], 1),
        (["generate-report", "--beams", "0", "x.png"], 2),
        (["generate-report", "--dry-run"], 0),
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        said = capsys.readouterr()
        assert int(end.value.code or 0) == code, said.err
        assert "Traceback" not in said.err
    assert json.loads(said.out)["has_scores"] is True

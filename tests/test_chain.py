"""The whole chain at the shell on a small synthetic demo: every command, real work, no stand-in."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from placecli import cli
from placecli.config import load_preset
from placecli.data.store import open_store

TINY = (
    *("pretrain.epochs=2", "pretrain.batch_size=8", "evaluate.bootstrap=20", "pretrain.model.image_depth=1"),
    *("pretrain.model.image_width=48", "pretrain.model.text_width=48", "pretrain.model.text_layers=1"),
)
SETTINGS = ["demo", "--quick", "--patients", "30", "--device", "cpu", *(f"--set={key}" for key in TINY)]


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def place(arguments: Sequence[str], stdin: str = "") -> Said:
    out, err = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            cli.main(list(arguments))
    finally:
        sys.stdin = before
    return Said(int(end.value.code or 0), out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Demo:
    folder: Path
    said: Said

    @property
    def run(self) -> str:
        return str(self.folder / "run")

    @property
    def store(self) -> str:
        return str(self.folder / "store")

    def image(self) -> str:
        row = open_store(self.folder / "store").select("test")[0]
        return str(self.folder / "phantoms" / row.source)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("chain") / "place-demo"
    said = place([*SETTINGS, "--out", str(folder)])
    assert said.code == 0, said.err
    yield Demo(folder, said)
    shutil.rmtree(folder)


def test_demo_prints_one_summary_with_stable_keys(demo: Demo) -> None:
    (summary,) = demo.said.records
    assert {"seconds", "zero_shot", "retrieval", "grounding", "untrained", "chance"} <= set(summary)
    assert summary["synthetic"] is True
    assert summary["already_done"] is False
    assert 0 <= summary["zero_shot"]["auroc_macro"]["value"] <= 1
    assert set(summary["untrained"]) == {"zero_shot", "retrieval", "grounding"}
    for key in ("recall@1", "recall@5", "recall@10", "median_rank"):
        assert summary["retrieval"][key]["value"] is not None


def test_demo_leaves_everything_and_one_self_contained_page(demo: Demo) -> None:
    for name in ("phantoms/phantom.jsonl", "store/manifest.parquet", "run/model.safetensors", "evaluation.jsonl"):
        assert (demo.folder / name).is_file()
    page = (demo.folder / "index.html").read_text("utf-8")
    assert "Synthetic data." in page
    assert "Not for clinical use" in page or "Nothing here is for clinical use" in page
    assert page.count("data:image/jpeg;base64,") >= 3
    assert "http" not in re.sub("base64,[A-Za-z0-9+/=]+", "", page)  # letters of a picture may spell anything
    assert str(len((demo.folder / "run" / "metrics.jsonl").read_text().splitlines())) != "0"


def test_demo_again_says_that_it_is_done(demo: Demo) -> None:
    before = (demo.folder / "index.html").stat().st_mtime_ns
    again = place([*SETTINGS, "--out", str(demo.folder)])
    assert again.code == 0
    assert again.records[0]["already_done"] is True
    assert {**again.records[0], "already_done": False} == demo.said.records[0]
    assert (demo.folder / "index.html").stat().st_mtime_ns == before


def test_demo_continues_from_what_is_there(demo: Demo, tmp_path: Path) -> None:
    copy = tmp_path / "place-demo"
    shutil.copytree(demo.folder, copy)
    (copy / "summary.json").unlink()
    (copy / "index.html").unlink()
    weights = (copy / "run" / "model.safetensors").read_bytes()
    again = place([*SETTINGS, "--out", str(copy)])
    assert again.code == 0, again.err
    assert (copy / "index.html").is_file()
    assert (copy / "run" / "model.safetensors").read_bytes() == weights
    assert again.records[0]["zero_shot"] == demo.said.records[0]["zero_shot"]


def test_demo_refuses_a_folder_of_other_settings_and_of_others(demo: Demo, tmp_path: Path) -> None:
    changed = place([*SETTINGS, "--seed", "8", "--out", str(demo.folder)])
    assert changed.code == 1
    assert "demo.seed: 7 -> 8" in changed.err
    assert changed.err.count("\n") == 1
    (tmp_path / "mine.txt").write_text("mine")
    foreign = place([*SETTINGS, "--out", str(tmp_path)])
    assert foreign.code == 1
    assert "--out" in foreign.err
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_dry_runs_write_nothing(demo: Demo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    phantoms = str(demo.folder / "phantoms")
    plans = [
        place(["demo", "--dry-run"]),
        place(["preprocess", "--preset", "demo", "--root", phantoms, "--dry-run"]),
        place(["pretrain", "--preset", "demo", "--data", demo.store, "--dry-run"]),
        place(["pretrain", "--preset", "mimic", "--dry-run"]),
        place(["retrieve", "--run", demo.run, "--gallery", demo.store, "--split", "validate", "--dry-run"]),
        place(["evaluate", "--run", demo.run, "--data", demo.store, "--split", "validate", "--dry-run"]),
    ]
    index = demo.folder / "run" / "index"
    before = sorted(index.rglob("*"))
    for plan in plans:
        assert plan.code == 0, plan.err
        assert len(plan.records) == 1
    assert plans[1].records[0]["images"] >= 30
    assert "Bio_ClinicalBERT" in plans[3].out
    validate = len(open_store(Path(demo.store)).select("validate"))
    assert [plan.records[0]["images"] for plan in plans[4:]] == [validate, validate]
    assert [plan.records[0]["is_ready"] for plan in plans[4:]] == [False, False]
    assert sorted(index.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


def test_preprocess_by_shards_then_merge_gives_the_bytes_of_one_run(demo: Demo, tmp_path: Path) -> None:
    common = ["preprocess", "--preset", "demo", "--root", str(demo.folder / "phantoms"), "--set", "images_per_shard=16"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert place([*common, "--out", str(whole), "--workers", "2"]).code == 0
    for part in ("0/2", "1/2"):
        said = place([*common, "--out", str(parts), "--shard", part, "--workers", "1"])
        assert said.code == 0, said.err
        assert said.records[0]["is_complete"] is False
    merged = place([*common, "--out", str(parts)])
    assert merged.records[0]["is_complete"] is True
    assert place([*common, "--out", str(parts)]).records[0]["already_done"] is True
    for file in (*whole.glob("*.npy"), whole / "manifest.parquet", whole / "store.yaml"):
        assert (parts / file.name).read_bytes() == file.read_bytes(), file.name


def test_argument_pipe_and_json_line_find_the_same(demo: Demo) -> None:
    image = demo.image()
    ask = ["retrieve", "--run", demo.run, "--gallery", demo.store, "--top-k", "3"]
    by_argument = place([*ask, image])
    assert by_argument.code == 0, by_argument.err
    assert [hit["rank"] for hit in by_argument.records] == [1, 2, 3]
    assert by_argument.records[0]["sentences"][0].keys() == {"text", "score", "box"}
    assert place(ask, stdin=f"{image}\n").out == by_argument.out
    assert place([*ask, "-"], stdin=json.dumps({"image": image})).out == by_argument.out


def test_what_one_command_prints_the_next_one_reads(demo: Demo, tmp_path: Path) -> None:
    phantoms, store = str(demo.folder / "phantoms"), str(tmp_path / "store")
    read = place(["preprocess", "--preset", "demo", "--root", phantoms, "--out", store])
    plan = place(["pretrain", "--preset", "demo", "--data", "-", "--dry-run"], stdin=read.out)
    assert plan.records[0]["files"][0]["place"] == f"{store}/store.yaml"
    measured = place(["evaluate", "--run", "-", "--task", "grounding", "--set", "bootstrap=0"], stdin=demo.said.out)
    assert measured.records[0]["run"] == demo.run, measured.err
    again = place(["evaluate", "--run", "-", "--task", "grounding", "--set", "bootstrap=0"], stdin=2 * measured.out)
    assert again.records == measured.records
    images = place(["retrieve", "--run", "-", "--text", "Large effusion.", "--top-k", "2"], stdin=demo.run)
    chained = place(["retrieve", "--run", demo.run, "--top-k", "1"], stdin=images.out)
    assert [hit["query"] for hit in chained.records] == [hit["report"] for hit in images.records]


def test_words_find_images(demo: Demo) -> None:
    said = place(["retrieve", "--run", demo.run, "--gallery", demo.store, "--text", "Large effusion.", "--top-k", "2"])
    assert said.code == 0, said.err
    assert [hit["query"] for hit in said.records] == ["Large effusion."] * 2
    assert all(hit["image_id"] for hit in said.records)


def test_heatmap_is_drawn(demo: Demo, tmp_path: Path) -> None:
    picture = tmp_path / "where.png"
    ask = ["retrieve", demo.image(), "--run", demo.run, "--gallery", demo.store, "--heatmap", str(picture)]
    assert place(ask).code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_bad_query_costs_one_line_and_the_exit_code(demo: Demo, tmp_path: Path) -> None:
    bad = tmp_path / "bad.dcm"
    bad.write_text("<html>not found</html>")
    said = place(["retrieve", "--run", demo.run, "--gallery", demo.store, "--top-k", "1", str(bad), demo.image()])
    assert said.code == 1
    assert len(said.records) == 1
    assert "query 1:" in said.err
    assert "bad.dcm" not in said.err


def test_evaluate_prints_one_object_a_run_and_task(demo: Demo) -> None:
    ask = ["evaluate", "--data", demo.store, "--set", "bootstrap=0", "--run", demo.run]
    said = place([*ask, "--run", str(demo.folder / "untrained"), "--task", "zero-shot"])
    assert said.code == 0, said.err
    assert [record["task"] for record in said.records] == ["zero-shot"] * 3
    first, second, difference = said.records
    assert first["run"] != second["run"]
    assert (difference["run"], difference["against"]) == (second["run"], first["run"])
    every = place(ask)
    assert {record["task"] for record in every.records} == {"retrieval", "zero-shot", "grounding"}
    for record in every.records:
        assert {"task", "run", "data", "split", "protocol", "n", "metrics"} <= set(record)
        assert record["split"] == "test"


def test_run_folder_holds_a_preset_that_can_be_used_again(demo: Demo) -> None:
    assert load_preset(str(demo.folder / "run" / "config.yaml")).pretrain.epochs == 2

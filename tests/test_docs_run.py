"""The commands of the pages about uses are run, in their order, on a small store and a small run of the names they give."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "tasks"))

import cv2
import yaml
from small_run import small_preset, write_run, write_store

from placecli import cli
from placecli.config import Preset
from placecli.data.store import open_store
from placecli.engine.start import Start
from placecli.tasks import meteor_java
from placecli.tasks.finetune import finetune

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("finetune.md", "evaluation.md", "leaks.md", "reports.md")
SMALL = {
    "classification": {"epochs": 1, "batch_size": 8},
    "segmentation": {"epochs": 1, "batch_size": 8, "width": 16},
    "detection": {"epochs": 1, "batch_size": 8, "width": 16},
    "report_generation": {
        "epochs": 1,
        "batch_size": 8,
        "layers": 1,
        "width": 32,
        "heads": 2,
        "max_tokens": 24,
        "num_beams": 2,
    },
}
"""Settings that make each use train in seconds; everything else is as the page says."""


def preset() -> Preset:
    return Preset.model_validate(small_preset().model_dump() | {"finetune": SMALL, "evaluate": {"bootstrap": 10}})


def commands(page: str) -> list[str]:
    """Lines of the page's sh blocks that call place; continued lines are joined."""
    blocks = re.findall(r"```sh\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [
        line.split(" #")[0].strip() for line in lines if re.search(r"\bplace \w", line) and not line.startswith("#")
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stores, runs, predictions and pictures that the pages name."""
    root = tmp_path_factory.mktemp("docs")
    for seed, name in enumerate(("openi", "nih", "rsna")):
        store = write_store(root / "stores" / name, {"train": 24, "validate": 8, "test": 8}, seed=seed)
        description = yaml.safe_load((store / "store.yaml").read_text())
        description["preset"] = preset().model_dump(mode="json")
        (store / "store.yaml").write_text(yaml.safe_dump(description))
    for seed, name in enumerate(("openi", "openi-ita"), start=1):
        write_run(root / "runs" / name, preset(), seed=seed)
        data = {"store": str(root / "stores" / "openi"), "digest": open_store(root / "stores" / "openi").digest}
        (root / "runs" / name / "data.json").write_text(json.dumps(data))
    start = Start("run", root / "runs" / "openi")
    tuned = root / "runs" / "openi-classification"
    finetune("classification", preset(), root / "stores" / "openi", start, tuned, seeds=[1], device="cpu")
    for name in ("ours.jsonl", "theirs.jsonl"):
        shutil.copy(tuned / "predictions.jsonl", root / name)
    _write_pictures(root)
    return root


def _write_pictures(root: Path) -> None:
    """image.png, and the test split as scans/<image_id>.png."""
    (root / "scans").mkdir()
    store = open_store(root / "stores" / "openi")
    rows = store.select("test")
    for row, image in zip(rows, store.images(rows), strict=True):
        cv2.imwrite(str(root / "scans" / f"{row.image_id}.png"), image)
    shutil.copy(root / "scans" / f"{rows[0].image_id}.png", root / "image.png")


def run(command: str, folder: Path) -> None:
    """A plain line in this process, which has torch at hand; a pipeline in a shell."""
    if re.search(r"[|<>]", command):
        place = f'place() {{ {shlex.quote(sys.executable)} -m placecli "$@"; }}\nset -o pipefail\n'
        subprocess.run(["bash", "-c", place + command], cwd=folder, check=True, timeout=120, env=os.environ.copy())
        return
    with pytest.raises(SystemExit) as end:
        cli.main([*shlex.split(command)[1:], "--quiet"])
    assert not end.value.code, command


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(meteor_java, "is_available", lambda: False)  # ten seconds for each start of Java
    found = commands(page)
    assert found, f"{page} shows no command"
    for command in found:
        run(command, folder)

"""The commands of the pages about uses are run, in their order, on a small store and a small run of the names they give."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "tasks"))

import yaml
from small_run import small_preset, write_run, write_store

from placecli import cli
from placecli.config import Preset

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("finetune.md",)
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
    """stores/openi and runs/openi, a second run, and one picture of the store."""
    root = tmp_path_factory.mktemp("docs")
    store = write_store(root / "stores" / "openi", {"train": 24, "validate": 8, "test": 8})
    description = yaml.safe_load((store / "store.yaml").read_text())
    description["preset"] = preset().model_dump(mode="json")
    (store / "store.yaml").write_text(yaml.safe_dump(description))
    for seed, name in enumerate(("openi", "ita"), start=1):
        write_run(root / "runs" / name, preset(), seed=seed)
    return root


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
    found = commands(page)
    assert found, f"{page} shows no command"
    for command in found:
        run(command, folder)

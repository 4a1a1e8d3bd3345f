"""The commands of the pages about uses are run, in their order, on a small store and a small run of the names they give."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from worked_folder import make_folder

from placecli import cli
from placecli.tasks import meteor_java

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("finetune.md", "evaluation.md", "leaks.md", "reports.md")


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
    return make_folder(tmp_path_factory.mktemp("docs"))


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

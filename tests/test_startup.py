"""First contact is light: help, version and shell completion import nothing heavy, however they are called."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = {
    *("torch", "torchvision", "pydicom", "transformers", "tokenizers", "timm", "pandas", "cv2", "numpy", "pyarrow"),
    *("faiss", "scipy", "PIL", "imagecodecs", "tensorboard", "sklearn", "yaml", "mmdet", "mmcv", "mmengine"),
}
"""pydantic is not among them: newer versions of typer load it themselves to read the options of a command."""
PROBE = """
import atexit, sys
atexit.register(lambda: sys.stderr.write("LOADED " + " ".join(sorted(sys.modules)) + "\\n"))
from placecli.cli import main
sys.argv = ["place", *sys.argv[1:]]
main()
"""


def loaded_by(arguments: list[str], **environment: str) -> tuple[set[str], subprocess.CompletedProcess[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )
    line = next(line for line in done.stderr.splitlines() if line.startswith("LOADED "))
    return set(line.split()[1:]), done


@pytest.mark.parametrize("command", [[], ["preprocess"], ["pretrain"], ["retrieve"], ["evaluate"], ["demo"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    loaded, done = loaded_by([*command, "--help"])
    assert done.returncode == 0
    assert "Usage: place" in done.stdout
    assert loaded & HEAVY == set()


def test_version_imports_nothing_heavy() -> None:
    loaded, done = loaded_by(["--version"])
    assert (done.returncode, done.stdout) == (0, "place 0.1.0\n")
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_imports_nothing_heavy(shell: str) -> None:
    loaded, done = loaded_by([], _PLACE_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert "_PLACE_COMPLETE" in done.stdout
    assert loaded & HEAVY == set()


def test_completing_a_command_imports_nothing_heavy() -> None:
    words = {"_PLACE_COMPLETE": "complete_bash", "COMP_WORDS": "place pre", "COMP_CWORD": "1"}
    loaded, done = loaded_by([], **words)
    assert done.stdout.split() == ["preprocess", "pretrain"]
    assert loaded & HEAVY == set()


def test_completing_a_preset_knows_their_names() -> None:
    words = {"_PLACE_COMPLETE": "complete_bash", "COMP_WORDS": "place pretrain --preset ", "COMP_CWORD": "3"}
    loaded, done = loaded_by([], **words)
    assert {"mimic", "openi", "folder", "demo"} <= set(done.stdout.split())
    assert loaded & HEAVY <= {"yaml"}


def test_usage_errors_import_nothing_heavy() -> None:
    loaded, done = loaded_by(["pretrain", "--no-such-option"])
    assert done.returncode == 2
    assert loaded & HEAVY == set()


def test_python_dash_m_is_the_same_program() -> None:
    done = subprocess.run([sys.executable, "-m", "placecli", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == "place 0.1.0\n"

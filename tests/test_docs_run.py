"""The commands and the Python of every page are run, in their order, on small stores and runs of the names they give."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_up_releases import write_releases, write_scans
from page_stores import prepare_data
from small_run import small_preset, write_run
from worked_folder import make_folder, make_report_run

from placecli import cli
from placecli.tasks import meteor_java

REPOSITORY = Path(__file__).resolve().parent.parent
MEASUREMENTS = ("results.md",)
"""Pages whose commands are measurements, on real data and for hours; test_docs looks at their options."""
SET_UP = ("python3 -m venv", ".venv/bin/pip")
"""Lines of installation. Those of the README are what continuous integration begins with, which test_docs compares."""
LINKED = {".safetensors", ".npy", ".png", ".jpg", ".jpeg", ".dcm", ".dicom"}
"""Files that no command changes in place, so that a page's folder can share them with the others."""

MODEL = {
    "image_encoder": "builtin", "image_weights": "random", "image_size": 48, "image_patch": 8, "image_width": 32,
    "image_depth": 1, "image_heads": 2, "text_encoder": "builtin", "text_weights": "random", "text_frozen": "false",
    "text_layers": 1, "text_width": 32, "text_heads": 2, "vocabulary": 120, "embed_dim": 16, "head_hidden": 32,
    "num_queries": 4, "query_blocks": 1, "query_heads": 2,
}  # fmt: skip
PRETRAIN = (
    *("pretrain.max_steps=2", "pretrain.batch_size=4", "pretrain.objective.correlation_heads=2"),
    *(f"pretrain.model.{key}={value}" for key, value in MODEL.items()),
)
DEMO = (
    *("pretrain.epochs=1", "pretrain.batch_size=8", "evaluate.bootstrap=5", "pretrain.model.image_depth=1"),
    *("pretrain.model.image_width=48", "pretrain.model.text_width=48", "pretrain.model.text_layers=1"),
)
TUNE = {
    "classification": ("epochs=1", "batch_size=8"),
    "segmentation": ("epochs=1", "batch_size=8", "width=16", "image_size=64"),
    "detection": ("epochs=1", "batch_size=8", "width=16", "image_size=64"),
    "report-generation": (
        *("epochs=1", "batch_size=8", "layers=1", "width=32", "heads=2", "max_tokens=24", "num_beams=2"),
        *("min_count=1", "image_size=48"),
    ),
}
"""What is set behind the settings of a page, so that each command takes seconds; all else is as the page says."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def commands(page: Path) -> list[str]:
    """Lines of the page's sh blocks that call place; continued lines are joined."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    lines = [line.split(" #")[0].strip() for line in lines if not line.startswith("#")]
    return [line for line in lines if re.search(r"\bplace(cli)? \w", line) and not line.startswith(SET_UP)]


PAGES = [
    page
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
    if commands(page) and page.name not in MEASUREMENTS
]
PYTHON_PAGES = [page for page in sorted((REPOSITORY / "docs").glob("*.md")) if blocks(page, "python")]


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stores, runs, releases, predictions and pictures that the pages name."""
    root = make_folder(tmp_path_factory.mktemp("docs"))
    write_scans(root)
    write_releases(root)
    make_report_run(root)
    model = {"image_encoder": "efficientnet_lite0", "image_weights": "random"}
    mimic = small_preset()
    pretrain = mimic.pretrain.model_copy(update={"model": mimic.pretrain.model.model_copy(update=model)})
    write_run(root / "runs" / "mimic", mimic.model_copy(update={"pretrain": pretrain}))
    with pytest.MonkeyPatch.context() as patch:  # the one demo of all pages; on a page the same command finds it done
        patch.chdir(root)
        place(make_small(["demo"]), "")
    return root


@pytest.fixture
def folder(worked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where a page's commands run."""

    def copy(source: str, target: str) -> None:
        (os.link if Path(source).suffix in LINKED else shutil.copy2)(source, target)

    shutil.copytree(worked, tmp_path / "work", copy_function=copy, symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(meteor_java, "is_available", lambda: False)  # ten seconds for each start of Java
    return tmp_path / "work"


def make_small(words: list[str]) -> list[str]:
    """The command with what makes it small behind it."""
    if "--dry-run" in words:
        return [*words, "--set=pretrain.batch_size=8"] if words[0] == "pretrain" else words
    settings: tuple[str, ...] = ()
    match words[0]:
        case "preprocess":
            words, settings = [*words, "--workers", "1"], ("preprocess.size=48",)
        case "pretrain":
            settings = PRETRAIN
        case "finetune":
            task = words[words.index("--task") + 1]
            settings = tuple(f"finetune.{task.replace('-', '_')}.{each}" for each in TUNE[task])
            settings += ("evaluate.bootstrap=5",)
        case "evaluate":
            settings = ("evaluate.bootstrap=5",)
        case "demo":
            words, settings = [*words, "--quick", "--patients", "24"], DEMO
    return [*words, *(f"--set={each}" for each in settings), "--quiet"]


def place(words: list[str], stdin: str) -> str:
    """Runs a command in this process, which has torch at hand; what it wrote to stdout."""
    out, before = io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(stdin)
    try:
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as end:
            cli.main(words)
    finally:
        sys.stdin = before
    assert not end.value.code, shlex.join(["place", *words])
    return out.getvalue()


def split_line(line: str) -> Iterator[tuple[list[str], str | None]]:
    """(words, file that the output goes to) for each program of a pipeline."""
    words = shlex.shlex(line, posix=True, punctuation_chars="|<>")
    words.whitespace_split = True
    for part in " ".join("\n" if word == "|" else shlex.quote(word) for word in words).split("\n"):
        program = shlex.split(part)
        target = program[program.index(">") + 1] if ">" in program else None
        yield program[: program.index(">")] if target else program, target


def run(line: str, folder: Path) -> None:
    """A pipeline, each program after the one before. What torchrun would start is started once, as one process."""
    text = ""
    for words, target in split_line(line):
        if called := [at for at, word in enumerate(words) if word in ("place", "placecli")]:
            wanted = words[called[0] + 1 :]
            prepare_data(wanted, folder)
            text = place(make_small(wanted), text)
        else:
            done = subprocess.run(
                ["bash", "-c", " ".join(words)], input=text, capture_output=True, text=True, check=True
            )
            text = done.stdout
        if target:
            (folder / target).write_text(text, "utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, folder: Path) -> None:
    for command in commands(page):
        run(command, folder)


def test_pages_are_found_and_their_lines_are_read() -> None:
    assert {"README.md", "quickstart.md", "cli.md", "data.md"} <= {page.name for page in PAGES}
    assert list(split_line("ls scans/*.png | place retrieve - --text 'a b' > hits.jsonl")) == [
        (["ls", "scans/*.png"], None),
        (["place", "retrieve", "-", "--text", "a b"], "hits.jsonl"),
    ]


@pytest.mark.parametrize("line", ["place preprocess --preset nih --root nowhere", "place evaluate --run runs/nothing"])
def test_a_command_that_fails_is_noticed(line: str, folder: Path) -> None:
    with pytest.raises(AssertionError, match=re.escape(line)):
        run(line, folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_not_run_says_why(page: Path) -> None:
    """A block of text with a command follows a paragraph that says what it would need."""
    for before, block in re.findall(r"([^\n]+)\n\n```text\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        if re.search(r"^(\$ )?(place|sbatch|srun|torchrun) ", block, re.MULTILINE):
            assert re.search(r"cluster|SLURM|several GPUs|whole table", before), f"{page.name}: {block}"


def names(page: str) -> dict[str, object]:
    """What the Python of a page takes for granted."""
    generator = np.random.default_rng(0)
    labels = np.tile([0.0, 1.0, 1.0], 10)
    reports = ["No pneumothorax.", "Left pleural effusion."] * 5
    cases = {
        "labels": labels, "scores": labels + generator.normal(size=30), "first_scores": labels + generator.random(30),
        "second_scores": generator.random(30), "patients": np.repeat(np.arange(15), 2),
    }  # fmt: skip
    written = {"predicted": reports, "reference": reports[::-1], "patients": np.arange(10)}
    return written if page == "labeler.md" else cases


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, folder: Path) -> None:
    """One block after the other; an expression with its value in a comment below has that value."""
    (folder / "STORE").symlink_to(folder / "stores" / "openi")
    known = names(page.name)
    for block in blocks(page, "python"):
        lines = block.splitlines()
        for statement in ast.parse(block).body:
            code = ast.unparse(statement)
            if not isinstance(statement, ast.Expr):
                exec(code, known)
                continue
            exec(f"value = {code}", known)
            below = lines[statement.end_lineno or 0] if (statement.end_lineno or 0) < len(lines) else ""
            if re.match(r"# [{\[]", below):
                assert known["value"] == ast.literal_eval(below[2:]), code

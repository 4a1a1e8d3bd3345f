"""The docs say what the program does: every command and option, commands that were run, links that lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from placecli.config import list_presets

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "docs"))

import generate_cli  # noqa: E402

PAGES = sorted([*(REPOSITORY / "docs").glob("*.md"), *REPOSITORY.glob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def shell_lines(text: str) -> list[str]:
    """Lines of all sh code blocks, comments and empty lines left out."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def test_every_command_and_option_is_documented_and_has_help() -> None:
    text = (REPOSITORY / "docs" / "cli.md").read_text("utf-8").replace("\\|", "|")
    commands = generate_cli.commands()
    assert len(commands) >= 6
    for name, command in commands.items():
        assert command.help, f"{name}: no help"
        assert f"<!-- options of place {name} -->" in text or not name
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}: no help"
            for option in parameter.opts if parameter.param_type_name == "option" else [parameter.metavar]:
                assert option in text, f"{name} {option}: not in docs/cli.md; run make docs"


def test_generated_tables_are_current() -> None:
    text = (REPOSITORY / "docs" / "cli.md").read_text("utf-8")
    assert generate_cli.generate(text) == text, "run make docs"


def test_a_stale_table_is_noticed() -> None:
    text = (REPOSITORY / "docs" / "cli.md").read_text("utf-8").replace("--dicom-dir", "--dicom-folder")
    assert generate_cli.generate(text) != text


def test_every_preset_is_documented() -> None:
    text = "".join(page.read_text("utf-8") for page in PAGES)
    for name in list_presets():
        assert re.search(rf"--preset {name}\b|`{name}`", text), name


def test_readme_has_two_commands_of_set_up_and_they_are_the_ones_that_ci_runs() -> None:
    lines = shell_lines((REPOSITORY / "README.md").read_text("utf-8"))
    checked = (REPOSITORY / ".ci" / "run").read_text("utf-8")
    assert lines[0].startswith("python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/place demo")
    assert lines[1].startswith(".venv/bin/pip install '.[test]' && ")
    assert f"\n{lines[0].replace('place demo', 'place demo --quick')}\n" in checked
    assert f"\n{lines[1]}\n" in checked


def test_place_commands_in_the_docs_use_known_commands_and_options() -> None:
    known = generate_cli.commands()
    shared = {option for parameter in known[""].params for option in parameter.opts}
    seen = 0
    for page in PAGES:
        for line in shell_lines(page.read_text("utf-8")):
            for call in re.findall(r"\bplace ((?:--debug )?[a-z-]+[^|;&]*)", line):
                words = call.replace("--debug ", "").split()
                assert words[0] in known, f"{page.name}: place {call}"
                options = (
                    {o for p in known[words[0]].params for o in (*p.opts, *p.secondary_opts)} | {"--help"} | shared
                )
                for word in words[1:]:
                    if word.startswith("--"):
                        assert word.split("=")[0] in options, f"{page.name}: place {call}: {word}"
                seen += 1
    assert seen >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert heading in {anchor(each) for each in headings}, f"{page.name}: {target}"


def test_index_leads_to_every_page() -> None:
    index = (REPOSITORY / "docs" / "index.md").read_text("utf-8")
    for page in (REPOSITORY / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index, f"{page.name} is not in docs/index.md"


def test_pictures_are_small() -> None:
    pictures = list((REPOSITORY / "docs" / "images").glob("*"))
    assert pictures
    for picture in pictures:
        assert picture.stat().st_size < 300_000, picture.name


def test_ci_script_is_executable_shell() -> None:
    script = REPOSITORY / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(script)], check=True)

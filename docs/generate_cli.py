"""Rewrite the tables of docs/cli.md from the commands themselves; with --check only say whether they are current.

python docs/generate_cli.py [--check]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import typer

REPOSITORY = Path(__file__).resolve().parent.parent
# The commands of this tree, not those of an older copy that may be installed.
sys.path.insert(0, str(REPOSITORY))

from placecli.cli import app  # noqa: E402

PAGE = REPOSITORY / "docs" / "cli.md"
BLOCK = re.compile(r"(<!-- options of place ?([a-z-]*) -->\n).*?(<!-- end -->)", re.DOTALL)


def commands() -> dict[str, Any]:
    """Command objects by name; "" is the program itself."""
    program: Any = typer.main.get_command(app)
    return {"": program, **program.commands}


def table(command: Any) -> str:
    """Its help, then one line an argument or option, in the order of its --help."""
    lines = ["", " ".join((command.help or "").split()), "", "| option | meaning | default |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = f"`{parameter.metavar}`"
        else:
            value = "" if parameter.is_flag or not parameter.metavar else f" {parameter.metavar}"
            name = ", ".join(f"`{option}{value}`" for option in parameter.opts)
        cells = (cell.replace("|", "\\|") for cell in (name, parameter.help, default(parameter)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", ""])


def default(parameter: Any) -> str:
    """What holds when the option is not given."""
    if isinstance(parameter.show_default, str):
        return f"`{parameter.show_default}`" if "<" in parameter.show_default else parameter.show_default
    return "" if parameter.default in (None, False, ()) or callable(parameter.default) else str(parameter.default)


def generate(text: str) -> str:
    """`text` with every block between its two comments made anew."""
    known = commands()
    return BLOCK.sub(lambda found: found.group(1) + table(known[found.group(2)]) + found.group(3), text)


def main() -> None:
    old = PAGE.read_text("utf-8")
    new = generate(old)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if new == old else "docs/cli.md is not current: run python docs/generate_cli.py")
    PAGE.write_text(new, "utf-8")


if __name__ == "__main__":
    main()

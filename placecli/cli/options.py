"""Options that several commands share, and how they are written down."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from placecli import overrides


def option(metavar: str, help: str, default: str | None = None, **more: Any) -> Any:
    """An option with a value; `default` says in words what holds when it is not given."""
    more |= {"show_default": default} if default else {}
    return typer.Option(metavar=metavar, help=help, **more)


def parse_shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n" with 0 <= i < n."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise typer.BadParameter(f"{text}: write it as I/N with 0 <= I < N, e.g. 0/8")
    return int(index), int(count)


PresetOption = Annotated[
    str | None,
    option(
        "NAME|FILE",
        "A shipped one (mimic, openi, folder, demo, chexpert, rsna ...) or a YAML file.",
        autocompletion=overrides.complete_preset,
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key (repeatable): pretrain.epochs=3.")
]
SlurmOption = Annotated[list[str] | None, option("KEY=VALUE", "Of sbatch (repeatable): partition=cpu, mem_gb=16.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, also on a terminal.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be read and done; do nothing.")]
DeviceOption = Annotated[str, option("DEVICE", "auto, cpu, cuda or cuda:N.")]
ProtocolOption = Annotated[
    Literal["clean", "compat"], option("clean|compat", "clean: no leaks. compat: as published, leaks and all.")
]
RunOption = Annotated[Path | None, option("RUN", "Model; - takes it from stdin.", "newest under ./runs")]


def need_preset(preset: str | None) -> str:
    """The preset that was named; a usage error where none was."""
    if preset is None:
        from placecli.config import list_presets

        raise typer.BadParameter(f"say which preset: --preset {', '.join(list_presets())} or a YAML file")
    return preset

"""`place`: parse, load the preset, call one function, print what it returns. Each command imports its work inside."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from placecli import __version__, terminal
from placecli.cli import demo, evaluate, generate, learn, preprocess, retrieve

app = typer.Typer(
    name="place",
    help="From chest radiographs and their reports to a model that retrieves and shows where. Not for clinical use.",
    epilog="Begin with `place demo`. Results go to stdout, talk to stderr. Exit codes: 0 done, 1 failed, 2 usage,"
    " 75 stopped and saved: run the same command again.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: drawing it with rich would double the time to the first line.
    rich_markup_mode=None,
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"place {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    """Options before the command; `debug` is read where failures are printed."""


for _command in (
    preprocess.preprocess,
    learn.pretrain,
    learn.finetune,
    retrieve.retrieve,
    generate.generate_report,
    evaluate.evaluate,
    demo.demo,
):
    app.command()(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `place`; leaves by SystemExit with a documented code, and with a traceback only after --debug."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    terminal.show_warnings()
    with terminal.ending_in_one_line("--debug" in given):
        app(given, prog_name="place")

"""`place generate-report`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from placecli import overrides, results, terminal
from placecli.cli.options import DeviceOption, DryRunOption, JsonOption, QuietOption, SetOption, option


def generate_report(
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH|-", help="Images or folders; - or a pipe: paths or JSON lines from stdin."),
    ] = None,
    run: Annotated[
        Path | None, option("RUN", "Run that writes reports; - takes it from stdin.", "newest such under ./runs")
    ] = None,
    grounding: Annotated[
        Literal["none", "mark", "drop"] | None,
        option(
            "none|mark|drop",
            "Sentences that the pre-trained run contradicts: drop them, or insist on marks.",
            "of the run",
        ),
    ] = None,
    beams: Annotated[int | None, option("N", "Reports that compete while one is written.", "of the run", min=1)] = None,
    device: DeviceOption = "auto",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write the report of an image.

    Findings and impression, with the region that each sentence looked at and how far the pre-trained run supports it.
    """
    is_bare = not images
    if is_bare and not dry_run and (sys.stdin.isatty() or run == Path("-")):
        raise typer.BadParameter("name images, or give lines on stdin")

    from placecli.tasks import report_files as stage

    if run is None:
        run = stage.newest_report_run()
        if not quiet:
            terminal.say(f"using {run}, the newest; name another with --run")
    run = overrides.piped_all([run], "run")[-1]
    output = results.Output(json)
    flags = [*overrides.assign("grounding", grounding), *overrides.assign("num_beams", beams)]
    section = "finetune.report_generation"
    changes = [f"{section}.{flag}" for flag in flags]
    config = overrides.load_of_run(run, section, [*(set_ or []), *changes]).finetune.report_generation
    if dry_run:
        output.record(stage.plan(run, config), "place generate-report --dry-run")
        return
    refusals = terminal.Refusals()
    choices: dict[str, Any] = {"config": config, "device": device, "refused": refusals.add}
    with terminal.Progress(quiet) as progress:
        for record in stage.generate_reports(run, stage.gather(images or (), sys.stdin), progress=progress, **choices):
            _print(output, record)
    if refusals.count:
        raise typer.Exit(terminal.EXIT_FAILED)


def _print(output: results.Output, record: dict[str, Any]) -> None:
    """A line of JSON; on a terminal the text, with marks at sentences that are contradicted."""
    if output.as_json:
        output.record(record)
        return
    shown = [(section, record[section]) for section in ("findings", "impression") if record[section]]
    doubted = [each["text"] for each in record["sentences"] if each["contradicted"]]
    rows = [*shown, *([("contradicted", "\n".join(doubted))] if doubted else [])]
    output.table(record["query"], ("", "not for clinical use"), rows)

"""`place retrieve`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from placecli import overrides, results, terminal
from placecli.cli.options import DeviceOption, DryRunOption, JsonOption, QuietOption, RunOption, SetOption, option


def retrieve(
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH|-", help="Images or folders; - or a pipe: paths or JSON lines from stdin."),
    ] = None,
    text: Annotated[list[str] | None, option("WORDS", "Ask with words (repeatable).")] = None,
    to: Annotated[
        Literal["reports", "images"] | None,
        option("reports|images", "What to look for.", "reports for an image, images for words"),
    ] = None,
    run: RunOption = None,
    gallery: Annotated[Path | None, option("STORE", "Where to look.", "the store the run learnt from")] = None,
    split: Annotated[
        Literal["all", "train", "validate", "test"], option("all|train|validate|test", "Part of the gallery.")
    ] = "all",
    top_k: Annotated[int, option("K", "Hits per query.", min=1)] = 5,
    score: Annotated[
        Literal["global", "observation", "combined"] | None,
        option("global|observation|combined", "What to rank by.", "of the run's preset"),
    ] = None,
    heatmap: Annotated[Path | None, option("FILE.png", "Draw where each sentence of the best hit was found.")] = None,
    device: DeviceOption = "auto",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find reports for an image, images for a text.

    Or images for an image. Each hit carries its best-matching sentences with the region in which each was found.
    """
    is_bare = not queries and not text
    if is_bare and not dry_run and (sys.stdin.isatty() or run == Path("-")):
        raise typer.BadParameter("ask something: paths, --text WORDS, or lines on stdin")
    if heatmap is not None and heatmap.suffix.lower() != ".png":
        raise typer.BadParameter(f"--heatmap {heatmap}: the picture is a PNG; name a file that ends in .png")

    from placecli.tasks import queries as asked
    from placecli.tasks import retrieve as stage
    from placecli.tasks.plan import plan

    run = overrides.choose_runs([run] if run else [], quiet)[-1]
    if dry_run:
        results.Output(json).record(plan(run, gallery, split, "--gallery"), "place retrieve --dry-run")
        return
    wanted = asked.gather(queries or (), text or (), sys.stdin)
    config = overrides.load_of_run(run, "retrieve", set_ or []).retrieve
    refusals = terminal.Refusals()
    choices: dict[str, Any] = {"to": to, "gallery": gallery, "split": split, "top_k": top_k, "score": score}
    choices |= {"heatmap": heatmap, "device": device, "config": config, "refused": refusals.add}
    with terminal.Progress(quiet) as progress:
        results.Output(json).hits(stage.retrieve(run, wanted, progress=progress, **choices))
    if refusals.count:
        raise typer.Exit(terminal.EXIT_FAILED)

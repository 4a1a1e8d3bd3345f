"""`place demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from placecli import overrides, results, terminal
from placecli.cli.options import DeviceOption, DryRunOption, JsonOption, QuietOption, SetOption, option


def demo(
    out: Annotated[Path, option("DIR", "Folder to fill; it holds everything.")] = Path("place-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A small one: a check in a minute, no figures.")] = False,
    patients: Annotated[int | None, option("N", "Synthetic patients.", "of the preset", min=20)] = None,
    seed: Annotated[int | None, option("SEED", "demo.seed.", "of the preset")] = None,
    device: DeviceOption = "auto",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run the whole chain on synthetic data.

    Makes radiographs with reports, reads them into a store, learns, evaluates on unseen patients, and leaves a folder
    with everything and one self-contained page, index.html. The same command continues it.
    """
    from placecli.tasks import demo as stage

    flags = [*overrides.assign("demo.num_patients", patients), *overrides.assign("demo.seed", seed)]
    config = overrides.load("demo", "demo", [*(stage.QUICK if quick else ()), *(set_ or []), *flags])
    output = results.Output(json)
    if dry_run:
        output.record(stage.plan(config, out), "place demo --dry-run")
        return
    with terminal.Progress(quiet) as progress:
        summary = stage.run_demo(config, out, device=device, progress=progress, say=terminal.say)
    output.record(summary, "place demo")

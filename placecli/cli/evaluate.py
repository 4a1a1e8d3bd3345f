"""`place evaluate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from placecli import overrides, results, terminal
from placecli.cli.options import DeviceOption, DryRunOption, JsonOption, ProtocolOption, QuietOption, SetOption, option


def evaluate(
    task: Annotated[
        Literal["retrieval", "zero-shot", "grounding"] | None,
        option("retrieval|zero-shot|grounding", "What to measure.", "all three"),
    ] = None,
    run: Annotated[
        list[Path] | None,
        option("RUN", "Model; repeat it to compare; - takes them from stdin.", "newest under ./runs"),
    ] = None,
    data: Annotated[Path | None, option("STORE", "Store.", "the store the run learnt from")] = None,
    split: Annotated[
        Literal["train", "validate", "test"], option("train|validate|test", "Whose patients are asked about.")
    ] = "test",
    protocol: ProtocolOption = "clean",
    seed: Annotated[int | None, option("SEED", "evaluate.seed, of the bootstrap.", "of the preset")] = None,
    device: DeviceOption = "auto",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a model on unseen patients.

    Retrieval in both directions, zero-shot AUROC per finding, and grounding: one object a run and task, with 95 %
    intervals bootstrapped by patient.
    """
    from placecli.tasks import evaluate as stage
    from placecli.tasks.plan import plan

    output = results.Output(json)
    changes = [*(set_ or []), *overrides.assign("evaluate.seed", seed)]
    with terminal.Progress(quiet) as progress:
        for each in overrides.choose_runs(run or [], quiet):
            config = overrides.load_of_run(each, "evaluate", changes).evaluate
            choices: dict[str, Any] = {"split": split, "protocol": protocol, "device": device, "config": config}
            if dry_run or not task:  # what is wrong with run or store is said once, not by each of three tasks
                planned = plan(each, data, split, "--data")
            if dry_run:
                output.record(planned, "place evaluate --dry-run")
                continue
            for name in [task] if task else stage.TASKS:
                # A task of the three that the store holds nothing for is left out, saying so.
                with nullcontext() if task else terminal.skipping_failures():
                    result = stage.evaluate(each, data, name, progress=progress, **choices)
                    output.record(result, f"place evaluate --task {name}")
    if not output.num_written:
        raise typer.Exit(terminal.EXIT_FAILED)

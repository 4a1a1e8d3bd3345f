"""`place pretrain` and `place finetune`: what learns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from placecli import overrides, results, terminal
from placecli.cli.options import (
    DeviceOption,
    DryRunOption,
    JsonOption,
    PresetOption,
    ProtocolOption,
    QuietOption,
    SetOption,
    need_preset,
    option,
)


def pretrain(
    preset: PresetOption = None,
    data: Annotated[Path | None, option("STORE", "Store to learn from; - from stdin.", "stores/<preset>")] = None,
    out: Annotated[Path | None, option("RUN", "Run to write.", "runs/<preset>")] = None,
    seed: Annotated[int | None, option("SEED", "pretrain.seed.", "of the preset")] = None,
    device: DeviceOption = "auto",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learn a PLACE model from a store.

    Writes a run folder from which the model is rebuilt; the same command continues a run that was stopped.
    """
    name = need_preset(preset)
    config = overrides.load(name, "pretrain", [*(set_ or []), *overrides.assign("pretrain.seed", seed)])
    store = overrides.piped(data, "store", "data") or overrides.default_folder("stores", name)

    from placecli.engine import pretrain as stage

    output = results.Output(json)
    if dry_run:
        output.record(stage.plan(config, store), "place pretrain --dry-run")
        return
    run = out or overrides.default_folder("runs", name)
    with terminal.Progress(quiet) as progress:
        summary = stage.pretrain(config, store, run, device=device, progress=progress.of("pretrain"))
    output.record(summary, "place pretrain")


def finetune(
    task: Annotated[
        Literal["classification", "segmentation", "detection", "report-generation"],
        option("classification|segmentation|detection|report-generation", "What the encoder is tuned for."),
    ],
    preset: PresetOption = None,
    data: Annotated[Path | None, option("STORE", "Store to learn from; - from stdin.", "stores/<preset>")] = None,
    run: Annotated[Path | None, option("RUN", "Pre-trained run to start from.", "newest under ./runs")] = None,
    init: Annotated[
        Literal["run", "imagenet", "random"],
        option("run|imagenet|random", "Weights to start from; the last two are baselines of the same shape."),
    ] = "run",
    tune: Annotated[
        Literal["probe", "frozen", "full"] | None,
        option("probe|frozen|full", "What learns: a probe, all but the encoder, or all.", "of the preset"),
    ] = None,
    fraction: Annotated[
        float | None, option("SHARE", "Share of the train split, e.g. 0.01.", "of the preset", min=0.0, max=1.0)
    ] = None,
    out: Annotated[Path | None, option("RUN", "Run to write.", "runs/<preset>-<task>")] = None,
    seed: Annotated[list[int] | None, option("SEED", "Repeat it for several runs.", "of the preset")] = None,
    protocol: ProtocolOption = "clean",
    device: DeviceOption = "auto",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Tune a pre-trained encoder with labels.

    Classify, segment, detect or write reports. The best model by the validate split is kept and scored once on the
    test split; the same command continues a run that was stopped.
    """
    section = f"finetune.{task.replace('-', '_')}"
    flags = [*overrides.assign(f"{section}.tune", tune), *overrides.assign("finetune.fraction", fraction)]
    store = overrides.piped(data, "store", "data") or overrides.default_folder("stores", need_preset(preset))
    changes = [*(set_ or []), *flags]
    config = overrides.load(preset, section, changes) if preset else overrides.load_of_store(store, section, changes)

    from placecli.engine.start import Start
    from placecli.tasks import finetune as stage

    is_searched = run is None and init == "run"
    source = overrides.choose_runs([], quiet)[0] if is_searched else overrides.piped(run, "run")
    start, output = Start(init, source), results.Output(json)
    if dry_run:
        output.record(stage.plan(task, config, store, start), "place finetune --dry-run")
        return
    choices: dict[str, Any] = {"protocol": protocol, "device": device}
    choices["seeds"] = seed or [getattr(config.finetune, task.replace("-", "_")).seed]
    target = out or overrides.default_folder("runs", f"{preset or config.name}-{task}")
    with terminal.Progress(quiet) as progress:
        summary = stage.finetune(task, config, store, start, target, progress=progress, **choices)
    output.record(summary, "place finetune")

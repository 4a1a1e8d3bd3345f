"""`place preprocess`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from placecli import overrides, results, terminal
from placecli.cli.options import (
    DryRunOption,
    JsonOption,
    PresetOption,
    QuietOption,
    SetOption,
    SlurmOption,
    need_preset,
    option,
    parse_shard,
)
from placecli.records import PlaceError


def preprocess(
    preset: PresetOption = None,
    root: Annotated[Path | None, option("DIR", "Folder of the release, as published.")] = None,
    dicom_dir: Annotated[Path | None, option("DIR", "Any folder of DICOM, PNG or JPEG (preset folder).")] = None,
    out: Annotated[Path | None, option("STORE", "Store to write.", "stores/<preset>")] = None,
    reports: Annotated[Path | None, option("FILE", "CSV or JSONL of reports, by file, study or accession.")] = None,
    workers: Annotated[int | None, option("N", "Processes.", "as cores and memory allow", min=1)] = None,
    shard: Annotated[Any, option("I/N", "Part I of N from 0; without it, merge.", parser=parse_shard)] = None,
    submit: Annotated[Literal["slurm", "local"] | None, option("slurm|local", "Share out to --jobs tasks.")] = None,
    jobs: Annotated[int, option("N", "Tasks of --submit.", min=1)] = 8,
    slurm: SlurmOption = None,
    pseudonymize: Annotated[Path | None, option("KEYFILE", "Replace ids by hashes keyed with this file.")] = None,
    seed: Annotated[int | None, option("SEED", "preprocess.split_seed.", "of the preset")] = None,
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read images and reports into a store.

    DICOM, PNG or JPEG in a published layout or any folder; 8-bit images and a Parquet manifest out. Continues where it
    stopped; what cannot be used is a line of rejects.jsonl.
    """
    if (root is None) == (dicom_dir is None):
        raise typer.BadParameter("say where the files are: --root DIR (a release) or --dicom-dir DIR (any folder)")
    if (submit and shard) or (slurm and submit != "slurm"):
        raise typer.BadParameter("--slurm goes with --submit slurm, and --submit without --shard")
    source = root or dicom_dir or Path()
    name = need_preset(preset or ("folder" if dicom_dir else None))
    flags = [*overrides.assign("preprocess.reports", reports), *overrides.assign("preprocess.split_seed", seed)]
    config = overrides.load(name, "preprocess", [*(set_ or []), *flags])
    store = out or overrides.default_folder("stores", name)
    if reports and config.preprocess.release != "folder":
        raise PlaceError(
            f"--reports {reports}: the preset {name} brings its own reports; leave it out, or name --dicom-dir"
        )
    if not source.is_dir():
        raise PlaceError(f"{source}: not a folder; {'--root' if root else '--dicom-dir'} takes the folder of the files")

    from placecli.data import preprocess as stage
    from placecli.data.submit import Submission, preprocess_on_cluster

    output = results.Output(json)
    choices: dict[str, Any] = {"workers": workers, "pseudonymize": pseudonymize}
    if dry_run:
        output.record(stage.plan(config, source, store, shard=shard, **choices), "place preprocess --dry-run")
        return
    with terminal.Progress(quiet) as progress:
        choices["progress"] = progress.of("preprocess")
        if submit:
            choices |= {"submission": Submission(submit, jobs, slurm or ()), "say": terminal.say}
            summary = preprocess_on_cluster(config, source, store, **choices)
        else:
            summary = stage.preprocess(config, source, store, shard=shard, **choices)
    if unused := summary.counts.get("unused_reports"):
        terminal.say(
            f"{unused} lines of the table of reports fit no image; look at its file, study or accession column"
        )
    output.record(summary, "place preprocess")

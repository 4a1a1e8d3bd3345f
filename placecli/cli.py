"""`place`: parse, load the preset, call one function, print what it returns. Each command imports its work inside."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from placecli import __version__, overrides, results, terminal

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


def _option(metavar: str, help: str, default: str | None = None, **more: Any) -> Any:
    """An option with a value; `default` says in words what holds when it is not given."""
    more |= {"show_default": default} if default else {}
    return typer.Option(metavar=metavar, help=help, **more)


def _parse_shard(text: str) -> tuple[int, int]:
    """(i, n) of "i/n" with 0 <= i < n."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise typer.BadParameter(f"{text}: write it as I/N with 0 <= I < N, e.g. 0/8")
    return int(index), int(count)


PresetOption = Annotated[
    str | None,
    _option("NAME|FILE", "Shipped (mimic, openi, folder, demo) or YAML.", autocompletion=overrides.complete_preset),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key (repeatable): pretrain.epochs=3.")
]
SlurmOption = Annotated[list[str] | None, _option("KEY=VALUE", "Of sbatch (repeatable): partition=cpu, mem_gb=16.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines on stdout, also on a terminal.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be read and done; do nothing.")]
DeviceOption = Annotated[str, _option("DEVICE", "auto, cpu, cuda or cuda:N.")]
RunOption = Annotated[Path | None, _option("RUN", "Model; - takes it from stdin.", "newest under ./runs")]


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


@app.command()
def preprocess(
    preset: PresetOption = None,
    root: Annotated[Path | None, _option("DIR", "Folder of the release, as published.")] = None,
    dicom_dir: Annotated[Path | None, _option("DIR", "Any folder of DICOM, PNG or JPEG (preset folder).")] = None,
    out: Annotated[Path | None, _option("STORE", "Store to write.", "stores/<preset>")] = None,
    reports: Annotated[Path | None, _option("FILE", "CSV or JSONL of reports, by file, study or accession.")] = None,
    workers: Annotated[int | None, _option("N", "Processes.", "as cores and memory allow", min=1)] = None,
    shard: Annotated[Any, _option("I/N", "Part I of N from 0; without it, merge.", parser=_parse_shard)] = None,
    submit: Annotated[Literal["slurm", "local"] | None, _option("slurm|local", "Share out to --jobs tasks.")] = None,
    jobs: Annotated[int, _option("N", "Tasks of --submit.", min=1)] = 8,
    slurm: SlurmOption = None,
    pseudonymize: Annotated[Path | None, _option("KEYFILE", "Replace ids by hashes keyed with this file.")] = None,
    seed: Annotated[int | None, _option("SEED", "preprocess.split_seed.", "of the preset")] = None,
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
    name = _need_preset(preset or ("folder" if dicom_dir else None))
    flags = [*overrides.assign("preprocess.reports", reports), *overrides.assign("preprocess.split_seed", seed)]
    config = overrides.load(name, "preprocess", [*(set_ or []), *flags])
    store = out or overrides.default_folder("stores", name)

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
    output.record(summary, "place preprocess")


@app.command()
def pretrain(
    preset: PresetOption = None,
    data: Annotated[Path | None, _option("STORE", "Store to learn from; - from stdin.", "stores/<preset>")] = None,
    out: Annotated[Path | None, _option("RUN", "Run to write.", "runs/<preset>")] = None,
    seed: Annotated[int | None, _option("SEED", "pretrain.seed.", "of the preset")] = None,
    device: DeviceOption = "auto",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learn a PLACE model from a store.

    Writes a run folder from which the model is rebuilt; the same command continues a run that was stopped.
    """
    name = _need_preset(preset)
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


@app.command()
def retrieve(
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH|-", help="Images or folders; - or a pipe: paths or JSON lines from stdin."),
    ] = None,
    text: Annotated[list[str] | None, _option("WORDS", "Ask with words (repeatable).")] = None,
    to: Annotated[
        Literal["reports", "images"] | None,
        _option("reports|images", "What to look for.", "reports for an image, images for words"),
    ] = None,
    run: RunOption = None,
    gallery: Annotated[Path | None, _option("STORE", "Where to look.", "the store the run learnt from")] = None,
    split: Annotated[str, _option("SPLIT", "Part of the gallery: all, train, validate, test.")] = "all",
    top_k: Annotated[int, _option("K", "Hits per query.", min=1)] = 5,
    score: Annotated[
        Literal["global", "observation", "combined"] | None,
        _option("global|observation|combined", "What to rank by.", "of the run's preset"),
    ] = None,
    heatmap: Annotated[Path | None, _option("FILE.png", "Draw where each sentence of the best hit was found.")] = None,
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


@app.command()
def evaluate(
    task: Annotated[
        Literal["retrieval", "zero-shot", "grounding"] | None,
        _option("retrieval|zero-shot|grounding", "What to measure.", "all three"),
    ] = None,
    run: Annotated[
        list[Path] | None,
        _option("RUN", "Model; repeat it to compare; - takes them from stdin.", "newest under ./runs"),
    ] = None,
    data: Annotated[Path | None, _option("STORE", "Store.", "the store the run learnt from")] = None,
    split: Annotated[str, _option("SPLIT", "train, validate or test.")] = "test",
    protocol: Annotated[
        Literal["clean", "compat"], _option("clean|compat", "clean: no leaks. compat: as published, leaks and all.")
    ] = "clean",
    seed: Annotated[int | None, _option("SEED", "evaluate.seed, of the bootstrap.", "of the preset")] = None,
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
            if dry_run:
                output.record(plan(each, data, split, "--data"), "place evaluate --dry-run")
                continue
            for name in [task] if task else stage.TASKS:
                # A task of the three that the store holds nothing for is left out, saying so.
                with nullcontext() if task else terminal.skipping_failures():
                    result = stage.evaluate(each, data, name, progress=progress, **choices)
                    output.record(result, f"place evaluate --task {name}")
    if not output.num_written:
        raise typer.Exit(terminal.EXIT_FAILED)


@app.command()
def demo(
    out: Annotated[Path, _option("DIR", "Folder to fill; it holds everything.")] = Path("place-demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A small one: a check in a minute, no figures.")] = False,
    patients: Annotated[int | None, _option("N", "Synthetic patients.", "of the preset", min=20)] = None,
    seed: Annotated[int | None, _option("SEED", "demo.seed.", "of the preset")] = None,
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


def _need_preset(preset: str | None) -> str:
    if preset is None:
        raise typer.BadParameter("say which preset: --preset mimic, openi, folder, demo or a YAML file")
    return preset


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `place`; leaves by SystemExit with a documented code, and with a traceback only after --debug."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    terminal.show_warnings()
    with terminal.ending_in_one_line("--debug" in given):
        app(given, prog_name="place")

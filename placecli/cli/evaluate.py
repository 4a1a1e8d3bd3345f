"""`place evaluate`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from placecli import overrides, results, terminal
from placecli.cli.options import DeviceOption, DryRunOption, JsonOption, ProtocolOption, QuietOption, SetOption, option

if TYPE_CHECKING:
    from placecli.config import Preset
    from placecli.data.store import Store
    from placecli.tasks.evaluation import Evaluation

TaskName = Literal[
    "retrieval",
    "zero-shot",
    "grounding",
    "class-retrieval",
    "classification",
    "segmentation",
    "detection",
    "report-generation",
    "leaks",
]

TaskOption = Annotated[
    TaskName | None,
    option(
        "TASK",
        "retrieval, zero-shot, grounding, class-retrieval; classification, segmentation, detection, report-generation"
        " of tuned runs; leaks.",
        "the run's own; the first three of a pre-trained run",
    ),
]


def evaluate(
    task: TaskOption = None,
    run: Annotated[
        list[Path] | None,
        option("RUN", "Model; repeat it to compare with the first; - takes them from stdin.", "newest under ./runs"),
    ] = None,
    predictions: Annotated[
        list[Path] | None, option("FILE", "Score JSON lines of any program (repeatable); with --task and --data.")
    ] = None,
    data: Annotated[
        list[Path] | None, option("STORE", "Store; leaks takes two.", "the store the run learnt from")
    ] = None,
    split: Annotated[
        Literal["train", "validate", "test", "all"],
        option("train|validate|test|all", "Whose patients are asked about."),
    ] = "test",
    protocol: ProtocolOption = "clean",
    html: Annotated[Path | None, option("FILE.html|DIR", "Write one page of tables, charts and pictures.")] = None,
    show_ids: Annotated[bool, typer.Option("--show-ids", help="Show ids of studies and images on the page.")] = False,
    seed: Annotated[int | None, option("SEED", "evaluate.seed, of the bootstrap.", "of the preset")] = None,
    device: DeviceOption = "auto",
    set_: SetOption = None,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure models, or predictions, on unseen patients.

    One object a run and task, with 95 % intervals bootstrapped by patient and what chance gives; for each further run
    its differences to the first, on the same resamples.
    """
    stores = overrides.piped_all(data or [], "store", "data")
    output, files = results.Output(json), predictions or []
    if task == "leaks":
        _print_leaks(output, stores, html)
        return
    if len(stores) > 1:
        raise typer.BadParameter("several --data go with --task leaks only")
    if files and (task is None or not stores):
        raise typer.BadParameter("--predictions needs --task and --data")
    changes = [*(set_ or []), *overrides.assign("evaluate.seed", seed)]
    wanted = _Wanted(task, stores[0] if stores else None, split, protocol, device, changes, html is not None)
    runs = [] if files and not run else overrides.choose_runs(run or [], quiet)
    if html is not None:
        _check_page(html, len(runs) + len(files))
    if dry_run:
        for plan in [*map(wanted.plan, runs), *wanted.plan_files(files, runs)]:
            output.record(plan, "place evaluate --dry-run")
        return
    with terminal.Progress(quiet) as progress:
        found = [*wanted.measure(runs, output, progress), *wanted.score(files, runs, output)]
        comparisons = _print_comparisons(output, found)
        if html is not None and found:
            _write_page(html, found, comparisons, show_ids)
    if not output.num_written:
        raise typer.Exit(terminal.EXIT_FAILED)


@dataclass(frozen=True)
class _Wanted:
    """What was asked for, the same for all runs."""

    task: Any
    data: Path | None
    split: str
    protocol: Literal["clean", "compat"]
    device: str
    changes: list[str]
    keeps_material: bool

    def plan(self, run: Path) -> dict[str, Any]:
        """What `--dry-run` prints of a run."""
        from placecli.tasks.evaluate_tuned import plan_tuned
        from placecli.tasks.plan import plan
        from placecli.tasks.tuned import is_tuned

        overrides.load_of_run(run, "evaluate", self.changes)
        return plan_tuned(run, self.data, self.split) if is_tuned(run) else plan(run, self.data, self.split, "--data")

    def measure(self, runs: list[Path], output: results.Output, progress: terminal.Progress) -> list[Evaluation]:
        """Evaluations of runs, each printed as it comes."""
        from placecli.tasks import evaluate as stage

        found = []
        for each in runs:
            config = overrides.load_of_run(each, "evaluate", self.changes).evaluate
            if not self.task:  # what is wrong with run or store is said once, not by each of three tasks
                self.plan(each)
            tasks = stage.tasks_of(each, self.task)
            for name in tasks:
                # A task of the three that the store holds nothing for is left out, saying so.
                with nullcontext() if len(tasks) == 1 else terminal.skipping_failures():
                    result = stage.evaluate(
                        each,
                        self.data,
                        name,
                        split=self.split,
                        protocol=self.protocol,
                        config=config,
                        device=self.device,
                        progress=progress,
                        keeps_material=self.keeps_material,
                    )
                    _print(output, result)
                    found.append(result)
        return found

    def score(self, files: list[Path], runs: list[Path], output: results.Output) -> list[Evaluation]:
        """Evaluations of files of predictions, read by the preset of the first run, else of the store."""
        if not files:
            return []
        from placecli.tasks.evaluate_tuned import evaluate_predictions

        (store, preset), found = self._store_and_preset(runs), []
        for file in files:
            result = evaluate_predictions(
                self.task,
                file,
                store,
                preset,
                split=self.split,
                protocol=self.protocol,
                keeps_material=self.keeps_material,
            )
            _print(output, result)
            found.append(result)
        return found

    def plan_files(self, files: list[Path], runs: list[Path]) -> list[dict[str, Any]]:
        """What `--dry-run` prints of files of predictions."""
        if not files:
            return []
        from placecli.tasks.evaluate_tuned import plan_predictions

        store, preset = self._store_and_preset(runs)
        return [plan_predictions(self.task, file, store, preset, self.split) for file in files]

    def _store_and_preset(self, runs: list[Path]) -> tuple[Store, Preset]:
        from placecli.data.store import open_store

        assert self.data is not None
        if runs:
            return open_store(self.data), overrides.load_of_run(runs[0], "evaluate", self.changes)
        return open_store(self.data), overrides.load_of_store(self.data, "evaluate", self.changes)


def _print(output: results.Output, result: Evaluation) -> None:
    """One object; on a terminal a table of its numbers with what chance gives, under what they are of."""
    if output.as_json:
        output.record(result)
        return
    record = result.to_record()
    counts = ", ".join(f"{key} {value:,}" for key, value in record["counts"].items() if isinstance(value, int))
    title = (
        f"{result.task} of {result.run} on {result.data}, split {result.split}, protocol {result.protocol}\n"
        f"n {record['n']:,}, {counts}; score {result.score}; {record['bootstrap']['replicates']:,} replicates by patient"
    )
    rows = [
        (name, _text(each["value"]), " to ".join(map(_text, each["ci95"] or ())), _text(record["chance"].get(name, "")))
        for name, each in record["metrics"].items()
    ]
    output.num_written += 1
    output.table(title, ("metric", "value", "95 % interval", "chance"), rows)


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _check_page(html: Path, num_runs: int) -> None:
    from placecli.tasks.html_report import check_page

    check_page(html, num_runs)


def _print_leaks(output: results.Output, stores: list[Path], html: Path | None) -> None:
    from placecli.tasks.leaks import report_leaks

    if html is not None:
        raise typer.BadParameter("--html does not go with --task leaks")
    record = report_leaks(stores)
    if not output.as_json:
        record = {key: value for key, value in record.items() if key != "found"}
    output.record(record, "place evaluate --task leaks")


def _print_comparisons(output: results.Output, found: list[Evaluation]) -> list[Any]:
    if len(found) < 2:
        return []
    from placecli.tasks.paired import compare_with_first

    comparisons = compare_with_first(found)
    for each in comparisons:
        output.record(each, f"place evaluate --task {each.task}: {each.run} minus {each.against}")
    return comparisons


def _write_page(html: Path, found: list[Evaluation], comparisons: list[Any], show_ids: bool) -> None:
    from placecli.tasks.html_report import write_report

    terminal.say(f"wrote {write_report(html, found, comparisons, show_ids=show_ids)}")

"""`place evaluate --html`: evaluations with their pictures on one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from placecli.data.atomic import write_file
from placecli.data.leaks import leaks_of
from placecli.data.store import Store, open_store
from placecli.records import PlaceError
from placecli.tasks.evaluation import Evaluation
from placecli.tasks.html_report_content import Page
from placecli.tasks.html_report_names import PROTOCOLS, READING
from placecli.tasks.html_report_page import render
from placecli.tasks.html_report_parts import make_part
from placecli.tasks.leaks import SYNTHETIC
from placecli.tasks.paired import Comparison

MOST_RUNS: Final = 4
"""As many as there are colours."""


def write_report(
    target: Path, evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], *, show_ids: bool = False
) -> Path:
    """Write the page and return its path: `target`, or index.html in it where it has no ending .html.

    The evaluations keep their material. Raises PlaceError for more than four runs or a place that cannot be written.
    """
    file = check_page(target, len(_run_names(evaluations)))
    html = render(make_page(evaluations, comparisons, show_ids=show_ids))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, html.encode("utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PlaceError(f"{file}: the page cannot be written ({reason}); check the folder and its rights") from None
    return file


def check_page(target: Path, num_runs: int) -> Path:
    """The file that the page of so many runs would be, said before anything is computed.

    Raises PlaceError for more runs than there are colours, or where a folder or a file cannot be made.
    """
    if num_runs > MOST_RUNS:
        raise PlaceError(f"--html shows up to {MOST_RUNS} runs, not {num_runs}; leave some out")
    file = Path(target) if Path(target).suffix.lower() in (".html", ".htm") else Path(target) / "index.html"
    there = next(folder for folder in file.absolute().parents if folder.exists())
    if not there.is_dir():
        raise PlaceError(f"{file}: the page cannot be written, since {there.name} is a file; name another place")
    if file.is_dir():
        raise PlaceError(f"{file}: a folder; name another file, or the folder without .html")
    return file


def make_page(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], *, show_ids: bool) -> Page:
    """The content of the page: a part for each task, in the order of the evaluations."""
    names, first = _run_names(evaluations), evaluations[0]
    store = open_store(Path(first.data))
    is_synthetic = store.config.preprocess.release == SYNTHETIC
    rows = store.select(first.split)
    tasks = list(dict.fromkeys(each.task for each in evaluations))
    parts = tuple(
        make_part([each for each in evaluations if each.task == task], comparisons, names, ids=show_ids)
        for task in tasks
    )
    shown = " and ".join(names.values()) if len(names) < 3 else ", ".join(names.values())
    num_leaked = _num_leaked(store, first.split)
    is_unseen = first.protocol == "clean" and first.split == "test" and not num_leaked
    told = f" {num_leaked:,} patients of this split are also in train." if num_leaked else ""
    banner = (
        "Every radiograph and every report here was made by a program; no patient is behind any of them. The figures say that"
        " the chain works, not how well it would do on patients."
        if is_synthetic
        else "A measurement for research. The page shows radiographs and reports of patients"
        + (", with the ids of studies and images" if show_ids else ", without ids")
        + ": treat it as you treat those."
    )
    replicates = first.resampling.replicates
    return Page(
        title=f"Evaluation of {shown} on " + ("unseen patients" if is_unseen else f"split {first.split}"),
        lead=f"Measured on the split “{first.split}” of the store {Path(first.data).name}"
        + (f", with pictures of {next(iter(names.values()))}." if len(names) > 1 else "."),
        banner_title="Synthetic data, and not for clinical use." if is_synthetic else "Not for clinical use.",
        banner=banner,
        facts=(
            (f"{len(rows):,}", f"images in split {first.split}"),
            (f"{len({row.patient_id for row in rows}):,}", "patients"),
            (f"{sum(bool(row.sentences) for row in rows):,}", "images with a report"),
            (f"{sum(bool(row.labels) for row in rows):,}", "images with labels"),
            (f"{replicates:,}", f"resamplings of patients for each interval (seed {first.resampling.seed})"),
        ),
        runs=tuple(names.values()),
        protocol=PROTOCOLS[first.protocol] + told,
        parts=parts,
        how_to_read=READING,
        footer="Definitions of all measures: docs/evaluation.md of placecli.",
    )


def _num_leaked(store: Store, split: str) -> int:
    """Patients of the split that are also in train, by the store's own comparison."""
    counts = leaks_of(store)["counts"].get(f"train-{split}")
    return 0 if counts is None else int(counts["patients"]["shared"])


def _run_names(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """By path of a run its folder's name, or as much of its path as tells it from the others."""
    paths = list(dict.fromkeys(each.run for each in evaluations))
    for depth in range(1, 6):
        names = ["/".join(Path(path).parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return dict(zip(paths, names, strict=True))

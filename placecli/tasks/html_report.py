"""`place evaluate --html`: evaluations with their pictures on one self-contained page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from placecli.data.atomic import write_file
from placecli.data.leaks import leaks_of
from placecli.data.store import Store, open_store
from placecli.records import PlaceError
from placecli.tasks.charts import Estimate
from placecli.tasks.evaluation import Evaluation, Measure
from placecli.tasks.html_report_content import Cases, Charts, LabelLine, Line, Page, Part
from placecli.tasks.html_report_curves import NOTE, RELIABILITY, Scored, label_charts
from placecli.tasks.html_report_names import LABEL_METRICS, METRICS, PROTOCOLS, READING, TASKS
from placecli.tasks.html_report_page import render
from placecli.tasks.leaks import SYNTHETIC
from placecli.tasks.material import PretrainedMaterial, TunedMaterial
from placecli.tasks.paired import Comparison, labels_of

MOST_RUNS: Final = 4
"""As many as there are colours."""
RANKED: Final = ("retrieval", "zero-shot", "class-retrieval")
"""Tasks whose numbers depend on the score that is chosen."""
DIFFERENT_LABELS: Final = (
    "The runs were not scored on the same labels, so their means over labels are not compared; the table by label is."
)


def write_report(
    target: Path, evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], *, show_ids: bool = False
) -> Path:
    """Write the page and return its path: `target`, or index.html in it where it has no ending .html.

    The evaluations keep their material. Raises PlaceError for more than four runs or a place that cannot be written.
    """
    names = _run_names(evaluations)
    if len(names) > MOST_RUNS:
        raise PlaceError(f"--html shows up to {MOST_RUNS} runs, not {len(names)}; leave some out")
    target = Path(target)
    file = target if target.suffix.lower() in (".html", ".htm") else target / "index.html"
    html = render(make_page(evaluations, comparisons, show_ids=show_ids))
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, html.encode("utf-8"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PlaceError(f"{file}: the page cannot be written ({reason}); check the folder and its rights") from None
    return file


def make_page(evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], *, show_ids: bool) -> Page:
    """The content of the page: a part for each task, in the order of the evaluations."""
    names, first = _run_names(evaluations), evaluations[0]
    store = open_store(Path(first.data))
    is_synthetic = store.config.preprocess.release == SYNTHETIC
    rows = store.select(first.split)
    tasks = list(dict.fromkeys(each.task for each in evaluations))
    parts = tuple(
        _part([each for each in evaluations if each.task == task], comparisons, names, show_ids) for task in tasks
    )
    shown = " and ".join(names.values()) if len(names) < 3 else ", ".join(names.values())
    num_leaked = _num_leaked(store, first.split)
    is_unseen = first.protocol == "clean" and first.split == "test" and not num_leaked
    told = f" {num_leaked:,} patients of this split are also in train." if num_leaked else ""
    banner = (
        "Every radiograph and every report here was made by a program; no patient is behind any of them. The figures say that"
        " the chain works, not how well it would do on patients."
        if is_synthetic
        else "The page shows radiographs and reports of patients"
        + (", with their ids" if show_ids else ", without ids")
        + ": treat it as you treat those. Nothing here is for clinical use."
    )
    replicates = first.resampling.replicates
    return Page(
        title=f"Evaluation of {shown} on " + ("unseen patients" if is_unseen else f"split {first.split}"),
        lead=f"Measured on the split “{first.split}” of the store {Path(first.data).name}"
        + (f", with pictures of {next(iter(names.values()))}." if len(names) > 1 else "."),
        banner_title="Synthetic data." if is_synthetic else "Not for clinical use.",
        banner=banner,
        facts=(
            (f"{len(rows):,}", f"images in split {first.split}"),
            (f"{len({row.patient_id for row in rows}):,}", "patients"),
            (f"{sum(bool(row.sentences) for row in rows):,}", "images with a report"),
            (f"{sum(bool(row.labels) for row in rows):,}", "images with labels"),
            (f"{replicates:,}", f"bootstrap replicates by patient, seed {first.resampling.seed}"),
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


def _part(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], names: Mapping[str, str], show_ids: bool
) -> Part:
    first = evaluations[0]
    title, explanation = TASKS[first.task]
    compared = [each for each in comparisons if each.task == first.task]
    metrics = [each.findings.metrics for each in evaluations]
    charts, note = _curves(evaluations)
    label_metrics = tuple(
        name for name in LABEL_METRICS.get(first.task, ()) if any(key.startswith(f"{name}[") for key in metrics[0])
    )
    return Part(
        anchor=first.task,
        title=title,
        explanation=explanation,
        counts=_counts(first),
        runs=tuple(names[each.run] for each in evaluations),
        lines=tuple(_line(name, metrics, first.findings.chance, compared) for name in _shown(metrics)),
        differences_note=DIFFERENT_LABELS if _have_other_labels(compared, metrics) else "",
        label_metrics=tuple(METRICS.get(f"{name}_macro", METRICS.get(name, (name, "")))[0] for name in label_metrics),
        labels=_labels(label_metrics, metrics),
        charts_note=note,
        charts=charts,
        cases=_cases(first, show_ids),
    )


def _have_other_labels(compared: Sequence[Comparison], metrics: Sequence[Mapping[str, Measure]]) -> bool:
    return bool(compared) and any(labels_of(each) != labels_of(metrics[0]) for each in metrics[1:])


def _counts(evaluation: Evaluation) -> str:
    """Plain numbers of the counts, and what the score is."""
    plain = {"n": evaluation.findings.n, **evaluation.findings.counts}
    told = [
        f"{name.replace('_', ' ')} {value:,}"
        for name, value in plain.items()
        if isinstance(value, int) and value and name != "cases"
    ]
    undefined = evaluation.findings.counts.get("undefined")
    left_out = f" Without both kinds of cases, so not scored: {', '.join(undefined)}." if undefined else ""
    score = f" Ranked by the {evaluation.score} score." if evaluation.task in RANKED else ""
    return f"{', '.join(told)}.{score}{left_out}".replace("n ", "Cases ", 1)


def _shown(metrics: Sequence[Mapping[str, Measure]]) -> list[str]:
    """Names of the page's metrics that some run has, in their order; all that are not of one label where it has none."""
    known = [name for name in METRICS if any(name in each for each in metrics)]
    others = [name for each in metrics for name in each if "[" not in name and name not in METRICS]
    return known if len(known) >= 3 else [*known, *dict.fromkeys(others)]


def _line(
    name: str, metrics: Sequence[Mapping[str, Measure]], chance: Mapping[str, float], compared: Sequence[Comparison]
) -> Line:
    title, remark = METRICS.get(name, (name, ""))
    level = chance.get(name)
    return Line(
        title,
        remark,
        tuple(_estimate(each.get(name)) for each in metrics),
        level if level is not None and math.isfinite(level) else None,
        tuple(_difference(each, name) for each in compared) if any(name in each.metrics for each in compared) else (),
    )


def _difference(comparison: Comparison, name: str) -> Estimate | None:
    found = comparison.metrics.get(name)
    return None if found is None else _ends(found.value, found.low, found.high)


def _estimate(measure: Measure | None) -> Estimate | None:
    return None if measure is None else _ends(measure.value, measure.low, measure.high)


def _ends(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high) if math.isfinite(low) and math.isfinite(high) else Estimate(value)


def _labels(names: Sequence[str], metrics: Sequence[Mapping[str, Measure]]) -> tuple[LabelLine, ...]:
    if not names:
        return ()
    keys = [key for key in metrics[0] if key.startswith(f"{names[0]}[")]
    lines = []
    for key in keys:
        label = key.removeprefix(f"{names[0]}[").removesuffix("]")
        values = tuple(tuple(_estimate(each.get(f"{name}[{label}]")) for each in metrics) for name in names)
        lines.append(LabelLine(label, metrics[0][key].positives, metrics[0][key].n, values))
    return tuple(sorted(lines, key=lambda line: (-(line.positives or line.n), line.name)))


def _curves(evaluations: Sequence[Evaluation]) -> tuple[tuple[Charts, ...], str]:
    runs: list[dict[str, Scored]] = []
    task = evaluations[0].task
    for each in evaluations:
        material = each.material
        if task == "classification" and isinstance(material, TunedMaterial):
            from placecli.tasks.html_report_tuned import classification_curves

            runs.append(classification_curves(material))
        elif task == "zero-shot" and isinstance(material, PretrainedMaterial):
            from placecli.tasks.html_report_pretrained import zero_shot_curves

            runs.append(zero_shot_curves(material))
    if not runs:
        return (), ""
    has_probabilities = task == "classification"
    note = NOTE + (RELIABILITY if has_probabilities else "")
    return label_charts(runs, with_reliability=has_probabilities), note


def _cases(evaluation: Evaluation, ids: bool) -> tuple[Cases, ...]:
    """Pictures of the first run."""
    material = evaluation.material
    if isinstance(material, PretrainedMaterial):
        from placecli.tasks import html_report_pretrained as pretrained

        if evaluation.task == "retrieval":
            return (pretrained.retrieval_cases(material, evaluation.protocol, ids),)
        return pretrained.grounding_cases(material, ids) if evaluation.task == "grounding" else ()
    if not isinstance(material, TunedMaterial):
        return ()
    from placecli.tasks import html_report_tuned as tuned

    match evaluation.task:
        case "classification":
            return tuned.classification_cases(material, ids)
        case "segmentation":
            return tuned.segmentation_cases(material, ids)
        case "detection":
            return tuned.detection_cases(material, ids)
        case "report-generation":
            return tuned.report_cases(material, ids)
    return ()

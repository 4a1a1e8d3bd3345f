"""A task's part of the evaluation page: its evaluations as lines, curves and cases."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from placecli.tasks.charts import Estimate
from placecli.tasks.evaluation import Evaluation, Measure
from placecli.tasks.html_report_content import Cases, Charts, LabelLine, Line, Part
from placecli.tasks.html_report_curves import NOTE, RELIABILITY, label_charts
from placecli.tasks.html_report_names import (
    COUNTS,
    LABEL_COUNTS,
    LABEL_METRICS,
    METRICS,
    NEAREST,
    NO_SHARES,
    SCORES,
    TASKS,
)
from placecli.tasks.material import PretrainedMaterial, TunedMaterial
from placecli.tasks.paired import Comparison, labels_of

RANKED: Final = ("retrieval", "zero-shot", "class-retrieval")
"""Tasks whose numbers depend on the score that is chosen."""
DIFFERENT_LABELS: Final = (
    "The runs were not scored on the same labels, so their means over labels are not compared; the table by label is."
)
_OF_OBSERVATIONS: Final = ("_observation", "_combined")


def make_part(
    evaluations: Sequence[Evaluation], comparisons: Sequence[Comparison], names: Mapping[str, str], *, ids: bool
) -> Part:
    """The part of the one task of these evaluations; `names` has each run's by its path. `ids`: whether to show them."""
    first = evaluations[0]
    title, explanation = TASKS[first.task]
    compared = [each for each in comparisons if each.task == first.task]
    metrics = [_learnt_metrics(each) for each in evaluations]
    charts, note = _curves(evaluations)
    label_metrics = tuple(
        name for name in LABEL_METRICS.get(first.task, ()) if any(key.startswith(f"{name}[") for key in metrics[0])
    )
    lines = _labels(first.task, label_metrics, metrics)
    return Part(
        anchor=first.task,
        title=title,
        explanation=explanation,
        counts=_counts(evaluations, names),
        runs=tuple(names[each.run] for each in evaluations),
        lines=tuple(_line(name, metrics, first.findings.chance, compared) for name in _shown(metrics)),
        differences_note=DIFFERENT_LABELS if _have_other_labels(compared, metrics) else "",
        label_metrics=tuple(_label_metric(first.task, name) for name in label_metrics),
        label_count=LABEL_COUNTS.get(first.task, "Cases"),
        labels=lines,
        charts_note=note,
        charts=charts,
        cases=_cases(first, tuple(line.name for line in lines), ids),
    )


def _learnt_metrics(evaluation: Evaluation) -> Mapping[str, Measure]:
    """Its metrics, those by observations left out of a run that trained none: they measure random weights."""
    metrics = evaluation.findings.metrics
    if is_learnt(evaluation):
        return metrics
    return {name: each for name, each in metrics.items() if not name.split("[")[0].endswith(_OF_OBSERVATIONS)}


def is_learnt(evaluation: Evaluation) -> bool:
    """False of a pre-trained run that was trained without observations."""
    material = evaluation.material
    if not isinstance(material, PretrainedMaterial):
        return True
    from placecli.tasks.html_report_pretrained import learnt_where

    return learnt_where(material)


def _have_other_labels(compared: Sequence[Comparison], metrics: Sequence[Mapping[str, Measure]]) -> bool:
    return bool(compared) and any(labels_of(each) != labels_of(metrics[0]) for each in metrics[1:])


def _counts(evaluations: Sequence[Evaluation], names: Mapping[str, str]) -> str:
    """What was counted, in words, what the score is, and what was left out."""
    first = evaluations[0]
    plain = {"n": first.findings.n, **first.findings.counts}
    told = [words.format(f"{plain[name]:,}") for name, words in COUNTS.items() if plain.get(name)]
    sentences = [", ".join(told) + "."]
    undefined = first.findings.counts.get("undefined")
    if undefined:
        listed = ", ".join(name.replace("_", " ") for name in undefined)
        sentences.append(f"Not scored, since this split has no case of them or nothing else: {listed}.")
    if first.task in RANKED:
        sentences.append(_scores(evaluations, names))
    sentences += [
        f"{names[each.run]} was trained without observations: it has no score by them, and no heat-map that was learnt."
        for each in evaluations
        if not is_learnt(each)
    ]
    nearest = first.findings.metrics
    copied = [
        f"{METRICS[name][0]} {nearest[f'{name}[nearest image]'].value:.3f}"
        for name in NEAREST
        if f"{name}[nearest image]" in nearest
    ]
    if copied:
        sentences.append(f"Copying the report of the most similar training image would give: {', '.join(copied)}.")
    return " ".join(sentences)


def _scores(evaluations: Sequence[Evaluation], names: Mapping[str, str]) -> str:
    used = {names[each.run]: SCORES[each.score] for each in evaluations}
    if len(set(used.values())) == 1:
        return f"Ranked by {next(iter(used.values()))}."
    return f"Ranked by {'; '.join(f'{score} ({run})' for run, score in used.items())}."


def _shown(metrics: Sequence[Mapping[str, Measure]]) -> list[str]:
    """Names of the page's metrics that some run has, in their order; all that are not of one label where it has few."""
    known = [name for name in METRICS if any(name in each for each in metrics)]
    others = [name for each in metrics for name in each if "[" not in name and name not in METRICS]
    return known if len(known) >= 3 else [*known, *dict.fromkeys(others)]


def _label_metric(task: str, name: str) -> str:
    return METRICS.get(name if task == "class-retrieval" else f"{name}_macro", METRICS.get(name, (name, "")))[0]


def _line(
    name: str, metrics: Sequence[Mapping[str, Measure]], chance: Mapping[str, float], compared: Sequence[Comparison]
) -> Line:
    title, remark = METRICS.get(name, (name, ""))
    level = chance.get(name)
    has_all = all(name in each for each in metrics)
    return Line(
        title,
        remark,
        tuple(_estimate(each.get(name)) for each in metrics),
        level if level is not None and math.isfinite(level) else None,
        tuple(_difference(each, name) for each in compared)
        if has_all and any(name in each.metrics for each in compared)
        else (),
        not name.startswith(NO_SHARES),
        1 if name.startswith("median_rank") else 3,
    )


def _difference(comparison: Comparison, name: str) -> Estimate | None:
    found = comparison.metrics.get(name)
    return None if found is None else _ends(found.value, found.low, found.high)


def _estimate(measure: Measure | None) -> Estimate | None:
    return None if measure is None else _ends(measure.value, measure.low, measure.high)


def _ends(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high) if math.isfinite(low) and math.isfinite(high) else Estimate(value)


def _labels(task: str, names: Sequence[str], metrics: Sequence[Mapping[str, Measure]]) -> tuple[LabelLine, ...]:
    if not names:
        return ()
    keys = [key for key in metrics[0] if key.startswith(f"{names[0]}[")]
    lines = []
    for key in keys:
        label = key.removeprefix(f"{names[0]}[").removesuffix("]")
        values = tuple(tuple(_estimate(each.get(f"{name}[{label}]")) for each in metrics) for name in names)
        n, positives = metrics[0][key].n, metrics[0][key].positives
        # An image may have several boxes: their number is no share of the images.
        lines.append(
            LabelLine(label, None, positives or 0, values)
            if task == "detection"
            else LabelLine(label, positives, n, values)
        )
    return tuple(sorted(lines, key=lambda line: (-(line.positives or line.n), line.name)))


def _curves(evaluations: Sequence[Evaluation]) -> tuple[tuple[Charts, ...], str]:
    """The charts of all runs, and what they show in words."""
    task, protocol = evaluations[0].task, evaluations[0].protocol
    tuned = [each.material for each in evaluations if isinstance(each.material, TunedMaterial)]
    pretrained = [each.material for each in evaluations if isinstance(each.material, PretrainedMaterial)]
    if task == "zero-shot" and pretrained:
        from placecli.tasks.html_report_pretrained import zero_shot_curves

        return label_charts([zero_shot_curves(each) for each in pretrained], with_reliability=False), NOTE
    if task == "classification" and tuned:
        from placecli.tasks.html_report_tuned import classification_curves

        return label_charts([classification_curves(each) for each in tuned], with_reliability=True), NOTE + RELIABILITY
    if task == "segmentation" and tuned:
        from placecli.tasks.html_report_tuned import SEGMENTATION_NOTE, segmentation_charts

        return segmentation_charts(tuned, protocol), SEGMENTATION_NOTE
    if task == "detection" and tuned:
        from placecli.tasks import html_report_boxes as boxes

        return boxes.detection_charts(tuned), boxes.NOTE
    return (), ""


def _cases(evaluation: Evaluation, labels: Sequence[str], ids: bool) -> tuple[Cases, ...]:
    """Pictures of the first run."""
    material = evaluation.material
    if isinstance(material, PretrainedMaterial):
        from placecli.tasks import html_report_classes, html_report_grounding
        from placecli.tasks import html_report_pretrained as pretrained

        match evaluation.task:
            case "retrieval":
                return (pretrained.retrieval_cases(material, evaluation.protocol, ids),)
            case "zero-shot":
                return pretrained.zero_shot_cases(material, labels, ids)
            case "grounding":
                return html_report_grounding.grounding_cases(material, labels, ids)
            case "class-retrieval":
                return html_report_classes.class_cases(evaluation, material, ids)
    if not isinstance(material, TunedMaterial):
        return ()
    from placecli.tasks import html_report_boxes
    from placecli.tasks import html_report_tuned as tuned

    match evaluation.task:
        case "classification":
            return tuned.classification_cases(material, ids)
        case "segmentation":
            return tuned.segmentation_cases(material, evaluation.protocol, ids)
        case "detection":
            return html_report_boxes.detection_cases(material, ids)
        case "report-generation":
            return tuned.report_cases(material, ids)
    return ()

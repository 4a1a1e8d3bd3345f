"""ROC, precision-recall and reliability of each label, for classification and zero-shot scores alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.calibration import expected_calibration_error, reliability
from placecli.metrics.classification import auroc, average_precision, precision_recall_curve, roc_curve
from placecli.tasks.charts import Series
from placecli.tasks.html_report_charts import Bin, reliability_chart, square_chart
from placecli.tasks.html_report_content import Charts

Floats = NDArray[np.float64]

BINS: Final = 10
FEW: Final = 5
"""A bin of a reliability diagram with fewer cases says little."""
NOTE: Final = (
    "ROC: the share of the present cases that is found (up) against the share of the absent ones that is called present"
    " (right); the dashed diagonal is guessing. Precision and recall: the share of the called that is right against the"
    " share of the present that is found; the dashed level is the share of present cases. The area under each line is the"
    " number beside it."
)
RELIABILITY: Final = (
    " Reliability: how often a finding is there that was given a probability; on the diagonal the probability means what it"
    f" says. Larger dots hold more cases; pale ones fewer than {FEW}. ECE: expected calibration error, 15 bins."
)


@dataclass(frozen=True, slots=True)
class Scored:
    """One run on one label: bool [n] whether it is present, float64 [n] scores."""

    present: NDArray[np.bool_]
    scores: Floats


def scored(targets: Floats, scores: Floats) -> Scored | None:
    """The cases of a label that are known (targets float64 [n], nan: not known); None without both kinds."""
    known = ~np.isnan(targets)
    present = targets[known] == 1
    return Scored(present, scores[known]) if present.any() and not present.all() else None


def label_charts(runs: Sequence[Mapping[str, Scored]], *, with_reliability: bool) -> tuple[Charts, ...]:
    """The charts of each label that all runs have, the most frequent first."""
    shared = [name for name in runs[0] if all(name in each for each in runs)]
    shared.sort(key=lambda name: (-int(runs[0][name].present.sum()), name))
    return tuple(_charts(name, [each[name] for each in runs], with_reliability) for name in shared)


def _charts(name: str, runs: Sequence[Scored], with_reliability: bool) -> Charts:
    prevalence = float(runs[0].present.mean())
    areas = [f"{auroc(each.present, each.scores):.3f}" for each in runs]
    means = [f"{average_precision(each.present, each.scores):.3f}" for each in runs]
    charts = [
        square_chart(
            [_roc(each) for each in runs],
            x_label="false positive rate",
            y_label="true positive rate",
            summary=f"ROC curve of {name}: area {', '.join(areas)}",
            diagonal=True,
        ),
        square_chart(
            [precision_recall_steps(each) for each in runs],
            x_label="recall",
            y_label="precision",
            summary=f"Precision-recall curve of {name}: average precision {', '.join(means)}, guessing {prevalence:.3f}",
            level=prevalence,
        ),
    ]
    values = [f"AUROC {area}, average precision {mean}" for area, mean in zip(areas, means, strict=True)]
    if with_reliability:
        errors = [f"{expected_calibration_error(each.present, each.scores):.3f}" for each in runs]
        values = [f"{value}, ECE {error}" for value, error in zip(values, errors, strict=True)]
        summary = f"Reliability of the probabilities of {name}: expected calibration error {', '.join(errors)}"
        charts.append(reliability_chart([_bins(each) for each in runs], summary))
    note = f"present in {int(runs[0].present.sum()):,} of {len(runs[0].present):,} images"
    return Charts(name, note, tuple(charts), tuple(values))


def _roc(case: Scored) -> Series:
    curve = roc_curve(case.present, case.scores)
    return Series("", curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist())


def precision_recall_steps(case: Scored) -> Series:
    """Precision over recall as steps: each recall that is gained stands at the precision of its threshold.

    The area below is the average precision, which straight lines between the points would overstate.
    """
    curve = precision_recall_curve(case.present, case.scores)
    gained = np.diff(curve.recall, prepend=0.0) > 0
    ends, heights = curve.recall[gained], curve.precision[gained]
    starts = np.concatenate([[0.0], ends[:-1]])
    x, y = np.column_stack([starts, ends]).ravel(), np.column_stack([heights, heights]).ravel()
    return Series("", x.tolist(), y.tolist())


def _bins(case: Scored) -> list[Bin]:
    found = reliability(case.present, case.scores, bins=BINS)
    total = float(found.count.sum())
    return [
        Bin(float(p), float(f), float(w) / total, bool(w < FEW))
        for p, f, w in zip(found.mean_probability, found.frequency, found.count, strict=True)
        if w > 0
    ]

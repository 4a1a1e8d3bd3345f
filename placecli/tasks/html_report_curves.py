"""ROC, precision-recall and reliability of each label, for classification and zero-shot scores alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.calibration import reliability
from placecli.metrics.classification import auroc, average_precision, precision_recall_curve, roc_curve
from placecli.tasks.charts import Series
from placecli.tasks.html_report_charts import Bin, reliability_chart, square_chart
from placecli.tasks.html_report_content import Charts

Floats = NDArray[np.float64]

BINS: Final = 10
NOTE: Final = (
    "Left: share of the present that is found (up) against the share of the absent that is called present (right); the"
    " dashed diagonal is guessing. Middle: share of the called that is right against the share that is found; the dashed"
    " level is the share of present cases."
)
RELIABILITY: Final = (
    " Right: where the model gives a probability, how often the finding is there; on the diagonal it means what it says."
    " Larger dots hold more cases."
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
    areas = ", ".join(f"{auroc(each.present, each.scores):.3f}" for each in runs)
    means = ", ".join(f"{average_precision(each.present, each.scores):.3f}" for each in runs)
    charts = [
        square_chart(
            [_roc(each) for each in runs],
            x_label="false positive rate",
            y_label="true positive rate",
            summary=f"ROC curve of {name}: area {areas}",
            diagonal=True,
        ),
        square_chart(
            [_precision_recall(each) for each in runs],
            x_label="recall",
            y_label="precision",
            summary=f"Precision-recall curve of {name}: average precision {means}, chance {prevalence:.3f}",
            level=prevalence,
        ),
    ]
    if with_reliability:
        charts.append(reliability_chart([_bins(each) for each in runs], f"Reliability of the probabilities of {name}"))
    return Charts(name, f"{int(runs[0].present.sum())} of {len(runs[0].present)}. AUROC {areas}", tuple(charts))


def _roc(case: Scored) -> Series:
    curve = roc_curve(case.present, case.scores)
    return Series("", curve.false_positive_rate.tolist(), curve.true_positive_rate.tolist())


def _precision_recall(case: Scored) -> Series:
    curve = precision_recall_curve(case.present, case.scores)
    return Series("", curve.recall.tolist(), curve.precision.tolist())


def _bins(case: Scored) -> list[Bin]:
    found = reliability(case.present, case.scores, bins=BINS)
    total = float(found.count.sum())
    return [
        Bin(float(p), float(f), float(w) / total)
        for p, f, w in zip(found.mean_probability, found.frequency, found.count, strict=True)
        if w > 0
    ]

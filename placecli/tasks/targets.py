"""Labels of images -> what a classifier is trained and scored on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from placecli.config import ClassificationConfig
from placecli.records import PlaceError, Row

Floats = NDArray[np.float64]


def read_targets(rows: Sequence[Row], labels: Sequence[str], config: ClassificationConfig) -> Floats:
    """float64 [n, L]: 1 present, 0 absent, nan not known, by the preset's reading of -1 and of silence.

    A row without any label was not labelled: all nan. Raises PlaceError where `kind` is multi-class and a labelled row
    has not exactly one of the labels.
    """
    silence = 0.0 if config.unmentioned == "absent" else np.nan
    table = np.full((len(rows), len(labels)), np.nan)
    for i, row in enumerate(rows):
        if row.labels:
            table[i] = [_read(row.labels.get(label, silence), label, config) for label in labels]
    if config.kind == "multi-class":
        _check_classes(table, labels)
    return table


def _read(value: float, label: str, config: ClassificationConfig) -> float:
    if value != -1.0:
        return value
    match config.uncertain:
        case "ignore":
            return float("nan")
        case "zeros":
            return 0.0
        case "ones":
            return 1.0
        case "mixed":
            return float(label in config.uncertain_present)


def _check_classes(table: Floats, labels: Sequence[str]) -> None:
    labelled = ~np.isnan(table).all(axis=1)
    bad = int((np.nansum(table[labelled], axis=1) != 1).sum())
    if bad:
        raise PlaceError(
            f"{bad} of {int(labelled.sum())} labelled images have not exactly one of {', '.join(labels)};"
            " name the classes in finetune.classification.labels, or set kind=multi-label"
        )


def choose_labels(rows: Sequence[Row], config: ClassificationConfig) -> tuple[str, ...]:
    """The labels of the preset, or all that have present and absent cases among `rows`, sorted.

    Raises PlaceError for a label that no row has, or where none is left.
    """
    known = sorted({label for row in rows for label in row.labels})
    if config.labels:
        for label in config.labels:
            if label not in known:
                raise PlaceError(
                    f'finetune.classification.labels: the train split has no label "{label}";'
                    f" it has {', '.join(known) or 'none'}"
                )
        return config.labels
    table = read_targets(rows, known, config.model_copy(update={"kind": "multi-label"}))
    chosen = tuple(label for label, column in zip(known, table.T, strict=True) if _has_both(column))
    if not chosen:
        raise PlaceError("no label of the train split has both present and absent cases; classification needs labels")
    return chosen


def _has_both(column: Floats) -> bool:
    return bool((column == 1).any() and (column == 0).any())

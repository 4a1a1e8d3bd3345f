"""Predictions as files: JSON lines, one object an image, by ours or any other program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from placecli.data.atomic import commit, flush_file, temporary_path
from placecli.records import PlaceError, Row
from placecli.tasks.use import Prediction


def write_predictions(file: Path, predictions: list[Prediction]) -> None:
    """One JSON object a line, the whole file or none of it."""
    temporary = temporary_path(file)
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        for prediction in predictions:
            stream.write(json.dumps(prediction, ensure_ascii=False) + "\n")
    flush_file(temporary)
    commit(temporary, file)


def match_predictions(predictions: Sequence[Prediction], rows: Sequence[Row], key: str) -> list[Prediction]:
    """The prediction of each row, in the order of the rows. Raises PlaceError where `key` or a row's prediction lacks."""
    found: dict[str, Prediction] = {}
    for number, prediction in enumerate(predictions, start=1):
        if "image_id" not in prediction or key not in prediction:
            missing = "image_id" if "image_id" not in prediction else key
            raise PlaceError(f'predictions, line {number}: no "{missing}"; docs/finetune.md shows the form')
        found[str(prediction["image_id"])] = prediction
    lacking = sum(row.image_id not in found for row in rows)
    if lacking:
        raise PlaceError(
            f"predictions: {lacking} of {len(rows)} images of the split have none; predict every image, an empty"
            " answer included, so that nothing is scored by leaving it out"
        )
    return [found[row.image_id] for row in rows]

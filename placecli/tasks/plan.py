"""What `place retrieve` and `place evaluate` would work on: nothing is embedded, nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from placecli.data.store import open_store
from placecli.engine.checkpoint import load_model
from placecli.records import PlaceError
from placecli.tasks.gallery import INDEX, is_ready, training_store


def plan(run: Path, data: Path | None, split: str, option: str) -> dict[str, Any]:
    """Model, store and sizes; `is_ready`: the vectors were made before by this model.

    `option` is the one that names the store. Raises PlaceError as the command itself would.
    """
    loaded = load_model(run)
    store = open_store(data) if data is not None else training_store(loaded, option)
    rows = store.select(split)
    if not rows:
        raise PlaceError(f'{store.path}: split "{split}" has no images; choose another split or another store')
    return {
        "run": str(run),
        "model": loaded.digest,
        "data": str(store.path),
        "split": split,
        "images": len(rows),
        "patients": len({row.patient_id for row in rows}),
        "images_with_report": sum(bool(row.sentences) for row in rows),
        "images_with_labels": sum(bool(row.labels) for row in rows),
        "images_with_boxes": sum(bool(row.boxes) for row in rows),
        "index": str(run / INDEX),
        "is_ready": is_ready(loaded, store, split, run / INDEX),
    }

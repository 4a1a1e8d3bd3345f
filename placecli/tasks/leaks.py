"""Leaks between splits where they matter: what `place evaluate --task leaks` prints, and what a clean score refuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from placecli.data.leaks import find_leaks, leaks_of, read_contents
from placecli.data.store import Store, open_store
from placecli.engine.checkpoint import DATA
from placecli.metrics.clinical.findings import NO_FINDING
from placecli.metrics.clinical.labeler import label_report
from placecli.records import PlaceError, Row

logger = logging.getLogger(__name__)

ONE_SOURCE: tuple[frozenset[str], ...] = (
    frozenset({"openi", "iu-xray"}),
    frozenset({"mimic-cxr", "mimic-r2gen", "ms-cxr"}),
    frozenset({"nih", "rsna"}),
)
"""Releases of one collection, whose readers give a patient the same id."""

SYNTHETIC = "demo"
"""The release of phantoms, which look alike because they are drawn from a few outlines."""


def report_leaks(stores: Sequence[Path]) -> dict[str, Any]:
    """{"task": "leaks", "data", "near_correlation", "counts", "found"} of the splits of a store, or between two stores.

    `counts[pair]["texts_without_finding"]` counts the shared texts that state no finding by our labeler. Raises
    PlaceError for more stores or none.
    """
    if not 1 <= len(stores) <= 2:
        raise PlaceError(
            f"leaks are looked for within one store or between two, not {len(stores)}; name them by --data"
        )
    opened = [open_store(path) for path in stores]
    if len(opened) == 1:
        content = leaks_of(opened[0])
    else:
        names = [path.name for path in stores]
        names = names if names[0] != names[1] else ["first", "second"]
        content = find_leaks(
            *(read_contents(store.path, store.rows, name=name) for store, name in zip(opened, names, strict=True))
        )
    rows = {row.image_id: row for row in opened[0].rows}
    counts = {
        pair: {**kinds, "texts_without_finding": _count_normal(content["found"][pair]["texts"], rows)}
        for pair, kinds in content["counts"].items()
    }
    return {
        "task": "leaks",
        "data": [str(path) for path in stores],
        "near_correlation": content["near_correlation"],
        "counts": counts,
        "found": content["found"],
    }


def clean_rows(
    rows: Sequence[Row], store: Store, split: str, task: str, run: Path | None, how: Literal["refuse", "leave-out"]
) -> list[Row]:
    """The rows of a split that a clean score of a tuned model may count.

    Leaked are rows whose patient or frame is also in the train split of this store, or of the one that `run` was tuned
    on. Raises PlaceError for a leaked row with "refuse"; images that look alike and (for reports) equal texts are
    warnings.
    """
    leaked = _leaked_within(rows, store, split, task) if split in ("validate", "test") else set()
    leaked |= _leaked_from(rows, store, run)
    if not leaked:
        return list(rows)
    patients = len({row.patient_id for row in rows if row.image_id in leaked})
    said = f"{store.path}: {len(leaked)} of {len(rows)} images of split {split} ({patients} patients) leak from train"
    if how == "refuse":
        raise PlaceError(
            f"{said}; a clean score may not count them: --set evaluate.leaks=leave-out scores the others,"
            " --protocol compat all; `place evaluate --task leaks` names them"
        )
    logger.warning("%s and are left out", said)
    return [row for row in rows if row.image_id not in leaked]


def _leaked_within(rows: Sequence[Row], store: Store, split: str, task: str) -> set[str]:
    content, pair = leaks_of(store), f"train-{split}"
    if pair not in content["counts"]:
        return set()
    counts, found = content["counts"][pair], content["found"][pair]
    near, texts = counts["near_images"], counts["texts"]
    if near["shared"] and store.config.preprocess.release != SYNTHETIC:
        logger.warning(
            "%s: %d images of split %s look like one of train; `place evaluate --task leaks` names them",
            store.path,
            near[split],
            split,
        )
    if texts["shared"] and task == "report-generation":
        logger.warning(
            "%s: %d images of split %s have a report that is also in train, word for word; normal reports repeat",
            store.path,
            texts[split],
            split,
        )
    patients = set(found["patients"])
    frames = {image for group in found["images"] for image in group[split]}
    return {row.image_id for row in rows if row.patient_id in patients or row.image_id in frames}


def _leaked_from(rows: Sequence[Row], store: Store, run: Path | None) -> set[str]:
    """Of a store that `run` was not tuned on: images whose frame is in its train split; by patient in one collection."""
    source = None if run is None else training_store_of(run)
    if source is None or source.digest == store.digest:
        return set()
    learnt = source.select("train")
    leaked = set()
    releases = {source.config.preprocess.release, store.config.preprocess.release}
    if len(releases) == 1 or any(releases <= each for each in ONE_SOURCE):
        patients = {row.patient_id for row in learnt}
        leaked = {row.image_id for row in rows if row.patient_id in patients}
    if source.size == store.size:
        theirs = read_contents(source.path, source.rows, with_thumbnails=False)
        frames = {key for key, part in zip(theirs.keys["images"], theirs.splits, strict=True) if part == "train"}
        own = read_contents(store.path, store.rows, with_thumbnails=False)
        equal = {image for image, key in zip(own.image_ids, own.keys["images"], strict=True) if key in frames}
        leaked |= {row.image_id for row in rows if row.image_id in equal}
    return leaked


def training_store_of(run: Path) -> Store | None:
    """The store that a run learnt from, by its data.json; None where that is not known or not there any more."""
    try:
        path = Path(json.loads((run / DATA).read_text("utf-8"))["store"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return open_store(path) if path.is_dir() else None


def _count_normal(texts: Sequence[Mapping[str, Sequence[str]]], rows: Mapping[str, Row]) -> int:
    """Groups of equal texts that state no finding; the first image of a group stands in the first store."""
    firsts = [rows[next(iter(group.values()))[0]] for group in texts]
    return sum(label_report(" ".join(row.sentences)).get(NO_FINDING) == 1 for row in firsts)

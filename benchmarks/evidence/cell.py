"""One cell of the grid: pre-train, score, write cell.json; what is there already is not done again."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from altered import score_alterations
from grid import Cell
from where import score_pointing

from placecli.config import Preset, change_preset
from placecli.data.atomic import checksum, write_file
from placecli.data.manifest import write_manifest
from placecli.data.store import DESCRIPTION, MANIFEST, open_store, store_digest
from placecli.engine.checkpoint import CONFIG, METRICS, MODEL, load_model
from placecli.engine.distributed import choose_device
from placecli.engine.pretrain import pretrain
from placecli.engine.start import Start
from placecli.records import Row
from placecli.tasks.evaluate import evaluate
from placecli.tasks.finetune import finetune

FRACTIONS = (0.01, 0.1, 0.3, 1.0)
OBSERVED = "finetune.classification.features=observations"
DRAWS = (0, 1, 2)
"""Seeds that draw the labelled patients; their mean is the cell's figure."""

Scores = Mapping[str, float]


def run_cell(cell: Cell) -> dict[str, Any]:
    """The record of a cell: source, arm, seed, training, scores by kind. Raises what training raises."""
    torch.set_num_threads(cell.threads)
    file = cell.out / "cell.json"
    record: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    if "training" in record and "curve" not in record:
        record["curve"] = _read_curve(cell.out / "run")
        write_file(file, (json.dumps(record) + "\n").encode())
    places = _places(cell)
    if all(_is_scored(record, name, places) for name in cell.scores):
        return record
    cell.out.mkdir(parents=True, exist_ok=True)
    store = open_store(cell.store)
    preset = change_preset(store.config, ["evaluate.bootstrap=0", *(f"pretrain.{each}" for each in cell.overrides)])
    preset = change_preset(preset, [f"pretrain.seed={cell.seed}", *cell.tuned])
    record = {"source": cell.source, "arm": cell.arm, "seed": cell.seed, "overrides": list(cell.overrides)} | record
    record.setdefault("scores", {})
    if cell.arm == "supervised":
        record["scores"] = {key: {} for key in cell.scores} | {"probe": _supervise(cell, preset)}
    else:
        if "training" not in record:
            record["training"] = _train(cell, preset)
            record["curve"] = _read_curve(cell.out / "run")
        for name in cell.scores:
            if not _is_scored(record, name, places):
                started = time.monotonic()
                there, told = scored_at(cell, name, preset)
                values = SCORERS[name](there, told) if _is_scorable(name, there) else {}
                record["scores"][name] = {**values, "seconds": round(time.monotonic() - started, 1)}
                kept = {kind: place for kind, place in record.get("elsewhere", {}).items() if kind != name}
                record["elsewhere"] = kept | {kind: place for kind, place in places.items() if kind == name}
                write_file(file, (json.dumps(record) + "\n").encode())
    write_file(file, (json.dumps(record) + "\n").encode())
    return record


def _places(cell: Cell) -> dict[str, str]:
    """By kind the name and the first digits of the digest of the other store that it is scored on."""
    stores = {kind: open_store(path) for kind, path in cell.elsewhere.items()}
    for kind, store in stores.items():
        if store.digest == open_store(cell.store).digest:
            raise SystemExit(f"--score-on {kind}={store.path}: this is the store that is learnt from; leave it out")
    return {kind: f"{store.config.name} {store.digest[:8]}" for kind, store in stores.items()}


def _is_scored(record: Mapping[str, Any], kind: str, places: Mapping[str, str]) -> bool:
    """Whether the record has this score, taken where it is wanted."""
    return kind in record.get("scores", {}) and record.get("elsewhere", {}).get(kind) == places.get(kind)


def scored_at(cell: Cell, kind: str, preset: Preset) -> tuple[Cell, Preset]:
    """The cell with the store that this kind of score is taken on, and the preset with that store's prompts and tuning."""
    if kind not in cell.elsewhere:
        return cell, preset
    other = open_store(cell.elsewhere[kind]).config
    preset = preset.model_copy(update={"finetune": other.finetune, "evaluate": other.evaluate})
    return replace(cell, store=cell.elsewhere[kind]), change_preset(preset, ["evaluate.bootstrap=0", *cell.tuned])


def _train(cell: Cell, preset: Preset) -> dict[str, Any]:
    summary = pretrain(preset, _learnt_from(cell), cell.out / "run", device=cell.device)
    keys = ("steps", "best_epoch", "seconds", "train_pairs", "parameters", "device")
    return {key: getattr(summary, key) for key in keys}


def _learnt_from(cell: Cell) -> Path:
    """The cell's store, or a copy of it beside the cell with other or fewer reports to learn from."""
    if cell.arm != "shuffled" and cell.patients is None:
        return cell.store
    rows: Sequence[Row] = open_store(cell.store).rows
    if cell.patients is not None:
        rows = keep_patients(rows, cell)
    if cell.arm == "shuffled":
        rows = shuffle_reports(rows, cell.seed)
    return write_store(cell.store, cell.out / "store", rows)


def _read_curve(run: Path) -> list[tuple[int, float]]:
    """(step, mean of the six recalls on the validate split) of each validation of the run."""
    lines = (json.loads(line) for line in (run / METRICS).read_text("utf-8").splitlines())
    return [(line["step"], round(line["recall"], 4)) for line in lines if line.get("split") == "validate"]


def shuffle_reports(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows, those of the train and validate images with each other's reports."""
    mixed = list(rows)
    random = np.random.default_rng(seed)
    for split in ("train", "validate"):
        places = [i for i, row in enumerate(rows) if row.split == split]
        others = [rows[i] for i in random.permutation(places)]
        for place, other in zip(places, others, strict=True):
            texts = {name: getattr(other, name) for name in ("sentences", "findings", "impression")}
            mixed[place] = replace(rows[place], **texts)
    return mixed


def keep_patients(rows: Sequence[Row], cell: Cell) -> list[Row]:
    """The rows without all but `cell.patients` patients of the train split, drawn by the cell's seed."""
    patients = sorted({row.patient_id for row in rows if row.split == "train"})
    if cell.patients is None or cell.patients > len(patients):
        raise SystemExit(f"--patients {cell.patients}: {cell.store} has {len(patients)} to learn from")
    drawn = np.random.default_rng(cell.seed).permutation(len(patients))[: cell.patients]
    kept = {patients[place] for place in drawn}
    return [row for row in rows if row.split != "train" or row.patient_id in kept]


def write_store(source: Path, target: Path, rows: Sequence[Row]) -> Path:
    """A copy of the store with these rows for its manifest; pixels are linked, not copied."""
    store = open_store(source)
    if (target / DESCRIPTION).is_file():
        return target
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in store.description["files"]:
        if name != MANIFEST:
            os.link(source / name, target / name)
    write_manifest(target / MANIFEST, rows)
    files = dict(store.description["files"])
    files[MANIFEST] = {"bytes": (target / MANIFEST).stat().st_size, "sha256": checksum(target / MANIFEST)}
    description = {**store.description, "files": files, "digest": store_digest(files)}
    write_file(target / DESCRIPTION, yaml.safe_dump(description, sort_keys=False).encode())
    return target


def _is_scorable(name: str, cell: Cell) -> bool:
    rows = open_store(cell.store).select(_split(cell, name))
    if name in ("grounding", "detection"):
        return any(row.boxes for row in rows)
    return name != "segmentation" or any(row.mask_row >= 0 for row in rows)


def _split(cell: Cell, kind: str) -> str:
    """Grounding learns nothing from another store, so all of it is asked."""
    return "all" if kind == "grounding" and kind in cell.elsewhere else "test"


def _evaluated(cell: Cell, preset: Preset, task: Any, split: str = "test") -> dict[str, float]:
    found = evaluate(
        cell.out / "run", cell.store, task, split=split, config=preset.evaluate, device=cell.device
    ).findings
    return {name: measure.value for name, measure in found.metrics.items()}


def _retrieval(cell: Cell, preset: Preset) -> Scores:
    values = _evaluated(cell, preset, "retrieval")
    names = [f"{name}{way}" for way in ("", "_text_to_image") for name in (*RECALLS, "median_rank")]
    return {name: values[name] for name in names}


RECALLS = ("recall@1", "recall@5", "recall@10")


def _zero_shot(cell: Cell, preset: Preset) -> Scores:
    values = _evaluated(cell, preset, "zero-shot")
    return {name: value for name, value in values.items() if name.startswith("auroc")}


def _grounding(cell: Cell, preset: Preset) -> Scores:
    split = _split(cell, "grounding")
    if preset.pretrain.objective.pcma_weight == 0:
        run = load_model(cell.out / "run", choose_device(cell.device))
        return score_pointing(run, open_store(cell.store), split, preset.evaluate)
    values = _evaluated(cell, preset, "grounding", split)
    return {name: value for name, value in values.items() if name != "pointing_game_centre"}


def _altered(cell: Cell, preset: Preset) -> Scores:
    return score_alterations(load_model(cell.out / "run", choose_device(cell.device)), open_store(cell.store), "test")


def _probe(cell: Cell, preset: Preset) -> Scores:
    values = {}
    for fraction in FRACTIONS:
        draws = DRAWS if fraction < 1 else DRAWS[:1]  # all labels are all labels
        values[f"auroc_{fraction:g}"] = _tune(cell, preset, "classification", fraction, draws, "auroc_macro")
    return values


def _observed(cell: Cell, preset: Preset) -> Scores:
    """The probe on global feature and V-PORs; of an arm that learnt no V-PORs, on the global feature that it learnt."""
    has_observations = preset.pretrain.objective.pcma_weight > 0
    return _probe(cell, change_preset(preset, [OBSERVED])) if has_observations else _probe(cell, preset)


def _drawn(cell: Cell, preset: Preset) -> Scores:
    """The probe on global feature and V-PORs where no term taught the extractor, so that it reads as it was drawn: what
    reading patches is worth by itself. {} for an arm that taught it."""
    if preset.pretrain.objective.pcma_weight > 0:
        return {}
    with tempfile.TemporaryDirectory(dir=cell.out) as folder:
        claim_observations(cell.out / "run", Path(folder) / "run")
        return _probe(replace(cell, out=Path(folder)), change_preset(preset, [OBSERVED]))


def claim_observations(source: Path, target: Path) -> None:
    """A run with the weights of `source` that says of itself that its extractor was learnt; others are not read."""
    target.mkdir()
    os.link(source / MODEL, target / MODEL)
    saved = yaml.safe_load((source / CONFIG).read_text("utf-8"))
    saved["pretrain"]["objective"]["pcma_weight"] = 1.0
    write_file(target / CONFIG, yaml.safe_dump(saved, sort_keys=False).encode())


def _segmentation(cell: Cell, preset: Preset) -> Scores:
    if "segmentation" in cell.elsewhere:
        return {"dice_1": _tune(cell, preset, "segmentation", 1.0, DRAWS, "dice_positives")}
    return {"dice": _tune(cell, preset, "segmentation", 0.05, DRAWS[:1], "dice_positives")}


def _detection(cell: Cell, preset: Preset) -> Scores:
    return {"map_50": _tune(cell, preset, "detection", 0.1, DRAWS[:1], "map_50")}


def _supervise(cell: Cell, preset: Preset) -> Scores:
    """Macro AUROC of the same image encoder learnt from all labels, as far as pre-training goes."""
    changes = ["finetune.classification.tune=full", f"finetune.classification.epochs={preset.pretrain.epochs}"]
    changes += [f"finetune.classification.batch_size={preset.pretrain.batch_size}"]
    changes += [f"finetune.classification.learning_rate={preset.pretrain.learning_rate}"]
    told = change_preset(preset, changes)
    summary = finetune(
        "classification",
        told,
        cell.store,
        Start("random", None),
        cell.out / "run",
        seeds=[cell.seed],
        device=cell.device,
    )
    return {"auroc_1": summary.metrics["auroc_macro"]["value"]}


def _tune(cell: Cell, preset: Preset, task: str, fraction: float, draws: tuple[int, ...], metric: str) -> float:
    suffix = "-observed" if preset.finetune.classification.features == "observations" else ""
    out = cell.out / f"{task}{suffix}-{fraction:g}"
    tuned = change_preset(preset, [f"finetune.fraction={fraction}"])
    with contextlib.redirect_stderr(io.StringIO()):
        summary = finetune(
            task, tuned, cell.store, Start("run", cell.out / "run"), out, seeds=list(draws), device=cell.device
        )
    return float(summary.metrics[metric]["value"])


SCORERS: Mapping[str, Callable[[Cell, Preset], Scores]] = {
    "retrieval": _retrieval,
    "zero-shot": _zero_shot,
    "grounding": _grounding,
    "probe": _probe,
    "observed": _observed,
    "drawn": _drawn,
    "altered": _altered,
    "segmentation": _segmentation,
    "detection": _detection,
}

"""A folder as a user has it after some work: stores, runs, predictions and pictures, all small."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import yaml
from small_run import small_preset, write_run, write_store

from placecli.config import Preset
from placecli.data.store import open_store
from placecli.engine.start import Start
from placecli.tasks.finetune import finetune

SMALL = {
    "classification": {"epochs": 1, "batch_size": 8},
    "segmentation": {"epochs": 1, "batch_size": 8, "width": 16},
    "detection": {"epochs": 1, "batch_size": 8, "width": 16},
    "report_generation": {
        "epochs": 1,
        "batch_size": 8,
        "layers": 1,
        "width": 32,
        "heads": 2,
        "max_tokens": 24,
        "num_beams": 2,
    },
}
"""Settings that make each use train in seconds; everything else is as the page says."""


def preset() -> Preset:
    return Preset.model_validate(small_preset().model_dump() | {"finetune": SMALL, "evaluate": {"bootstrap": 10}})


def make_folder(root: Path) -> Path:
    """stores/{openi,nih,rsna}, runs/{openi,openi-ita,openi-classification}, {ours,theirs}.jsonl, scans/*.png, image.png."""
    for seed, name in enumerate(("openi", "nih", "rsna")):
        store = write_store(root / "stores" / name, {"train": 24, "validate": 8, "test": 8}, seed=seed)
        description = yaml.safe_load((store / "store.yaml").read_text())
        description["preset"] = preset().model_dump(mode="json")
        (store / "store.yaml").write_text(yaml.safe_dump(description))
    for seed, name in enumerate(("openi", "openi-ita"), start=1):
        write_run(root / "runs" / name, preset(), seed=seed)
        data = {"store": str(root / "stores" / "openi"), "digest": open_store(root / "stores" / "openi").digest}
        (root / "runs" / name / "data.json").write_text(json.dumps(data))
    start = Start("run", root / "runs" / "openi")
    tuned = root / "runs" / "openi-classification"
    finetune("classification", preset(), root / "stores" / "openi", start, tuned, seeds=[1], device="cpu")
    for name in ("ours.jsonl", "theirs.jsonl"):
        shutil.copy(tuned / "predictions.jsonl", root / name)
    _write_pictures(root)
    return root


def _write_pictures(root: Path) -> None:
    """image.png, and the test split as scans/<image_id>.png."""
    (root / "scans").mkdir()
    store = open_store(root / "stores" / "openi")
    rows = store.select("test")
    for row, image in zip(rows, store.images(rows), strict=True):
        cv2.imwrite(str(root / "scans" / f"{row.image_id}.png"), image)
    shutil.copy(root / "scans" / f"{rows[0].image_id}.png", root / "image.png")


def make_report_run(root: Path) -> None:
    """runs/openi-report-generation: a run that writes reports, of the store and the run of Open-i."""
    start = Start("run", root / "runs" / "openi")
    tuned = root / "runs" / "openi-report-generation"
    finetune("report-generation", preset(), root / "stores" / "openi", start, tuned, seeds=[1], device="cpu")

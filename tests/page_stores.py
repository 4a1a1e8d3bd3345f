"""Stores that a page's commands can learn from, where the made-up release of that name is too small."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import yaml
from made_up_releases import LABELS
from small_run import FINDINGS, make_rows, write_rows

from placecli.config import Preset, load_preset
from placecli.data.store import open_store
from placecli.records import Row

COUNTS = {"train": 24, "validate": 8, "test": 8}


def option(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words else None


def prepare_data(words: list[str], folder: Path) -> None:
    """Before a command: what it is to write is not there yet, and the store that it learns from has enough to learn from.

    A folder that the page's own commands wrote carries a mark and stays.
    """
    is_dry = "--dry-run" in words
    if words[0] not in ("preprocess", "pretrain", "finetune") or (is_dry and words[0] != "preprocess"):
        return
    preset = option(words, "--preset") or ("folder" if "--dicom-dir" in words else None)
    data = option(words, "--data") or f"stores/{preset}"
    if words[0] == "finetune":
        name = preset or open_store(folder / data).config.name
        default = f"runs/{name}-{option(words, '--task')}"
    else:
        default = f"{'stores' if words[0] == 'preprocess' else 'runs'}/{preset}"
    out = folder / (option(words, "--out") or default)
    mark = folder / "made" / out.relative_to(folder).as_posix().replace("/", "-")
    if not mark.exists():
        shutil.rmtree(out, ignore_errors=True)
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
    if words[0] != "preprocess" and data != "-" and preset:
        fill_store(folder / data, preset, option(words, "--task") or "")


def fill_store(store: Path, preset: str, task: str) -> None:
    """`store` as it is where it suits, else a made-up one in its place, with the labels that the preset asks for."""
    config = load_preset(preset)
    labels = LABELS.get(preset, ())
    if task in ("classification", "detection"):
        labels = getattr(config.finetune, task).labels or labels
    if store.exists() and suits(store, labels):
        return
    shutil.rmtree(store, ignore_errors=True)
    rows, images, masks = make_rows(COUNTS, seed=sum(map(ord, store.name)))
    write_rows(store, [with_labels(row, labels) for row in rows], images, masks)
    description = yaml.safe_load((store / "store.yaml").read_text())
    description["preset"] = of_frames(config, images.shape[1]).model_dump(mode="json")
    (store / "store.yaml").write_text(yaml.safe_dump(description))


def suits(store: Path, labels: tuple[str, ...]) -> bool:
    opened = open_store(store)
    enough = all(len(opened.select(split)) >= 4 for split in COUNTS)
    return enough and set(labels) <= {label for row in opened.select("train") for label in row.labels}


def with_labels(row: Row, labels: tuple[str, ...]) -> Row:
    """The row with every other label for its one finding, the rest for its other, and boxes called by the first."""
    if not labels:
        return row
    square, stripe = (row.labels[name] for name in FINDINGS)
    values = {label: stripe if at % 2 else square for at, label in enumerate(labels)}
    boxes = tuple(replace(box, label=label) for box in row.boxes for label in labels[:2] if values[label])
    return replace(row, labels=values, boxes=boxes)


def of_frames(config: Preset, size: int) -> Preset:
    return config.model_copy(update={"preprocess": config.preprocess.model_copy(update={"size": size})})

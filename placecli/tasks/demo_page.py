"""What the demo's page shows, gathered from its folder: evaluations, training curve, retrieved reports, heat-maps."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from placecli.config import Preset
from placecli.data.store import open_store
from placecli.engine.checkpoint import METRICS, load_model
from placecli.tasks.charts import Estimate, Series, smooth
from placecli.tasks.demo_gallery import DemoGallery
from placecli.tasks.page import Comparison, Curve, FindingResult, Page

Records = Mapping[str, Mapping[Any, Mapping[str, Any]]]
"""By "trained" and "untrained" and task, the object that `place evaluate` prints."""

SMOOTHING: Final = 20
"""Steps over which the training loss is averaged in the chart."""


def make_page(
    root: Path, records: Records, timings: Mapping[str, float], trained: Mapping[str, Any], config: Preset, device: str
) -> Page:
    """The content of the page of a demo folder whose store, runs and evaluations are finished.

    trained: the summary of `pretrain`. Retrieval and heat-maps are computed here, for patients of the test split.
    """
    store = open_store(root / "store")
    counts = {split: len(store.select(split)) for split in ("train", "validate", "test")}
    parameters = trained["parameters"]
    return Page(
        title="A model that learnt chest radiographs from their reports alone",
        lead=(
            "This page was made by one command. It made synthetic patients, read their DICOM files and reports into a"
            " store, trained a PLACE model without any label, and tested it on patients that it had never seen:"
            " can it tell which findings are there, find the matching report, and point at each finding?"
        ),
        banner=(
            "Every radiograph and every report here was made by this program from seed"
            f" {config.demo.seed}; no patient is behind any of them. The figures say that the chain works, not how well"
            " it would do on real radiographs. Nothing here is for clinical use."
        ),
        steps=(
            (f"{config.demo.num_patients:,}", f"synthetic patients, {sum(counts.values()):,} radiographs"),
            (f"{counts['train']:,}", "image-report pairs to learn from, no labels used"),
            (f"{parameters / 1e6:.1f} million", "parameters, from random weights"),
            (f"{trained['steps']:,}", f"training steps on {trained['device']}"),
            (f"{counts['test']:,}", "test images of patients never seen"),
        ),
        metrics_note=_metrics_note(records),
        comparisons=_comparisons(records),
        findings_note=(
            "Zero-shot: a sentence that states the finding is compared with one that denies it; labels serve only to"
            " score the answer. Pointing game: how often the maximum of the heat-map lies in the finding's box."
        ),
        findings=_findings(records),
        training_note=(
            f"Left: the loss on training pairs, mean of the last {SMOOTHING} steps. Right: after each epoch, how often"
            " the right report (or image) of a validation patient is among the ten best."
        ),
        curves=read_curves(root / "run" / METRICS),
        gallery_note=(
            "The first test patients with at least two findings, taken as they come. The model sees the image alone and"
            " searches the reports of the training patients, so the patient's own report is not among them. Each"
            " heat-map is the model's answer to a sentence that states the finding; the square marks its maximum."
        ),
        patients=DemoGallery(root, store, load_model(root / "run", device), config).patients(),
        timings=tuple((stage, seconds, "") for stage, seconds in timings.items()),
        machine=f"{_cores()} processor cores ({platform.machine()}), {trained['device']}, torch {torch.__version__}.",
        commands=_commands(root),
        footer=f"Seed {config.demo.seed}.",
    )


def _metrics_note(records: Records) -> str:
    retrieval, grounding = records["trained"]["retrieval"], records["trained"]["grounding"]
    counts = retrieval["counts"]
    return (
        f"{counts['images']} test images of {counts['patients']} patients; {counts['reports']} distinct reports to"
        f" choose from; {grounding['n']} planted findings to point at."
    )


def _comparisons(records: Records) -> tuple[Comparison, ...]:
    wanted = (
        ("zero-shot", "auroc_macro", "Zero-shot AUROC", "mean over the planted findings"),
        ("retrieval", "recall@10", "Report found, Recall@10", "image to report: the right one among the ten best"),
        ("retrieval", "recall@10_text_to_image", "Image found, Recall@10", "report to image"),
        ("grounding", "pointing_game", "Pointing game", "maximum of the heat-map inside the box of the finding"),
        ("grounding", "mass_inside", "Heat-map mass inside", "share of the heat-map that lies in that box"),
    )
    rows = []
    for task, key, name, explanation in wanted:
        trained = _estimate(records["trained"][task], key)
        if trained is not None:
            chance = records["trained"][task]["chance"].get(key)
            rows.append(Comparison(name, explanation, trained, _estimate(records["untrained"][task], key), chance))
    return tuple(rows)


def _findings(records: Records) -> tuple[FindingResult, ...]:
    trained, untrained = records["trained"]["zero-shot"], records["untrained"]["zero-shot"]
    pointing = records["trained"]["grounding"]["metrics"]
    found = []
    for key, metric in trained["metrics"].items():
        estimate = _estimate(trained, key)
        if not key.startswith("auroc[") or estimate is None:
            continue
        label = key.removeprefix("auroc[").removesuffix("]")
        point = pointing.get(f"pointing_game[{label}]")
        hits = None if point is None or point["value"] is None else (round(point["value"] * point["n"]), point["n"])
        found.append(FindingResult(label, metric["positives"], estimate, _estimate(untrained, key), hits))
    return tuple(sorted(found, key=lambda finding: -finding.trained.value))


def _estimate(record: Mapping[str, Any], key: str) -> Estimate | None:
    metric = record["metrics"].get(key)
    if metric is None or metric["value"] is None:
        return None
    low, high = metric["ci95"] or (None, None)
    return Estimate(metric["value"], low, high)


def read_curves(metrics: Path) -> tuple[Curve, ...]:
    """Training loss by step and validation recall by epoch, of a run's metrics.jsonl."""
    lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    steps = [line for line in lines if line.get("split") != "validate"]
    validations = [line for line in lines if line.get("split") == "validate"]
    terms = (("loss", "total"), ("instance", "instance"), ("pcma_batch", "PCMA"), ("correlation", "correlation"))
    losses = tuple(
        Series(name, [line["step"] for line in steps], smooth([line[key] for line in steps], SMOOTHING))
        for key, name in terms
        if steps and key in steps[0]
    )
    recalls = tuple(
        Series(name, [line["epoch"] for line in validations], [line[key] for line in validations])
        for key, name in (
            ("image_to_text_recall@10", "image to report"),
            ("text_to_image_recall@10", "report to image"),
        )
        if validations and key in validations[0]
    )
    return (
        Curve("Training loss and its terms", "step", "loss", losses),
        Curve("Validation Recall@10", "epoch", "Recall@10", recalls),
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _commands(root: Path) -> tuple[tuple[str, str], ...]:
    return (
        (
            "Ask this model with words: which radiographs show it, and where?",
            f'place retrieve --text "There is a large right pleural effusion." --run {root}/run --gallery {root}/store'
            " --heatmap effusion.png",
        ),
        (
            "Your own radiographs: any folder of DICOM, PNG or JPEG, with a table of reports",
            "place preprocess --dicom-dir FOLDER --reports reports.csv --out stores/mine\n"
            "place pretrain --preset folder --data stores/mine --out runs/mine\n"
            "place retrieve image.dcm --run runs/mine --gallery stores/mine",
        ),
        (
            "A published collection, here MIMIC-CXR: first see what would be read and how long it would take",
            "place preprocess --preset mimic --root MIMIC-CXR --dry-run\nplace pretrain --preset mimic --dry-run",
        ),
    )

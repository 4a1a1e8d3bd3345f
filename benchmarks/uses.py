"""What an encoder is worth in its uses: tuned from PLACE, from ITA alone, from ImageNet and from nothing, at equal cost.

    python benchmarks/uses.py --data STORE --start place=runs/openi --start ita=runs/openi-ita --start random --out cells
    python benchmarks/uses.py --data STORE --start place=RUN --start random --task segmentation --fraction 0.1 --seed 0 1 2
    python benchmarks/uses.py --quick      a tiny phantom, seconds; its figures mean nothing

One JSON line a cell (task, start, fraction), its metric of the test split averaged over seeds, then one a comparison with
the first start: the difference paired by seed, its mean and 95 % interval (Student's t over seeds), and the ratio. Every
cell is a run of `place finetune` under --out, so that the same command continues and a finished cell costs nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from placecli.config import Preset, change_preset, load_preset
from placecli.data.phantom import write_phantoms
from placecli.data.preprocess import preprocess
from placecli.data.store import open_store
from placecli.engine.pretrain import pretrain
from placecli.engine.start import Start
from placecli.tasks.finetune import finetune

HEADLINE = {
    "classification": "auroc_macro",
    "segmentation": "dice_positives",
    "detection": "map_50",
    "report-generation": "cider_d",
}
"""The metric by which cells are compared; each cell prints all."""

STUDENT_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Two-sided 95 % quantile of Student's t by degrees of freedom."""


def read_start(text: str, like: Path | None) -> tuple[str, Start]:
    """`name=RUN`, `random` or `imagenet`; the last two take their shape from the run `like`."""
    name, equals, run = text.partition("=")
    if equals:
        return name, Start("run", Path(run))
    if name not in ("random", "imagenet"):
        raise SystemExit(f"--start {text}: write name=RUN, random or imagenet")
    return name, Start("random" if name == "random" else "imagenet", like)


def tune(arguments: argparse.Namespace, preset: Preset, task: str, name: str, start: Start, fraction: float) -> Any:
    """The summary of one cell."""
    tuned = change_preset(preset, [f"finetune.fraction={fraction}", *arguments.set])
    folder = Path(arguments.out) / task / f"{name}-{fraction:g}"
    return finetune(task, tuned, Path(arguments.data), start, folder, seeds=arguments.seed, device=arguments.device)


def cells(arguments: argparse.Namespace, preset: Preset) -> Iterator[dict[str, Any]]:
    """A record a cell, then the comparisons of its task and fraction."""
    like = next((Path(text.partition("=")[2]) for text in arguments.start if "=" in text), None)
    starts = dict(read_start(text, like) for text in arguments.start)
    for task in arguments.task:
        for fraction in arguments.fraction:
            values: dict[str, list[float]] = {}
            for name, start in starts.items():
                summary = tune(arguments, preset, task, name, start, fraction)
                metrics = summary.to_record()["metrics"]
                values[name] = metrics[HEADLINE[task]]["values"]
                yield {
                    "task": task,
                    "start": name,
                    "tune": summary.tune,
                    "fraction": fraction,
                    "train_images": summary.train_images,
                    "test_images": summary.test_images,
                    "seeds": list(arguments.seed),
                    "seconds": round(summary.seconds, 1),
                    "metrics": {key: {"value": entry["value"], "sd": entry["sd"]} for key, entry in metrics.items()},
                }
            first, *others = starts
            for other in others:
                yield compare(task, fraction, first, other, values[first], values[other])


def compare(
    task: str, fraction: float, first: str, other: str, ours: Sequence[float], theirs: Sequence[float]
) -> dict[str, Any]:
    """first - other on the headline metric, paired by seed."""
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, interval = statistics.fmean(differences), None
    if len(set(differences)) > 1:  # a probe on all labels is the same for every seed, and says nothing about spread
        half = STUDENT_95.get(len(differences) - 1, 1.96) * statistics.stdev(differences) / math.sqrt(len(differences))
        interval = [round(mean - half, 4), round(mean + half, 4)]
    base = statistics.fmean(theirs)
    return {
        "compared": f"{first} - {other}",
        "task": task,
        "fraction": fraction,
        "metric": HEADLINE[task],
        "difference": round(mean, 4),
        "ci95_over_seeds": interval,
        "ratio": round(statistics.fmean(ours) / base, 3) if base else None,
    }


def quick(arguments: argparse.Namespace, folder: Path) -> None:
    """A tiny phantom and a run of a few steps in `folder`."""
    preset = load_preset("demo", ["pretrain.max_steps=3", "pretrain.batch_size=8", "evaluate.bootstrap=20"])
    write_phantoms(folder / "phantoms", 40, 1)
    preprocess(preset, folder / "phantoms", folder / "store", workers=1)
    pretrain(preset, folder / "store", folder / "run", device="cpu")
    arguments.data, arguments.out = folder / "store", folder / "cells"
    arguments.start, arguments.seed = [f"place={folder / 'run'}", "random"], [0]


def main() -> None:
    """Print the cells and comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="store with a test split")
    parser.add_argument(
        "--start", action="append", default=[], help="name=RUN, random, imagenet; the first is compared"
    )
    parser.add_argument("--task", nargs="+", choices=list(HEADLINE), default=["classification"])
    parser.add_argument("--fraction", nargs="+", type=float, default=[1.0])
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], help="as of place, with the section in front")
    parser.add_argument("--out", default="cells", help="folder of the runs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if arguments.quick:
            quick(arguments, Path(place))
        if not arguments.data or not arguments.start:
            parser.error("--data and at least one --start, or --quick")
        for record in cells(arguments, open_store(arguments.data).config):
            print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()

"""`place demo`: phantoms -> store -> run -> evaluation on unseen patients -> one page. Each stage can be continued."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from placecli.config import Preset, changed_keys, dump_preset, load_preset
from placecli.data.atomic import write_file
from placecli.data.phantom import write_phantoms
from placecli.data.preprocess import preprocess
from placecli.engine import checkpoint
from placecli.engine.distributed import choose_device
from placecli.engine.pretrain import pretrain
from placecli.records import PlaceError
from placecli.tasks.demo_page import make_page
from placecli.tasks.embed import Progress
from placecli.tasks.evaluate import evaluate
from placecli.tasks.evaluation import Task
from placecli.tasks.page import render

QUICK: Final = ("demo.num_patients=120", "pretrain.epochs=4", "pretrain.batch_size=16", "evaluate.bootstrap=200")
"""Overrides of `--quick`: the same chain within a minute on two cores; its figures mean nothing."""

TASKS: Final[tuple[Task, ...]] = ("zero-shot", "retrieval", "grounding")
HEADLINES: Final[Mapping[Task, tuple[str, ...]]] = {
    "zero-shot": ("auroc_macro", "average_precision_macro"),
    "retrieval": ("recall@1", "recall@5", "recall@10", "median_rank", "recall@10_text_to_image"),
    "grounding": ("pointing_game", "pointing_game_mask", "pointing_game_macro", "pointing_game_prior", "mass_inside"),
}
"""What the summary object repeats of each evaluation; evaluation.jsonl in the folder holds all of it."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DemoFolder:
    """Where things lie below `root`."""

    root: Path

    @property
    def phantoms(self) -> Path:
        return self.root / "phantoms"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def untrained(self) -> Path:
        return self.root / "untrained"

    @property
    def page(self) -> Path:
        return self.root / "index.html"

    @property
    def preset(self) -> Path:
        return self.root / "preset.yaml"

    @property
    def timings(self) -> Path:
        return self.root / "timings.json"

    @property
    def evaluations(self) -> Path:
        return self.root / "evaluation.jsonl"

    @property
    def summary(self) -> Path:
        return self.root / "summary.json"


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What `--dry-run` prints."""

    folder: str
    patients: int
    seed: int
    epochs: int
    batch_size: int
    image_size: int
    is_started: bool
    is_finished: bool


def plan(config: Preset, out: Path) -> DemoPlan:
    """What `run_demo` with the same arguments would do; writes nothing."""
    folder, section = DemoFolder(out), config.pretrain
    return DemoPlan(
        folder=str(out),
        patients=config.demo.num_patients,
        seed=config.demo.seed,
        epochs=section.epochs,
        batch_size=section.batch_size,
        image_size=section.model.image_size,
        is_started=folder.preset.is_file(),
        is_finished=folder.summary.is_file(),
    )


def run_demo(
    config: Preset, out: Path, *, device: str = "auto", progress: Progress, say: Say = lambda line: None
) -> Mapping[str, Any]:
    """The whole chain in folder `out`; returns the summary object, with `already_done` where nothing was left to do.

    progress(stage, done, total) is called within the long stages, say(line) after each. Raises PlaceError where the
    folder was begun with other settings or holds something else.
    """
    folder = DemoFolder(out)
    _claim(folder, config)
    if folder.summary.is_file() and folder.page.is_file():
        return {**json.loads(folder.summary.read_text("utf-8")), "already_done": True}
    target = str(choose_device(device))
    with _stage(folder, "make phantoms", say):
        if not (folder.phantoms / "phantom.jsonl").is_file():
            write_phantoms(
                folder.phantoms, config.demo.num_patients, config.demo.seed, progress=_named(progress, "make phantoms")
            )
    with _stage(folder, "preprocess", say):
        preprocess(config, folder.phantoms, folder.store, progress=_named(progress, "preprocess"))
    with _stage(folder, "pretrain", say):
        trained = pretrain(config, folder.store, folder.run, device=device, progress=_named(progress, "pretrain"))
    with _stage(folder, "evaluate", say):
        _make_untrained(folder, config.pretrain.seed + 1)
        records = _evaluate(folder, target, progress)
    with _stage(folder, "retrieve and draw", say):
        timings = json.loads(folder.timings.read_text("utf-8"))
        page = make_page(folder.root, records, timings, asdict(trained), config, target)
        write_file(folder.page, render(page).encode())
    summary = _summary(folder, config, records)
    write_file(folder.summary, (json.dumps(summary, indent=1) + "\n").encode())
    say(f"demo: open {folder.page}")
    return {**summary, "already_done": False}


def _claim(folder: DemoFolder, config: Preset) -> None:
    """Note the settings in a new folder; refuse one that was begun with others or holds something else."""
    if folder.preset.is_file():
        changed = changed_keys(load_preset(str(folder.preset)), config)
        if changed:
            raise PlaceError(
                f"{folder.root}: was begun with other settings ({', '.join(changed[:4])});"
                " name another folder with --out"
            )
        return
    if folder.root.exists() and any(folder.root.iterdir()):
        raise PlaceError(f"{folder.root}: is not empty and was not made by place demo; name another folder with --out")
    folder.root.mkdir(parents=True, exist_ok=True)
    write_file(folder.preset, dump_preset(config).encode())


@contextmanager
def _stage(folder: DemoFolder, name: str, say: Say) -> Iterator[None]:
    """Adds the seconds of the block to timings.json, also when it is stopped half-way."""
    started = time.monotonic()
    try:
        yield
    finally:
        timings = json.loads(folder.timings.read_text("utf-8")) if folder.timings.is_file() else {}
        timings[name] = round(timings.get(name, 0.0) + time.monotonic() - started, 1)
        write_file(folder.timings, (json.dumps(timings, indent=1) + "\n").encode())
    say(f"demo: {name}: {timings[name]:.1f} s")


def _named(progress: Progress, stage: str) -> Callable[..., None]:
    return lambda done, total, *rest: progress(stage, done, total)


def _make_untrained(folder: DemoFolder, seed: int) -> None:
    """A run with the same configuration and tokenizer whose weights are as drawn: what training is compared with."""
    if (folder.untrained / checkpoint.MODEL).is_file():
        return
    shutil.rmtree(folder.untrained, ignore_errors=True)
    shutil.copytree(folder.run / checkpoint.TOKENIZER, folder.untrained / checkpoint.TOKENIZER)
    shutil.copyfile(folder.run / checkpoint.CONFIG, folder.untrained / checkpoint.CONFIG)
    torch.manual_seed(seed)
    preset = load_preset(str(folder.run / checkpoint.CONFIG))
    _, model = checkpoint.rebuild(folder.run, preset)
    checkpoint.save_model(folder.untrained, model)


def _evaluate(folder: DemoFolder, device: str, progress: Progress) -> dict[str, dict[Task, dict[str, Any]]]:
    """By "trained" and "untrained" and task, the object that `place evaluate` prints for the test split."""
    records: dict[str, dict[Task, dict[str, Any]]] = {}
    for name, run in (("trained", folder.run), ("untrained", folder.untrained)):
        records[name] = {
            task: evaluate(run, folder.store, task, split="test", device=device, progress=progress).to_record()
            for task in TASKS
        }
    lines = [json.dumps(record) for tasks in records.values() for record in tasks.values()]
    write_file(folder.evaluations, ("\n".join(lines) + "\n").encode())
    return records


def _summary(
    folder: DemoFolder, config: Preset, records: Mapping[str, Mapping[Task, Mapping[str, Any]]]
) -> dict[str, Any]:
    """The object that `place demo` prints; docs/cli.md defines its keys."""
    timings = json.loads(folder.timings.read_text("utf-8"))

    def headlines(name: str) -> dict[str, Any]:
        return {
            task.replace("-", "_"): {key: records[name][task]["metrics"].get(key) for key in keys}
            for task, keys in HEADLINES.items()
        }

    chance = {
        task.replace("-", "_"): {key: records["trained"][task]["chance"].get(key) for key in keys[:3]}
        for task, keys in HEADLINES.items()
    }
    return {
        "seconds": round(sum(timings.values()), 1),
        "synthetic": True,
        "folder": str(folder.root),
        "page": str(folder.page),
        "run": str(folder.run),
        "store": str(folder.store),
        "patients": config.demo.num_patients,
        "seed": config.demo.seed,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        **headlines("trained"),
        "chance": chance,
        "untrained": headlines("untrained"),
        "timings": timings,
    }

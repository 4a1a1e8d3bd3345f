"""Does each part of PLACE earn its place? A grid of objectives and seeds, trained alike and scored alike.

    python benchmarks/evidence --out evidence                                   the phantom, which it makes itself
    python benchmarks/evidence --out evidence --store openi=stores/openi        a store of `place preprocess`
    python benchmarks/evidence --out evidence --arm ita --arm place --seed 0 1  a part of it
    python benchmarks/evidence --out evidence --arm k8=model.num_queries=8      an arm of one's own
    python benchmarks/evidence --out evidence --store openi=stores/openi --score-on grounding=stores/rsna
    python benchmarks/evidence --out evidence --page-only                       the page of what is there
    python benchmarks/evidence --quick                                          two arms of a tiny phantom, a minute

Every arm has the same encoders, data, order of batches and number of steps; only the objective differs. One JSON line
a cell (source, arm, seed); the folder keeps cells, so the same command goes on where it was stopped, and more seeds,
arms or scores only add what is missing. At the end evidence.md and evidence.html: means over seeds, and differences
paired by seed with 95 % intervals (Student's t). An interval over seeds holds another draw of starting weights, of
batches and of labelled patients, not another draw of test patients.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import grid
import table
from cell import run_cell

from placecli.config import load_preset
from placecli.data.atomic import write_file
from placecli.data.phantom import write_phantoms
from placecli.data.preprocess import preprocess

QUICK_PATIENTS = 60
CELLS = "cells.jsonl"


def make_phantoms(out: Path, num_patients: int, seed: int) -> Path:
    """The store of synthetic patients in `out`, a quarter of them for testing."""
    raw, store = out / "phantoms", out / "stores" / "phantom"
    if not (store / "store.yaml").is_file():
        write_phantoms(raw, num_patients, seed)
        preprocess(load_preset("demo", ["preprocess.test_fraction=0.25"]), raw, store)
    return store


def cells(arguments: argparse.Namespace, out: Path) -> list[grid.Cell]:
    """All cells that are wanted, seed by seed, so that a grid cut short has whole pairs."""
    stores = dict(text.split("=", 1) for text in arguments.store)
    if not stores:
        stores = {"phantom": str(make_phantoms(out, arguments.phantoms, arguments.phantom_seed))}
    if arguments.patients is not None:  # a source of its own: cells that learnt from all are other cells
        stores = {f"{source}, {arguments.patients} patients": store for source, store in stores.items()}
    arms = [grid.parse_arm(text) for text in arguments.arm or grid.ARMS]
    return [
        grid.Cell(
            source=source,
            store=Path(store),
            arm=arm,
            seed=seed,
            overrides=(*arguments.set, *changes),
            scores=tuple(arguments.score),
            out=out / source / arm / f"seed-{seed}",
            device=arguments.device,
            threads=arguments.threads,
            patients=arguments.patients,
            tuned=tuple(arguments.tune),
            elsewhere=dict(grid.parse_elsewhere(text) for text in arguments.score_on),
        )
        for source, store in stores.items()
        for seed in arguments.seed
        for arm, changes in arms
    ]


def run(wanted: list[grid.Cell], workers: int) -> Iterator[dict[str, Any]]:
    """Records as cells are done, several at a time; each process takes one cell after another."""
    if workers == 1:
        yield from map(run_cell, wanted)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run_cell, cell) for cell in wanted]):
            yield done.result()


def read_cells(out: Path) -> list[dict[str, Any]]:
    """Records by source, arm and seed; a cell's own file goes before its line in cells.jsonl."""
    told = (out / CELLS).read_text("utf-8").splitlines() if (out / CELLS).is_file() else []
    own = [path.read_text("utf-8") for path in out.glob("*/*/seed-*/cell.json")]
    records = [json.loads(text) for text in (*told, *own)]
    found = {(record["source"], record["arm"], record["seed"]): record for record in records}
    return [found[key] for key in sorted(found)]


def write_page(out: Path) -> None:
    """cells.jsonl, evidence.md and evidence.html of all finished cells below `out`, and of those that a cells.jsonl
    brought along from elsewhere tells."""
    records = read_cells(out)
    lead = (
        "Synthetic phantoms are called phantom. Equal encoders, data and steps; one arm differs in its objective alone."
        " Arms that learnt no V-PORs have the probe on the global feature in both places; what an untrained reading of"
        " their patches is worth, and how few seeds decide what, is told in docs/results.md. In altered reports only what"
        " another image does not give is read off the image."
    )
    sources = {
        source: [record for record in records if record["source"] == source]
        for source in sorted({record["source"] for record in records})
    }
    made = [each for source, cells in sources.items() for each in table.tables(source, cells)]
    charts = {source: table.chart(cells) for source, cells in sources.items()}
    for name, text in (
        (CELLS, "".join(json.dumps(record) + "\n" for record in records)),
        ("evidence.md", table.markdown("Evidence", lead, made)),
        ("evidence.html", table.html("Evidence", lead, made, charts)),
    ):
        write_file(out / name, text.encode())
    print(f"evidence: {len(records)} cells, {out / 'evidence.md'}", file=sys.stderr)


def main() -> None:
    """Print a JSON line a cell and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of stores, cells and page")
    parser.add_argument("--store", action="append", default=[], help="name=STORE; without it the phantom is made")
    parser.add_argument("--phantoms", type=int, default=3000, help="synthetic patients")
    parser.add_argument("--phantom-seed", type=int, default=7)
    parser.add_argument("--arm", action="append", help="name, or name=key=value,key=value; default: all six")
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--score", nargs="+", choices=grid.SCORES, default=list(grid.SCORES))
    parser.add_argument(
        "--patients", type=int, help="of the train split to learn from, drawn by the seed; default: all"
    )
    parser.add_argument("--set", action="append", default=[], help="override of section pretrain, for all arms")
    parser.add_argument("--tune", action="append", default=[], help="finetune.key=value or evaluate.key=value")
    parser.add_argument(
        "--score-on", action="append", default=[], help="kind=STORE: take grounding or segmentation on another store"
    )
    parser.add_argument("--workers", type=int, default=1, help="cells at a time")
    parser.add_argument("--threads", type=int, default=max((os.cpu_count() or 2) // 2, 1), help="of each cell")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--page-only", action="store_true")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.quick:
            arguments.out, arguments.phantoms, arguments.seed = Path(folder), QUICK_PATIENTS, [0, 1]
            arguments.arm, arguments.set = ["ita", "place"], ["max_steps=4", "batch_size=8", "model.image_size=64"]
            arguments.score = ["retrieval", "zero-shot", "grounding", "altered"]
        if arguments.out is None:
            parser.error("--out, or --quick")
        if not arguments.page_only:
            for record in run(cells(arguments, arguments.out), arguments.workers):
                print(json.dumps(record), flush=True)
        write_page(arguments.out)
        if arguments.quick:
            print((arguments.out / "evidence.md").read_text("utf-8"), file=sys.stderr)


if __name__ == "__main__":
    main()

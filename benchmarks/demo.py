"""`place demo` on fresh synthetic patients against the bars that it has to clear, and against the untrained model.

    python benchmarks/demo.py              seeds 7 and 8, ten minutes on two cores
    python benchmarks/demo.py --seed 9     another draw of patients
    python benchmarks/demo.py --quick      the chain on a few patients: its figures mean nothing, no bar is judged

A JSON line for each seed and measure: value, bar, their ratio, and the untrained model's value in the same run. Exit
code 1 where a value is below its bar. The bars are what the recipe reached on two seeds, less what chance moves; a
change of the recipe that falls below one has made the demo worse.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from placecli.config import load_preset
from placecli.tasks.demo import QUICK, run_demo

TINY = (*QUICK, "demo.num_patients=40", "pretrain.epochs=1")

BARS = (
    ("zero_shot", "auroc_macro", 0.91),
    ("retrieval", "recall@10", 0.68),
    ("retrieval", "recall@10_text_to_image", 0.70),
    ("grounding", "pointing_game", 0.58),
)


def run_seed(seed: int, out: Path, *, is_quick: bool) -> list[dict[str, object]]:
    """A record for each bar."""
    config = load_preset("demo", [f"demo.seed={seed}", *(TINY if is_quick else ())])
    summary = run_demo(config, out, progress=lambda *state: None, say=lambda line: print(line, file=sys.stderr))
    records: list[dict[str, object]] = []
    for task, measure, bar in BARS:
        value = float(summary[task][measure]["value"])
        records.append(
            {
                "seed": seed,
                "task": task,
                "measure": measure,
                "value": value,
                "untrained": float(summary["untrained"][task][measure]["value"]),
                "bar": None if is_quick else bar,
                "ratio": None if is_quick else round(value / bar, 3),
            }
        )
    return records


def main() -> int:
    """Print the records; 1 where a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", nargs="+", type=int, default=[7, 8])
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    missed = 0
    for seed in arguments.seed[:1] if arguments.quick else arguments.seed:
        with tempfile.TemporaryDirectory() as folder:
            for record in run_seed(seed, Path(folder) / "demo", is_quick=arguments.quick):
                print(json.dumps(record), flush=True)
                missed += record["ratio"] is not None and float(str(record["ratio"])) < 1
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())

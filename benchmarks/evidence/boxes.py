"""By patient instead of by seed: where the arms of a source look for one finding, beside the boxes of another store.

    python benchmarks/evidence/boxes.py --cells evidence/openi --store stores/rsna --label Pneumonia --out where.png

`--cells` is the folder of a source that `benchmarks/evidence` wrote. Each arm's figures are means over its seeds for
each image, so the intervals (bootstrap by patient) hold another draw of patients and not another training; those over
seeds are on the bench's page. One JSON line an arm, for two maps that know no image (flat; the mean region of the
other images), and a line for each pair of arms. The picture shows mean maps upon the mean of the images: no patient.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from grid import NAMES
from numpy.typing import NDArray
from table import PAIRS
from where import label_maps

from placecli.data.store import Store, open_store
from placecli.engine.checkpoint import LoadedRun, load_model
from placecli.engine.distributed import choose_device
from placecli.metrics.bootstrap import Statistic, estimate_difference
from placecli.metrics.grounding import mask_overlap, mass_inside, pointing_game, resize_bilinear
from placecli.metrics.retrieval import weighted_mean
from placecli.tasks import grounding
from placecli.tasks.embed import embed_images_with_maps
from placecli.tasks.figures import Panel, draw_heatmaps, write_png
from placecli.tasks.prompts import embed_prompts, prompts_of

Floats = NDArray[np.float64]
MIN_IMAGES = 10
"""A mean of fewer images would show the images."""
FIGURES = ("pointing_game", "mass_inside", "overlap")


def find_maps(run: LoadedRun, store: Store, pixels: NDArray[np.uint8], label: str) -> NDArray[np.float32]:
    """float32 [B, rows, columns], each of sum 1: by V-PORs if the run learnt any, else as `where` reads other models."""
    prompts = store.config.evaluate.prompts
    objective = run.preset.pretrain.objective
    if objective.pcma_weight == 0:
        return label_maps(run, pixels, prompts_of(label, prompts).positive)
    texts = embed_prompts(run, [label], prompts, 64)[label].positive
    vectors, maps = embed_images_with_maps(run, pixels)
    pairs = zip(vectors.observations, maps.attention, strict=True)
    return np.stack([grounding.label_maps(texts, *pair, maps.grid, objective.match_temperature) for pair in pairs])


def judge(maps: Sequence[NDArray[np.floating]], regions: Sequence[NDArray[np.bool_]]) -> Floats:
    """[B, 3], the FIGURES of each map at its region."""
    return np.asarray(
        [
            (pointing_game(heat, region), mass_inside(heat, region), mask_overlap(heat, region, grounding.QUANTILE))
            for heat, region in zip(maps, regions, strict=True)
        ],
        np.float64,
    )


def others(regions: Sequence[NDArray[np.bool_]]) -> list[Floats]:
    """For each image the mean region of all others: what is known of a finding's place without looking."""
    total = np.sum(regions, axis=0, dtype=np.float64)
    return [(total - region) / (len(regions) - 1) for region in regions]


def tell(name: str, values: Floats, num_seeds: int = 0) -> str:
    """A JSON line of means over images."""
    means = {figure: round(float(mean), 4) for figure, mean in zip(FIGURES, values.mean(axis=0), strict=True)}
    return json.dumps({"arm": name, "seeds": num_seeds, "images": len(values), **means})


def tell_difference(names: tuple[str, str], values: tuple[Floats, Floats], patients: Sequence[str]) -> str:
    """A JSON line of first - second with 95 % intervals by patient."""
    told: dict[str, object] = {"difference": " minus ".join(names)}
    for i, figure in enumerate(FIGURES):
        first, second = (_mean_of(each[:, i]) for each in values)
        found = estimate_difference(first, second, patients)
        told[figure] = [round(number, 4) for number in (found.value, found.low, found.high)]
    return json.dumps(told)


def _mean_of(values: Floats) -> Statistic:
    return lambda weights: weighted_mean(values, weights)


def main() -> None:
    """Print the lines and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, required=True, help="folder of one source: ARM/seed-N/run")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    store = open_store(arguments.store)
    cases = {
        row.image_id: case
        for row in store.rows
        for case in grounding.cases_of(row, store.size, None, [arguments.label])
    }
    rows = [row for row in store.rows if row.image_id in cases]
    if len(rows) < MIN_IMAGES:
        raise SystemExit(
            f"{arguments.store}: {len(rows)} images with a box of {arguments.label}; {MIN_IMAGES} are wanted"
        )
    regions, pixels = [cases[row.image_id].region for row in rows], store.images(rows)
    panels = [Panel(title=f"boxes of {arguments.label}", heat=np.mean(regions, axis=0))]
    print(tell("flat map", judge([np.ones((1, 1))] * len(rows), regions)))
    print(tell("mean region of the other images", judge(others(regions), regions)))
    values: dict[str, Floats] = {}
    for arm in NAMES:
        # A run without its cell is still being trained.
        runs = [file.parent / "run" for file in sorted((arguments.cells / arm).glob("seed-*/cell.json"))]
        if not runs:
            continue
        maps = [find_maps(load_model(run, choose_device("cpu")), store, pixels, arguments.label) for run in runs]
        values[arm] = np.mean([judge(list(each), regions) for each in maps], axis=0)
        print(tell(NAMES[arm], values[arm], len(runs)), flush=True)
        heat = resize_bilinear(np.mean(maps, axis=(0, 1)), (store.size, store.size))
        panels.append(Panel(title=f"{NAMES[arm]}, {len(runs)} seeds", heat=heat))
    if not values:
        raise SystemExit(f"{arguments.cells}: no cell ARM/seed-N/cell.json of a known arm; name the folder of a source")
    for pair in PAIRS:
        if set(pair) <= set(values):
            names = (NAMES[pair[0]], NAMES[pair[1]])
            print(tell_difference(names, (values[pair[0]], values[pair[1]]), [row.patient_id for row in rows]))
    write_png(
        arguments.out,
        draw_heatmaps(pixels.mean(axis=0).round().astype(np.uint8), panels, f"mean of {len(rows)} images"),
    )


if __name__ == "__main__":
    main()

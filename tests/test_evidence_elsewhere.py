"""benchmarks/evidence, scores that a source without boxes or masks takes on another store."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from small_run import small_preset, write_run, write_store

from placecli.config import Preset, change_preset
from placecli.data.store import open_store
from placecli.engine.checkpoint import load_model
from placecli.tasks import grounding

FOLDER = Path(__file__).parent.parent / "benchmarks" / "evidence"
PCMA_OFF = ("objective.pcma_weight=0", "objective.correlation_weight=0")


@pytest.fixture(scope="module")
def evidence() -> Iterator[dict[str, ModuleType]]:
    """The bench's modules; it is a folder that is run, not a package."""
    sys.path.insert(0, str(FOLDER))
    yield {name: importlib.import_module(name) for name in ("table", "grid", "cell", "boxes")}
    sys.path.remove(str(FOLDER))


def _trained_cell(evidence: Mapping[str, ModuleType], folder: Path, arm: str, **more: Any) -> Any:
    """A cell that is trained already, of a model of random weights."""
    changes = PCMA_OFF if arm == "ita" else ()
    preset = change_preset(small_preset(), [f"pretrain.{change}" for change in changes])
    write_run(folder / arm / "run", preset)
    told = {"source": "own", "arm": arm, "seed": 0, "overrides": list(changes), "scores": {}}
    (folder / arm / "cell.json").write_text(json.dumps({**told, "training": {"seconds": 1.0}, "curve": []}))
    return evidence["grid"].Cell("own", folder / "own", arm, 0, changes, ("grounding",), folder / arm, "cpu", **more)


@pytest.mark.parametrize("arm", ["ita", "place"])
def test_grounding_asks_all_of_another_store(evidence: dict[str, ModuleType], tmp_path: Path, arm: str) -> None:
    write_store(tmp_path / "own")
    other = write_store(tmp_path / "other", {"train": 8, "test": 4}, seed=5)
    found = evidence["cell"].run_cell(
        _trained_cell(evidence, tmp_path, arm, elsewhere={"grounding": other}),
    )
    assert found["elsewhere"] == {"grounding": f"small {open_store(other).digest[:8]}"}
    hits = found["scores"]["grounding"]["pointing_game"] * 12
    assert hits == pytest.approx(round(hits), abs=1e-6), "a share of the twelve images of both splits"
    assert {"pointing_game", "mass_inside", "overlap"} <= set(found["scores"]["grounding"])


def test_a_score_of_one_store_is_not_taken_for_that_of_another(
    evidence: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def score(cell: Any, _: Preset) -> dict[str, float]:
        asked.append(cell.store)
        return {"pointing_game": 0.5}

    monkeypatch.setitem(evidence["cell"].SCORERS, "grounding", score)
    own = write_store(tmp_path / "own")
    first, second = (write_store(tmp_path / name, seed=number) for number, name in enumerate(("a", "b"), start=5))
    _trained_cell(evidence, tmp_path, "place")
    wanted = evidence["grid"].Cell("own", own, "place", 0, (), ("grounding",), tmp_path / "place", "cpu")
    for elsewhere in ({}, {}, {"grounding": first}, {"grounding": first}, {"grounding": second}, {}, {}):
        record = evidence["cell"].run_cell(evidence["cell"].replace(wanted, elsewhere=elsewhere))
        assert set(record["elsewhere"]) == set(elsewhere)
    assert asked == [own, first, second, own]
    with pytest.raises(SystemExit, match="this is the store that is learnt from"):
        evidence["cell"].run_cell(evidence["cell"].replace(wanted, elsewhere={"grounding": own}))


def test_the_other_store_brings_prompts_and_settings_of_tuning(
    evidence: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_store(tmp_path / "other")
    preset = change_preset(small_preset(), ["finetune.segmentation.epochs=3"])
    cell = evidence["grid"].Cell(
        "own", tmp_path, "place", 0, (), ("segmentation",), tmp_path, tuned=("finetune.segmentation.patience=1",)
    )
    there, told = evidence["cell"].scored_at(cell, "segmentation", preset)
    assert (there, told) == (cell, preset)
    moved = evidence["cell"].replace(cell, elsewhere={"segmentation": other})
    there, told = evidence["cell"].scored_at(moved, "segmentation", preset)
    theirs = open_store(other).config
    assert there.store == other
    assert told.finetune.segmentation.epochs == theirs.finetune.segmentation.epochs != 3
    assert told.finetune.segmentation.patience == 1
    assert (told.evaluate.prompts, told.evaluate.bootstrap) == (theirs.evaluate.prompts, 0)
    assert told.pretrain == preset.pretrain

    shares: list[float] = []
    monkeypatch.setattr(evidence["cell"], "_tune", lambda *args: shares.append(args[3]) or 0.9)
    assert evidence["cell"]._segmentation(there, told) == {"dice_1": 0.9}
    assert evidence["cell"]._segmentation(cell, preset) == {"dice": 0.9}
    assert shares == [1.0, 0.05]


def test_the_page_says_where_a_score_was_taken(evidence: dict[str, ModuleType]) -> None:
    record = {"source": "openi", "arm": "ita", "seed": 0, "training": {"seconds": 2.0}}
    scores = {"grounding": {"pointing_game": 0.25}, "zero-shot": {"auroc_macro": 0.75}}
    made = dict(
        evidence["table"].tables("openi", [{**record, "scores": scores, "elsewhere": {"grounding": "rsna 12"}}])
    )
    (rows,) = (rows for caption, rows in made.items() if "mean over seeds" in caption)
    assert [row[0] for row in rows if row[0].startswith(("pointing", "zero"))] == [
        "zero-shot, macro AUROC",
        "pointing game (rsna 12)",
    ]


@pytest.mark.parametrize("text", ["probe=stores/nih", "grounding", "stores/rsna"])
def test_what_cannot_be_scored_elsewhere_is_refused(evidence: dict[str, ModuleType], text: str) -> None:
    with pytest.raises(SystemExit, match="write one of grounding, segmentation"):
        evidence["grid"].parse_elsewhere(text)


def test_kind_and_store_are_read(evidence: dict[str, ModuleType]) -> None:
    assert evidence["grid"].parse_elsewhere("grounding=stores/a=b") == ("grounding", Path("stores/a=b"))


@pytest.mark.parametrize("arm", ["ita", "place"])
def test_maps_by_image_are_those_that_the_bench_scores(
    evidence: dict[str, ModuleType], tmp_path: Path, arm: str
) -> None:
    write_store(tmp_path / "own")
    boxes, store = evidence["boxes"], open_store(write_store(tmp_path / "store", {"test": 12}, seed=5))
    cell = _trained_cell(evidence, tmp_path, arm, elsewhere={"grounding": store.path})
    scored = evidence["cell"].run_cell(cell)["scores"]["grounding"]
    run, values = load_model(cell.out / "run", torch.device("cpu")), []
    for label in ("square", "stripe"):
        rows = [row for row in store.rows if row.boxes[0].label == label]
        regions = [grounding.cases_of(row, store.size, None, [label])[0].region for row in rows]
        values.append(boxes.judge(list(boxes.find_maps(run, store, store.images(rows), label)), regions))
    means = np.concatenate(values).mean(axis=0)
    for figure, mean in zip(boxes.FIGURES, means, strict=True):
        assert mean == pytest.approx(scored[figure], abs=1e-6), figure


def test_the_place_of_the_others_leaves_an_image_out(evidence: dict[str, ModuleType]) -> None:
    regions = [np.eye(3, dtype=bool), np.zeros((3, 3), bool), np.ones((3, 3), bool)]
    found = evidence["boxes"].others(regions)
    assert np.allclose(found[0], 0.5)
    assert np.allclose(found[2], np.eye(3) / 2)


def test_a_difference_is_paired_by_image(evidence: dict[str, ModuleType]) -> None:
    first = np.random.default_rng(0).random((20, 3))
    told = json.loads(evidence["boxes"].tell_difference(("A", "B"), (first + 0.25, first), [str(i) for i in range(20)]))
    assert told == {"difference": "A minus B", **{key: [0.25] * 3 for key in evidence["boxes"].FIGURES}}


def test_arms_are_told_and_drawn(
    evidence: dict[str, ModuleType],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = write_store(tmp_path / "store", {"test": 40})
    for arm, changes in (("ita", PCMA_OFF), ("place", ())):
        for seed in range(2):
            preset = change_preset(small_preset(), [f"pretrain.{change}" for change in changes])
            write_run(tmp_path / "cells" / arm / f"seed-{seed}" / "run", preset, seed=seed)
            (tmp_path / "cells" / arm / f"seed-{seed}" / "cell.json").write_text("{}")
    write_run(tmp_path / "cells" / "place" / "seed-2" / "run")  # still in training
    out = tmp_path / "where.png"
    told = ["boxes.py", "--cells", str(tmp_path / "cells"), "--store", str(store), "--out", str(out), "--label"]
    monkeypatch.setattr(sys, "argv", [*told, "square"])
    evidence["boxes"].main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    flat, _, ita, place, difference = lines
    assert (ita["arm"], ita["seeds"], place["arm"], place["seeds"]) == ("ITA", 2, "PLACE", 2)
    assert 0.02 < flat["mass_inside"] < 0.06, "a box of 10 by 10 in a frame of 48 by 48"
    assert difference["difference"] == "PLACE minus ITA"
    assert difference["mass_inside"][0] == pytest.approx(place["mass_inside"] - ita["mass_inside"], abs=2e-4)
    assert out.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(sys, "argv", [*told, "square", "--cells", str(tmp_path / "store")])
    with pytest.raises(SystemExit, match="no cell ARM/seed-N"):
        evidence["boxes"].main()
    monkeypatch.setattr(sys, "argv", [*told, "mass"])
    with pytest.raises(SystemExit, match="0 images with a box of mass; 10 are wanted"):
        evidence["boxes"].main()

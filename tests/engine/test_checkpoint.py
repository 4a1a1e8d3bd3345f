"""States and models on disk: whole or not there, checked, rebuilt from the run folder alone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny_store import tiny_preset, write_store
from torch import nn

from placecli.config import PretrainConfig
from placecli.data.atomic import checksum
from placecli.engine import checkpoint
from placecli.engine.checkpoint import Best, TrainingState
from placecli.engine.optim import build_optimizer
from placecli.engine.pretrain import pretrain
from placecli.records import PlaceError


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 5), nn.BatchNorm1d(5))
    # A layout other than the plain one, as convolutions on a CPU like it.
    made[0].to(memory_format=torch.channels_last)
    return made


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        network(torch.randn(6, 3, 3, 3, generator=generator)).square().sum().backward()
        optimizer.step()


def state(step: int, best: Best | None = None) -> TrainingState:
    return TrainingState(step, 17, 1, "", "digest", ("0.weight",), best)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    network = model()
    optimizer = build_optimizer(network, PretrainConfig())
    for step in (3, 6, 9):
        train(network, optimizer, range(step - 3, step))
        best = Best(0.5, 1, step, checkpoint.save_model(tmp_path, network), {"recall": 0.5})
        checkpoint.save_state(tmp_path, state(step, best), network, optimizer)
    return tmp_path


def test_the_newest_two_states_are_kept_and_the_newest_is_found(saved: Path) -> None:
    assert sorted(path.name for path in (saved / "state").iterdir()) == ["step-000000006", "step-000000009"]
    found = checkpoint.find_state(saved)
    assert found is not None
    assert found[0].name == "step-000000009"
    assert found[1].step == 9
    assert found[1].pretrained == ("0.weight",)
    assert found[1].best is not None
    assert found[1].best.digest == checksum(saved / "model.safetensors")
    assert checkpoint.find_state(saved / "absent") is None


def test_a_loaded_state_trains_on_bit_by_bit(saved: Path) -> None:
    whole = model()
    train(whole, build_optimizer(whole, PretrainConfig()), range(14))
    resumed = model(seed=1)
    optimizer = build_optimizer(resumed, PretrainConfig())
    found = checkpoint.find_state(saved)
    assert found is not None
    checkpoint.load_state(found[0], resumed, optimizer)
    train(resumed, optimizer, range(9, 14))
    for (name, expected), tensor in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(tensor, expected), name


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "best.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_to_any_file_falls_back_to_the_state_before(saved: Path, name: str, damage: str) -> None:
    file = saved / "state" / "step-000000009" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.unlink()
    if damage != "remove":
        file.write_bytes(content if damage == "flip" else content[:-1])
    found = checkpoint.find_state(saved)
    assert found is not None
    assert found[1].step == 6
    with pytest.raises(PlaceError, match="damaged"):
        checkpoint.read_state(saved / "state" / "step-000000009")


def test_all_states_damaged_is_an_error_and_not_a_silent_new_start(saved: Path) -> None:
    for folder in (saved / "state").iterdir():
        (folder / "manifest.json").write_text("{")
    with pytest.raises(PlaceError, match="every saved state is damaged"):
        checkpoint.find_state(saved)


def test_the_best_model_comes_back_with_its_state(saved: Path) -> None:
    found = checkpoint.find_state(saved)
    assert found is not None
    assert found[1].best is not None
    checkpoint.save_model(saved, model(seed=5))
    assert checksum(saved / "model.safetensors") != found[1].best.digest
    checkpoint.restore_best(saved, *found)
    assert checksum(saved / "model.safetensors") == found[1].best.digest
    (saved / "model.safetensors").unlink()
    checkpoint.restore_best(saved, *found)
    assert checksum(saved / "model.safetensors") == found[1].best.digest


def test_leftovers_of_a_killed_process_go_and_nothing_else(saved: Path) -> None:
    before = sorted(path for path in saved.rglob("*"))
    (saved / "state" / ".step-000000012.tmp-99").mkdir()
    (saved / "state" / ".step-000000012.tmp-99" / "model.safetensors").write_bytes(b"x")
    (saved / ".model.safetensors.tmp-99").write_bytes(b"x")
    checkpoint.remove_leftovers(saved)
    assert sorted(path for path in saved.rglob("*")) == before


def test_a_full_disk_leaves_the_old_state(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = model()

    def no_space(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "flush_file", no_space)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save_state(saved, state(12), network, build_optimizer(network, PretrainConfig()))
    found = checkpoint.find_state(saved)
    assert found is not None
    assert found[1].step == 9


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    pretrain(tiny_preset(epochs=1), write_store(folder / "store"), folder / "runs" / "one", device="cpu")
    return folder / "runs" / "one"


def test_a_model_is_rebuilt_from_a_moved_run_folder_alone(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved, ignore=shutil.ignore_patterns("state", "tensorboard", "metrics.jsonl", "card.md"))
    first, second = checkpoint.load_model(run), checkpoint.load_model(moved)
    assert first.digest == second.digest == checksum(run / "model.safetensors")
    assert not second.model.training
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    ids, index = second.tokenizer.encode(["No pneumothorax.", "Bones are unremarkable."], 48, 6)
    tokens = torch.tensor([ids])
    with torch.no_grad():
        assert torch.equal(first.model.encode_image(images).embedding, second.model.encode_image(images).embedding)
        text = second.model.encode_text(tokens, torch.ones_like(tokens, dtype=torch.bool), torch.tensor([index]))
    assert text.observations.shape[:2] == (1, 2)


def test_a_run_without_its_parts_is_an_error_that_names_them(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    (moved / "tokenizer" / "text_encoder.json").unlink()
    with pytest.raises(PlaceError, match=r"text_encoder\.json"):
        checkpoint.load_model(moved)
    (moved / "model.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(PlaceError, match=r"model\.safetensors|text_encoder\.json"):
        checkpoint.load_model(moved)
    (moved / "model.safetensors").unlink()
    with pytest.raises(PlaceError, match=r"no model\.safetensors"):
        checkpoint.load_model(moved)


def test_weights_of_another_shape_are_an_error_in_one_line(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    config = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(config.replace("embed_dim: 16", "embed_dim: 8"))
    with pytest.raises(PlaceError, match="does not fit") as error:
        checkpoint.load_model(moved)
    assert "\n" not in str(error.value)


def test_the_newest_run_is_the_one_whose_model_was_written_last(run: Path, tmp_path: Path) -> None:
    for name, age in (("a", 100), ("b", 300), ("c", 200)):
        shutil.copytree(run, tmp_path / name)
        os.utime(tmp_path / name / "model.safetensors", (age, age))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "model.safetensors").write_bytes(b"no run: it has no config")
    assert checkpoint.newest_run(tmp_path) == tmp_path / "b"
    with pytest.raises(PlaceError, match="place pretrain"):
        checkpoint.newest_run(tmp_path / "nothing")


def test_no_file_of_a_run_is_a_pickle(run: Path) -> None:
    suffixes = {path.suffix for path in run.rglob("*") if path.is_file() and "tensorboard" not in path.parts}
    assert suffixes <= {".yaml", ".safetensors", ".json", ".jsonl", ".md", ""}
    for path in run.rglob("*.json"):
        json.loads(path.read_text())

"""The run folder: model, training state and tokenizer as safetensors and JSON; each appears whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from placecli.config import Preset, load_saved_preset
from placecli.data.atomic import TEMPORARY, checksum, commit, flush_file, flush_folder, temporary_path, write_file
from placecli.engine.place import Place
from placecli.engine.text import Tokenizer
from placecli.records import PlaceError

CONFIG: Final = "config.yaml"
MODEL: Final = "model.safetensors"
METRICS: Final = "metrics.jsonl"
TOKENIZER: Final = "tokenizer"
TEXT_ENCODER: Final = "text_encoder.json"
"""In the tokenizer's folder: the shape of the text encoder, so that no published file is needed to rebuild it."""
CARD: Final = "card.md"
DATA: Final = "data.json"
"""Which store the run was trained on: {"store": absolute path, "digest"}."""
TASK: Final = "task.json"
"""In a fine-tuned run alone: what its model needs to know of the data it was tuned on."""
STATE: Final = "state"
FAILED_BATCH: Final = "failed_batch.json"
FORMAT: Final = 1
"""Version of the layout of a state folder, `format` in its state.json."""
NUM_KEPT: Final = 2
"""States kept: the newest and, should a disk fail it, the one before."""

_LAST, _OPTIMIZER, _BEST, _SCALARS, _MANIFEST = (
    "model.safetensors",
    "optimizer.safetensors",
    "best.safetensors",
    "state.json",
    "manifest.json",
)


@dataclass(frozen=True, slots=True)
class Best:
    """The validation that the run's `model.safetensors` comes from; `digest` is that file's SHA-256.

    value: what selection maximised. validation: all its numbers by name, empty without a validate split.
    """

    value: float
    epoch: int
    step: int
    digest: str
    validation: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Where a run stands, apart from its tensors. Random numbers follow from the seed and `step`.

    step: optimiser steps done, also the position of the sampler. metrics_bytes: length of metrics.jsonl then.
    stale_epochs: validations since the best. finished: "" while steps remain, else why training ended.
    store: digest of the store. pretrained: names of the parameters that started from published weights.
    """

    step: int
    metrics_bytes: int
    stale_epochs: int
    finished: str
    store: str
    pretrained: tuple[str, ...]
    best: Best | None = None


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A model ready for use, in evaluation mode; `digest` (SHA-256 of its weights) tells it from any other."""

    path: Path
    model: Place
    tokenizer: Tokenizer
    preset: Preset
    digest: str


def load_model(run: Path, device: torch.device | str = "cpu") -> LoadedRun:
    """The best model of a run, from its folder alone. Raises PlaceError where a file is missing or damaged."""
    run = Path(run)
    for name in (CONFIG, MODEL, TOKENIZER):
        if not (run / name).exists():
            raise PlaceError(f"{run}: no {name}; this is not a run folder, or it is unfinished: run `place pretrain`")
    preset = load_saved_preset(run / CONFIG)
    tokenizer, model = rebuild(run, preset)
    load_weights(model, run / MODEL)
    return LoadedRun(run, model.to(device).eval(), tokenizer, preset, checksum(run / MODEL))


def save_shape(run: Path, model: Place, tokenizer: Tokenizer) -> None:
    """Write what `rebuild` needs beside the config: the tokenizer and the shape of the text encoder."""
    tokenizer.save(run / TOKENIZER)
    write_json(run / TOKENIZER / TEXT_ENCODER, model.text_architecture)


def rebuild(run: Path, preset: Preset) -> tuple[Tokenizer, Place]:
    """Tokenizer and model of a run, the weights yet to be filled in; reads the run folder alone."""
    tokenizer = Tokenizer.load(run / TOKENIZER)
    try:
        architecture = json.loads((run / TOKENIZER / TEXT_ENCODER).read_text("utf-8"))
    except (OSError, ValueError):
        raise PlaceError(f"{run / TOKENIZER / TEXT_ENCODER}: missing or not JSON; the run folder is damaged") from None
    return tokenizer, Place.from_config(preset.pretrain.model, preset.pretrain.objective, tokenizer, architecture)


def load_weights(model: nn.Module, file: Path) -> None:
    """Fill the model from a safetensors file; every name and shape must agree."""
    try:
        model.load_state_dict(load_file(file))
    except (RuntimeError, SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise PlaceError(f"{file}: does not fit the model of its config.yaml ({reason}); restore the file") from None


def newest_run(folder: Path = Path("runs")) -> Path:
    """The pre-trained run under `folder` whose model was written last. Raises PlaceError where there is none."""
    found = [path.parent for path in Path(folder).glob(f"*/{MODEL}")]
    runs = [run for run in found if (run / CONFIG).is_file() and not (run / TASK).exists()]
    if not runs:
        raise PlaceError(f"no run with a model under {folder}; make one with `place pretrain`, or name it with --run")
    return max(runs, key=lambda run: ((run / MODEL).stat().st_mtime_ns, run.name))


def save_model(run: Path, model: nn.Module) -> str:
    """Write the weights to the run's `model.safetensors` atomically; returns their SHA-256."""
    temporary = temporary_path(run / MODEL)
    save_file(_tensors(model), temporary)
    flush_file(temporary)
    digest = checksum(temporary)
    commit(temporary, run / MODEL)
    return digest


def save_state(run: Path, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write `state/step-<n>` with the last model, the optimiser and the best model, then drop states beyond NUM_KEPT.

    The folder is filled under a temporary name, its manifest of checksums last, and renamed when all of it is on disk.
    """
    target = run / STATE / f"step-{state.step:09d}"
    temporary = temporary_path(target)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(_tensors(model), temporary / _LAST)
    save_file(dict(_optimizer_tensors(model, optimizer)), temporary / _OPTIMIZER)
    scalars = {"format": FORMAT, "torch": torch.__version__, **dataclasses.asdict(state)}
    (temporary / _SCALARS).write_text(json.dumps(scalars, indent=1) + "\n", encoding="utf-8")
    if state.best is not None:
        _link(run / MODEL, temporary / _BEST)
    files = {path.name: checksum(path) for path in sorted(temporary.iterdir())}
    for name in files:
        flush_file(temporary / name)
    (temporary / _MANIFEST).write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    flush_file(temporary / _MANIFEST)
    flush_folder(temporary)
    if target.exists():  # a damaged one of the same step, which the loader refused
        shutil.rmtree(target)
    commit(temporary, target)
    for old in _state_folders(run)[NUM_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def find_state(run: Path) -> tuple[Path, TrainingState] | None:
    """The newest state whose files all agree with their checksums, or None where there is none at all.

    Raises PlaceError if states exist and every one of them is damaged.
    """
    folders = _state_folders(run)
    for folder in folders:
        if (state := _read_state(folder)) is not None:
            return folder, state
    if folders:
        raise PlaceError(f"{run / STATE}: every saved state is damaged; restore one, or start again with another --out")
    return None


def read_state(folder: Path) -> TrainingState:
    """The scalars of a state folder that `find_state` returned. Raises PlaceError where it is damaged."""
    state = _read_state(folder)
    if state is None:
        raise PlaceError(f"{folder}: the saved state is damaged or not visible to this process; use a shared folder")
    return state


def remove_leftovers(run: Path) -> None:
    """Delete what a killed process left half-written. Call it only while holding the run's lock."""
    for folder in (run, run / TOKENIZER, run / STATE):
        for leftover in folder.glob(f".*{TEMPORARY}*"):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)


def restore_best(run: Path, folder: Path, state: TrainingState) -> None:
    """Bring the run's best model back to what it was when the state in `folder` was saved."""
    if state.best is not None and (not (run / MODEL).is_file() or checksum(run / MODEL) != state.best.digest):
        temporary = temporary_path(run / MODEL)
        _link(folder / _BEST, temporary)
        commit(temporary, run / MODEL)


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Fill model and optimiser from a state folder."""
    load_weights(model, folder / _LAST)
    names = _parameter_names(model)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    places = {names[id(parameter)]: i for i, parameter in enumerate(parameters)}
    state: dict[int, dict[str, Tensor]] = {}
    for key, stored in load_file(folder / _OPTIMIZER).items():
        name, _, part = key.rpartition("/")
        parameter = parameters[places[name]]
        # The fused AdamW pairs elements by their place in memory, so a moment must lie as its parameter does.
        tensor = torch.empty_like(parameter) if stored.shape == parameter.shape else torch.empty_like(stored)
        state.setdefault(places[name], {})[part] = tensor.detach().copy_(stored)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """`value` as an indented JSON file, atomically."""
    write_file(path, (json.dumps(value, indent=1) + "\n").encode())


def _state_folders(run: Path) -> list[Path]:
    return sorted((run / STATE).glob("step-*"), reverse=True)


def _read_state(folder: Path) -> TrainingState | None:
    """None where the manifest is missing, unreadable or disagrees with a file."""
    try:
        files = json.loads((folder / _MANIFEST).read_text("utf-8"))["files"]
        if any(checksum(folder / name) != digest for name, digest in files.items()):
            return None
        scalars = json.loads((folder / _SCALARS).read_text("utf-8"))
        if scalars.pop("format") != FORMAT:
            return None
        scalars.pop("torch")
        best, pretrained = scalars.pop("best"), tuple(scalars.pop("pretrained"))
        return TrainingState(**scalars, pretrained=pretrained, best=None if best is None else Best(**best))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    names = _parameter_names(model)
    for parameter, parts in optimizer.state.items():
        for part, value in parts.items():
            yield f"{names[id(parameter)]}/{part}", value.detach().contiguous()


def _parameter_names(model: nn.Module) -> dict[int, str]:
    return {id(parameter): name for name, parameter in model.named_parameters()}


def _link(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where the file system has no such links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        flush_file(target)

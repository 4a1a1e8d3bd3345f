"""What a fine-tuning works with: the settings that hold, the images learnt from, and the model at its start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from placecli.config import Preset
from placecli.data.store import Store, open_store
from placecli.engine import sampler
from placecli.engine.observing import ObservingImageEncoder
from placecli.engine.start import Start, build_empty_encoder, build_encoder, load_extractor
from placecli.records import PlaceError
from placecli.tasks.shares import draw_share
from placecli.tasks.use import Examples, Use
from placecli.tasks.uses import load_use


def plan(task: str, preset: Preset, data: Path, start: Start) -> dict[str, Any]:
    """What `finetune` with the same arguments would learn from; trains nothing and writes nothing."""
    store, use = open_store(data), load_use(task)
    resolved = resolve(task, preset, start, store)
    section, examples = use.section(resolved), choose_examples(use, resolved, store)
    about = use.describe(examples, resolved)
    model = build_model(use, resolved, start, about, is_new=True)
    return {
        "task": task,
        "data": str(store.path),
        "start": str(start.run) if start.kind == "run" else start.kind,
        "image_encoder": resolved.pretrain.model.image_encoder,
        "image_size": section.image_size or resolved.pretrain.model.image_size,
        "tune": section.tune,
        "fraction": resolved.finetune.fraction,
        "train_images": len(examples.train),
        "train_patients": len({row.patient_id for row in examples.train}),
        "validate_images": len(examples.validate),
        "test_images": len(use.select(store.select("test"), resolved)),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        **{key: value for key, value in about.items() if not isinstance(value, dict)},
    }


def resolve(task: str, preset: Preset, start: Start, store: Store) -> Preset:
    """The preset with what this tuning starts from; the run keeps how its images were made."""
    known = start.preset(preset)
    changed = {
        "task": task,
        "start": start.kind,
        "start_run": None if start.run is None else Path(start.run).resolve(),
        "start_digest": start.digest(),
    }
    tuned = known.finetune.model_copy(update=changed)
    return known.model_copy(update={"preprocess": store.config.preprocess, "finetune": tuned})


def build_model(use: Use, preset: Preset, start: Start, about: dict[str, Any], *, is_new: bool) -> nn.Module:
    section, architecture = use.section(preset), preset.pretrain.model
    torch.manual_seed(sampler.derive_seed(section.seed, sampler.MODEL))
    if is_new:
        encoder = build_encoder(architecture, start, section.image_size)
    else:
        encoder = build_empty_encoder(architecture, section.image_size)
    model = use.build(preset, about, encoder)
    if is_new and isinstance(model.encoder, ObservingImageEncoder):
        load_extractor(model.encoder, start)
    return model


def from_start(model: nn.Module, preset: Preset) -> tuple[str, ...]:
    """Names of the parameters that do not start at random."""
    if preset.finetune.start == "random":
        return ()
    return tuple(name for name, _ in model.named_parameters() if name.startswith("encoder."))


def choose_examples(use: Use, preset: Preset, store: Store) -> Examples:
    rows = {split: use.select(store.select(split), preset) for split in ("train", "validate")}
    if not rows["train"]:
        raise PlaceError(
            f"{store.path}: the train split holds nothing for {preset.finetune.task}; `place preprocess` a release that"
            " has it (docs/data.md says which), or name another store with --data"
        )
    tuned = preset.finetune
    share = draw_share(rows["train"], tuned.fraction, use.section(preset).seed, tuned.sampling)
    return Examples(store, share, rows["validate"], rows["train"])

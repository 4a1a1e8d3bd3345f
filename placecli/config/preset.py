"""Presets: one frozen section per command, merged from class default < preset file < `--set section.key=value`.

A preset is one YAML file; the resolved preset is saved in every store and run and is itself a valid preset.
"""

from __future__ import annotations

import difflib
import logging
import types
import typing
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from placecli.config.base import ConfigError, Section
from placecli.config.finetune import FinetuneConfig
from placecli.config.preprocess import PreprocessConfig
from placecli.config.pretrain import PretrainConfig
from placecli.config.use import DemoConfig, EvaluateConfig, RetrieveConfig

logger = logging.getLogger(__name__)

REMOVED: Mapping[str, Mapping[str, Any]] = {
    "objective": {"correlation_target": "pixels", "correlation_mask_ratio": 0.0, "matching": "soft"},
    "model": {"sentence_pooling": "mean"},
}
"""Settings of `pretrain` that are gone, with the value that means what is always done now (docs/log.md)."""


class Preset(Section):
    name: str = "custom"
    description: str = ""
    preprocess: PreprocessConfig = PreprocessConfig()
    pretrain: PretrainConfig = PretrainConfig()
    finetune: FinetuneConfig = FinetuneConfig()
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


def load_saved_preset(file: Path) -> Preset:
    """The preset that a run of this or an earlier version saved. Raises ConfigError where what made it cannot be read."""
    place, content = _read(str(file))
    return parse_saved_preset(content, place)


def parse_saved_preset(content: Mapping[str, Any], place: str) -> Preset:
    """`content` as a Preset; a section that this version reads otherwise falls back to its defaults, with a warning.

    Only what a store or run was made with must hold: `preprocess`, `pretrain` and, in a tuned run, `finetune`.
    """
    kept = _without_removed(content, place)
    for name in ("retrieve", "evaluate", "demo", *(() if _is_tuned(content) else ("finetune",))):
        if name in kept:
            try:
                parse_preset({name: kept[name]}, place)
            except ConfigError as error:
                del kept[name]
                logger.warning("%s; the defaults of %s hold", error, name)
    return parse_preset(kept, place)


def _without_removed(content: Mapping[str, Any], place: str) -> dict[str, Any]:
    """`content` without what is gone. Raises ConfigError where it says otherwise than what is always done now."""
    kept = dict(content)
    for name, gone in REMOVED.items():
        pretrain = kept.get("pretrain")
        if not isinstance(pretrain, dict) or not isinstance(pretrain.get(name), dict):
            continue
        section = pretrain[name]
        for key, value in gone.items():
            if section.get(key, value) != value:
                raise ConfigError(
                    f"{place}: pretrain.{name}.{key} is gone, and {section[key]!r} is not what is done now"
                    f" ({value!r}); train it anew, or use the version of placecli that made it"
                )
        kept["pretrain"] = {**pretrain, name: {key: value for key, value in section.items() if key not in gone}}
    return kept


def _is_tuned(content: Mapping[str, Any]) -> bool:
    section = content.get("finetune")
    return isinstance(section, dict) and bool(section.get("task"))


def change_preset(preset: Preset, overrides: Sequence[str]) -> Preset:
    """`preset` with `section.key=value` overrides applied in order. Raises ConfigError as `load_preset` does."""
    content = preset.model_dump(mode="json")
    for override in overrides:
        _apply_override(content, override)
    return parse_preset(content, f"preset {preset.name}")


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
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[2] / "presets"


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

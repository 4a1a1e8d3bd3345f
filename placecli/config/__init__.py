"""The preset and its sections. The only package that imports pydantic."""

from __future__ import annotations

from placecli.config.base import ConfigError, Section
from placecli.config.preprocess import PreprocessConfig
from placecli.config.preset import Preset, changed_keys, dump_preset, list_presets, load_preset, parse_preset
from placecli.config.pretrain import ModelConfig, ObjectiveConfig, PretrainConfig
from placecli.config.training import TrainingConfig
from placecli.config.use import DemoConfig, EvaluateConfig, Prompts, RetrieveConfig

__all__ = [
    "ConfigError",
    "DemoConfig",
    "EvaluateConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PreprocessConfig",
    "Preset",
    "PretrainConfig",
    "Prompts",
    "RetrieveConfig",
    "Section",
    "TrainingConfig",
    "changed_keys",
    "dump_preset",
    "list_presets",
    "load_preset",
    "parse_preset",
]

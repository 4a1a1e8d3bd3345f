"""The preset and its sections. The only package that imports pydantic."""

from __future__ import annotations

from placecli.config.base import ConfigError, Section
from placecli.config.finetune import (
    ClassificationConfig,
    DetectionConfig,
    FinetuneConfig,
    ReportGenerationConfig,
    SegmentationConfig,
    TuningConfig,
)
from placecli.config.preprocess import PreprocessConfig
from placecli.config.preset import (
    Preset,
    change_preset,
    changed_keys,
    dump_preset,
    list_presets,
    load_preset,
    load_saved_preset,
    parse_preset,
    parse_saved_preset,
)
from placecli.config.pretrain import ModelConfig, ObjectiveConfig, PretrainConfig
from placecli.config.training import TrainingConfig
from placecli.config.use import ClassRetrievalConfig, DemoConfig, EvaluateConfig, Prompts, RetrieveConfig

__all__ = [
    "ClassRetrievalConfig",
    "ClassificationConfig",
    "ConfigError",
    "DemoConfig",
    "DetectionConfig",
    "EvaluateConfig",
    "FinetuneConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "PreprocessConfig",
    "Preset",
    "PretrainConfig",
    "Prompts",
    "ReportGenerationConfig",
    "RetrieveConfig",
    "Section",
    "SegmentationConfig",
    "TrainingConfig",
    "TuningConfig",
    "change_preset",
    "changed_keys",
    "dump_preset",
    "list_presets",
    "load_preset",
    "load_saved_preset",
    "parse_preset",
    "parse_saved_preset",
]

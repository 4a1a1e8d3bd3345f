"""The sections of what is done with a run: `retrieve`, `evaluate`, `demo`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from placecli.config.base import Count, Section


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
    prompts: dict[str, Prompts] = Field(default_factory=dict)
    """By label; a label that is not here is asked as "<label>." against "No <label>."."""
    labels: tuple[str, ...] = ()  # empty: all of the store with both kinds of cases
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    batch_size: Count = 64
    seed: int = 0


class DemoConfig(Section):
    num_patients: Count = 1600
    seed: int = 7
    num_shown: Count = 3

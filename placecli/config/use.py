"""The sections of what is done with a run: `retrieve`, `evaluate`, `demo`."""

from __future__ import annotations

from pathlib import Path
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


class ClassRetrievalConfig(Section):
    """CheXpert-5x200-style retrieval: images that show one class alone, and texts of the same classes."""

    classes: tuple[str, ...] = ()
    """Empty: all labels of the store that enough images show alone."""
    per_class: Annotated[int, Field(ge=0)] = 0
    """Images of each class; 0: as many as the smallest pool has, at most 200."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """One set is drawn for each, and what is found is the mean. MGCA: 0. PRIOR: 114514 to 114518."""
    texts: Literal["reports", "prompts"] = "reports"
    """reports: of the images drawn, or of `text_data`. prompts: the positive prompts of each class."""
    text_data: Path | None = None
    """Another store, whose reports are drawn by its own labels, or where it has none by our labeler's."""
    text_split: str = "all"
    """Part of `text_data`."""
    cutoffs: tuple[Count, ...] = (1, 5, 10, 100)


class EvaluateConfig(Section):
    score: Literal["global", "observation", "combined"] = "combined"
    zero_shot_score: Literal["global", "observation", "combined"] = "observation"
    prompts: dict[str, Prompts] = Field(default_factory=dict)
    """By label; a label that is not here is asked as "<label>." against "No <label>."."""
    labels: tuple[str, ...] = ()  # empty: all of the store with both kinds of cases
    class_retrieval: ClassRetrievalConfig = ClassRetrievalConfig()
    leaks: Literal["refuse", "leave-out"] = "refuse"
    """What a clean score of a tuned model does about images that are also in its train split, or whose patient is."""
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    batch_size: Count = 64
    seed: int = 0


class DemoConfig(Section):
    num_patients: Count = 1600
    seed: int = 7
    num_shown: Count = 3

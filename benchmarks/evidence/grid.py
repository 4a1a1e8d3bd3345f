"""The grid: which objectives are compared, on which data, and where each cell lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from placecli.config import ObjectiveConfig

_DEFAULT = ObjectiveConfig()
_PCMA = (
    f"objective.pcma_weight={_DEFAULT.pcma_weight}",
    f"objective.within_report_weight={_DEFAULT.within_report_weight}",
    f"objective.within_report_fade={_DEFAULT.within_report_fade}",
)
_CCE = (
    f"objective.correlation_weight={_DEFAULT.correlation_weight}",
    f"objective.correlation_fade={_DEFAULT.correlation_fade}",
)
_ITA = ("objective.pcma_weight=0", "objective.correlation_weight=0")

ARMS: Mapping[str, tuple[str, ...]] = {
    "ita": _ITA,
    "token": (*_ITA, "objective.baseline=token"),
    "cluster": (*_ITA, "objective.baseline=cluster"),
    "pcma": (*_PCMA, "objective.correlation_weight=0"),
    "cce": ("objective.pcma_weight=0", *_CCE),
    "place": (*_PCMA, *_CCE),
}
"""By name what of `pretrain` differs; all else is equal, steps too. Written in full, as a store made by an older
version brings the defaults of that version along."""

CONTROLS: Mapping[str, tuple[str, ...]] = {
    "untrained": (*_PCMA, *_CCE, "max_steps=1", "learning_rate=1e-12"),
    "shuffled": (*_PCMA, *_CCE),
    "supervised": (),
}
"""The floor, the same training on reports of other images, and the ceiling that labels give."""

NAMES: Mapping[str, str] = {
    "ita": "ITA",
    "token": "ITA + token-wise",
    "cluster": "ITA + cluster",
    "pcma": "ITA + PCMA",
    "cce": "ITA + CCE",
    "place": "PLACE",
    "untrained": "untrained",
    "shuffled": "PLACE, reports shuffled",
    "supervised": "labels given (all of train)",
}

SCORES = ("retrieval", "zero-shot", "grounding", "probe", "observed", "drawn", "altered", "segmentation", "detection")
"""`grounding`, `segmentation` and `detection` need boxes or masks: a store without any leaves them out."""

ELSEWHERE = ("grounding", "segmentation")
"""Scores that a source without boxes or masks can take on another store: its images are learnt from by no arm, so
grounding asks all of them; its prompts and its settings of tuning count."""


@dataclass(frozen=True)
class Cell:
    """One training and its scores. `overrides` of section `pretrain`; `out` is the folder of the cell."""

    source: str
    store: Path
    arm: str
    seed: int
    overrides: tuple[str, ...]
    scores: tuple[str, ...]
    out: Path
    device: str = "auto"
    threads: int = 1
    patients: int | None = None
    """How many patients of the train split are learnt from; None: all. Scores have all labels and all test images."""
    tuned: tuple[str, ...] = field(default=())
    """Overrides of section `finetune` and of `evaluate`, written in full."""
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    """By kind of score, one of ELSEWHERE, the store that it is taken on instead of the cell's own."""


def parse_elsewhere(text: str) -> tuple[str, Path]:
    """`kind=STORE` -> both."""
    kind, equals, store = text.partition("=")
    if not equals or kind not in ELSEWHERE:
        raise SystemExit(f"--score-on {text}: write one of {', '.join(ELSEWHERE)}, =, and a store")
    return kind, Path(store)


def parse_arm(text: str) -> tuple[str, tuple[str, ...]]:
    """`name` of ARMS or CONTROLS, or `name=key=value,key=value`: an arm of one's own, from PLACE's defaults."""
    name, equals, changes = text.partition("=")
    if equals:
        return name, (*ARMS["place"], *changes.split(","))
    for known in (ARMS, CONTROLS):
        if name in known:
            return name, known[name]
    raise SystemExit(f"--arm {text}: choose {', '.join((*ARMS, *CONTROLS))}, or write name=key=value,key=value")

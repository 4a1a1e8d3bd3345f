"""Sentences that state or deny a finding, and their vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from placecli.config import Prompts
from placecli.engine.checkpoint import LoadedRun
from placecli.tasks.embed import TextVectors, embed_texts


@dataclass(frozen=True, slots=True)
class PromptVectors:
    """Vectors of one label's prompts, each a text of one sentence."""

    positive: TextVectors
    negative: TextVectors


def prompts_of(label: str, given: Mapping[str, Prompts]) -> Prompts:
    """The prompts given for the label, else "<label>." against "No <label>.", with _ read as a space."""
    if label in given:
        return given[label]
    words = label.replace("_", " ")
    return Prompts(positive=(f"{words}.",), negative=(f"No {words}.",))


def embed_prompts(
    run: LoadedRun, labels: Sequence[str], given: Mapping[str, Prompts], batch_size: int
) -> dict[str, PromptVectors]:
    """Vectors of the prompts of each label."""
    chosen = {label: prompts_of(label, given) for label in labels}
    sentences = [text for each in chosen.values() for text in (*each.positive, *each.negative)]
    vectors = embed_texts(run, [(sentence,) for sentence in sentences], batch_size=batch_size)
    result, first = {}, 0
    for label, each in chosen.items():
        middle = first + len(each.positive)
        last = middle + len(each.negative)
        result[label] = PromptVectors(vectors.take(slice(first, middle)), vectors.take(slice(middle, last)))
        first = last
    return result

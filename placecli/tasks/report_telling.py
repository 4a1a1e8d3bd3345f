"""What a writer of reports says of studies, as plain values: sections, sentences, where each looked, and its support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from placecli.config import ReportGenerationConfig
from placecli.engine.report_decoder import Search
from placecli.tasks.matching import find_box
from placecli.tasks.report_candidates import Draft, Known
from placecli.tasks.report_grounding import Grounder, Support
from placecli.tasks.report_text import Sentence, Vocabulary
from placecli.tasks.report_writer import ReportWriter, Views

Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Seen:
    """The first image of a study: pixels uint8 [S, S] as a store holds it and the rectangle that holds image.

    patient_id: "" where it is not known; reports of the same patient do not compete.
    """

    pixels: NDArray[np.uint8]
    content: Rectangle
    patient_id: str = ""


def search_of(vocabulary: Vocabulary, config: ReportGenerationConfig, *, num_beams: int | None = None) -> Search:
    """How a report is written by these settings."""
    return Search(
        num_beams or config.num_beams, config.max_tokens, config.length_penalty, suppressed=vocabulary.suppressed
    )


@torch.no_grad()
def tell(
    model: ReportWriter,
    vocabulary: Vocabulary,
    config: ReportGenerationConfig,
    views: Views,
    seen: Sequence[Seen],
    grounder: Grounder | None,
    known: Known | None = None,
) -> list[dict[str, Any]]:
    """{"findings", "impression", "report", "taken_from", "sentences"} of each study; docs/reports.md defines each key.

    `config.grounding` drop leaves contradicted sentences out; without a grounder nothing is contradicted and scores are None.
    Without `known` train studies what the decoder writes is told.
    """
    memory, mask = model.remember(views)
    written = model.write(memory, mask, vocabulary.prompt, search_of(vocabulary, config)).tolist()
    drafts = [Draft(numbers, vocabulary.sentences(numbers)) for numbers in written]
    if known is not None:
        likeness = known.likeness(
            known.embed(np.stack([each.pixels for each in seen])), [each.patient_id for each in seen]
        )
        drafts = [known.choose(draft, likeness[i], config) for i, draft in enumerate(drafts)]
    maps = model.decoder.look(memory, mask, _pad(drafts, vocabulary.special.pad).to(memory.device))
    rows, columns = model.encoder.grid
    looked = maps[:, :, : rows * columns].cpu().numpy().reshape(*maps.shape[:2], rows, columns)
    observations = None if grounder is None else grounder.observe(np.stack([each.pixels for each in seen]))
    told = []
    for i, draft in enumerate(drafts):
        sentences = draft.sentences
        judged: list[Support | None] = [None] * len(sentences)
        if grounder is not None and observations is not None:
            judged = grounder.judge([each.text for each in sentences], observations[i])
        records = [
            _record(sentence, support, looked[i], seen[i], config)
            for sentence, support in zip(sentences, judged, strict=True)
        ]
        composed = compose(records, vocabulary.cleaning, is_dropping=config.grounding == "drop")
        told.append({**composed, "taken_from": draft.taken_from or None})
    return told


def _pad(drafts: Sequence[Draft], pad: int) -> torch.Tensor:
    """int64 [B, T]."""
    longest = max(len(draft.numbers) for draft in drafts)
    return torch.tensor([[*draft.numbers, *[pad] * (longest - len(draft.numbers))] for draft in drafts])


def compose(sentences: Sequence[dict[str, Any]], cleaning: str, *, is_dropping: bool) -> dict[str, Any]:
    """The report that sentences make, contradicted ones left out where `is_dropping`."""
    kept = [each for each in sentences if not (is_dropping and each["contradicted"])]
    text = {
        section: " ".join(each["text"] for each in kept if each["section"] == section)
        for section in ("findings", "impression")
    }
    separator = " " if cleaning == "compat" else "\n"
    report = separator.join(part for part in text.values() if part)
    return {**text, "report": report, "sentences": list(sentences)}


def _record(
    sentence: Sentence, support: Support | None, looked: NDArray[Any], seen: Seen, config: ReportGenerationConfig
) -> dict[str, Any]:
    heat = looked[sentence.start : sentence.stop].mean(axis=0)
    box = find_box(heat, seen.content, seen.pixels.shape[0])
    is_contradicted = None if support is None else support.support < config.grounding_threshold
    return {
        "text": sentence.text,
        "section": sentence.section,
        "score": None if support is None else round(support.score, 4),
        "support": None if support is None else round(support.support, 3),
        "box": [round(value, 4) for value in (box.x, box.y, box.width, box.height)],
        "contradicted": is_contradicted,
    }


def decode_greedily(
    model: ReportWriter, vocabulary: Vocabulary, config: ReportGenerationConfig, views: Views
) -> list[str]:
    """Reports of the studies by greedy search, one line each: what validation looks at."""
    memory, mask = model.remember(views)
    tokens = model.write(memory, mask, vocabulary.prompt, search_of(vocabulary, config, num_beams=1))
    return [" ".join(each.text for each in vocabulary.sentences(numbers)) for numbers in tokens.tolist()]

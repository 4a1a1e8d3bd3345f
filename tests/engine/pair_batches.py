"""Tiny models and batches for the tests of the model and its objective."""

from __future__ import annotations

import numpy as np
import torch

from placecli.config import ModelConfig, ObjectiveConfig
from placecli.data.pairs import PairBatch
from placecli.engine.place import Place
from placecli.engine.text import Tokenizer

SENTENCES = (
    "The heart is normal in size.",
    "No pleural effusion.",
    "No pneumothorax.",
    "Small right pleural effusion.",
    "Left lower lobe consolidation.",
    "Mild pulmonary edema.",
    "Large mass in the right upper lobe.",
    "Bones are unremarkable.",
    "A tube ends above the carina.",
    "The lungs are clear.",
)
MODEL = ModelConfig(
    image_size=32,
    image_patch=8,
    image_width=24,
    image_depth=1,
    image_heads=2,
    text_width=24,
    text_layers=1,
    text_heads=2,
    vocabulary=200,
    max_tokens=64,
    max_sentences=6,
    embed_dim=16,
    head_hidden=32,
    num_queries=5,
    query_blocks=2,
    query_heads=2,
    dropout=0.0,
)
OBJECTIVE = ObjectiveConfig(correlation_heads=2, within_report_weight=1.0)  # every term of PCMA on
TOKENIZER = Tokenizer.train(SENTENCES, 200)


def build(objective: ObjectiveConfig = OBJECTIVE, *, seed: int = 0, **changes: object) -> Place:
    """A small model with random weights."""
    torch.manual_seed(seed)
    return Place.from_config(MODEL.model_copy(update=changes), objective, TOKENIZER).eval()


def make_batch(reports: list[list[int]], *, seed: int = 0, max_tokens: int = 64, slots: int | None = None) -> PairBatch:
    """Pairs of random images and reports given as numbers of SENTENCES."""
    generator = torch.Generator().manual_seed(seed)
    encoded = TOKENIZER.encode_batch([[SENTENCES[n] for n in report] for report in reports], max_tokens, 6)
    slots = slots or max(len(report) for report in reports)
    keys = np.full((len(reports), slots), -1)
    for i, report in enumerate(reports):
        keys[i, : len(report)] = report[:slots]
    return PairBatch(
        images=torch.randn(len(reports), 1, 32, 32, generator=generator),
        tokens=torch.from_numpy(encoded.tokens),
        attention=torch.from_numpy(encoded.attention),
        sentence_index=torch.from_numpy(encoded.sentence_index),
        num_sentences=torch.from_numpy(encoded.num_sentences),
        text_key=torch.tensor([hash(frozenset(report)) for report in reports]),
        sentence_key=torch.from_numpy(keys),
        content=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(len(reports), 1),
        row=torch.arange(len(reports)),
    )

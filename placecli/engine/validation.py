"""What a model is worth on the validate split: its loss terms and how well image and report find each other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from placecli.config import PretrainConfig
from placecli.data.pairs import Pairs
from placecli.engine.distributed import Ranks, gather, mean_over_ranks
from placecli.engine.place import Place
from placecli.engine.step import Autocast, ObjectivePass, Prepared, shares_at, to_model_input
from placecli.metrics.retrieval import ranks as rank_of
from placecli.metrics.retrieval import recall_at_k

CUTOFFS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Validation:
    """terms: mean loss terms over full batches. recall: by name, e.g. "image_to_text_recall@5", over all pairs,
    from global embeddings alone. num_pairs, num_texts: pairs, and distinct reports among them."""

    terms: Mapping[str, float]
    recall: Mapping[str, float]
    num_pairs: int
    num_texts: int

    def values(self) -> dict[str, float]:
        """All numbers by name, `recall` being the mean of the six."""
        return {**self.terms, **self.recall, "recall": self.mean_recall}

    @property
    def mean_recall(self) -> float:
        """Mean of Recall@1, 5 and 10 in both directions."""
        return sum(self.recall.values()) / len(self.recall)

    def score(self, select_by: str) -> float:
        """The number that model selection maximises; minus infinity where it is not a number."""
        value = self.mean_recall if select_by == "recall" else -self.terms["loss"]
        return value if math.isfinite(value) else -math.inf


def recall_both_ways(images: Tensor, texts: Tensor, keys: np.ndarray) -> dict[str, float]:
    """Recall@1, 5, 10 from unit embeddings images, texts [n, d] and keys int64 [n], equal for equal reports.

    The gallery of reports holds each distinct report once (its first embedding); an image finds its report if that is
    among the k best, a report finds an image if any image that has this report is. Ties count against.
    """
    distinct, first = np.unique(keys, return_index=True)
    scores = (images.float() @ texts[torch.from_numpy(first).to(texts.device)].float().T).cpu().numpy()
    # A score that is no number stands last, behind every wrong one.
    scores = np.nan_to_num(scores, nan=-np.inf)
    ranks = {"image_to_text": rank_of(scores, keys, distinct), "text_to_image": rank_of(scores.T, distinct, keys)}
    return {f"{name}_recall@{k}": float(recall_at_k(r, k)) for name, r in ranks.items() for k in CUTOFFS}


@torch.no_grad()
def validate(model: Place, pairs: Pairs, config: PretrainConfig, ranks: Ranks, autocast: Autocast) -> Validation:
    """Validate `model` on all `pairs`; every rank takes an equal share and all get the same result.

    Batches have the size of training's, in one fixed order, images as they are. Loss terms leave out an incomplete
    last batch, unless it is the only one. The loss is weighed as at the end of training, so that epochs compare.
    """
    was_training = model.training
    model.eval()
    step = ObjectivePass(model, config.objective)
    shares = shares_at(1, 1, config.objective)
    order = np.random.default_rng(config.seed).permutation(len(pairs))
    size = min(config.batch_size, len(pairs))
    terms, images, texts = [], [], []
    for indices in np.split(order, range(size, len(order), size)):
        # Wrapped to a multiple of the ranks, so that no rank waits for another in vain.
        shared = np.resize(indices, math.ceil(len(indices) / ranks.world_size) * ranks.world_size)
        stored = pairs.batch(shared, part=ranks.share(len(shared)))
        batch = to_model_input(stored, None, config, ranks.device)
        with autocast():
            image = model.encode_image(batch.images)
            text = model.encode_text(batch.tokens, batch.attention, batch.sentence_index)
            if len(indices) == size:
                terms.append(step(Prepared.of(batch, shares)))
        images.append(gather(image.embedding.float())[: len(indices)])
        texts.append(gather(text.embedding.float())[: len(indices)])
    model.train(was_training)
    means = mean_over_ranks(torch.stack([torch.stack([v.float() for v in term.values()]) for term in terms]).mean(0))
    recall = recall_both_ways(torch.cat(images), torch.cat(texts), pairs.text_keys[order])
    loss = dict(zip(terms[0], means.tolist(), strict=True))
    return Validation(loss, recall, len(pairs), len(np.unique(pairs.text_keys)))

"""Where a model without pathology observations sees a finding: what such models have to show, scored as ours are.

PLACE points with its observations (`placecli.tasks.grounding`). A model aligned by its global embedding has the
gradient of its score at the patches (Grad-CAM); one aligned by words and patches has their cosine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from placecli.config import EvaluateConfig
from placecli.data.store import Store
from placecli.engine.augment import prepare
from placecli.engine.checkpoint import LoadedRun
from placecli.engine.model import unit
from placecli.engine.timm_encoders import ConvolutionalImageEncoder
from placecli.metrics.grounding import mask_overlap, mass_inside, pointing_game
from placecli.tasks.embed import device_of
from placecli.tasks.grounding import QUANTILE, cases_of
from placecli.tasks.prompts import prompts_of

BATCH = 64


def gradient_maps(run: LoadedRun, images: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Grad-CAM of s = <image embedding, text>: relu(sum_d ds/dp_nd p_nd) at the patches p, [B, N], and s [B].

    images float [B, 1, S, S], text unit [d]. p is what the global feature is read from: the patches, or of a
    published convolutional network the cells of its last feature map, whose map is then brought up to the patches' grid.
    """
    encoder = run.model.image_encoder
    with torch.enable_grad():
        if isinstance(encoder, ConvolutionalImageEncoder):
            read, _ = encoder.feature_maps(images)
            global_feature = read.mean(dim=(2, 3))
        else:
            global_feature, read = encoder(images)
        score = unit(run.model.image_head(global_feature)) @ text
        (gradient,) = torch.autograd.grad(score.sum(), read)
    found = (gradient * read).sum(dim=1 if read.ndim == 4 else 2).clamp(min=0).detach()
    if found.ndim == 3:
        found = F.interpolate(found[:, None], size=encoder.grid, mode="bilinear", align_corners=False).flatten(1)
    return found, score.detach()


@torch.no_grad()
def word_maps(run: LoadedRun, images: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over words of their cosine with each patch, from 0 up, [B, N], and the mean over words of the best patch [B].

    words unit [L, d] of one sentence, by the heads of token-wise alignment.
    """
    assert run.model.patch_head is not None
    _, patches = run.model.image_encoder(images)
    cosine = unit(run.model.patch_head(patches)) @ words.T
    return cosine.mean(dim=2).clamp(min=0), cosine.amax(dim=1).mean(dim=1)


def score_pointing(run: LoadedRun, store: Store, split: str, config: EvaluateConfig) -> Mapping[str, float]:
    """Pointing game, share of the map inside and mask overlap over all marked findings of the split.

    Of a label's prompts, those of `config`, the one that the image answers best is drawn, as for PLACE.
    """
    rows = [row for row in store.select(split) if row.boxes]
    known = sorted({box.label for row in rows for box in row.boxes})
    values: list[tuple[float, float, float]] = []
    for first in range(0, len(rows), BATCH):
        part = rows[first : first + BATCH]
        maps = {
            label: label_maps(run, store.images(part), prompts_of(label, config.prompts).positive) for label in known
        }
        masks = store.masks(part)
        for i, row in enumerate(part):
            for case in cases_of(row, store.size, masks[i], known):
                heat = maps[case.label][i]
                values.append(
                    (
                        float(pointing_game(heat, case.region)),
                        mass_inside(heat, case.region),
                        mask_overlap(heat, case.region, QUANTILE),
                    )
                )
    means = np.asarray(values).mean(axis=0)
    return dict(zip(("pointing_game", "mass_inside", "overlap"), map(float, means), strict=True))


def label_maps(run: LoadedRun, pixels: NDArray[np.uint8], prompts: Sequence[str]) -> NDArray[np.float32]:
    """float32 [B, rows, columns], each of sum 1: the map of the best of a label's prompts for each image."""
    device, model = device_of(run), run.preset.pretrain.model
    images = prepare(torch.from_numpy(np.ascontiguousarray(pixels)).unsqueeze(1).to(device), model.image_size)
    maps, scores = [], []
    for prompt in prompts:
        encoded = run.tokenizer.encode_batch([[prompt]], model.max_tokens, model.max_sentences)
        tokens, attention, sentence = (
            torch.from_numpy(array).to(device) for array in (encoded.tokens, encoded.attention, encoded.sentence_index)
        )
        with torch.no_grad():
            global_text, words = run.model.text_encoder(tokens, attention, sentence)
        if run.model.word_head is not None:
            found = word_maps(run, images, unit(run.model.word_head(words[0][sentence[0] >= 0])).detach())
        else:
            found = gradient_maps(run, images, unit(run.model.text_head(global_text))[0].detach())
        maps.append(found[0])
        scores.append(found[1])
    best = torch.stack(scores).argmax(dim=0)
    chosen = torch.stack(maps)[best, torch.arange(len(images), device=device)]
    total = chosen.sum(dim=1, keepdim=True)
    flat = torch.full_like(chosen, 1.0 / chosen.shape[1])
    chosen = torch.where(total > 0, chosen / total.clamp(min=1e-12), flat)
    return chosen.reshape(len(images), *run.model.image_encoder.grid).float().cpu().numpy()

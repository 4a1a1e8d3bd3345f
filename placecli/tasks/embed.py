"""Images and reports -> vectors of a trained model, in batches. Knows no file.

N images, T texts, K visual observations (V-PORs), S sentence slots (the model's `max_sentences`), d shared width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from placecli.engine.augment import prepare

if TYPE_CHECKING:
    from placecli.engine.checkpoint import LoadedRun
    from placecli.engine.place import ImageOutput

Progress = Callable[[str, int, int], None]
"""Called as progress(task, done, total)."""


@dataclass(frozen=True, slots=True)
class ImageVectors:
    """embedding float32 [N, d]; observations (V-PORs) [N, K, d], float32 or in a gallery float16. Unit vectors."""

    embedding: NDArray[np.float32]
    observations: NDArray[np.floating[Any]]

    def take(self, indices: Any) -> ImageVectors:
        """The vectors at these positions, in that order."""
        return ImageVectors(self.embedding[indices], self.observations[indices])

    def __len__(self) -> int:
        return len(self.embedding)


@dataclass(frozen=True, slots=True)
class TextVectors:
    """embedding float32 [T, d]; observations (T-PORs) [T, S, d], float32 or in a gallery float16; mask bool [T, S].

    Slot s of a text is its sentence s; a sentence that the model's limits cut has no slot or a false mask.
    """

    embedding: NDArray[np.float32]
    observations: NDArray[np.floating[Any]]
    mask: NDArray[np.bool_]

    def take(self, indices: Any) -> TextVectors:
        """The vectors at these positions, in that order."""
        return TextVectors(self.embedding[indices], self.observations[indices], self.mask[indices])

    def __len__(self) -> int:
        return len(self.embedding)


@dataclass(frozen=True, slots=True)
class ImageMaps:
    """attention float32 [n, K, rows * cols], each row summing to 1 over the image frame; grid (rows, cols)."""

    attention: NDArray[np.float32]
    grid: tuple[int, int]


def device_of(run: LoadedRun) -> torch.device:
    """The device that the model's weights are on."""
    return next(run.model.parameters()).device


def embed_images(
    run: LoadedRun, images: NDArray[np.uint8], *, batch_size: int = 64, progress: Progress | None = None
) -> ImageVectors:
    """Vectors of uint8 images [n, S, S] as the store holds them (whole frame, padding included)."""
    return embed_images_with_maps(run, images, batch_size=batch_size, progress=progress)[0]


def embed_images_with_maps(
    run: LoadedRun, images: NDArray[np.uint8], *, batch_size: int = 64, progress: Progress | None = None
) -> tuple[ImageVectors, ImageMaps]:
    """As `embed_images`, with the attention of every visual observation over the image."""
    embeddings, observations, attention = [], [], []
    grid = (0, 0)
    run.model.eval()
    for first in range(0, len(images), batch_size):
        output = _encode_images(run, images[first : first + batch_size])
        embeddings.append(output.embedding.cpu().numpy())
        observations.append(output.observations.cpu().numpy())
        attention.append(output.attention.cpu().numpy())
        grid = (int(output.grid[0]), int(output.grid[1]))
        if progress is not None:
            progress("embed images", min(first + batch_size, len(images)), len(images))
    if not embeddings:
        raise ValueError("no images to embed")
    vectors = ImageVectors(np.concatenate(embeddings), np.concatenate(observations))
    return vectors, ImageMaps(np.concatenate(attention), grid)


@torch.inference_mode()
def _encode_images(run: LoadedRun, images: NDArray[np.uint8]) -> ImageOutput:
    size = run.preset.pretrain.model.image_size
    pixels = torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(1).to(device_of(run))
    return run.model.encode_image(prepare(pixels, size))


def embed_texts(
    run: LoadedRun,
    texts: Sequence[Sequence[str]],
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> TextVectors:
    """Vectors of reports, each a sequence of sentences. A text of which the tokenizer keeps nothing gets mask 0."""
    model = run.preset.pretrain.model
    # Texts of like length share a batch, so that little padding is computed; the order is restored below.
    lengths = [len(run.tokenizer.encode(text, model.max_tokens, model.max_sentences)[0]) for text in texts]
    order = np.argsort(lengths, kind="stable")
    embedding = np.zeros((len(texts), model.embed_dim), np.float32)
    observations = np.zeros((len(texts), model.max_sentences, model.embed_dim), np.float32)
    mask = np.zeros((len(texts), model.max_sentences), bool)
    run.model.eval()
    for first in range(0, len(texts), batch_size):
        chosen = order[first : first + batch_size]
        vectors = _encode_texts(run, [texts[i] for i in chosen])
        embedding[chosen] = vectors.embedding
        slots = vectors.mask.shape[1]
        observations[chosen, :slots] = np.where(vectors.mask[:, :, None], vectors.observations, 0)
        mask[chosen, :slots] = vectors.mask
        if progress is not None:
            progress("embed reports", min(first + batch_size, len(texts)), len(texts))
    return TextVectors(embedding, observations, mask)


@torch.inference_mode()
def _encode_texts(run: LoadedRun, texts: Sequence[Sequence[str]]) -> TextVectors:
    model = run.preset.pretrain.model
    encoded = run.tokenizer.encode_batch(texts, model.max_tokens, model.max_sentences)
    device = device_of(run)
    output = run.model.encode_text(
        torch.from_numpy(encoded.tokens).to(device),
        torch.from_numpy(encoded.attention).to(device),
        torch.from_numpy(encoded.sentence_index).to(device),
    )
    return TextVectors(output.embedding.cpu().numpy(), output.observations.cpu().numpy(), output.mask.cpu().numpy())

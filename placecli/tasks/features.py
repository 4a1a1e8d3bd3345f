"""Global features of all images of a store by one encoder, computed once and kept by content."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from placecli.data.atomic import write_file
from placecli.data.store import Store
from placecli.engine.encoders import ImageEncoder
from placecli.engine.observing import ObservingImageEncoder
from placecli.engine.start import global_feature_digest
from placecli.records import Row
from placecli.tasks.image_batches import in_batches
from placecli.tasks.use import Advance


@torch.inference_mode()
def extract_features(
    encoder: ImageEncoder | ObservingImageEncoder,
    store: Store,
    rows: Sequence[Row],
    image_size: int,
    device: torch.device,
    cache: Path | None,
    advance: Advance,
) -> NDArray[np.float32]:
    """float32 [n, G] of the rows, the encoder in evaluation mode.

    cache: folder for a file named by a hash of weights, store, image size and rows; None keeps nothing. Only what is
    not there is computed; a file that is not what its name says is made again.
    """
    file = None if cache is None else cache / f"features-{_key(encoder, store, rows, image_size)}.npy"
    if file is not None and (kept := _read(file, len(rows))) is not None:
        advance(len(rows), len(rows))
        return kept
    encoder = encoder.to(device).eval()
    parts: list[NDArray[np.float32]] = []
    done = 0
    for chosen, images in in_batches(store, rows, image_size, device):
        parts.append(encoder(images)[0].float().cpu().numpy())
        done += len(chosen)
        advance(done, len(rows))
    features = np.concatenate(parts) if parts else np.zeros((0, encoder.global_width), np.float32)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, _npy(features))
    return features


def _key(encoder: ImageEncoder | ObservingImageEncoder, store: Store, rows: Sequence[Row], image_size: int) -> str:
    named = "\n".join([global_feature_digest(encoder), store.digest, str(image_size), *(row.image_id for row in rows)])
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def _read(file: Path, num_rows: int) -> NDArray[np.float32] | None:
    try:
        kept = np.load(file, allow_pickle=False)
    except (OSError, ValueError):
        return None
    return kept if kept.dtype == np.float32 and kept.ndim == 2 and len(kept) == num_rows else None


def _npy(array: NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()

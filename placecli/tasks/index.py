"""Nearest vectors by inner product with FAISS: exact, or approximate with its recall measured and said.

The index is one file beside the vectors it was built from, with a note of what those were; it is read through a
memory map and rebuilt when they change.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any, Final, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from placecli.data import atomic

logger = logging.getLogger(__name__)

Kind = Literal["exact", "approximate"]
SAMPLE: Final = 256
"""Queries on which the recall of an approximate index is measured."""
RECALL_DEPTH: Final = 10
RECALL_WANTED: Final = 0.99
"""The number of lists that are searched is doubled until the measured recall reaches this."""
_SEED: Final = 0


def open_index(file: Path | None, vectors: NDArray[np.float32], kind: Kind, queries: NDArray[np.float32]) -> Any:
    """A FAISS index over unit `vectors` [N, d] whose `search` gives inner products.

    Read from `file` through a memory map when it was built from these vectors and this kind, else built (and written
    when `file` is given). `queries` [m, d] are what an approximate index's recall is measured with.
    """
    note = {"faiss": faiss.__version__, "kind": kind, "vectors": _checksum(vectors), "count": len(vectors)}
    if file is not None:
        known = _read_note(_note_file(file))
        if known is not None and all(known.get(key) == value for key, value in note.items()):
            index: Any = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC if kind == "exact" else faiss.IO_FLAG_MMAP)
            if kind == "approximate":
                index.nprobe = int(known["nprobe"])
                _say_recall(known)
            return index
    index = _build_exact(vectors) if kind == "exact" else _build_approximate(vectors, queries, note)
    if file is not None:
        _write(file, index, note)
    return index


def search(index: Any, queries: NDArray[np.float32], depth: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores and positions [m, depth'] of the best `depth` vectors per query, falling; depth' is cut to the index.

    A position is -1 where an approximate index found fewer.
    """
    depth = min(depth, index.ntotal)
    scores, positions = index.search(np.ascontiguousarray(queries, np.float32), depth)
    return scores, positions.astype(np.int64)


def measure_recall(index: Any, vectors: NDArray[np.float32], queries: NDArray[np.float32], depth: int) -> float:
    """Share of the exact best `depth` that the index returns, mean over the queries, in 0..1."""
    depth = min(depth, len(vectors))
    exact = search(_build_exact(vectors), queries, depth)[1]
    found = search(index, queries, depth)[1]
    return float(np.mean([len(np.intersect1d(a, b)) / depth for a, b in zip(exact, found, strict=True)]))


def _build_exact(vectors: NDArray[np.float32]) -> Any:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index


def _build_approximate(vectors: NDArray[np.float32], queries: NDArray[np.float32], note: dict[str, Any]) -> Any:
    """Inverted lists; about sqrt(N) of them, at least 39 vectors each, as k-means needs. Adds its recall to `note`."""
    num_lists = max(1, min(round(4 * len(vectors) ** 0.5), len(vectors) // 39))
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], num_lists, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = _SEED + 1
    contiguous = np.ascontiguousarray(vectors, np.float32)
    index.train(contiguous)
    index.add(contiguous)
    chosen = np.random.default_rng(_SEED).permutation(len(queries))[:SAMPLE]
    sample = np.ascontiguousarray(np.asarray(queries)[np.sort(chosen)], np.float32)
    index.nprobe, recall = 1, 0.0
    while True:
        recall = measure_recall(index, contiguous, sample, RECALL_DEPTH)
        if recall >= RECALL_WANTED or index.nprobe >= num_lists:
            break
        index.nprobe = min(2 * index.nprobe, num_lists)
    note |= {"lists": num_lists, "nprobe": index.nprobe, "recall": recall, "sample": len(sample)}
    _say_recall(note)
    return index


def _say_recall(note: dict[str, Any]) -> None:
    logger.warning(
        "approximate index: recall@%d against exact search %.4f on %d queries (%d of %d lists searched)",
        RECALL_DEPTH,
        note["recall"],
        note["sample"],
        note["nprobe"],
        note["lists"],
    )


def _write(file: Path, index: Any, note: dict[str, Any]) -> None:
    """The note goes last: an index without its note is built again."""
    _note_file(file).unlink(missing_ok=True)
    temporary = atomic.temporary_path(file)
    faiss.write_index(index, str(temporary))
    atomic.flush_file(temporary)
    atomic.commit(temporary, file)
    atomic.write_file(_note_file(file), json.dumps(note).encode())


def _read_note(file: Path) -> dict[str, Any] | None:
    try:
        note = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return note if isinstance(note, dict) else None


def _note_file(file: Path) -> Path:
    return file.with_suffix(".json")


def _checksum(vectors: NDArray[np.float32]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(vectors).data, digest_size=16).hexdigest()

"""A store seen through one model: the vectors of its images and of its distinct reports, kept beside the run.

RUN/index/<store digest>/<split>/ holds gallery.json, the tables positions, text_of_image and group_of_text, and the
collections images/ and texts/ (placecli/tasks/vectors.py). It is made on first use, by content: images and reports
that another gallery of the same run holds are copied, not computed. A gallery that another model made is rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from placecli.data import atomic
from placecli.data.reports import text_key
from placecli.data.store import Store, open_store
from placecli.engine.checkpoint import DATA
from placecli.records import PlaceError, Row
from placecli.tasks.embed import ImageVectors, Progress, TextVectors, embed_images, embed_texts
from placecli.tasks.vectors import KEY_BYTES, Keys, collect, open_collection

if TYPE_CHECKING:
    from placecli.engine.checkpoint import LoadedRun

logger = logging.getLogger(__name__)

FORMAT: Final = 1
INDEX: Final = "index"
DESCRIPTION: Final = "gallery.json"
_TABLES: Final = ("positions", "text_of_image", "group_of_text")


@dataclass(frozen=True, slots=True)
class Gallery:
    """N images and T distinct report wordings of a store.

    positions int64 [N]: rows of the store. text_of_image int64 [N]: the wording of each image's report, -1 without one.
    group_of_text int64 [T]: equal for reports with the same set of sentences (order, case and punctuation apart).
    folder: where it lies, None for one in memory.
    """

    store: Store
    positions: NDArray[np.int64]
    images: ImageVectors
    texts: TextVectors
    text_of_image: NDArray[np.int64]
    group_of_text: NDArray[np.int64]
    folder: Path | None

    def rows(self, images: Sequence[int] | NDArray[Any]) -> list[Row]:
        """Manifest rows of these gallery images."""
        return [self.store.rows[int(self.positions[i])] for i in images]

    def __len__(self) -> int:
        return len(self.positions)


def identity(run: LoadedRun) -> str:
    """Names the function from pixels and words to vectors: the weights and the model section of the preset."""
    section = json.dumps(run.preset.pretrain.model.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(f"{run.digest}\n{section}".encode()).hexdigest()


def training_store(run: LoadedRun, option: str) -> Store:
    """The store that the run was trained on. Raises PlaceError, naming `option` as the remedy, when it is not known or
    not there any more."""
    try:
        path = Path(json.loads((run.path / DATA).read_text("utf-8"))["store"])
    except (OSError, ValueError, KeyError, TypeError):
        raise PlaceError(f"{run.path}: does not name its training store; name a store with {option}") from None
    if not path.is_dir():
        raise PlaceError(f"{run.path}: its training store is not at {path} any more; name a store with {option}")
    return open_store(path)


def open_gallery(
    run: LoadedRun,
    store: Store,
    split: str = "all",
    *,
    cache: Path | None,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Gallery:
    """The gallery of that split of the store ("all": every row), made or completed when needed.

    `cache` is the folder that holds all galleries of the run (RUN/index); None, or a folder that cannot be written,
    keeps everything in memory. Raises PlaceError when the split has no rows.
    """
    if cache is not None and not _is_writable(cache):
        cache = None
    folder = None if cache is None else cache / store.digest[:16] / split
    model = identity(run)
    if folder is not None and (found := _open(folder, model, store)) is not None:
        return found
    if cache is None or folder is None:
        return _build(run, store, split, None, None, batch_size, progress)
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"{cache}: another place command is building this index; wait until it is done"
    with atomic.locked(cache / ".lock", alone=True, busy=busy):
        return _build(run, store, split, folder, cache, batch_size, progress)


def is_ready(run: LoadedRun, store: Store, split: str, cache: Path) -> bool:
    """Whether that gallery was made before by this model, so that nothing has to be embedded."""
    return _open(cache / store.digest[:16] / split, identity(run), store) is not None


def _is_writable(cache: Path) -> bool:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        probe = atomic.temporary_path(cache / "probe")
        probe.touch()
        probe.unlink()
    except OSError:
        logger.warning("%s: cannot be written; the index is kept in memory and made anew each time", cache)
        return False
    return True


def _open(folder: Path, model: str, store: Store) -> Gallery | None:
    """The finished gallery in that folder, or None where it has to be made."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if description.get("format") != FORMAT or description.get("store") != store.digest:
        return None
    if description.get("model") != model:
        logger.warning("%s: made by another model; it is rebuilt", folder)
        return None
    images, texts = open_collection(folder / "images", model), open_collection(folder / "texts", model)
    try:
        tables = [np.load(folder / f"{name}.npy") for name in _TABLES]
    except (OSError, ValueError):
        return None
    if images is None or (texts is None and description["num_texts"]):
        return None
    empty = _no_texts(*description["text_shape"])
    return Gallery(
        store,
        tables[0],
        ImageVectors(images.arrays["embedding"], images.arrays["observations"]),
        empty if texts is None or not description["num_texts"] else TextVectors(**texts.arrays),
        tables[1],
        tables[2],
        folder,
    )


def _build(
    run: LoadedRun,
    store: Store,
    split: str,
    folder: Path | None,
    cache: Path | None,
    batch_size: int,
    progress: Progress | None,
) -> Gallery:
    rows = store.select(split)
    if not rows:
        raise PlaceError(f'{store.path}: split "{split}" has no images; choose another split or another store')
    positions = _positions(store, split)
    texts, text_of_image = _distinct([row.sentences for row in rows])
    group_of_text = _number([text_key(sentences) for sentences in texts])
    model = identity(run)

    def compute_images(chosen: NDArray[np.int64], report: Progress | None) -> dict[str, NDArray[Any]]:
        vectors = embed_images(run, store.images([rows[i] for i in chosen]), batch_size=batch_size, progress=report)
        return {"embedding": vectors.embedding, "observations": vectors.observations.astype(np.float16)}

    def compute_texts(chosen: NDArray[np.int64], report: Progress | None) -> dict[str, NDArray[Any]]:
        vectors = embed_texts(run, [texts[i] for i in chosen], batch_size=batch_size, progress=report)
        half = vectors.observations.astype(np.float16)
        return {"embedding": vectors.embedding, "observations": half, "mask": vectors.mask}

    image_part, text_part = (None, None) if folder is None else (folder / "images", folder / "texts")
    keys = _image_keys(store, rows, progress)
    donors = _donors(cache, "images")
    images = collect(image_part, model, keys, _counted(compute_images, len(rows), progress), donors)[0]
    text_shape = (run.preset.pretrain.model.max_sentences, run.preset.pretrain.model.embed_dim)
    written = _no_texts(*text_shape)
    if texts:
        keys = _keys(["\n".join(text).encode() for text in texts])
        donors = _donors(cache, "texts")
        found = collect(text_part, model, keys, _counted(compute_texts, len(texts), progress), donors)[0]
        written = TextVectors(**found.arrays)
    vectors = ImageVectors(images.arrays["embedding"], images.arrays["observations"])
    gallery = Gallery(store, positions, vectors, written, text_of_image, group_of_text, folder)
    if folder is not None:
        _describe(folder, gallery, model, text_shape)
    return gallery


def _describe(folder: Path, gallery: Gallery, model: str, text_shape: tuple[int, int]) -> None:
    """Write the tables, and gallery.json last: it makes the gallery valid."""
    (folder / DESCRIPTION).unlink(missing_ok=True)
    for name in _TABLES:
        temporary = atomic.temporary_path(folder / f"{name}.npy")
        with temporary.open("wb") as stream:
            np.save(stream, getattr(gallery, name))
        atomic.flush_file(temporary)
        atomic.commit(temporary, folder / f"{name}.npy")
    description = {
        "format": FORMAT,
        "model": model,
        "store": gallery.store.digest,
        "num_images": len(gallery),
        "num_texts": len(gallery.texts),
        "text_shape": text_shape,
    }
    atomic.write_file(folder / DESCRIPTION, json.dumps(description, indent=1).encode())


def _counted(
    compute: Callable[[NDArray[np.int64], Progress | None], dict[str, NDArray[Any]]],
    total: int,
    progress: Progress | None,
) -> Callable[[NDArray[np.int64]], dict[str, NDArray[Any]]]:
    """`compute` for one part, with progress counted over all parts."""
    done = 0

    def run_part(chosen: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        nonlocal done
        before = done

        def report(task: str, part_done: int, _: int) -> None:
            if progress is not None:
                progress(task, before + part_done, total)

        arrays = compute(chosen, report)
        done += len(chosen)
        return arrays

    return run_part


def _positions(store: Store, split: str) -> NDArray[np.int64]:
    if split == "all":
        return np.arange(len(store.rows))
    return np.flatnonzero(np.asarray(store.rows.column("split")) == split)


def _image_keys(store: Store, rows: Sequence[Row], progress: Progress | None) -> Keys:
    keys = []
    for first in range(0, len(rows), 256):
        keys.append(_keys([image.tobytes() for image in store.images(rows[first : first + 256])]))
        if progress is not None:
            progress("read images", min(first + 256, len(rows)), len(rows))
    return np.concatenate(keys)


def _keys(contents: Sequence[bytes]) -> Keys:
    raw = b"".join(hashlib.blake2b(content, digest_size=KEY_BYTES).digest() for content in contents)
    return np.frombuffer(raw, np.uint8).reshape(-1, KEY_BYTES)


def _distinct(reports: Sequence[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], NDArray[np.int64]]:
    """Distinct non-empty reports in order of appearance, and for each report its number among them or -1."""
    numbers: dict[tuple[str, ...], int] = {}
    of_report = [numbers.setdefault(report, len(numbers)) if report else -1 for report in reports]
    return list(numbers), np.asarray(of_report, np.int64)


def _number(names: Sequence[str]) -> NDArray[np.int64]:
    numbers: dict[str, int] = {}
    return np.asarray([numbers.setdefault(name, len(numbers)) for name in names], np.int64)


def _no_texts(slots: int, width: int) -> TextVectors:
    return TextVectors(
        np.zeros((0, width), np.float32), np.zeros((0, slots, width), np.float16), np.zeros((0, slots), bool)
    )


def _donors(cache: Path | None, kind: str) -> list[Path]:
    """All folders of finished vectors of this run, whatever their store, and the parts that killed builds left."""
    if cache is None:
        return []
    return sorted([*cache.glob(f"*/*/{kind}"), *cache.glob(f"*/*/{kind}.parts/[0-9]*")])

"""Vectors on disk by content: what one model made of each image or text is computed once and found again.

A collection is a folder of .npy arrays over N items and a manifest that names the model. It appears whole or not at
all. While a large one is built its parts are committed one by one, so that a killed run loses one part.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from placecli.data import atomic

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
KEY_BYTES: Final = 16
ITEMS_PER_PART: Final = 1024

Arrays = Mapping[str, NDArray[Any]]
Keys = NDArray[np.uint8]
Compute = Callable[[NDArray[np.int64]], Arrays]
"""Positions of items -> their arrays, [len(positions), ...] each, in that order."""


@dataclass(frozen=True, slots=True)
class Collection:
    """keys uint8 [N, 16], the content hash of each item; arrays [N, ...], memory-mapped when they lie on disk."""

    keys: Keys
    arrays: Arrays


def open_collection(folder: Path, model: str) -> Collection | None:
    """The collection in that folder, or None when there is none, it is damaged or another model made it."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if manifest["format"] != FORMAT or manifest["model"] != model:
            return None
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("keys", *manifest["arrays"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    keys = arrays.pop("keys")
    if any(len(array) != len(keys) for array in arrays.values()) or keys.shape != (manifest["count"], KEY_BYTES):
        return None
    return Collection(keys, arrays)


def collect(
    folder: Path | None, model: str, keys: Keys, compute: Compute, donors: Iterable[Path] = ()
) -> tuple[Collection, int]:
    """The collection of these items in this order, and how many of them had to be computed.

    Items whose key a donor folder (a collection of the same model) holds are copied from it. With a folder the
    result is written there atomically and memory-mapped; without one it stays in memory.
    """
    if folder is None:
        return Collection(keys, compute(np.arange(len(keys)))), len(keys)
    if (ready := open_collection(folder, model)) is not None and np.array_equal(ready.keys, keys):
        return ready, 0
    parts = folder.with_name(f"{folder.name}.parts")
    known = [found for path in [*donors, *_folders(parts)] if (found := open_collection(path, model)) is not None]
    place_of = _places(known)
    missing = _missing(keys, place_of)
    for first in range(0, len(missing), ITEMS_PER_PART):
        part = missing[first : first + ITEMS_PER_PART]
        made = Collection(keys[part], dict(compute(part)))
        if len(missing) > ITEMS_PER_PART:
            made = _write_part(parts, model, made)
        known.append(made)
    _write(folder, model, keys, known, _places(known))
    shutil.rmtree(parts, ignore_errors=True)
    written = open_collection(folder, model)
    if written is None:
        raise OSError(f"{folder}: cannot be read back")
    return written, len(missing)


def _places(known: Sequence[Collection]) -> dict[bytes, tuple[int, int]]:
    """Key -> (collection, row); the first collection that holds a key wins."""
    places: dict[bytes, tuple[int, int]] = {}
    for number, collection in enumerate(known):
        for row, key in enumerate(_split(collection.keys)):
            places.setdefault(key, (number, row))
    return places


def _missing(keys: Keys, places: Mapping[bytes, tuple[int, int]]) -> NDArray[np.int64]:
    """Position of the first item of each key that has no place, in order."""
    seen: set[bytes] = set()
    missing = []
    for position, key in enumerate(_split(keys)):
        if key not in places and key not in seen:
            seen.add(key)
            missing.append(position)
    return np.asarray(missing, np.int64)


def _write_part(parts: Path, model: str, made: Collection) -> Collection:
    folder = parts / f"{len(_folders(parts)):05d}"
    _write(folder, model, made.keys, [made], _places([made]))
    return open_collection(folder, model) or made


def _write(
    folder: Path,
    model: str,
    keys: Keys,
    known: Sequence[Collection],
    places: Mapping[bytes, tuple[int, int]],
) -> None:
    """Gather the items from the known collections into `folder`, which appears whole."""
    temporary = atomic.temporary_path(folder)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    where = np.asarray([places[key] for key in _split(keys)], np.int64).reshape(-1, 2)
    names = sorted(known[0].arrays)
    np.save(temporary / "keys.npy", keys)
    for name in names:
        sample = known[0].arrays[name]
        target = np.lib.format.open_memmap(
            temporary / f"{name}.npy", mode="w+", dtype=sample.dtype, shape=(len(keys), *sample.shape[1:])
        )
        for number, collection in enumerate(known):
            items = np.flatnonzero(where[:, 0] == number)
            for first in range(0, len(items), ITEMS_PER_PART):
                chosen = items[first : first + ITEMS_PER_PART]
                target[chosen] = collection.arrays[name][where[chosen, 1]]
        target.flush()
    manifest = {"format": FORMAT, "model": model, "count": len(keys), "arrays": names}
    (temporary / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    for file in temporary.iterdir():
        atomic.flush_file(file)
    replace_folder(temporary, folder)


def replace_folder(temporary: Path, folder: Path) -> None:
    """Give a finished temporary folder its name; one that is there already is removed first."""
    if folder.exists():
        old = folder.with_name(f".{folder.name}.old-{os.getpid()}")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        shutil.rmtree(old, ignore_errors=True)
    temporary.rename(folder)
    atomic.flush_folder(folder.parent)


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.glob("*") if path.is_dir() and not path.name.startswith("."))


def _split(keys: Keys) -> list[bytes]:
    raw = np.ascontiguousarray(keys).tobytes()
    return [raw[i : i + KEY_BYTES] for i in range(0, len(raw), KEY_BYTES)]

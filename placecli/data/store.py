"""The store that `place preprocess` writes and every other stage reads: docs/store.md is its contract."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import yaml

from placecli.config import Preset, parse_saved_preset
from placecli.data.atomic import checksum
from placecli.data.manifest import Rows
from placecli.records import SPLITS, PlaceError, Row

FORMAT: Final = 1
"""Version of the store's layout, `format` in store.yaml."""
DESCRIPTION: Final = "store.yaml"
MANIFEST: Final = "manifest.parquet"
REJECTS: Final = "rejects.jsonl"
PARTS: Final = "parts"
"""Folder of the parts of an unfinished store; it is gone from a finished one."""


def images_name(shard: int) -> str:
    """File name of the pixels of a shard, uint8 [n, S, S]."""
    return f"images-{shard:05d}.npy"


def masks_name(shard: int) -> str:
    """File name of the masks of a shard, uint8 [m, S, S], values 0 and 255."""
    return f"masks-{shard:05d}.npy"


def store_digest(files: Mapping[str, Mapping[str, Any]]) -> str:
    """SHA-256 over the sorted `name sha256` lines of the files: equal exactly when all bytes are equal."""
    lines = (f"{name} {entry['sha256']}\n" for name, entry in sorted(files.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_store(path: Path) -> Store:
    """The finished store in that folder.

    Looks at store.yaml and at the presence and size of each file; `Store.verify` compares checksums. Raises
    PlaceError for a folder that is no store, an unfinished one, an unknown format or a missing file.
    """
    path = Path(path)
    description = read_description(path)
    if description is None:
        if (path / PARTS).is_dir():
            raise PlaceError(f"{path}: the store is unfinished; run the same `place preprocess` command to continue")
        how = f"`place preprocess --preset NAME --root DIR --out {path}`, or --dicom-dir DIR without a preset"
        raise PlaceError(f"{path}: not a store (no {DESCRIPTION}); check the path, or make one with {how}")
    for name, entry in description["files"].items():
        file = path / name
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            state = "has the wrong size" if file.is_file() else "is missing"
            raise PlaceError(f"{file}: {state}; the store is damaged, remove {path} and run `place preprocess` again")
    return Store(path, description)


def read_description(path: Path) -> dict[str, Any] | None:
    """Content of store.yaml, or None where there is none. Raises PlaceError for one that is not ours."""
    file = path / DESCRIPTION
    if not file.is_file():
        return None
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict) or "preset" not in content:
        raise PlaceError(f"{file}: not a description of a store; name another folder")
    if content.get("format") != FORMAT:
        raise PlaceError(
            f"{file}: format {content.get('format')!r}, this version of place reads {FORMAT};"
            " run `place preprocess` again"
        )
    return content


class Store:
    """A finished store, read-only. Pixels are memory-mapped when first asked for; many processes share them."""

    def __init__(self, path: Path, description: Mapping[str, Any]) -> None:
        self.path = path
        self.description = description
        """Content of store.yaml: counts, versions, checksums."""
        self.config: Preset = parse_saved_preset(description["preset"], str(path / DESCRIPTION))
        self.size: int = self.config.preprocess.size
        self.digest: str = str(description["digest"])
        self._arrays: dict[str, np.ndarray] = {}

    def __reduce__(self) -> tuple[Callable[[Path], Store], tuple[Path]]:
        # A worker process opens the store anew: sending the maps would copy all pixels.
        return open_store, (self.path,)

    @cached_property
    def rows(self) -> Rows:
        """All rows in manifest order (by shard, then row); each Row is made when asked for."""
        return Rows(self.path / MANIFEST)

    def select(self, split: str) -> list[Row]:
        """Rows of one split in manifest order; "all" gives every row. Raises PlaceError for another name."""
        if split == "all":
            return list(self.rows)
        if split not in SPLITS:
            raise PlaceError(f'split "{split}": choose one of {", ".join(SPLITS)} or all')
        return self.rows.take([i for i, name in enumerate(self.rows.column("split")) if name == split])

    def images(self, rows: Sequence[Row]) -> np.ndarray:
        """Pixels of the rows, uint8 [n, S, S] in the order of `rows`, read in the order of the files."""
        return self._gather([(row.shard, row.row) for row in rows], images_name)

    def masks(self, rows: Sequence[Row]) -> np.ndarray:
        """Masks of the rows, uint8 [n, S, S], 255 inside and 0 outside; all 0 for a row without one (mask_row -1)."""
        return self._gather([(row.shard, row.mask_row) for row in rows], masks_name)

    def labels(self) -> tuple[str, ...]:
        """Names of all labels in the manifest, sorted."""
        return tuple(sorted({name for pairs in self.rows.column("labels") for name, _ in pairs}))

    def verify(self) -> None:
        """Read every file and compare its SHA-256 with store.yaml. Raises PlaceError naming those that differ."""
        files: Mapping[str, Mapping[str, Any]] = self.description["files"]
        changed = [name for name, entry in files.items() if checksum(self.path / name) != entry["sha256"]]
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise PlaceError(
                f"{self.path}: {', '.join(changed[:5])}{more} changed since the store was written;"
                " restore the files or remove the store and run `place preprocess` again"
            )

    def _gather(self, places: Sequence[tuple[int, int]], name: Callable[[int], str]) -> np.ndarray:
        gathered = np.zeros((len(places), self.size, self.size), np.uint8)
        for target in sorted(range(len(places)), key=places.__getitem__):
            shard, row = places[target]
            if row >= 0:
                gathered[target] = self._array(name(shard))[row]
        return gathered

    def _array(self, name: str) -> np.ndarray:
        array = self._arrays.get(name)
        if array is None:
            array = np.load(self.path / name, mmap_mode="r", allow_pickle=False)
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[1:] != (self.size, self.size):
                expected = f"uint8 [n, {self.size}, {self.size}]"
                raise PlaceError(f"{self.path / name}: {array.dtype} {list(array.shape)}, not {expected}; damaged?")
            self._arrays[name] = array
        return array

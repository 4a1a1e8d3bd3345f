"""What the splits of a store share: patients, studies, images, images that look alike, and texts.

Exact images are equal frames of the store. Images that look alike are found on thumbnails of 32 x 32 pixels whose slow
changes of grey are taken away, because those are alike in all chests; docs/leaks.md has what that was measured at. The
thumbnails are small whole numbers, so that every machine finds the same pairs and leaks.json has the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from placecli.data.atomic import write_file
from placecli.data.manifest import Rows
from placecli.data.reports import text_key
from placecli.data.store import MANIFEST, Store, images_name
from placecli.records import SPLITS

FORMAT: Final = 1
LEAKS: Final = "leaks.json"
KINDS: Final = ("patients", "studies", "images", "near_images", "texts")
SIDE: Final = 32
"""Pixels of a side of a thumbnail."""
SIGMA: Final = 3.0
"""Of the Gaussian whose result is taken away from a thumbnail, in its pixels."""
CORRELATION: Final = 0.95
"""From this correlation of two thumbnails on the images look alike."""
_STEPS: Final = 40.0
"""Steps of a thumbnail's grey in one standard deviation. 1024 products of at most 127 x 127 stay below 2^24: float32
adds such whole numbers without an error, in any order."""
_BLOCK: Final = (512, 8192)

Bytes = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Contents:
    """What is compared of n images, in the order of their manifest. `name` stands for the store where there are two.

    keys: by kind ("patients", "studies", "images", "texts") a value for each image, equal where the thing is; "" is
    nothing. thumbnails int8 [n, SIDE * SIDE], or [n, 0] where none were made.
    """

    image_ids: list[str]
    splits: list[str]
    keys: dict[str, list[str]]
    thumbnails: Bytes
    name: str = ""

    def parts(self) -> dict[str, NDArray[np.int64]]:
        """Positions of the images of each split that has some; with `name` the splits are called name:split."""
        splits = np.asarray(self.splits)
        found = {split: np.flatnonzero(splits == split) for split in SPLITS}
        prefix = f"{self.name}:" if self.name else ""
        return {f"{prefix}{split}": positions for split, positions in found.items() if len(positions)}


def read_contents(folder: Path, rows: Rows, *, with_thumbnails: bool = True, name: str = "") -> Contents:
    """Read every frame of the store's files once."""
    places = sorted(range(len(rows)), key=list(zip(rows.column("shard"), rows.column("row"), strict=True)).__getitem__)
    shards, numbers = rows.column("shard"), rows.column("row")
    pixels = [""] * len(rows)
    thumbnails = np.zeros((len(rows), SIDE * SIDE if with_thumbnails else 0), np.int8)
    shard, frames = -1, np.zeros((0, 0, 0), np.uint8)
    for place in places:
        if shards[place] != shard:
            shard = shards[place]
            frames = np.load(folder / images_name(shard), mmap_mode="r", allow_pickle=False)
        frame = np.ascontiguousarray(frames[numbers[place]])
        pixels[place] = hashlib.blake2b(frame.data, digest_size=16).hexdigest()
        if with_thumbnails:
            thumbnails[place] = make_thumbnail(frame)
    texts = [_hash(text_key(sentences)) if sentences else "" for sentences in rows.column("sentences")]
    keys = {
        "patients": rows.column("patient_id"),
        "studies": rows.column("study_id"),
        "images": pixels,
        "texts": texts,
    }
    return Contents(rows.column("image_id"), rows.column("split"), keys, thumbnails, name)


def make_thumbnail(frame: NDArray[np.uint8]) -> Bytes:
    """int8 [SIDE * SIDE] of a frame uint8 [S, S]: shrunk, freed of slow changes, with mean 0; all 0 for a flat one."""
    small = cv2.resize(frame.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    detail = small - cv2.GaussianBlur(small, (0, 0), SIGMA)
    detail -= detail.mean()
    spread = float(detail.std())
    if spread < 1e-3:
        return np.zeros(SIDE * SIDE, np.int8)
    return np.clip(np.rint(detail.ravel() * (_STEPS / spread)), -127, 127).astype(np.int8)


def near_pairs(first: Bytes, second: Bytes, correlation: float = CORRELATION) -> Iterator[tuple[int, int, float]]:
    """(i, j, correlation) of thumbnails i of `first` [n, D] and j of `second` [m, D] that look alike, by j, then i."""
    of_first, of_second = _lengths(first), _lengths(second)
    for start in range(0, len(second), _BLOCK[0]):
        block = second[start : start + _BLOCK[0]].astype(np.float32)
        found: list[tuple[int, int, float]] = []
        for left in range(0, len(first), _BLOCK[1]):
            products = (block @ first[left : left + _BLOCK[1]].astype(np.float32).T).astype(np.float64)
            products /= of_second[start : start + len(block), None] * of_first[None, left : left + _BLOCK[1]]
            for j, i in np.argwhere(products >= correlation).tolist():
                found.append((left + i, start + j, float(products[j, i])))
        yield from sorted(found, key=lambda pair: (pair[1], pair[0]))


def find_leaks(first: Contents, second: Contents | None = None) -> dict[str, Any]:
    """What is in two splits of one store, or in a split of `first` and one of `second`: the content of leaks.json.

    {"format", "near_correlation", "counts", "found"}, the last two by pair of splits ("train-test") and kind. A count is
    {"shared": different things in both, and by split the images that show one}; what was found is the ids.
    """
    own = first.parts()
    if second is None:
        pairs = [((a, first, own[a]), (b, first, own[b])) for a, b in combinations(own, 2)]
    else:
        other = second.parts()
        pairs = [((a, first, own[a]), (b, second, other[b])) for a in own for b in other]
    counts: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for one, two in pairs:
        name = f"{one[0]}-{two[0]}"
        compared = {kind: _shared(kind, one, two) for kind in KINDS if kind != "near_images"}
        compared["near_images"] = _near(one, two)
        counts[name] = {kind: compared[kind][0] for kind in KINDS}
        found[name] = {kind: compared[kind][1] for kind in KINDS}
    return {"format": FORMAT, "near_correlation": CORRELATION, "counts": counts, "found": found}


def write_leaks(folder: Path) -> dict[str, Any]:
    """Write leaks.json of a store whose manifest and frames are there; returns its counts."""
    content = find_leaks(read_contents(folder, Rows(folder / MANIFEST)))
    write_file(folder / LEAKS, (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace"))
    counts: dict[str, Any] = content["counts"]
    return counts


def leaks_of(store: Store) -> dict[str, Any]:
    """The content of the store's leaks.json; found anew for a store that another program, or an earlier place, wrote."""
    try:
        content = json.loads((store.path / LEAKS).read_text("utf-8")) if LEAKS in store.description["files"] else None
    except (OSError, ValueError):
        content = None
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return content
    return find_leaks(read_contents(store.path, store.rows))


_Part = tuple[str, Contents, NDArray[np.int64]]


def _shared(kind: str, one: _Part, two: _Part) -> tuple[dict[str, int], list[Any]]:
    groups = [_by_key(contents.keys[kind], positions) for _, contents, positions in (one, two)]
    both = sorted(groups[0].keys() & groups[1].keys(), key=lambda key: (groups[0][key][0], key))
    count = {"shared": len(both)}
    for part, group in zip((one, two), groups, strict=True):
        count[part[0]] = sum(len(group[key]) for key in both)
    if kind in ("patients", "studies"):
        return count, list(both)
    return count, [
        {part[0]: [part[1].image_ids[i] for i in group[key]] for part, group in zip((one, two), groups, strict=True)}
        for key in both
    ]


def _near(one: _Part, two: _Part) -> tuple[dict[str, int], list[Any]]:
    """Pairs that look alike and are not equal."""
    (name, first, of_first), (other, second, of_second) = one, two
    pairs = []
    for i, j, value in near_pairs(first.thumbnails[of_first], second.thumbnails[of_second]):
        a, b = int(of_first[i]), int(of_second[j])
        if first.keys["images"][a] != second.keys["images"][b]:
            pairs.append((a, b, value))
    count = {"shared": len(pairs), name: len({a for a, _, _ in pairs}), other: len({b for _, b, _ in pairs})}
    return count, [
        {name: first.image_ids[a], other: second.image_ids[b], "correlation": round(value, 4)} for a, b, value in pairs
    ]


def _by_key(keys: Sequence[str], positions: NDArray[np.int64]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for position in positions.tolist():
        if keys[position]:
            groups.setdefault(keys[position], []).append(position)
    return groups


def _lengths(thumbnails: Bytes) -> NDArray[np.float64]:
    """Of each thumbnail, inf for a flat one: it looks like nothing."""
    lengths = np.sqrt((thumbnails.astype(np.int64) ** 2).sum(axis=1, dtype=np.int64).astype(np.float64))
    return np.where(lengths > 0, lengths, np.inf)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

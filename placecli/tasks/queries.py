"""What `place retrieve` is asked: image files, folders, texts and JSON lines -> Query; files -> pixels, safely."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.config import PreprocessConfig
from placecli.data import dicom, images, pool
from placecli.records import InputRefused, PlaceError, Reject

SUFFIXES: Final = (".dcm", ".dicom", ".dic", ".png", ".jpg", ".jpeg", "")
"""Files of a folder that are asked, by the end of their name; "" is a name without one, as many DICOM files have."""


@dataclass(frozen=True, slots=True)
class Query:
    """One question: an image file or a text, exactly one of them. `name` is what the answers repeat in `query`."""

    name: str
    image: Path | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class QueryImage:
    """pixels uint8 [S, S] in the frame of the store; content (x0, y0, x1, y1), the rectangle that holds image."""

    pixels: NDArray[np.uint8]
    content: tuple[int, int, int, int]


def gather(paths: Sequence[str], texts: Sequence[str], stdin: Iterable[str]) -> Iterable[Query | Reject]:
    """What a command line asks: its paths, its texts, then stdin where a path is "-" or nothing else asks.

    A list, so that its length is known, unless stdin is read; PlaceError is then raised where in all nothing is asked.
    """
    asked = itertools.chain(image_queries(path for path in paths if path != "-"), text_queries(texts))
    if "-" in paths or not (paths or texts):
        return _need_one(itertools.chain(asked, read_lines(stdin)))
    return list(asked)


def _need_one(queries: Iterable[Query | Reject]) -> Iterator[Query | Reject]:
    is_empty = True
    for query in queries:
        is_empty = False
        yield query
    if is_empty:
        raise PlaceError("nothing was asked: stdin has no line; give a path, --text WORDS, or lines on stdin")


def text_queries(texts: Iterable[str]) -> Iterator[Query]:
    """One query a text. Raises PlaceError for an empty one."""
    for text in texts:
        if not text.strip():
            raise PlaceError("an empty text asks nothing; write what to look for, e.g. --text 'right pleural effusion'")
        yield Query(text, text=text)


def image_queries(paths: Iterable[str | Path]) -> Iterator[Query]:
    """One query a file, or a file of a folder (all levels, sorted; hidden files left out).

    A missing file is a query that will be refused; a folder without images raises PlaceError.
    """
    for path in map(Path, paths):
        if not _is_folder(path):
            yield Query(str(path), image=path)
            continue
        found = [file for file in sorted(path.rglob("*")) if _is_candidate(file, path)]
        if not found:
            raise PlaceError(f"{path}: no DICOM, PNG or JPEG file in this folder")
        yield from (Query(str(file), image=file) for file in found)


def read_lines(lines: Iterable[str]) -> Iterator[Query | Reject]:
    """Queries of a pipe: a line is a path, or an object {"image": path} or {"text": words}; other keys are ignored.

    A hit of `place retrieve` asks with the report it found. A line that is none of
    these is yielded as a Reject with code `line_invalid`; empty lines are skipped.
    """
    for number, line in enumerate(lines, start=1):
        stripped = line.strip()
        if not stripped:
            continue
        if not stripped.startswith("{"):
            yield from _from_line(stripped, number)
            continue
        try:
            record = json.loads(stripped)
        except ValueError:
            record = {}
        image, text = (record.get(key) for key in ("image", "text"))
        if image is None and text is None and "rank" in record:
            text = record.get("report")
        if isinstance(image, str) and image and text is None:
            yield from _from_line(image, number)
        elif isinstance(text, str) and text.strip() and image is None:
            yield Query(text, text=text)
        else:
            yield Reject(f"line {number}", "line_invalid", 'a query line is a path, {"image": path} or {"text": words}')


def _from_line(path: str, number: int) -> Iterator[Query | Reject]:
    """A folder without images ends a command that names it, but not a pipe of which it is one line."""
    try:
        yield from image_queries([path])
    except PlaceError:
        yield Reject(f"line {number}", "folder_empty", "no DICOM, PNG or JPEG file in this folder")


def read_images(paths: Sequence[Path], size: int, rules: PreprocessConfig) -> list[QueryImage | Reject]:
    """Each file as the store would hold it, or why it cannot be used.

    DICOM is decoded in a process of its own, with the preset's limits of memory and time: a decoder that dies costs
    one query. PNG and JPEG are read here.
    """
    answers: list[QueryImage | Reject] = [_missing(path) for path in paths]
    there = [i for i, path in enumerate(paths) if _is_file(path)]
    risky = [i for i in there if dicom.is_dicom(paths[i])]
    for i in sorted(set(there) - set(risky)):
        answers[i] = _read((str(paths[i]), size, rules))
    results = pool.run_expendable(
        _read,
        [(str(paths[i]), size, rules) for i in risky],
        workers=min(len(risky), pool.choose_workers(rules.memory_limit_mib)) or 1,
        memory_limit_mib=rules.memory_limit_mib,
        time_limit_seconds=rules.time_limit_seconds,
    )
    for position, result in results if risky else ():
        i = risky[position]
        answers[i] = _died(paths[i], result) if isinstance(result, pool.WorkerDeath) else result
    return answers


def _read(item: tuple[str, int, PreprocessConfig]) -> QueryImage | Reject:
    """Runs in the worker; a refusal is a value, so that it travels back with its code."""
    path, size, rules = item
    try:
        radiograph = images.read_image(Path(path), size, rules)
    except InputRefused as refusal:
        return Reject(path, refusal.code, refusal.message)
    except OSError as error:
        return Reject(path, "unreadable", f"the file cannot be read ({type(error).__name__})")
    pixels, content = images.fit_square(radiograph.pixels, size)
    return QueryImage(pixels, content)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # e.g. a name that is too long for any file
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _missing(path: Path) -> Reject:
    return Reject(str(path), "missing", "no such file (words are asked with --text)")


def _died(path: Path, death: pool.WorkerDeath) -> Reject:
    return Reject(str(path), f"decoder_{death.kind}", f"the decoder failed ({death.detail})")


def _is_candidate(file: Path, root: Path) -> bool:
    is_hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not is_hidden and file.suffix.lower() in SUFFIXES and file.is_file()

"""Files that appear whole or not at all: write beside, fsync, rename, fsync the folder."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from placecli.records import PlaceError

if sys.platform != "win32":
    import fcntl

TEMPORARY = ".tmp-"
"""Part of the name of every unfinished file; such files are removed by the next run."""

_HEADER_BYTES = 128
_CHUNK_BYTES = 1 << 22


def write_file(path: Path, content: bytes) -> None:
    """`path` with exactly `content`, atomically: after a crash the old file or the new one is there, never a part."""
    temporary = temporary_path(path)
    with temporary.open("wb") as stream:
        stream.write(content)
        _flush(stream)
    commit(temporary, path)


def temporary_path(path: Path) -> Path:
    """A name beside `path` for the unfinished file, of this process alone."""
    return path.with_name(f".{path.name}{TEMPORARY}{os.getpid()}")


def commit(temporary: Path, path: Path) -> None:
    """Give a flushed temporary file its name and make the name survive a power cut."""
    temporary.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """fsync a folder, so that renames and removals in it last; nothing where the system cannot do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder cannot be opened on Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_file(path: Path) -> None:
    """fsync a file that another library wrote and closed."""
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def remove_temporaries(folder: Path) -> None:
    """Delete what killed runs left half-written in `folder`. Call it only while holding the lock alone."""
    for leftover in folder.glob(f".*{TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 of the file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class FrameWriter:
    """An .npy file of uint8 [n, size, size] written frame by frame, so that no shard is held in memory.

    n is known only at the end: the header's place is kept free and filled on commit. Nothing is created
    before the first frame; a writer without frames leaves no file (an empty array cannot be memory-mapped).
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size = path, size
        self._temporary = temporary_path(path)
        self._stream: io.BufferedWriter | None = None
        self.num_frames = 0

    def append(self, frame: np.ndarray) -> int:
        """Write one uint8 [size, size] frame; returns its row."""
        if frame.shape != (self._size, self._size) or frame.dtype != np.uint8:
            raise ValueError(f"frame is {frame.dtype} {frame.shape}, not uint8 ({self._size}, {self._size})")
        if self._stream is None:
            self._stream = self._temporary.open("wb")
            self._stream.write(b"\0" * _HEADER_BYTES)
        self._stream.write(np.ascontiguousarray(frame).data)
        self.num_frames += 1
        return self.num_frames - 1

    def commit(self) -> None:
        """Make the file appear; without frames remove one that an earlier, different run left."""
        if self._stream is None:
            self._path.unlink(missing_ok=True)
            return
        self._stream.seek(0)
        self._stream.write(_header((self.num_frames, self._size, self._size)))
        _flush(self._stream)
        self.close()
        commit(self._temporary, self._path)

    def close(self) -> None:
        """Release the stream; the temporary file of an uncommitted writer stays for remove_temporaries."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


@contextlib.contextmanager
def locked(path: Path, *, alone: bool, busy: str) -> Iterator[None]:
    """Hold the lock file `path`: alone, or together with others that are not alone.

    Raises PlaceError(`busy`) at once where another process holds it. The system drops the lock with the
    process that holds it, so a lock file left by a killed run means nothing.
    """
    with path.open("a+") as stream:
        if sys.platform != "win32":
            try:
                fcntl.flock(stream, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
            except BlockingIOError:
                raise PlaceError(busy) from None
            except OSError:
                # Some network file systems have no flock. Two runs then do the same work twice and write the
                # same bytes under names of their own, which costs time, not data.
                pass
        yield


def _flush(stream: io.BufferedWriter) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _header(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, fields)
    header = stream.getvalue()
    if len(header) != _HEADER_BYTES:
        raise RuntimeError(f"the npy header of {shape} takes {len(header)} bytes, not {_HEADER_BYTES}")
    return header

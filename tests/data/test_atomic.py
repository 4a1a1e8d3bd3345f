"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from placecli.data import atomic
from placecli.data.atomic import FrameWriter, locked
from placecli.records import PlaceError


def test_write_file_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    atomic.write_file(tmp_path / "a", b"old")
    atomic.write_file(tmp_path / "a", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.write_file(tmp_path / "a", b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        atomic.write_file(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    atomic.remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_frames_make_the_file_that_numpy_makes(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)
    writer = FrameWriter(tmp_path / "frames.npy", 16)
    assert [writer.append(frame) for frame in frames] == [0, 1, 2, 3, 4]
    assert not (tmp_path / "frames.npy").exists()
    writer.commit()
    np.save(tmp_path / "numpy.npy", frames)
    assert (tmp_path / "frames.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()
    np.testing.assert_array_equal(np.load(tmp_path / "frames.npy", mmap_mode="r"), frames)


def test_no_frames_make_no_file_and_remove_an_old_one(tmp_path: Path) -> None:
    (tmp_path / "frames.npy").write_bytes(b"of another run")
    FrameWriter(tmp_path / "frames.npy", 16).commit()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("frame", [np.zeros((16, 15), np.uint8), np.zeros((16, 16), np.int8)])
def test_a_frame_of_another_shape_or_type_is_refused(tmp_path: Path, frame: np.ndarray) -> None:
    with pytest.raises(ValueError, match="not uint8"):
        FrameWriter(tmp_path / "frames.npy", 16).append(frame)


def test_checksum_is_sha256(tmp_path: Path) -> None:
    content = b"x" * ((1 << 22) + 1)
    (tmp_path / "a").write_bytes(content)
    assert atomic.checksum(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_a_lock_is_alone_or_shared(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, alone=False, busy="busy"), locked(path, alone=False, busy="busy"):
        assert is_busy(path, alone=True)
    with locked(path, alone=True, busy="busy"):
        assert is_busy(path, alone=False)
    assert not is_busy(path, alone=True)


def is_busy(path: Path, *, alone: bool) -> bool:
    try:
        with locked(path, alone=alone, busy="busy"):
            return False
    except PlaceError as refusal:
        return str(refusal) == "busy"


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib; from placecli.data.atomic import locked\n"
        "with locked(pathlib.Path(sys.argv[1]), alone=True, busy=''): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(PlaceError, match="busy"), locked(tmp_path / "lock", alone=True, busy="busy"):
            pass
        holder.kill()
    with locked(tmp_path / "lock", alone=True, busy="busy"):
        pass

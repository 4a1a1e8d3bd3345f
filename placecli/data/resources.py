"""What this process may use: cores and memory, seen through affinity and control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

SINGLE_THREAD: Final[Mapping[str, str]] = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}
"""Environment of a worker: one thread, whatever its libraries would choose."""

_UNLIMITED = 1 << 60


def usable_cores() -> int:
    """Cores that this process may run on: affinity, cut by the control group's quota; at least one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    for folder in _control_groups():
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            cores = min(cores, max(1, int(quota) // int(period)))
    return max(1, cores)


def available_memory() -> int:
    """Bytes that can be taken without swapping: the system's estimate, cut by the control group's limit."""
    available = _system_memory()
    for folder in _control_groups():
        limit, used = _read(folder / "memory.max"), _read(folder / "memory.current")
        if limit.isdigit() and used.isdigit():
            # Cached file pages count as used but go when memory is needed.
            available = min(available, int(limit) - int(used) + _inactive_file(folder / "memory.stat"))
    legacy = Path("/sys/fs/cgroup/memory")
    limit, used = _read(legacy / "memory.limit_in_bytes"), _read(legacy / "memory.usage_in_bytes")
    if limit.isdigit() and used.isdigit() and int(limit) < _UNLIMITED:
        available = min(available, int(limit) - int(used) + _inactive_file(legacy / "memory.stat"))
    return max(0, available)


def _system_memory() -> int:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return 4 << 30


def _control_groups() -> Iterator[Path]:
    """Folders of this process's group (version 2) and of those above it."""
    root = Path("/sys/fs/cgroup")
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::"):
            folder = root / line.removeprefix("0::").lstrip("/")
            yield from (place for place in (folder, *folder.parents) if place.is_relative_to(root))


def _inactive_file(statistics: Path) -> int:
    for line in _read(statistics).splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file") and value.isdigit():
            return int(value)
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""

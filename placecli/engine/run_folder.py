"""A run folder while it is trained: one process writes it, and the same command continues it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from placecli.config import Preset, Section, changed_keys, dump_preset, load_saved_preset
from placecli.data.atomic import locked, write_file
from placecli.data.store import Store
from placecli.engine import checkpoint
from placecli.engine.checkpoint import TrainingState
from placecli.engine.distributed import Ranks, broadcast_json
from placecli.records import PlaceError


@contextlib.contextmanager
def run_folder(out: Path, group: Ranks) -> Iterator[None]:
    """Make the folder and hold its lock for the time of the block; rank 0 only. Raises PlaceError if it is another's."""
    if not group.is_first:
        yield
        return
    known = {checkpoint.CONFIG, checkpoint.STATE, checkpoint.TOKENIZER}
    if out.exists() and not (out / checkpoint.CONFIG).is_file():
        strange = sorted(p.name for p in out.iterdir() if p.name not in known and not p.name.startswith("."))
        if strange:
            raise PlaceError(f"{out}: holds {strange[0]} and is no run folder; name another one with --out")
    (out / checkpoint.STATE).mkdir(parents=True, exist_ok=True)
    busy = f"{out}: another process is training this run; wait for it or name another folder with --out"
    with locked(out / checkpoint.STATE / ".lock", alone=True, busy=busy):
        yield


def open_run(
    out: Path, preset: Preset, store: Store, group: Ranks, fixed: Mapping[str, Section]
) -> tuple[Path | None, TrainingState | None]:
    """The state folder to continue from and its content, or None twice for a new run. Rank 0 decides for all.

    fixed: sections of `preset`, by dotted path, that must be those the run was started with. Writes the config and
    which store is learnt from. Raises PlaceError naming the keys, or the store, that changed.
    """
    found = ""
    if group.is_first:
        checkpoint.remove_leftovers(out)
        newest = checkpoint.find_state(out)
        if newest is not None:  # a run that failed before its first state may be begun in another way
            _refuse_changes(out, fixed)
        if newest is not None and newest[1].store != store.digest:
            raise PlaceError(
                f"{out}: was trained on another store than {store.path} (digest {newest[1].store[:12]} there,"
                f" {store.digest[:12]} here); name another folder with --out"
            )
        if newest is not None:
            checkpoint.restore_best(out, *newest)
            found = newest[0].name
        write_file(out / checkpoint.CONFIG, dump_preset(preset).encode())
        # Retrieval searches this store when none is named.
        data = {"store": str(store.path.resolve()), "digest": store.digest}
        checkpoint.write_json(out / checkpoint.DATA, data)
    found = str(broadcast_json(found, group))
    if not found:
        return None, None
    folder = out / checkpoint.STATE / found
    return folder, checkpoint.read_state(folder)


def _refuse_changes(out: Path, fixed: Mapping[str, Section]) -> None:
    if not (out / checkpoint.CONFIG).is_file():
        return
    before = load_saved_preset(out / checkpoint.CONFIG)
    for path, section in fixed.items():
        old: Section = before
        for name in path.split("."):
            old = getattr(old, name)
        if changed := [f"{path}.{change}" for change in changed_keys(old, section)]:
            raise PlaceError(
                f"{out}: was started with other settings ({', '.join(changed)});"
                " keep the old values to continue it, or name another folder with --out"
            )

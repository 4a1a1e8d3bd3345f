"""Flags and `--set` of the shell -> preset. Light: the configuration is imported when a command runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from placecli.records import PlaceError
from placecli.terminal import say

if TYPE_CHECKING:
    from placecli.config import Preset


def load(preset: str | None, section: str, overrides: Sequence[str]) -> Preset:
    """The preset with overrides; a key that belongs to the command's own section may leave the section out."""
    from placecli.config import load_preset

    return load_preset(preset, [qualify(section, override) for override in overrides])


def load_of_run(run: Path, section: str, overrides: Sequence[str]) -> Preset:
    """The preset that a run was made with, with overrides."""
    saved = run / "config.yaml"
    if not saved.is_file():
        raise PlaceError(
            f"{run}: no config.yaml, so this is no run folder; name one with --run or make one: place pretrain"
        )
    from placecli.config import change_preset, load_saved_preset

    return change_preset(load_saved_preset(saved), [qualify(section, override) for override in overrides])


def load_of_store(store: Path, section: str, overrides: Sequence[str]) -> Preset:
    """The preset that a store was made with, with overrides."""
    from placecli.config import change_preset
    from placecli.data.store import open_store

    return change_preset(open_store(store).config, [qualify(section, override) for override in overrides])


def qualify(section: str, override: str) -> str:
    """`override` with the section put before a key that is, or is closest to, one of the command's own section.

    `epochs=3` of pretrain becomes `pretrain.epochs=3`; `pretrain.epochs=3` stays as it is.
    """
    from difflib import get_close_matches

    from placecli.config import Preset

    first = override.split("=")[0].split(".")[0].strip()
    sections = set(Preset.model_fields)
    current: Any = Preset()
    for name in section.split("."):
        current = getattr(current, name)
    own = set(type(current).model_fields) - sections
    near = get_close_matches(first, sorted(sections | own), n=1, cutoff=0.5)
    return f"{section}.{override}" if near and near[0] in own else override


def assign(key: str, value: Path | float | str | None) -> list[str]:
    """`key=value` of a flag, none for a flag that was not given; quoted, so that YAML keeps text as text."""
    if value is None:
        return []
    return [f"{key}={value if isinstance(value, int | float) else json.dumps(str(value), ensure_ascii=False)}"]


def default_folder(kind: str, preset: str) -> Path:
    """`stores/<preset>` or `runs/<preset>`; a preset file goes by its name without the ending."""
    return Path(kind) / Path(preset).stem


def piped(given: Path | None, *keys: str) -> Path | None:
    """`given`, or for "-" the last path that stdin names: a line is a path, or an object that holds it under a key."""
    return piped_all([given], *keys)[-1] if given == Path("-") else given


def piped_all(given: Sequence[Path], *keys: str) -> list[Path]:
    """`given` with the paths of stdin in place of a "-", each once. Raises PlaceError where stdin names none."""
    paths = [path for each in given for path in (_named_on_stdin(keys) if each == Path("-") else [each])]
    return list(dict.fromkeys(paths))


def choose_runs(given: Sequence[Path], is_quiet: bool) -> list[Path]:
    """The runs that `--run` names, or the newest under ./runs, said on stderr unless `is_quiet`.

    Raises PlaceError where there is none.
    """
    if given:
        return piped_all(given, "run")
    from placecli.engine.checkpoint import newest_run

    newest = newest_run()
    if not is_quiet:
        say(f"using {newest}, the newest; name another with --run")
    return [newest]


def _named_on_stdin(keys: Sequence[str]) -> list[Path]:
    lines = sys.stdin.read().splitlines()
    if not any(map(str.strip, lines)):
        raise PlaceError(f"-: stdin is empty, so it names no {keys[0]}; the command before the pipe printed nothing")
    found = list(_paths_in(lines, keys))
    if not found:
        raise PlaceError(f"-: no line of stdin names a {keys[0]}; a line is a path or an object with that key")
    return found


def _paths_in(lines: Sequence[str], keys: Sequence[str]) -> Iterator[Path]:
    for line in filter(None, map(str.strip, lines)):
        if not line.startswith("{"):
            yield Path(line)
            continue
        try:
            record = json.loads(line)
        except ValueError:
            continue
        yield from (Path(record[key]) for key in keys if isinstance(record.get(key), str))


def complete_preset(incomplete: str) -> list[str]:
    """Shipped presets whose name begins so, for completion in the shell."""
    from placecli.config import list_presets

    return [name for name in list_presets() if name.startswith(incomplete)]

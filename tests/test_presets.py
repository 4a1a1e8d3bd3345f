"""Every shipped preset loads, survives a round trip, and no key of any section can be misspelt unnoticed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomllib
import yaml

from placecli.config import ConfigError, dump_preset, list_presets, load_preset, parse_preset

FOLDER = Path(__file__).resolve().parent.parent / "presets"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def written(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))
    return content


def key_paths(content: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all keys that the schema fixes; names of labels under `prompts` are free."""
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if prefix[-1:] != ("prompts",):
            yield (*prefix, key)
        yield from key_paths(value, (*prefix, key))


def misspelt(content: dict[str, Any], path: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """A copy of `content` with two letters of that key exchanged, and the path as misspelt."""
    mutated = copy.deepcopy(content)
    node = mutated
    for key in path[:-1]:
        node = node[key]
    old = path[-1]
    at = next(i for i in range(len(old) - 2, -1, -1) if old[i] != old[i + 1])
    new = old[:at] + old[at + 1] + old[at] + old[at + 2 :]
    value = node.pop(old)
    node[new] = value
    return mutated, ".".join([*path[:-1], new])


def test_people_find_the_presets_they_type() -> None:
    assert list_presets() == NAMES
    assert {"mimic", "openi", "folder", "demo"} <= set(NAMES)


def test_the_wheel_carries_the_presets_where_the_program_looks() -> None:
    build = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert build["wheel"]["force-include"] == {"presets": "placecli/presets"}


@pytest.mark.parametrize("name", NAMES)
def test_preset_loads_under_its_own_name(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset.description
    assert load_preset(str(FOLDER / f"{name}.yaml")) == preset


@pytest.mark.parametrize("name", NAMES)
def test_preset_starts_with_the_command_that_uses_it(name: str) -> None:
    assert (FOLDER / f"{name}.yaml").read_text("utf-8").startswith("# place ")


@pytest.mark.parametrize("name", NAMES)
def test_resolved_preset_is_a_valid_preset(name: str, tmp_path: Path) -> None:
    preset = load_preset(name)
    saved = tmp_path / "config.yaml"
    saved.write_text(dump_preset(preset), "utf-8")
    assert load_preset(str(saved)) == preset


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["written", "resolved"])
def test_every_misspelt_key_fails_with_its_path_and_the_nearest_key(name: str, form: str) -> None:
    content = written(name) if form == "written" else yaml.safe_load(dump_preset(load_preset(name)))
    paths = list(key_paths(content))
    assert len(paths) >= 15
    for path in paths:
        mutated, wrong = misspelt(content, path)
        with pytest.raises(ConfigError) as caught:
            parse_preset(mutated, f"preset {name}")
        message = str(caught.value)
        assert f"preset {name}: unknown key {wrong}; did you mean {'.'.join(path)}?" in message
        assert "\n" not in message


@pytest.mark.parametrize("name", NAMES)
def test_every_misspelt_set_key_fails(name: str) -> None:
    for path in key_paths(load_preset(name).model_dump(mode="json", exclude={"evaluate": {"prompts"}})):
        if len(path) < 2:
            continue
        wrong = ".".join(path) + "x"
        with pytest.raises(ConfigError, match="unknown key"):
            load_preset(name, [f"{wrong}=1"])

"""Merging, coercion and error messages of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from placecli.config import (
    ConfigError,
    Preset,
    changed_keys,
    dump_preset,
    load_preset,
    load_saved_preset,
    parse_preset,
)
from placecli.config.preset import REMOVED
from placecli.records import PlaceError


def test_no_name_gives_the_class_defaults() -> None:
    assert load_preset(None) == Preset()


def test_precedence_is_default_then_preset_then_set() -> None:
    assert Preset().pretrain.epochs == 50
    assert load_preset("openi").pretrain.epochs == 10
    assert load_preset("openi", ["pretrain.epochs=3", "pretrain.epochs=4"]).pretrain.epochs == 4
    assert load_preset("openi", ["pretrain.epochs=3"]).pretrain.batch_size == load_preset("openi").pretrain.batch_size


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("0.0001", 1e-4), ("2E-5", 2e-5), ("1", 1.0)]
)
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    """YAML 1.1 reads 1e-4, without a dot, as text."""
    assert load_preset(None, [f"pretrain.learning_rate={text}"]).pretrain.learning_rate == value


def test_same_number_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("pretrain:\n  learning_rate: 1e-4\n", "utf-8")
    assert load_preset(str(path)).pretrain.learning_rate == 1e-4


def test_a_name_with_a_leading_zero_never_becomes_another_name(tmp_path: Path) -> None:
    """YAML 1.1 reads 010 as the number 8: refused where a name is expected, kept when quoted."""
    path = tmp_path / "mine.yaml"
    path.write_text("name: 010\n", "utf-8")
    with pytest.raises(ConfigError, match="name: input should be a valid string"):
        load_preset(str(path))
    path.write_text('name: "010"\n', "utf-8")
    assert load_preset(str(path)).name == "010"
    assert parse_preset({"name": "010"}, "x").name == "010"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("pretrain.epoch=3", ["unknown key pretrain.epoch", "pretrain.epochs"]),
        ("pretrain.model.image_sise=3", ["pretrain.model.image_sise", "pretrain.model.image_size"]),
        ("pretrian.epochs=3", ["unknown key pretrian", "pretrain"]),
        ("evaluate.prompts.Edema.positiv=[a]", ["evaluate.prompts.Edema"]),
        ("pretrain.epochs", ["section.key=value"]),
        ("=3", ["section.key=value"]),
        ("pretrain..epochs=3", ["section.key=value"]),
        ("pretrain.epochs=0", ["pretrain.epochs", "greater than or equal to 1", "0"]),
        ("pretrain.epochs=many", ["pretrain.epochs", "many"]),
        ("pretrain.precision=half", ["pretrain.precision", "float32"]),
        ("pretrain.epochs.more=3", ["pretrain.epochs"]),
        ("preprocess.validate_fraction=0.95", ["preprocess", "below 1"]),
        ("pretrain.epochs=[1", ["not readable as YAML"]),
    ],
)
def test_bad_override_is_one_line_that_names_the_place(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset("openi", [override])
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean mimic"):
        load_preset("mimci")


@pytest.mark.parametrize("text", ["- a\n- b\n", "{unclosed", "just words"])
def test_file_that_is_no_mapping_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_preset(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_tags_do_not_build_objects(tmp_path: Path) -> None:
    path, witness = tmp_path / "mine.yaml", tmp_path / "witness"
    path.write_text(f"name: !!python/object/apply:os.mkdir ['{witness}']\n", "utf-8")
    with pytest.raises(ConfigError):
        load_preset(str(path))
    assert not witness.exists()


def test_sections_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_preset("demo").pretrain.epochs = 3


def test_changed_keys_names_each_path_once() -> None:
    old, new = load_preset("openi"), load_preset("openi", ["pretrain.epochs=3", "pretrain.model.image_size=96"])
    assert changed_keys(old.pretrain, new.pretrain) == ["epochs: 10 -> 3", "model.image_size: 128 -> 96"]
    assert changed_keys(old, old) == []


@given(st.floats(min_value=1e-9, max_value=1e3, allow_nan=False), st.integers(1, 10**6), st.text(max_size=20))
def test_any_preset_survives_a_round_trip(rate: float, epochs: int, description: str) -> None:
    preset = parse_preset({"description": description, "pretrain": {"learning_rate": rate, "epochs": epochs}}, "x")
    import yaml

    assert parse_preset(yaml.safe_load(dump_preset(preset)), "x") == preset


def test_config_errors_are_place_errors() -> None:
    assert issubclass(ConfigError, PlaceError)


def test_a_saved_preset_of_another_version_keeps_what_made_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = yaml.safe_load(dump_preset(Preset(name="old")))
    content["finetune"]["classification"]["gone"] = 1
    content["evaluate"] = {"bootstrap": -3}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert load_saved_preset(tmp_path / "config.yaml") == Preset(name="old")
    assert "unknown key finetune.classification.gone" in caplog.text
    assert "the defaults of evaluate hold" in caplog.text
    content["finetune"]["task"] = "classification"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"finetune\.classification\.gone"):
        load_saved_preset(tmp_path / "config.yaml")
    content["pretrain"]["gone"] = 1
    del content["finetune"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=r"pretrain\.gone"):
        load_saved_preset(tmp_path / "config.yaml")


def test_a_saved_preset_may_name_what_is_gone_where_it_is_what_is_done_now(tmp_path: Path) -> None:
    content = yaml.safe_load(dump_preset(Preset(name="old")))
    for section, gone in REMOVED.items():
        content["pretrain"][section] |= gone
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    assert load_saved_preset(tmp_path / "config.yaml") == Preset(name="old")
    with pytest.raises(ConfigError, match=r"unknown key pretrain\."):
        load_preset(str(tmp_path / "config.yaml"))
    for section, key, other in (("objective", "matching", "hungarian"), ("model", "sentence_pooling", "attention")):
        changed = {**content["pretrain"], section: {**content["pretrain"][section], key: other}}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**content, "pretrain": changed}))
        with pytest.raises(
            ConfigError, match=rf"config\.yaml: pretrain\.{section}\.{key} is gone, and '{other}' is not"
        ):
            load_saved_preset(tmp_path / "config.yaml")

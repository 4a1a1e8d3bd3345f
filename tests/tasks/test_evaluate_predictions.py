"""Files of predictions: what is wrong is said with the file, the line and what it has instead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecli.records import PlaceError
from placecli.tasks.evaluate_predictions import KEYS, read_checked

GOOD = {
    "classification": {"image_id": "a", "scores": {"Edema": 0.5, "Mass": 1}},
    "segmentation": {"image_id": "a", "size": [2, 2], "counts": [4]},
    "detection": {"image_id": "a", "boxes": []},
    "report-generation": {"query": "a.png", "report": ""},
}


def write(folder: Path, *lines: str) -> Path:
    file = folder / "theirs.jsonl"
    file.write_text("\n".join(lines), "utf-8")
    return file


@pytest.mark.parametrize("task", list(KEYS))
def test_lines_are_read_in_order_and_blank_ones_skipped(task: str, tmp_path: Path) -> None:
    other = {**GOOD[task], "image_id": "b"}
    assert read_checked(write(tmp_path, "", json.dumps(GOOD[task]), "  ", json.dumps(other)), task) == [
        GOOD[task],
        other,
    ]


@pytest.mark.parametrize(
    ("task", "line", "words"),
    [
        (
            "classification",
            '{"image_id": "b", "scores": {"Edema": "high"}}',
            'has something for "Edema" that is no number',
        ),
        (
            "classification",
            '{"image_id": "b", "scores": {"Edema": NaN}}',
            'has something for "Edema" that is no number',
        ),
        (
            "classification",
            '{"image_id": "b", "scores": {"Edema": true}}',
            'has something for "Edema" that is no number',
        ),
        (
            "classification",
            '{"image_id": "b", "scores": {"Edema": 1.5}}',
            'has 1.5 for "Edema", outside 0..1',
        ),
        ("classification", '{"image_id": "b", "scores": [0.5]}', "is no object of a probability for each label"),
        ("classification", '{"image_id": "b", "score": {}}', 'no "scores" (it has "score"); docs/finetune.md'),
        ("classification", '{"imageid": "b", "scores": {}}', 'no "image_id" (it has "imageid"); docs/finetune.md'),
        ("classification", '{"study_id": "b", "scores": {}}', 'no "image_id"; docs/finetune.md'),
        ("classification", '{"image_id": "a", "scores": {}}', "of the same image as line 1; keep one"),
        ("segmentation", '{"image_id": "b", "counts": 4}', '"counts" is no list'),
        ("detection", '{"image_id": "b", "boxes": {}}', '"boxes" is no list'),
        ("report-generation", '{"image_id": "b", "raport": "x"}', 'no "report" (it has "raport"); docs/reports.md'),
        ("report-generation", '{"report": "x"}', 'no "image_id"; docs/reports.md'),
        ("report-generation", '{"image_id": "b", "report": null}', '"report" is no text'),
        ("detection", '{"image_id": "b", "boxes": [}', "not a JSON object; docs/finetune.md"),
        ("detection", "[" * 100_000, "not a JSON object"),
        ("detection", "[]", "not a JSON object"),
    ],
)
def test_a_faulty_line_is_named(task: str, line: str, words: str, tmp_path: Path) -> None:
    file = write(tmp_path, json.dumps(GOOD[task]), "", line)
    with pytest.raises(PlaceError) as said:
        read_checked(file, task)
    assert str(said.value).startswith(f"{file}, line 3: ")
    assert words in str(said.value)
    assert "\n" not in str(said.value)


def test_a_file_that_is_none_or_holds_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    for file, words in (
        (write(tmp_path, "", " "), "holds no prediction"),
        (tmp_path / "nothing", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "picture.png", "not UTF-8 text"),
    ):
        with pytest.raises(PlaceError, match=words):
            read_checked(file, "detection")


@given(task=st.sampled_from(list(KEYS)), text=st.text(max_size=200), lines=st.lists(st.text(max_size=20), max_size=3))
def test_any_text_is_read_or_refused_in_one_line(
    task: str, text: str, lines: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_bytes(
        "\n".join([*lines, text, json.dumps({"image_id": text, KEYS[task]: text})]).encode("utf-8", "replace")
    )
    said = ""
    try:
        assert read_checked(file, task)
    except PlaceError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1

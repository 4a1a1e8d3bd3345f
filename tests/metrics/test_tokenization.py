"""Words as PTBTokenizer gives them: goldens of the Java program, its habits one by one, and what always holds."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.metrics.tokenization import split_words, tokenize

GOLDENS = json.loads((Path(__file__).resolve().parent / "goldens" / "text.json").read_text("utf-8"))


@pytest.mark.parametrize(("text", "words"), GOLDENS["texts"])
def test_texts_equal_the_java_program(text: str, words: str) -> None:
    assert " ".join(tokenize(text)) == words


def test_reports_equal_the_java_program() -> None:
    for report in GOLDENS["reports"]:
        assert " ".join(tokenize(report["candidate"])) == report["words"]
        assert [" ".join(tokenize(text)) for text in report["references"]] == report["reference_words"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Chest CT. Normal", "chest ct. normal"),
        ("The mass. In PA. view", "the mass in pa. view"),
        ("see no. 5", "see no. 5"),
        ("there is no. Then", "there is no then"),
        ("left, base.: right.; x", "left base. right. x"),
        ("(a)[b]{c}", "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb-"),
        ("isn't ISN'T can't n't", "is n't is n't ca n't n't"),
        ("5.xx T9.5 2.5cm 25cm", "5 xx t9 .5 2.5 cm 25cm"),
        (". , ; : ? ! - -- --- ... ' \" `", ""),
    ],
)
def test_habits(text: str, words: str) -> None:
    assert " ".join(tokenize(text)) == words


def test_compat_words_are_split_at_spaces_alone() -> None:
    assert split_words("heart normal . no effusion .") == ["heart", "normal", ".", "no", "effusion", "."]
    assert tokenize("heart normal . no effusion .") == ["heart", "normal", "no", "effusion"]


@given(st.text(alphabet=st.sampled_from("aZ9é .,;:'\"-/()[]<>&%+_?!\n\t\u2019\u00bd|\\*#@"), max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_gives_lower_case_words_without_spaces(text: str) -> None:
    words = tokenize(text)
    assert all(word and word == word.lower() and not set(word) & set(" \n\t") for word in words)
    assert tokenize(text.replace(" ", "  ")) == words


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_character_is_too_strange(text: str) -> None:
    assert all(isinstance(word, str) for word in tokenize(text))


def test_real_reports_equal_the_java_program(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    java, package = shutil.which("java"), importlib.util.find_spec("pycocoevalcap")
    folder = next(iter(package.submodule_search_locations or []), "") if package else ""
    program = Path(folder) / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    if java is None or not program.is_file():
        pytest.skip("Java or pycocoevalcap is not installed")
    with (real_data("openi_iu_xray") / "indiana_reports.csv").open(newline="", encoding="utf-8") as file:
        texts = [" ".join(row[name].split()) for row in csv.DictReader(file) for name in ("findings", "impression")]
    texts = [text for text in texts if text]
    (tmp_path / "texts").write_text("\n".join(texts) + "\n", "utf-8")
    command = [java, "-cp", str(program), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    answer = subprocess.run([*command, str(tmp_path / "texts")], capture_output=True, encoding="utf-8", check=True)
    dropped = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
    differing = [
        i
        for i, (text, line) in enumerate(zip(texts, answer.stdout.split("\n"), strict=False))
        if tokenize(text) != [word for word in line.split(" ") if word and word not in dropped]
    ]
    assert len(texts) > 1000
    # The places, not the words: a report does not belong in a log.
    assert differing == []

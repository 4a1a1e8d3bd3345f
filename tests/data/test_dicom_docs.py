"""docs/dicom.md names every reason and flag of the reader, with the meaning that the code gives it, and no other."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from placecli.data.dicom import FLAGS, REASONS
from placecli.data.dicom_pixels import KINDS_OF_SYNTAX

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "dicom.md").read_text("utf-8")


def table(heading: str) -> dict[str, str]:
    section = PAGE.split(f"## {heading}\n")[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE))


@pytest.mark.parametrize(("heading", "words"), [("Reasons for refusing", REASONS), ("Flags", FLAGS)])
def test_table_is_what_the_code_says(heading: str, words: Mapping[str, str]) -> None:
    assert table(heading) == dict(words)


@pytest.mark.parametrize(
    ("pattern", "words"), [(r'refuse\(\s*"(\w+)"', REASONS), (r'flags\.add\("(\w+)"\)|found\.add\("(\w+)"\)', FLAGS)]
)
def test_every_word_in_the_code_is_declared_and_every_declared_one_is_used(
    pattern: str, words: Mapping[str, str]
) -> None:
    sources = "".join(path.read_text("utf-8") for path in (REPOSITORY / "placecli" / "data").glob("*.py"))
    used = {
        word
        for groups in re.findall(pattern, sources)
        for word in ([groups] if isinstance(groups, str) else groups)
        if word
    }
    assert used == words.keys()


def test_every_syntax_that_is_decoded_is_named() -> None:
    for syntax in KINDS_OF_SYNTAX:
        assert f"`{syntax.removeprefix('1.2.840.10008.1.2.')}`" in PAGE, syntax

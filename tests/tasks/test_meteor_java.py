"""METEOR 1.5 through its Java program: the protocol with a stand-in, the failures, and the program itself if present."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from placecli.metrics.meteor_statistics import meteor
from placecli.records import PlaceError
from placecli.tasks import meteor_java

GOLDENS = json.loads((Path(__file__).resolve().parent.parent / "metrics" / "goldens" / "text.json").read_text("utf-8"))


def stand_in(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    """Let a Python script be `java` and an empty file the program."""
    script = folder / "java"
    script.write_text(f"#!{sys.executable}\nimport sys, time\nlines = sys.stdin.read().splitlines()\n{body}\n", "utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(meteor_java.shutil, "which", lambda name: str(script))
    monkeypatch.setattr(meteor_java, "_find_program", lambda: folder / "meteor.jar")


def test_one_line_a_segment_goes_in_and_comes_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = f"open({str(tmp_path / 'asked')!r}, 'w').write('\\n'.join(lines))\n"
    stand_in(monkeypatch, tmp_path, body + "for i, line in enumerate(lines): print(' '.join([str(float(i))] * 23))")
    found = meteor_java.measure_segments([["a", "|||", "b"], []], [[["c"], ["d", "e"]], [["f\ng"]]])
    assert found.tolist() == [[0.0] * 23, [1.0] * 23]
    assert (tmp_path / "asked").read_text().split("\n") == ["SCORE ||| c ||| d e ||| a b", "SCORE ||| f g ||| "]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("print('1.0 2.0')", "1 answers for 1"),
        ("sys.exit(3)", "exit 3"),
        ("print(' '.join(['x'] * 23))", "not a row of numbers"),
        ("time.sleep(20)", "within 0 s"),
    ],
)
def test_a_failing_program_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str, word: str) -> None:
    stand_in(monkeypatch, tmp_path, body)
    with pytest.raises(PlaceError, match=word) as caught:
        meteor_java.measure_segments([["secret"]], [[["secret"]]], timeout_seconds=0.4 if "sleep" in body else 60)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("java", "program", "word"), [(None, Path("x"), "no Java"), ("j", None, "no pycocoevalcap")])
def test_what_is_missing_is_named_with_the_other_metric(
    monkeypatch: pytest.MonkeyPatch, java: str | None, program: Path | None, word: str
) -> None:
    monkeypatch.setattr(meteor_java.shutil, "which", lambda name: java)
    monkeypatch.setattr(meteor_java, "_find_program", lambda: program)
    assert not meteor_java.is_available()
    with pytest.raises(PlaceError, match=f"{word}.*meteor_exact_stem"):
        meteor_java.measure_segments([["a"]], [[["a"]]])


def test_the_program_itself_gives_the_goldens() -> None:
    if not os.environ.get("PLACE_TEST_JAVA") or not meteor_java.is_available():
        pytest.skip("takes 10 s or more: set PLACE_TEST_JAVA where Java and pycocoevalcap are installed")
    reports = GOLDENS["reports"]
    found = meteor_java.measure_segments(
        [report["words"].split() for report in reports],
        [[text.split() for text in report["reference_words"]] for report in reports],
    )
    assert found.tolist() == [[float(v) for v in line.split()] for line in GOLDENS["meteor"]["statistics"]]
    assert meteor(found) == pytest.approx(GOLDENS["meteor"]["corpus"], abs=1e-12)

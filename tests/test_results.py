"""What stdout holds, and that nothing drawn on stderr takes it away."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from placecli import results, terminal
from placecli.records import Box, Hit, SentenceMatch


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def terminal_of_80_columns(monkeypatch: pytest.MonkeyPatch, *streams: str) -> Terminal:
    """A terminal in place of these streams of `sys`; in the test itself, for pytest exchanges them before it."""
    screen = Terminal()
    for stream in streams:
        monkeypatch.setattr(sys, stream, screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    return screen


def test_results_reach_a_file_while_bars_are_drawn_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, file = terminal_of_80_columns(monkeypatch, "stderr"), io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    long = "x" * 300
    with terminal.Progress(is_quiet=False) as progress:
        progress("embed images", 1, 2)
        results.Output(as_json=False).record({"text": long})
        progress("embed images", 2, 2)
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [{"text": long}]
    assert "embed images" in screen.getvalue()
    assert long[:50] not in screen.getvalue()


def test_json_on_a_terminal_is_one_line_below_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal_of_80_columns(monkeypatch, "stdout", "stderr")
    with terminal.Progress(is_quiet=False) as progress:
        progress("embed images", 1, 2)
        results.Output(as_json=True).record({"text": "x" * 300})
        progress("answer queries", 2, 2)
    before, after = screen.getvalue().split("x" * 300)
    assert before.splitlines()[-1].endswith('{"text": "')
    assert "embed images" not in before.splitlines()[-1]
    assert "answer queries" in after


def test_warnings_are_one_line_of_talk_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal_of_80_columns(monkeypatch, "stderr")
    with terminal.Progress(is_quiet=False) as progress:
        progress("embed images", 1, 2)
        terminal.Talk().emit(logging.makeLogRecord({"msg": "made by\nanother model"}))
    assert "place: made by another model" in screen.getvalue()


def test_objects_in_a_table_are_lines_not_json(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal_of_80_columns(monkeypatch, "stdout", "stderr")
    files = [{"what": "store", "is_found": False}, {"what": "weights", "is_found": True}]
    results.Output(as_json=False).record({"files": files}, "plan")
    shown = screen.getvalue()
    assert "what: store" in shown
    assert "is_found: yes" in shown
    assert "{" not in shown


def test_an_image_found_for_words_is_shown_with_its_report(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal_of_80_columns(monkeypatch, "stdout", "stderr")
    match = SentenceMatch("large effusion", 0.75, Box("", 0.5, 0.25, 0.25, 0.5))
    hit = Hit("large effusion", 1, 0.5, "s1", "s1-i2", "Heart is normal.", sentences=(match,))
    results.Output(as_json=False).hits([hit])
    assert "image s1-i2: Heart is normal." in screen.getvalue()

"""What stdout holds: results as JSON lines, or as tables on a terminal.

Light by design: rich is imported when a table is drawn.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from placecli.records import Hit
from placecli.terminal import EXIT_PIPE_CLOSED, Progress


def is_first_process() -> bool:
    """False in all but one of the processes that torchrun or SLURM started together: those print nothing."""
    return os.environ.get("RANK", "0") == "0"


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: dataclasses and mappings as objects, paths as text, NaN and infinity as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | bool) or value is None:
        return value
    return plain(value.item()) if hasattr(value, "item") else str(value)


class Output:
    """Rows for stdout: JSON lines when `as_json` or when stdout is no terminal, else Rich tables."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json or not sys.stdout.isatty()
        self.num_written = 0

    def record(self, value: Any, title: str = "") -> None:
        """One object: a line of JSON, or a table of its keys and values."""
        self.num_written += 1
        if not is_first_process():
            return
        record = plain(value.to_record() if hasattr(value, "to_record") else value)
        if self.as_json:
            self._write(json.dumps(record, ensure_ascii=False))
        else:
            self.table(title, ("", ""), [(key, text) for key, text in flatten(record)])

    def hits(self, hits: Iterable[Hit]) -> None:
        """Hits as they come, a line each; on a terminal one table a query."""
        if self.as_json:
            for hit in hits:
                self.record(hit)
            return
        for query, group in itertools.groupby(hits, key=lambda hit: hit.query):
            rows = [(str(hit.rank), text_of(hit.score), hit.study_id, _found(hit)) for hit in group]
            self.table(query, ("rank", "score", "study", "report, and where its sentences were found"), rows)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table(title=escape(title), title_justify="left", show_header=any(columns), title_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        Progress.make_room()
        with _quiet_when_closed():
            Console().print(table)

    def _write(self, line: str) -> None:
        if sys.stdout.isatty():
            Progress.make_room()
        with _quiet_when_closed():
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def _found(hit: Hit) -> str:
    """The sentences that matched best with the middle of their regions; the report where they are not from it."""
    if not hit.sentences:
        return hit.report
    is_asked_with_words = all(match.text in hit.query for match in hit.sentences)
    return "\n".join(
        f"{match.score:+.2f}  {match.text} (x {100 * (match.box.x + match.box.width / 2):.0f} %,"
        f" y {100 * (match.box.y + match.box.height / 2):.0f} %)"
        for match in hit.sentences
    ) + (f"\nimage {hit.image_id}: {hit.report or 'without report'}" if is_asked_with_words else "")


@contextmanager
def _quiet_when_closed() -> Iterator[None]:
    """A reader that has gone (`place ... | head -1`) ends the program without a word, as it ends other tools."""
    try:
        yield
    except BrokenPipeError:
        # Python flushes stdout once more at exit; without this it would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_PIPE_CLOSED) from None


def flatten(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, text) of a nested record, with a value and its interval `{"value", "ci95"}` on one line."""
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "value" in value:
            yield name, with_interval(value)
        elif isinstance(value, Mapping) and "difference" in value:
            yield name, with_interval({**value, "value": value["difference"]})
        elif isinstance(value, Mapping) and "published" in value and "here" in value:
            yield name, "published {published:,}, here {here:,} ({note})".format_map(value)
        elif isinstance(value, Mapping):
            yield from flatten(value, f"{name}.")
        else:
            yield name, text_of(value)


def with_interval(metric: Mapping[str, Any]) -> str:
    """`0.871 (95 % 0.842 to 0.899)` of `{"value": 0.871, "ci95": [0.842, 0.899]}`."""
    low, high = metric.get("ci95") or (None, None)
    value = text_of(metric["value"])
    return value if low is None or high is None else f"{value} (95 % {text_of(low)} to {text_of(high)})"


def text_of(value: Any) -> str:
    """A cell of a table: four significant digits, a dash for null, lists by commas, an object a line for each key."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ("\n\n" if any(isinstance(item, dict) for item in value) else ", ").join(map(text_of, value))
    if isinstance(value, dict):
        return "\n".join(f"{key}: {text_of(item)}" for key, item in value.items())
    return str(value)

"""CSV tables of a release: found as .csv or .csv.gz, checked for their columns, read one row at a time."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from placecli.records import PlaceError

LABEL_VALUES: Mapping[str, float] = {text: float(text) for text in ("1", "1.0", "0", "0.0", "-0.0", "-1", "-1.0")}
"""What a label column may hold beside a blank: present, absent, uncertain."""


def find_table(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` that is in `folder`, each looked for plain and gzipped; None if there is none."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def find_encoding(path: Path) -> str:
    """ "utf-8-sig" for a file (.gz too) that is UTF-8 to its end, else "latin-1", which reads any bytes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            stream.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        return "latin-1"
    except (OSError, EOFError, zlib.error):
        pass  # read_table says what is wrong with the file
    return "utf-8-sig"


def read_table(
    path: Path, required: Sequence[str], encoding: str = "utf-8-sig"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV with a header as (line in the file, column -> stripped text).

    Raises PlaceError if a required column is missing, a row has another number of fields than the header,
    or the file is not readable as gzip or in that encoding.
    """
    try:
        text: Any = {"mode": "rt", "encoding": encoding, "newline": ""}
        with gzip.open(path, **text) if path.suffix == ".gz" else path.open(**text) as stream:
            rows = csv.reader(stream)
            header = [name.strip() for name in next(rows, [])]
            missing = [name for name in required if name not in header]
            if missing:
                # Without any of the names the first line may be data, which is not for the screen.
                known = set(header) & set(required)
                seen = f"the columns are {', '.join(header)}" if known else "its first line is not that header"
                raise PlaceError(f"{path}: no column {', '.join(missing)}; {seen}: use the table as it was published")
            for fields in rows:
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise PlaceError(
                        f"{path}, line {rows.line_num}: {len(fields)} fields where the header has {len(header)}; "
                        "fetch the table again"
                    )
                yield rows.line_num, dict(zip(header, (field.strip() for field in fields), strict=True))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise PlaceError(f"{path}: not readable as CSV ({error}); fetch the table again or save it as UTF-8") from None


def parse_labels(path: Path, line: int, row: Mapping[str, str], names: Sequence[str]) -> dict[str, float]:
    """Label -> 1.0, 0.0 or -1.0 of the columns `names`; a blank is left out. Raises PlaceError for another value."""
    labels: dict[str, float] = {}
    for name in names:
        text = row[name]
        if not text:
            continue
        if text not in LABEL_VALUES:
            raise PlaceError(f"{path}, line {line}: column {name} holds {text!r}; a label is 1, 0, -1 or blank")
        labels[name] = LABEL_VALUES[text]
    return labels

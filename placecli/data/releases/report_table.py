"""A user's table of reports (CSV, TSV or JSONL), joined to images by file, study or accession number."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from placecli.data.reports import parse_loose_sections
from placecli.records import SPLITS, VIEWS, PlaceError

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "file": ("file", "path", "image", "filename", "filepath", "imagepath", "imagefile"),
    "study_id": ("studyid", "study", "studyinstanceuid", "studyuid"),
    "accession": ("accession", "accessionnumber"),
    "patient_id": ("patientid", "patient", "subjectid"),
    "report": ("report", "text", "reporttext"),
    "findings": ("findings",),
    "impression": ("impression",),
    "split": ("split",),
    "view": ("view", "viewposition", "projection"),
}
"""What a column means -> its names, compared without case, spaces, `_` and `-`."""

KEYS: Final = ("file", "study_id", "accession")
TEXTS: Final = ("report", "findings", "impression")
_SPLIT_NAMES: Final = {
    **{name: name for name in SPLITS},
    "val": "validate",
    "valid": "validate",
    "validation": "validate",
}
_VIEW_NAMES: Final = {**{name: name for name in VIEWS}, "LL": "LATERAL", "RL": "LATERAL", "LAT": "LATERAL"}


@dataclass(frozen=True, slots=True)
class ReportLine:
    """One line: where it stands, its non-empty cells by meaning, and the sections of its text."""

    number: int
    cells: Mapping[str, str]
    sections: Mapping[str, str]

    def contents(self) -> dict[str, str]:
        """Sections, and the cells that belong to an image: `study_id`, `patient_id`, `split`, `view`; and `line`."""
        kept = {name: self.cells[name] for name in ("study_id", "patient_id", "split", "view") if name in self.cells}
        return {**self.sections, **kept, "line": str(self.number)}


class ReportTable:
    """Lines by file, study and accession; remembers which were found.

    `num_empty` counts lines without text, `num_duplicates` lines that repeat the text of another. Raises PlaceError
    if two lines have different texts for one file, or for one study or accession without naming a file.
    """

    def __init__(self, path: Path, lines: Iterable[ReportLine]) -> None:
        self._path = path
        self._lines = tuple(lines)
        self._by_name = self._index_by_name()
        self._by_key = {key: self._index_by(key) for key in KEYS[1:]}
        texts = [tuple(sorted(line.sections.items())) for line in self._lines if line.sections]
        self.num_empty = len(self._lines) - len(texts)
        self.num_duplicates = len(texts) - len(set(texts))

    def __len__(self) -> int:
        return len(self._lines)

    def find(self, source: str, study_id: str = "", accession: str = "") -> Mapping[str, str] | None:
        """Sections of the report of an image, with the other cells of its line (ReportLine.contents), or None.

        `source` is the path under the root, with "/". The file decides before the study, the study before the
        accession number. Raises PlaceError if two lines with different texts name the file; check_names does so
        for all files beforehand.
        """
        lines = self._lines_of_file(source)
        lines = lines or self._by_key["study_id"].get(study_id, [])
        lines = lines or self._by_key["accession"].get(accession, [])
        return lines[0].contents() if lines else None

    def cells_of(self, source: str, study_id: str = "") -> Mapping[str, str]:
        """Non-empty cells by meaning of the line of that file, else of that study; {} if there is none."""
        lines = self._lines_of_file(source) or self._by_key["study_id"].get(study_id, [])
        return lines[0].cells if lines else {}

    def check_names(self, sources: Iterable[str]) -> None:
        """Raises PlaceError if a file fits several lines, or a line that gives a bare name fits several files.

        The message counts the files, for a path may name a patient; the paths themselves are its cause (--debug).
        """
        fitting: dict[int, list[str]] = defaultdict(list)
        for source in sources:
            for line in self._lines_of_file(source):
                fitting[line.number].append(source)
        ambiguous = sorted(number for number, named in fitting.items() if len(named) > 1)
        if ambiguous:
            first, more = ambiguous[0], f" (and {len(ambiguous) - 1} more lines)" if ambiguous[1:] else ""
            raise PlaceError(
                f"{self._path}, line {first}: its file name fits {len(fitting[first])} files{more};"
                " write the path under the root"
            ) from LookupError(", ".join(fitting[first]))

    def _lines_of_file(self, source: str) -> list[ReportLine]:
        wanted = PurePosixPath(source)
        candidates = [line for name in {wanted.name, wanted.stem} for line in self._by_name.get(name, ())]
        exact = [line for line in candidates if _normalize(line.cells["file"]) == wanted]
        fitting = exact or [line for line in candidates if _names(_normalize(line.cells["file"]), wanted)]
        return self._check_agreement(sorted(fitting, key=lambda line: line.number), "file")

    def _check_agreement(self, lines: list[ReportLine], key: str) -> list[ReportLine]:
        if _disagree(lines):
            numbers = " and ".join(str(line.number) for line in lines)
            raise PlaceError(f"{self._path}, lines {numbers}: one {key} with different reports; keep one of them")
        return lines

    def _index_by_name(self) -> dict[str, list[ReportLine]]:
        index: dict[str, list[ReportLine]] = defaultdict(list)
        by_path: dict[PurePosixPath, list[ReportLine]] = defaultdict(list)
        for line in self._lines:
            if "file" in line.cells:
                path = _normalize(line.cells["file"])
                index[path.name].append(line)
                by_path[path].append(line)
        for lines in by_path.values():
            self._check_agreement(lines, "file")
        return index

    def _index_by(self, key: str) -> dict[str, list[ReportLine]]:
        """Lines by that key. Where lines that name a file each have their own text, the key alone tells nothing."""
        groups: dict[str, list[ReportLine]] = defaultdict(list)
        for line in self._lines:
            if key in line.cells:
                groups[line.cells[key]].append(line)
        index = {}
        for value, lines in groups.items():
            nameless = self._check_agreement([line for line in lines if "file" not in line.cells], key)
            index[value] = nameless if _disagree(lines) else lines
        return index


def read_report_table(path: Path) -> ReportTable:
    """The table at `path`: JSONL by its ending (.jsonl, .ndjson), else CSV with a header ("," ";" or tab).

    Needs a column to join by and a column of text (COLUMNS). Raises PlaceError for a table without them, with
    two columns of one meaning, with a line that cannot be read, or with different texts for one image or study.
    """
    if not path.is_file():
        raise PlaceError(
            f"{path}: no such file; give the CSV or JSONL of reports as preprocess.reports, or leave it out"
        )
    try:
        rows = list(_json_rows(path) if path.suffix.lower() in (".jsonl", ".ndjson") else _csv_rows(path))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PlaceError(f"{path}: not readable as text ({error}); save it as UTF-8") from None
    meanings = _meanings(path, list(dict.fromkeys(name for _, row in rows for name in row)))
    return ReportTable(path, (_make_line(path, number, row, meanings) for number, row in rows))


def _make_line(path: Path, number: int, row: Mapping[str, str], meanings: Mapping[str, str]) -> ReportLine:
    cells = {meanings[name]: value.strip() for name, value in row.items() if name in meanings and value.strip()}
    for meaning, names, fold in (("split", _SPLIT_NAMES, str.lower), ("view", _VIEW_NAMES, str.upper)):
        if meaning in cells:
            value = names.get(fold(cells[meaning]), "OTHER" if meaning == "view" else "")
            if not value:
                raise PlaceError(f"{path}, line {number}: its split is none of {', '.join(SPLITS)}")
            cells[meaning] = value
    sections = parse_loose_sections(cells["report"]) if "report" in cells else {}
    sections |= {name: cells[name] for name in ("findings", "impression") if name in cells}
    return ReportLine(number, cells, sections)


def _meanings(path: Path, names: list[str]) -> dict[str, str]:
    """Column -> what it means, for the columns that are known."""
    known = {alias: meaning for meaning, aliases in COLUMNS.items() for alias in aliases}
    meanings = {name: known[folded] for name in names if (folded := _fold(name)) in known}
    columns: dict[str, list[str]] = defaultdict(list)
    for name, meaning in meanings.items():
        columns[meaning].append(name)
    # Without any known name the first line may be data, which is not for the screen.
    seen = ", ".join(names) if meanings else "not known: begin the table with a line of names, e.g. file,report"
    for meaning, same in columns.items():
        if len(same) > 1:
            raise PlaceError(
                f"{path}: the columns {' and '.join(same)} both mean {meaning}; keep one (columns: {seen})"
            )
    for wanted, purpose in ((KEYS, "to join by"), (TEXTS, "of text")):
        if not columns.keys() & set(wanted):
            raise PlaceError(
                f"{path}: no column {purpose}: one of {', '.join(wanted)} is needed; the columns are {seen}"
            )
    return meanings


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open("r", encoding="utf-8-sig", newline="") as stream:
        start = stream.readline()
        delimiter = max(",;\t", key=start.count)
        stream.seek(0)
        rows = csv.reader(stream, delimiter=delimiter)
        header = [name.strip() for name in next(rows, [])]
        repeated = [number for number, name in enumerate(header, start=1) if name in header[: number - 1]]
        if repeated:
            first = header.index(header[repeated[0] - 1]) + 1
            raise PlaceError(f"{path}: the columns {first} and {repeated[0]} have one name; keep one of them")
        for fields in rows:
            if not fields:
                continue
            if len(fields) != len(header):
                raise PlaceError(
                    f"{path}, line {rows.line_num}: {len(fields)} fields where the header has {len(header)}; "
                    'put text with a comma or a line break into "quotes"'
                )
            yield rows.line_num, dict(zip(header, fields, strict=True))


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open("r", encoding="utf-8-sig") as stream:
        for number, text in enumerate(stream, start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise PlaceError(f"{path}, line {number}: not a JSON object; write one object a line")
            yield number, {name: str(value) for name, value in row.items() if isinstance(value, str | int)}


def _disagree(lines: Sequence[ReportLine]) -> bool:
    return any(line.sections != lines[0].sections for line in lines)


def _fold(name: str) -> str:
    return "".join(character for character in name.lower() if character not in " _-")


def _normalize(file: str) -> PurePosixPath:
    return PurePosixPath(file.replace("\\", "/"))


def _names(given: PurePosixPath, wanted: PurePosixPath) -> bool:
    """Whether a path in the table means the file `wanted`: one ends in the other, the extension being optional."""
    ends = [wanted.parts, wanted.with_suffix("").parts]
    return any(_is_end(given.parts, end) or _is_end(end, given.parts) for end in ends)


def _is_end(short: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return len(short) <= len(whole) and whole[len(whole) - len(short) :] == short

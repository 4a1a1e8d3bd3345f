"""A folder of DICOM, PNG or JPEG files in any arrangement, with an optional table of reports."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.dicom_file import is_dicom_start
from placecli.data.releases.report_table import ReportTable, read_report_table
from placecli.records import ImageFile, Reject, Study

__all__ = ["ReportTable", "read_report_table", "studies"]

DICOM_SUFFIXES: Final = frozenset((".dcm", ".dicom"))
PICTURE_SUFFIXES: Final = frozenset((".png", ".jpg", ".jpeg"))
OTHER_IMAGE_SUFFIXES: Final = frozenset(
    (".bmp", ".gif", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".nii", ".nrrd", ".mha", ".mhd", ".svs", ".heic")
)
"""Images that are not read: convert them. The same with .gz behind."""
SIDE_SUFFIXES: Final = frozenset(
    (
        *(".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt", ".md", ".rst", ".xml", ".html", ".htm", ".pdf", ".doc"),
        *(".docx", ".xls", ".xlsx", ".rtf", ".yaml", ".yml", ".toml", ".ini", ".log", ".py", ".sh", ".ipynb", ".raw"),
        *(".parquet", ".npy", ".npz", ".h5", ".db", ".sqlite", ".zip", ".tar", ".tgz", ".gz", ".bz2", ".7z", ".md5"),
        *(".sha256", ".tmp"),
    )
)
"""Files that lie beside images and are none: passed over without a word."""
SIDE_NAMES: Final = frozenset(("dicomdir", "readme", "license", "thumbs.db", "makefile", "sha256sums", "md5sums"))

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_JPEG: Final = b"\xff\xd8\xff"


def studies(root: Path, config: PreprocessConfig) -> Iterator[Study | Reject]:
    """One Study a file, sorted by path. DICOM comes with empty ids, which its header fills; the ids of a PNG or JPEG
    are those of the table of reports, else its path without the extension.

    A line of the table that names a file (or the id of a picture as its study) also gives its split and view; the
    report itself is joined once the header is known. Hidden files are passed over. Links are followed inside `root`
    only, each file once. Rejects: `link_leaves_root`, `link_broken`, `format_unsupported`, `file_unknown`,
    `file_unreadable`.
    """
    table = read_report_table(config.reports) if config.reports else None
    files: list[tuple[Path, bool]] = []
    for path in _list_files(root):
        kind = path if isinstance(path, Reject) else _classify(path, root)
        if isinstance(kind, Reject):
            yield kind
        elif kind is not None and not isinstance(path, Reject):
            files.append((path, kind == "dicom"))
    sources = [_source(path, root) for path, _ in files]
    if table is not None:
        table.check_names(sources)
    pictures = Counter(_stem(source) for source, (_, is_dicom) in zip(sources, files, strict=True) if not is_dicom)
    for source, (path, is_dicom) in zip(sources, files, strict=True):
        # a.png beside a.jpg: the extension keeps their ids apart
        own_id = "" if is_dicom else _stem(source) if pictures[_stem(source)] == 1 else source
        cells = table.cells_of(source, own_id) if table else {}
        study_id = "" if is_dicom else cells.get("study_id", own_id)
        yield Study(
            study_id=study_id,
            patient_id="" if is_dicom else cells.get("patient_id", study_id),
            images=(ImageFile(image_id=own_id, path=path, view=cells.get("view", "")),),
            split=cells.get("split", ""),
        )


def _list_files(root: Path) -> Iterator[Path | Reject]:
    """Every file under `root`, sorted by path; a Reject for what is no file or cannot be followed."""
    entries: dict[str, Path | Reject] = {}
    links: list[Path] = []

    def note_closed_folder(error: OSError) -> None:
        source = _source(Path(error.filename), root)
        entries[source] = Reject(source, "file_unreadable", "The folder cannot be opened; check its permissions.")

    for folder, folders, names in os.walk(root, onerror=note_closed_folder):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        links += [path for name in folders if (path := Path(folder, name)).is_symlink()]
        for path in (Path(folder, name) for name in names if not _is_hidden(name)):
            if path.is_symlink():
                links.append(path)
                continue
            source = _source(path, root)
            # To open a pipe would wait for a writer.
            entries[source] = path if path.is_file() else Reject(source, "file_unknown", "This is not a regular file.")
    seen = {str(path.relative_to(root)) for path in entries.values() if isinstance(path, Path)}
    entries |= _follow_links(root, links, seen)
    for source in sorted(entries):
        yield entries[source]


def _follow_links(root: Path, links: list[Path], seen: set[str]) -> dict[str, Path | Reject]:
    """Links to files inside `root` whose path under it is not in `seen`, and a Reject for each that leads away."""
    real_root = Path(os.path.realpath(root))
    entries: dict[str, Path | Reject] = {}
    for link in sorted(links):
        # realpath, unlike resolve, does not raise on links that go in a circle.
        target, source = Path(os.path.realpath(link)), _source(link, root)
        if not target.is_relative_to(real_root):
            entries[source] = Reject(
                source, "link_leaves_root", "The link leads out of the folder and is not followed."
            )
        elif not target.exists():
            entries[source] = Reject(source, "link_broken", "The link leads to nothing.")
        elif target.is_file() and (name := str(target.relative_to(real_root))) not in seen:
            seen.add(name)
            entries[source] = link
    return entries


def _classify(path: Path, root: Path) -> str | Reject | None:
    """What a file is: "dicom", "picture", None if it merely lies beside images, or why it is refused.

    The ending decides where it is known, so that a web page saved as .dcm goes on to the decoder, which says what
    is wrong with it; the content decides for all other names, such as a UID.
    """
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower() if suffix == ".gz" else suffix
    if suffix in DICOM_SUFFIXES:
        return "dicom"
    if suffix in PICTURE_SUFFIXES:
        return "picture"
    source = _source(path, root)
    if inner in OTHER_IMAGE_SUFFIXES or (suffix == ".gz" and inner in DICOM_SUFFIXES | PICTURE_SUFFIXES):
        message = "Only DICOM, PNG and JPEG are read; convert or unpack this file."
        return Reject(source, "format_unsupported", message)
    if suffix in SIDE_SUFFIXES or path.name.lower() in SIDE_NAMES:
        return None
    try:
        with path.open("rb") as stream:
            start = stream.read(132)
    except OSError:
        return Reject(source, "file_unreadable", "The file cannot be opened; check its permissions.")
    if is_dicom_start(start):
        return "dicom"
    if start.startswith((_PNG, _JPEG)):
        return "picture"
    return Reject(source, "file_unknown", "Neither name nor content says DICOM, PNG or JPEG.")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _source(path: Path, root: Path) -> str:
    """The path under `root` with "/", bytes that are no UTF-8 written as \\xff, as the store writes them."""
    name = path.relative_to(root).as_posix()
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _stem(source: str) -> str:
    return str(PurePosixPath(source).with_suffix(""))

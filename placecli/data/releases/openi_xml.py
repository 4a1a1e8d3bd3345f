"""The XML reports of NLM's Open-i archive, read from the folder or straight from the .tgz."""

from __future__ import annotations

import re
import tarfile
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from placecli.records import PlaceError, Reject

FOLDER: Final = "ecgen-radiology"
ARCHIVE: Final = "NLMCXR_reports.tgz"
MAX_BYTES: Final = 1 << 20
"""A report takes about 10 kB; a larger one is refused before it is read."""

_MEMBER: Final = re.compile(rf"(?:\./)?{FOLDER}/([0-9]{{1,8}})\.xml")
_STUDY_ID: Final = re.compile(r"CXR[0-9]{1,8}")
_IMAGE_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class XmlReport:
    """One report: its id (`CXR1`), sections by lower-case name, and the file stems of its images."""

    study_id: str
    sections: Mapping[str, str]
    image_names: tuple[str, ...]


def has_xml_reports(root: Path) -> bool:
    """Whether NLM's reports are there, unpacked or as the archive."""
    return (root / FOLDER).is_dir() or (root / ARCHIVE).is_file()


def read_xml_reports(root: Path) -> Iterator[XmlReport | Reject]:
    """Reports sorted by number; the unpacked folder is used where it is there, else the archive.

    Raises PlaceError for an archive that cannot be read.
    """
    content = _folder_contents(root / FOLDER) if (root / FOLDER).is_dir() else _archive_contents(root / ARCHIVE)
    for number in sorted(content):
        yield parse_report(f"{FOLDER}/{number}.xml", content[number])


def parse_report(source: str, content: bytes | None) -> XmlReport | Reject:
    """The report in `content` (None: larger than MAX_BYTES), or why it is refused.

    A document type is refused, so no entity is ever declared, expanded or fetched; the text is decoded as UTF-8
    whatever it declares.
    """
    if content is None:
        return Reject(source, "report_too_large", f"The report is larger than {MAX_BYTES} bytes.")
    try:
        text = content.decode("utf-8-sig")
        if "<!DOCTYPE" in text or "<!ENTITY" in text:
            return Reject(
                source, "xml_malformed", "The report declares a document type, which no report of the release does."
            )
        tree = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError):
        return Reject(source, "xml_malformed", "The report is not well-formed XML in UTF-8.")
    identifier = tree.find("uId")
    study_id = "" if identifier is None else identifier.get("id", "")
    names = tuple(dict.fromkeys(image.get("id", "") for image in tree.iter("parentImage")))
    if not _STUDY_ID.fullmatch(study_id) or not all(_IMAGE_NAME.fullmatch(name) for name in names):
        return Reject(
            source, "xml_malformed", "The report has no uId such as CXR1 or an image id that is no file name."
        )
    sections = {item.get("Label", "").lower(): "".join(item.itertext()) for item in tree.iter("AbstractText")}
    return XmlReport(study_id, sections, names)


def _folder_contents(folder: Path) -> dict[int, bytes | None]:
    found = {int(path.stem): path for path in folder.glob("*.xml") if re.fullmatch("[0-9]{1,8}", path.stem)}
    return {number: None if path.stat().st_size > MAX_BYTES else path.read_bytes() for number, path in found.items()}


def _archive_contents(path: Path) -> dict[int, bytes | None]:
    """Member number -> bytes. Members are read into memory by name pattern; nothing is unpacked to disk."""
    contents: dict[int, bytes | None] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = _MEMBER.fullmatch(member.name)
                if name is None or not member.isreg():
                    continue
                stream = archive.extractfile(member)
                contents[int(name[1])] = None if stream is None or member.size > MAX_BYTES else stream.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise PlaceError(f"{path}: not readable as a gzipped tar archive ({error}); fetch it again") from None
    return contents

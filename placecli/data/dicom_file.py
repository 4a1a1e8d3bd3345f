"""A DICOM file opened: its header parsed, and the place of its pixels found without reading them."""

from __future__ import annotations

import contextlib
import mmap
import struct
import zlib
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from placecli.data.dicom_codes import refuse
from placecli.data.dicom_header import PARSE_ERRORS, Header, silenced
from placecli.records import InputRefused

DEFLATED: Final = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
IMPLICIT: Final = "1.2.840.10008.1.2"
MAX_HEADER_BYTES: Final = 16 << 20
"""Of a deflated file, how much is inflated for the header, which must end within it."""
SNIFFED_BYTES: Final = 132

_PIXEL_TAGS: Final = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_LONG_VRS: Final = (b"OB", b"OW", b"UN")


@dataclass(frozen=True, slots=True)
class PixelElement:
    """Where Pixel Data is in `DicomFile.body`; `length` None means encapsulated (undefined length)."""

    offset: int
    length: int | None
    is_big_endian: bool
    is_word: bool


@dataclass(frozen=True, slots=True)
class Deflated:
    """The rest of a deflated data set, still deflated."""

    inflater: zlib._Decompress

    def inflate(self, num_bytes: int) -> bytes:
        """The next `num_bytes` at most. Raises InputRefused."""
        try:
            # To zlib a length of 0 means no limit.
            return self.inflater.decompress(self.inflater.unconsumed_tail, num_bytes) if num_bytes > 0 else b""
        except zlib.error:
            raise _damaged_deflation() from None


@dataclass(frozen=True, slots=True)
class DicomFile:
    """`transfer_syntax` is what the file says, "" if nothing. `body` holds the data set, mapped from disk.

    Of a deflated data set `body` is the beginning and `rest` what follows.
    """

    header: Header
    transfer_syntax: str
    body: mmap.mmap | bytes
    pixels: PixelElement
    rest: Deflated | None = None

    def read(self, end: int) -> mmap.mmap | bytes:
        """The body, at least up to byte `end` unless the file ends before. Call it once the size has been judged."""
        if self.rest is None:
            return self.body
        return bytes(self.body) + self.rest.inflate(end - len(self.body))


def is_dicom_start(start: bytes) -> bool:
    """Whether a file with these first 132 bytes is DICOM: the DICM mark, or a bare data set of old."""
    if start[128:132] == b"DICM":
        return True
    if len(start) < 12:
        return False
    order = _byte_order(start)
    # A bare data set begins with either a VR or a short length.
    return bool(order) and (_has_vr(start) or struct.unpack(f"{order}I", start[4:8])[0] <= 1024)


def _byte_order(start: bytes) -> str:
    """ "<" or ">" where a data set begins: group 2 or 8, a low element; "" if none does."""
    for order in "<>" if len(start) >= 8 else "":
        group, element = struct.unpack(f"{order}HH", start[:4])
        if group in (0x0002, 0x0008) and element <= 0x0070:
            return order
    return ""


def _has_vr(start: bytes) -> bool:
    return start[4:6].isalpha() and start[4:6].isupper()


def open_dicom(path: Path) -> DicomFile:
    """The file at `path`, header parsed, pixels not read. Raises InputRefused; FileNotFoundError and OSError pass."""
    with path.open("rb") as stream:
        try:
            body = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise refuse("empty_file") from None
    return parse_dicom(body)


def parse_dicom(body: mmap.mmap | bytes) -> DicomFile:
    """`open_dicom` of the content of a file. Raises InputRefused."""
    if not len(body):
        raise refuse("empty_file")
    if not is_dicom_start(body[:SNIFFED_BYTES]):
        raise refuse("not_dicom")
    flags: set[str] = set()
    if body[128:132] != b"DICM":
        flags.add("preamble_missing")
    syntax, start = _read_meta(body)
    found = _byte_order(body[start : start + 8])
    with silenced():
        try:
            if syntax == DEFLATED and not found:
                return _parse_deflated(body, start, flags)
            source = BytesIO(body) if isinstance(body, bytes) else body
            if found and syntax and (found == ">" or syntax == DEFLATED) != (syntax == BIG_ENDIAN):
                flags.add("transfer_syntax_wrong")
                source.seek(start)
                dataset = _read_header(source, not _has_vr(body[start : start + 8]), found == "<")
            else:
                source.seek(0)
                dataset = dcmread(source, stop_before_pixels=True, force=True)  # type: ignore[arg-type]
            position = source.tell()
        except (EOFError, OSError):
            raise refuse("header_truncated") from None
        except PARSE_ERRORS:
            raise refuse("header_invalid") from None
    is_big_endian = found == ">" if found else syntax == BIG_ENDIAN or dataset.original_encoding[1] is False
    return _locate_pixels(body, position, dataset, syntax, is_big_endian, flags)


def _read_meta(body: mmap.mmap | bytes) -> tuple[str, int]:
    """The transfer syntax of the file meta group, and where the data set begins; ("", 0) without the group."""
    position, syntax = (132 if body[128:132] == b"DICM" else 0), ""
    while True:
        element = body[position : position + 12]
        if len(element) < 12 or element[:2] != b"\x02\x00":
            return syntax, position
        is_long = element[4:6] in (*_LONG_VRS, b"UT", b"SQ")
        length = struct.unpack_from("<I", element, 8)[0] if is_long else struct.unpack_from("<H", element, 6)[0]
        value = position + (12 if is_long else 8)
        if element[2:4] == b"\x10\x00":
            syntax = body[value : value + min(length, 64)].decode("latin-1").strip("\0 ")
        position = value + length


def _parse_deflated(body: mmap.mmap | bytes, start: int, flags: set[str]) -> DicomFile:
    """Only the header is inflated: a small file cannot claim much memory before its size has been judged."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = inflater.decompress(body[start:], MAX_HEADER_BYTES)
    except zlib.error:
        raise _damaged_deflation() from None
    source = BytesIO(content)
    dataset = _read_header(source, False, True)
    file = _locate_pixels(content, source.tell(), dataset, DEFLATED, False, flags)
    return replace(file, rest=Deflated(inflater))


def _read_header(source: BytesIO | mmap.mmap, is_implicit: bool, is_little_endian: bool) -> Dataset:
    """The data set from here up to its pixels."""
    return read_dataset(source, is_implicit, is_little_endian, stop_when=lambda tag, vr, length: tag in _PIXEL_TAGS)  # type: ignore[arg-type]


def _damaged_deflation() -> InputRefused:
    return refuse("pixels_corrupt", "the deflated data set is damaged")


def _locate_pixels(
    body: mmap.mmap | bytes, position: int, dataset: Dataset, syntax: str, is_big_endian: bool, flags: set[str]
) -> DicomFile:
    order = ">" if is_big_endian else "<"
    element = body[position : position + 12]
    if len(element) < 8:
        raise _without_pixels(dataset)
    group, number = struct.unpack_from(f"{order}HH", element)
    if (group, number) != (0x7FE0, 0x0010):
        raise refuse("no_pixel_data", "the pixels are floating-point numbers, not stored integers")
    # An implicit length cannot read "OW": it would be odd. So these letters show an explicit VR, whatever was declared.
    is_explicit = element[4:6] in _LONG_VRS
    if is_explicit == (syntax == IMPLICIT) and syntax:
        flags.add("transfer_syntax_wrong")
    if len(element) < (12 if is_explicit else 8):
        raise refuse("header_truncated")
    length = struct.unpack_from(f"{order}I", element, 8 if is_explicit else 4)[0]
    return DicomFile(
        header=Header(dataset, flags),
        transfer_syntax=syntax,
        body=body,
        pixels=PixelElement(
            offset=position + (12 if is_explicit else 8),
            length=None if length == 0xFFFFFFFF else length,
            is_big_endian=is_big_endian,
            is_word=not is_explicit or element[4:6] == b"OW",
        ),
    )


def _without_pixels(dataset: Dataset) -> InputRefused:
    """The file ended before Pixel Data: cut off inside an element, or never had any."""
    last = None
    with contextlib.suppress(*PARSE_ERRORS):
        last = dataset.get_item(max(dataset.keys()))
    if isinstance(last, RawDataElement) and last.value is not None and len(last.value) < last.length < 0xFFFFFFFF:
        return refuse("header_truncated")
    return refuse("no_pixel_data")

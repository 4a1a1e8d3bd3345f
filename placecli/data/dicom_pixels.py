"""Pixel Data -> one frame of stored values: raw frames in place, compressed ones through data/decoders.py.

A compressed stream is decoded by what its own first bytes say, not by the transfer syntax alone.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from placecli.data import codestream
from placecli.data.decoders import decode_run_lengths, decode_stream
from placecli.data.dicom_codes import refuse
from placecli.data.dicom_file import BIG_ENDIAN, DEFLATED, IMPLICIT, DicomFile, PixelElement
from placecli.data.dicom_layout import Layout

RLE: Final = "1.2.840.10008.1.2.5"
RAW_SYNTAXES: Final = ("", IMPLICIT, "1.2.840.10008.1.2.1", DEFLATED, BIG_ENDIAN)
KINDS_OF_SYNTAX: Final[dict[str, tuple[codestream.Kind, ...]]] = {
    "1.2.840.10008.1.2.4.50": ("jpeg",),
    "1.2.840.10008.1.2.4.51": ("jpeg", "jpeg12"),
    "1.2.840.10008.1.2.4.57": ("jpeg-lossless",),
    "1.2.840.10008.1.2.4.70": ("jpeg-lossless",),
    "1.2.840.10008.1.2.4.80": ("jpeg-ls",),
    "1.2.840.10008.1.2.4.81": ("jpeg-ls",),
    "1.2.840.10008.1.2.4.90": ("jpeg-2000",),
    "1.2.840.10008.1.2.4.91": ("jpeg-2000",),
    "1.2.840.10008.1.2.4.201": ("htj2k",),
    "1.2.840.10008.1.2.4.202": ("htj2k",),
    "1.2.840.10008.1.2.4.203": ("htj2k",),
}

_ITEM: Final = b"\xfe\xff\x00\xe0"
_SUBSAMPLED: Final = ("YBR_FULL_422", "YBR_PARTIAL_422")


@dataclass(frozen=True, slots=True)
class Frame:
    """Stored value = `values` + `offset`. `values` are uint8 or uint16 [h, w], halved so often by JPEG 2000.

    `limit` is the largest value that the stored bits can hold; raw values beyond it have bits that are none of theirs.
    """

    values: NDArray[Any]
    offset: int = 0
    halvings: int = 0
    limit: int = 65535


def read_frame(file: DicomFile, layout: Layout, halvings: int) -> Frame:
    """The first frame; colour as luminance. `halvings`: how often JPEG 2000 may halve it on the way.

    Raises InputRefused where the data is too short, damaged, of another size, or in no known syntax.
    """
    is_raw = file.transfer_syntax in RAW_SYNTAXES
    if file.pixels.length is None or (not is_raw and file.body[file.pixels.offset : file.pixels.offset + 4] == _ITEM):
        return _read_encapsulated(file, layout, halvings)
    if not is_raw:
        if file.pixels.length != layout.bytes_per_frame:
            raise _unsupported(file.transfer_syntax)
        file.header.flags.add("transfer_syntax_wrong")
    return _unsigned(_to_luminance(_view_raw(file, layout), layout), layout)


def _view_raw(file: DicomFile, layout: Layout) -> NDArray[Any]:
    """The frame in place: [h, w], or [h, w, 3] for colour (4:2:2 gives its luminance alone)."""
    declared, frame_bytes = file.pixels.length or 0, layout.bytes_per_frame
    if declared < frame_bytes:
        raise refuse(
            "pixels_wrong_length", f"Rows and Columns need {frame_bytes} bytes, Pixel Data declares {declared}"
        )
    body = file.read(file.pixels.offset + frame_bytes)
    available = len(body) - file.pixels.offset
    if available < frame_bytes:
        raise refuse("pixels_truncated", f"{max(0, available)} of {frame_bytes} bytes of image data are there")
    if declared > frame_bytes * layout.frames + 1:
        file.header.flags.add("pixels_excess")
    flat = _view_samples(body, file.pixels, layout)
    if layout.photometric in _SUBSAMPLED:
        if layout.columns % 2:
            raise refuse("pixels_wrong_length", "4:2:2 colour needs an even number of columns")
        return np.ascontiguousarray(flat.reshape(-1, 4)[:, :2]).reshape(layout.rows, layout.columns)
    if layout.samples == 1:
        return flat.reshape(layout.rows, layout.columns)
    if layout.is_planar:
        return np.moveaxis(flat.reshape(3, layout.rows, layout.columns), 0, -1)
    return flat.reshape(layout.rows, layout.columns, 3)


def _view_samples(body: mmap.mmap | bytes, pixels: PixelElement, layout: Layout) -> NDArray[Any]:
    dtype = np.dtype(np.uint8 if layout.bits_allocated == 8 else "<u2")
    count = layout.bytes_per_frame // dtype.itemsize
    if not pixels.is_big_endian:
        return np.require(np.frombuffer(body, dtype, count, pixels.offset), requirements="A")
    if dtype.itemsize == 2:
        return np.frombuffer(body, ">u2", count, pixels.offset).astype(np.uint16)
    flat = np.frombuffer(body, np.uint8, count, pixels.offset)
    # Big endian words of two 8-bit samples are swapped as a whole.
    return flat.view(np.uint16).byteswap().view(np.uint8) if pixels.is_word and count % 2 == 0 else flat


def _to_luminance(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """RGB by the weights of ITU-R BT.601; of YBR the luminance is the first channel."""
    if values.ndim == 2:
        return values
    if layout.photometric in ("RGB", "YBR_ICT", "YBR_RCT"):
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(values), cv2.COLOR_RGB2GRAY))
    return np.ascontiguousarray(values[:, :, 0])


def _unsigned(values: NDArray[Any], layout: Layout) -> Frame:
    """Bits below the stored ones removed, two's complement moved to unsigned plus offset."""
    shift, mask = layout.high_bit + 1 - layout.bits_stored, (1 << layout.bits_stored) - 1
    if shift:
        values = values >> shift
    if layout.is_signed:
        return _from_complement(values, layout.bits_stored)
    return Frame(values, limit=mask)


def clear_unused_bits(frame: Frame, flags: set[str]) -> Frame:
    """The frame without the bits beyond its limit."""
    flags.add("unused_bits_set")
    return replace(frame, values=frame.values & frame.values.dtype.type(frame.limit))


def _from_complement(values: NDArray[Any], bits: int) -> Frame:
    sign = 1 << (bits - 1)
    return Frame((values & values.dtype.type(2 * sign - 1)) ^ values.dtype.type(sign), -sign)


def _read_encapsulated(file: DicomFile, layout: Layout, halvings: int) -> Frame:
    syntax, flags = file.transfer_syntax, file.header.flags
    stream = _first_stream(file, layout)
    info = codestream.inspect(stream)
    if info is None and (syntax == RLE or _is_run_length(stream, layout)):
        if syntax != RLE:
            flags.add("transfer_syntax_wrong")
        shape, dtype = (layout.samples, layout.rows, layout.columns), np.dtype(f"<u{layout.bits_allocated // 8}")
        planes = decode_run_lengths(stream, shape, dtype)
        values = planes[0] if layout.samples == 1 else np.moveaxis(planes, 0, -1)
        return _unsigned(_to_luminance(values, layout), layout)
    if info is None and syntax in KINDS_OF_SYNTAX:
        raise refuse("pixels_corrupt", "the compressed data does not begin as its transfer syntax says")
    if info is None:
        raise _unsupported(syntax)
    if info.kind not in KINDS_OF_SYNTAX.get(syntax, ()):
        flags.add("transfer_syntax_wrong")
    if (info.width, info.height) != (layout.columns, layout.rows):
        raise refuse("size_mismatch")
    if info.components not in (1, 3) or not 2 <= info.precision <= 16:
        raise refuse("bit_depth_unsupported", "the compressed picture is not one or three samples of up to 16 bits")
    # Two's complement in an unsigned stream wraps: averages of it, which lower resolutions are, mean nothing.
    is_complement = layout.is_signed and not info.is_signed
    halvings = 0 if is_complement else min(halvings, info.levels)
    values = _to_luminance(decode_stream(stream, info, layout.photometric == "RGB", halvings), layout)
    if is_complement:
        return _from_complement(values, min(info.precision, layout.bits_stored))
    return Frame(values, -(1 << (info.precision - 1)) if info.is_signed else 0, halvings)


def _is_run_length(stream: bytes, layout: Layout) -> bool:
    """Whether the stream begins with the header of DICOM's run lengths: number of segments, the first after 64 bytes."""
    return stream[:8] == struct.pack("<II", layout.samples * layout.bits_allocated // 8, 64)


def _first_stream(file: DicomFile, layout: Layout) -> bytes:
    """The compressed bytes of the first frame, its fragments joined."""
    items = list(_items(file))
    # The first item is the offset table; a single one that is larger than that is a picture without a table.
    fragments = items[1:] or [(start, end) for start, end in items if end - start > 4 * layout.frames]
    if not fragments:
        raise refuse("pixels_truncated", "Pixel Data has no compressed frame")
    if layout.frames > 1 and len(fragments) == layout.frames:
        fragments = fragments[:1]
    elif layout.frames > 1:
        table = file.body[slice(*items[0])]
        second = struct.unpack_from("<I", table, 4)[0] if len(table) >= 8 else 0
        if not second:
            raise refuse("pixels_corrupt", "nothing tells where the first of several frames ends")
        fragments = [item for item in fragments if item[0] - 8 < fragments[0][0] - 8 + second]
    return b"".join(file.body[start:end] for start, end in fragments)


def _items(file: DicomFile) -> Iterator[tuple[int, int]]:
    """(start, end) of each item of encapsulated Pixel Data. Raises InputRefused where the file ends inside one."""
    position = file.pixels.offset
    while file.body[position : position + 4] == _ITEM:
        start, length = position + 8, file.body[position + 4 : position + 8]
        end = start + (int.from_bytes(length, "little") if len(length) == 4 else 1)
        if end > len(file.body):
            raise refuse("pixels_truncated", f"{max(0, len(file.body) - start)} of {end - start} bytes are there")
        yield start, end
        position = end


def _unsupported(syntax: str) -> Exception:
    known = f" ({syntax})" if syntax.startswith("1.2.840.10008.") and len(syntax) <= 32 else ""
    return refuse("transfer_syntax_unsupported", f"no decoder for the compression of this file{known}")

"""What a compressed picture says of itself in its first bytes, read before any decoder takes memory."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["jpeg", "jpeg12", "jpeg-lossless", "jpeg-ls", "jpeg-2000", "htj2k"]

ZERO_RUN: Final = bytes(64)
"""Zero bytes in a row that no Huffman-coded picture holds, unless its shortest code stands for "nothing changes"."""


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """Geometry of one compressed picture. `levels`: how often JPEG 2000 may be halved in decoding."""

    kind: Kind
    width: int
    height: int
    components: int
    precision: int
    is_signed: bool = False
    levels: int = 0


def inspect(stream: bytes) -> StreamInfo | None:
    """Size and kind of a JPEG, JPEG-LS, JPEG 2000 or HTJ2K picture, raw or in a JP2 box; None if it is none of them."""
    try:
        if stream[:2] == b"\xff\xd8":
            return _inspect_jpeg(stream)
        start = 0 if stream[:4] == b"\xff\x4f\xff\x51" else _find_in_jp2(stream)
        return _inspect_jpeg_2000(stream, start) if start >= 0 else None
    except (struct.error, IndexError):
        return None


def has_zero_run(stream: bytes) -> bool:
    """Whether a Huffman-coded JPEG holds a hole of zero bytes, as lost disk blocks and broken copies leave.

    The code word of zero bits belongs to the first symbol of each Huffman table. Where that symbol means "end of
    block" or "no difference" a flat area makes zeros by right, and nothing is said.
    """
    hole = stream.find(ZERO_RUN)
    if hole < 0:
        return False
    first_symbols = _first_huffman_symbols(stream[:hole])
    return bool(first_symbols) and not first_symbols & {0x00, 0xF0}


def _find_in_jp2(stream: bytes) -> int:
    if stream[4:8] != b"jP  ":
        return -1
    box = stream.find(b"jp2c\xff\x4f\xff\x51", 0, 65536)
    return box + 4 if box >= 0 else -1


def _inspect_jpeg(stream: bytes) -> StreamInfo | None:
    position = 2
    while position < len(stream) - 9:
        marker, length = stream[position + 1], struct.unpack_from(">H", stream, position + 2)[0]
        if stream[position] != 0xFF:
            return None
        if marker == 0xFF:  # fill byte before a marker
            position += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            precision, height, width, components = struct.unpack_from(">BHHB", stream, position + 4)
            kind = _jpeg_kind(marker, precision)
            return StreamInfo(kind, width, height, components, precision) if kind else None
        if marker == 0xDA or length < 2:
            return None
        position += 2 + length
    return None


def _jpeg_kind(marker: int, precision: int) -> Kind | None:
    if marker == 0xF7:
        return "jpeg-ls"
    if marker == 0xC3:
        return "jpeg-lossless"
    if marker in (0xC0, 0xC1, 0xC2):
        return "jpeg" if precision == 8 else "jpeg12"
    return None


def _inspect_jpeg_2000(stream: bytes, start: int) -> StreamInfo:
    # ISO 15444-1 A.5.1: SOC, then SIZ with the reference grid (Xsiz, Ysiz), its offset, tiles and components.
    capabilities, right, bottom, left, top = struct.unpack_from(">HIIII", stream, start + 6)
    components, depth = struct.unpack_from(">HB", stream, start + 40)
    coding = stream.find(b"\xff\x52", start, start + 65536)
    is_high_throughput = bool(capabilities & 0x4000)
    return StreamInfo(
        kind="htj2k" if is_high_throughput else "jpeg-2000",
        width=right - left,
        height=bottom - top,
        components=components,
        precision=(depth & 0x7F) + 1,
        is_signed=bool(depth & 0x80),
        # The decoder of HTJ2K lets values that leave the range at a lower resolution wrap around.
        levels=stream[coding + 9] if coding >= 0 and not is_high_throughput else 0,
    )


def _first_huffman_symbols(head: bytes) -> set[int]:
    """The first symbol of each AC table, or of each table of a lossless picture (whose tables are all DC)."""
    symbols: dict[int, set[int]] = {0: set(), 1: set()}
    position = 2
    while position < len(head) - 4 and head[position] == 0xFF and head[position + 1] != 0xDA:
        length = struct.unpack_from(">H", head, position + 2)[0]
        if head[position + 1] == 0xC4:
            table, end = position + 4, min(position + 2 + length, len(head))
            while table + 17 < end:
                symbols[head[table] >> 4 & 1].add(head[table + 17])
                table += 17 + sum(head[table + 1 : table + 17])
        if length < 2:
            break
        position += 2 + length
    return symbols[1] or symbols[0]

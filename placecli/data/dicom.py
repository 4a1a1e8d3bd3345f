"""DICOM -> an 8-bit grayscale radiograph, bones bright; docs/dicom.md prints what is done with each kind of file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from placecli.config import PreprocessConfig
from placecli.data import dicom_codes
from placecli.data.dicom_codes import refuse
from placecli.data.dicom_file import SNIFFED_BYTES, DicomFile, is_dicom_start, open_dicom
from placecli.data.dicom_header import Header
from placecli.data.dicom_layout import Layout, read_layout
from placecli.data.dicom_pixels import Frame, clear_unused_bits, read_frame
from placecli.data.dicom_rules import doubts, whitelisted, why_not_chest
from placecli.data.intensity import (
    PERCENTILES,
    Line,
    Range,
    Table,
    build_brightness,
    foresee_line,
    is_inverted,
    tabulate,
)
from placecli.data.polarity import looks_inverted
from placecli.data.radiograph import Radiograph
from placecli.data.resampling import FULL, Ends, Halved, find_ends, fit_size, reduce_area, scratch, to_uint8

REASONS: Final[Mapping[str, str]] = dicom_codes.REASONS
FLAGS: Final[Mapping[str, str]] = dicom_codes.FLAGS

NARROW: Final = 2048
"""Below so many stored values between black and white, rounding to whole ones shows in 8 bits."""


def is_dicom(path: Path) -> bool:
    """Whether the content at `path` starts as DICOM does, with or without a preamble. OSError passes."""
    with path.open("rb") as stream:
        return is_dicom_start(stream.read(SNIFFED_BYTES))


def read_dicom(path: Path, size: int, rules: PreprocessConfig) -> Radiograph:
    """The radiograph in the file, longest side `size`. Raises InputRefused with a code of REASONS.

    The header is judged first (what it shows, size, format, length of the data); pixels are read last.
    """
    try:
        file = open_dicom(path)
    except FileNotFoundError:
        raise refuse("file_missing") from None
    except OSError:
        raise refuse("file_unreadable") from None
    return convert(file, size, rules)


def convert(file: DicomFile, size: int, rules: PreprocessConfig) -> Radiograph:
    """`read_dicom` of a file that is open. Raises InputRefused."""
    header = file.header
    objection = why_not_chest(header)
    if objection and rules.not_chest == "reject":
        raise refuse("not_chest", objection)
    if objection:
        header.flags.add("not_chest")
    layout = read_layout(header, rules)
    try:
        pixels = _render(file, layout, size, rules)
    except MemoryError:
        raise refuse("decoder_memory") from None
    return Radiograph(
        pixels=pixels,
        original_size=(layout.columns, layout.rows),
        header=whitelisted(header, file.transfer_syntax),
        flags=tuple(sorted(header.flags | doubts(header))),
    )


def _render(file: DicomFile, layout: Layout, size: int, rules: PreprocessConfig) -> NDArray[np.uint8]:
    header = file.header
    width, height = fit_size(layout.columns, layout.rows, layout.row_to_column, size)
    may_pad = "PixelPaddingValue" in header and layout.samples == 1
    # Padding is found by its exact value, which only the full resolution keeps.
    frame = read_frame(file, layout, 0 if may_pad else _num_halvings(layout, width, height))
    halved = Halved((layout.columns, layout.rows), frame.halvings) if frame.halvings else None
    inverted, pixels = is_inverted(header, layout.photometric), None
    # A window is known before the pixels are: they are then read from memory once, measured and drawn together.
    limits = Range(0, frame.limit, frame.offset, (0, frame.limit))
    foreseen = None if may_pad else foresee_line(header, limits, rules.intensity, inverted)
    if foreseen:
        ends = Ends()
        pixels = _draw(frame.values, foreseen, (width, height), halved, ends)
    else:
        ends = find_ends(frame.values)
    if ends.high > frame.limit:
        frame = clear_unused_bits(frame, header.flags)
        ends, pixels = find_ends(frame.values), None
    padding = _find_padding(header, layout, frame) if may_pad else None
    found = _measure(frame, padding, ends, rules.intensity == "percentile")
    brightness = build_brightness(header, found, rules.intensity, inverted)
    if pixels is None or brightness != foreseen:
        pixels = _reduce(frame.values, brightness, padding, (width, height), halved)
    if not layout.photometric and looks_inverted(pixels):
        pixels = 255 - pixels
    return pixels


def _num_halvings(layout: Layout, width: int, height: int) -> int:
    """How often the frame can be halved and still hold the wanted size."""
    ratio = min(layout.columns / width, layout.rows / height)
    return max(0, int(ratio).bit_length() - 1)


def _find_padding(header: Header, layout: Layout, frame: Frame) -> NDArray[np.bool_] | None:
    """Where Pixel Padding Value reaches in from the frame's edge, [h, w]; None if nowhere.

    The same value inside the body is left alone: MONOCHROME1 files pad with 0, which is also their densest bone.
    """
    ends = [header.integer(keyword) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    signed = [end - 65536 if layout.is_signed and end > 32767 else end for end in ends if end is not None]
    values = frame.values
    if not signed:
        return None
    low, high = min(signed) - frame.offset, max(signed) - frame.offset
    is_padding = np.zeros((values.shape[0] + 2, values.shape[1] + 2), np.uint8)
    np.copyto(is_padding[1:-1, 1:-1], (values >= low) & (values <= high), casting="unsafe")
    if not is_padding.any():
        return None
    is_padding[[0, -1], :] = is_padding[:, [0, -1]] = 1
    cv2.floodFill(is_padding, None, (0, 0), 2)
    reached = is_padding[1:-1, 1:-1] == 2
    if not reached.any() or reached.all():
        return None
    header.flags.add("padding_blackened")
    return reached


def _measure(frame: Frame, padding: NDArray[np.bool_] | None, ends: Ends, wants_percentiles: bool) -> Range:
    """Smallest and largest value and, if wanted, percentiles (of every fourth row and column) outside the padding.

    `ends` are those of the whole frame.
    """
    values = frame.values if padding is None else frame.values[~padding]
    low, high = (ends.low, ends.high) if padding is None else (int(values.min()), int(values.max()))
    if low == high:
        raise refuse("pixels_constant")
    if not wants_percentiles:
        return Range(low, high, frame.offset, (low, high))
    sample = frame.values[::4, ::4].ravel() if padding is None else values[::16]
    counts = np.cumsum(np.bincount(sample))
    inner = [int(np.searchsorted(counts, counts[-1] * percentile / 100)) for percentile in PERCENTILES]
    return Range(low, high, frame.offset, (inner[0], inner[1]))


def _reduce(
    values: NDArray[Any],
    brightness: Line | Table,
    padding: NDArray[np.bool_] | None,
    size: tuple[int, int],
    halved: Halved | None,
) -> NDArray[np.uint8]:
    """Brightness of the frame at its final size. Lines are drawn on the small picture, tables on the large one."""
    if isinstance(brightness, Table) or padding is not None:
        entries = tabulate(brightness, 256 if values.dtype == np.uint8 else int(values.max()) + 1)
        looked_up = reduce_area(values, *size, partial(_look_up, entries, padding), FULL, halved)
        return to_uint8(looked_up, 0, FULL)
    return _draw(values, brightness, size, halved)


def _draw(
    values: NDArray[Any], line: Line, size: tuple[int, int], halved: Halved | None, ends: Ends | None = None
) -> NDArray[np.uint8]:
    """A line's brightness of the frame at its final size; `ends` sees all values on the way."""
    low, high = sorted((line.start, line.stop))
    if high - low < NARROW:
        reduced = reduce_area(values, *size, partial(_clip_exactly, low, high, ends), FULL, halved)
    else:
        lowest, highest = max(0, int(low)), min(FULL, int(np.ceil(high)))
        reduced = reduce_area(values, *size, partial(_clip, lowest, highest, ends), highest, halved)
    return to_uint8(reduced, line.start, line.stop)


def _look_up(
    entries: NDArray[np.uint16], padding: NDArray[np.bool_] | None, rows: NDArray[Any], place: slice
) -> NDArray[np.uint16]:
    brightness: NDArray[Any] = (
        np.asarray(cv2.LUT(rows, entries)) if rows.dtype == np.uint8 else np.take(entries, rows, mode="clip")
    )
    if padding is not None:
        brightness[padding[place]] = 0
    return brightness


def _clip(low: int, high: int, ends: Ends | None, rows: NDArray[Any], place: slice) -> NDArray[np.uint16]:
    if ends:
        ends.see(rows)
    return rows.clip(low, high, out=scratch("clipped", rows.shape, rows.dtype))


def _clip_exactly(low: float, high: float, ends: Ends | None, rows: NDArray[Any], place: slice) -> NDArray[np.float32]:
    if ends:
        ends.see(rows)
    wide = scratch("clipped", rows.shape, np.float32)
    np.copyto(wide, rows)
    return np.clip(wide, low, high, out=wide)

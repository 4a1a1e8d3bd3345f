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
from placecli.data.dicom_pixels import Frame, read_frame
from placecli.data.dicom_rules import doubts, whitelisted, why_not_chest
from placecli.data.intensity import FULL, PERCENTILES, Line, Range, Table, build_brightness, is_inverted, tabulate
from placecli.data.polarity import looks_inverted
from placecli.data.radiograph import Radiograph
from placecli.data.resampling import fit_size, reduce_area, to_uint8

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
    padding = _find_padding(header, layout, frame) if may_pad else None
    found = _measure(frame, padding)
    brightness = build_brightness(header, found, rules.intensity, is_inverted(header, layout.photometric))
    pixels = _reduce(frame.values, found, brightness, padding, width, height)
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


def _measure(frame: Frame, padding: NDArray[np.bool_] | None) -> Range:
    """Smallest and largest value and the percentiles (of every fourth row and column) outside the padding."""
    values = frame.values if padding is None else frame.values[~padding]
    low, high = int(values.min()), int(values.max())
    if low == high:
        raise refuse("pixels_constant")
    sample = frame.values[::4, ::4].ravel() if padding is None else values[::16]
    counts = np.cumsum(np.bincount(sample))
    inner = [int(np.searchsorted(counts, counts[-1] * percentile / 100)) for percentile in PERCENTILES]
    return Range(low, high, frame.offset, (inner[0], inner[1]))


def _reduce(
    values: NDArray[Any],
    found: Range,
    brightness: Line | Table,
    padding: NDArray[np.bool_] | None,
    width: int,
    height: int,
) -> NDArray[np.uint8]:
    """Brightness of the frame at its final size. Lines are drawn on the small picture, tables on the large one."""
    shift = 16 - found.high.bit_length() if isinstance(brightness, Line) and _span(brightness) < NARROW else 0
    needs_table = isinstance(brightness, Table) or padding is not None or values.dtype == np.uint8
    if needs_table or _span(brightness) * (1 << shift) < NARROW:
        entries = tabulate(brightness, 256 if values.dtype == np.uint8 else int(values.max()) + 1)
        looked_up = reduce_area(values, width, height, partial(_look_up, entries, padding))
        return to_uint8(looked_up / np.float32(FULL))
    assert isinstance(brightness, Line)
    ends = sorted((brightness.start, brightness.stop))
    low, high = max(0, int(ends[0] * (1 << shift))), min(FULL, int(np.ceil(ends[1] * (1 << shift))))
    clips = found.low << shift < low or found.high << shift > high
    reduced = reduce_area(values, width, height, partial(_shift_and_clip, shift, (low, high) if clips else None))
    return to_uint8(brightness(reduced / np.float32(1 << shift)))


def _span(brightness: Line | Table) -> float:
    return abs(brightness.stop - brightness.start) if isinstance(brightness, Line) else 0.0


def _look_up(
    entries: NDArray[np.uint16], padding: NDArray[np.bool_] | None, rows: NDArray[Any], place: slice
) -> NDArray[np.uint16]:
    brightness: NDArray[Any] = (
        np.asarray(cv2.LUT(rows, entries)) if rows.dtype == np.uint8 else np.take(entries, rows, mode="clip")
    )
    if padding is not None:
        brightness[padding[place]] = 0
    return brightness


def _shift_and_clip(shift: int, ends: tuple[int, int] | None, rows: NDArray[Any], place: slice) -> NDArray[np.uint16]:
    shifted = np.left_shift(rows, shift) if shift else rows
    return np.asarray(np.clip(shifted, *ends) if ends else shifted)

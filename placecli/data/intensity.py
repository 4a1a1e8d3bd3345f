"""Stored values -> brightness: modality LUT or rescale, VOI LUT or window, polarity (DICOM PS3.3 C.11.1, C.11.2, C.11.6).

Where all of it together is a straight line between two ends, only the ends are kept: clipping at them and averaging
commute with the line, so the line can wait until the picture is small. Anything else becomes a table of 16 bits,
looked up at full resolution.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from placecli.data.dicom_header import Header

Floats = NDArray[np.float64]
Mapping = Callable[[Floats], Floats]

MIN_CONTRAST: Final = 1 / 16
"""A window that leaves less of the brightness range than this between darkest and brightest pixel is not used."""
FULL: Final = 65535
PERCENTILES: Final = (0.5, 99.5)


@dataclass(frozen=True, slots=True)
class Line:
    """Brightness rises (or, with start > stop, falls) straight from 0 at `start` to 1 at `stop`, clipped beyond."""

    start: float
    stop: float

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.clip((values - self.start) / (self.stop - self.start), 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Table:
    """Brightness times 65535 by unsigned stored value."""

    entries: NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Range:
    """What the picture's pixels are, padding apart: unsigned values `low` to `high`, stored value = unsigned + `offset`.

    `inner` are its percentiles 0.5 and 99.5 where they are wanted, else `low` and `high`.
    """

    low: int
    high: int
    offset: int
    inner: tuple[int, int]


def is_inverted(header: Header, photometric: str) -> bool:
    """Whether low values are to be shown bright.

    MONOCHROME1 says so, and so does Presentation LUT Shape INVERSE. They do not cancel: the standard requires
    INVERSE of MONOCHROME1 (PS3.3 C.11.6.1.2).
    """
    return photometric == "MONOCHROME1" or header.text("PresentationLUTShape").upper() == "INVERSE"


def build_brightness(
    header: Header, found: Range, mode: Literal["header", "minmax", "percentile"], inverted: bool
) -> Line | Table:
    """How this picture's unsigned stored values become brightness.

    `header` takes the first usable VOI LUT, else the first usable window, else the range of the pixels; `minmax` and
    `percentile` take the range alone. A window or table that leaves the picture without contrast is not used.
    """
    modality = _modality(header, found)
    if mode == "header":
        brightness = _from_header(header, modality, found)
        if brightness is not None:
            if _contrast(brightness, found) >= MIN_CONTRAST:
                return _invert(brightness) if inverted else brightness
            header.flags.add("window_useless")
    ends = (found.low, found.high) if mode != "percentile" or found.inner[0] == found.inner[1] else found.inner
    return _invert(_from_range(modality, found, ends)) if inverted else _from_range(modality, found, ends)


def foresee_line(
    header: Header, limits: Range, mode: Literal["header", "minmax", "percentile"], inverted: bool
) -> Line | None:
    """The line that `build_brightness` will give for pixels within `limits`, if their contrast allows it.

    None where the pixels decide, or where a table does.
    """
    if mode != "header" or "VOILUTSequence" in header or "ModalityLUTSequence" in header:
        return None
    line = _from_header(header, _modality(header, limits), limits)
    if not isinstance(line, Line) or _contrast(line, limits) < MIN_CONTRAST:
        return None
    return Line(line.stop, line.start) if inverted else line


def tabulate(brightness: Line | Table, num_entries: int) -> NDArray[np.uint16]:
    """The table of `num_entries` for values from 0; values beyond a given table take its last entry."""
    if isinstance(brightness, Line):
        return np.rint(brightness(np.arange(num_entries, dtype=np.float64)) * FULL).astype(np.uint16)
    missing = num_entries - len(brightness.entries)
    return np.pad(brightness.entries, (0, max(0, missing)), mode="edge")[:num_entries]


@dataclass(frozen=True, slots=True)
class _Rescale:
    """The modality transform as y = slope * stored + intercept."""

    slope: float
    intercept: float

    def __call__(self, stored: Floats) -> Floats:
        return self.slope * stored + self.intercept

    def unsigned(self, output: float, offset: int) -> float:
        """The unsigned value that gives this output."""
        return (output - self.intercept) / self.slope - offset


@dataclass(frozen=True, slots=True)
class _Lookup:
    """A LUT of the file: entries for inputs from `first`, the ends extended."""

    first: int
    entries: Floats

    def __call__(self, inputs: Floats) -> Floats:
        index = np.clip(np.rint(inputs) - self.first, 0, len(self.entries) - 1)
        return self.entries[index.astype(np.int64)]


def _modality(header: Header, found: Range) -> _Rescale | _Lookup:
    for item in header.items("ModalityLUTSequence"):
        lookup = _read_lookup(item, np.array([found.low, found.high], dtype=np.float64) + found.offset)
        if lookup is not None:
            return lookup
        header.flags.add("lut_invalid")
    slope, intercept = _first(header, "RescaleSlope", 1.0), _first(header, "RescaleIntercept", 0.0)
    if not (math.isfinite(slope) and math.isfinite(intercept) and 1e-9 < abs(slope) < 1e9 and abs(intercept) < 1e9):
        header.flags.add("rescale_invalid")
        return _Rescale(1.0, 0.0)
    return _Rescale(slope, intercept)


def _look_up_scaled(
    modality: _Rescale | _Lookup, lookup: _Lookup, scale: float, stored: NDArray[np.float64]
) -> NDArray[np.float64]:
    return np.asarray(lookup(modality(stored)) / scale)


def _from_header(header: Header, modality: _Rescale | _Lookup, found: Range) -> Line | Table | None:
    for item in header.items("VOILUTSequence"):
        outputs = modality(np.array([found.low, found.high], dtype=np.float64) + found.offset)
        lookup = _read_lookup(item, outputs)
        if lookup is not None:
            # The descriptor's bits are often wrong; the largest entry shows how many are used.
            scale = (1 << max(1, int(lookup.entries.max()).bit_length())) - 1
            return _table(functools.partial(_look_up_scaled, modality, lookup, float(scale)), found)
        header.flags.add("lut_invalid")
    window = _read_window(header)
    if window is None:
        return None
    function, center, width = window
    if function == "SIGMOID":
        return _table(lambda stored: _sigmoid(4.0 * (modality(stored) - center) / width), found)
    low, high = (center - width / 2, center + width / 2) if function == "LINEAR_EXACT" else _linear(center, width)
    return _between(modality, found, low, high)


def _linear(center: float, width: float) -> tuple[float, float]:
    """Ends of the LINEAR function, PS3.3 C.11.2.1.2.1."""
    return center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2


def _sigmoid(argument: Floats) -> Floats:
    """PS3.3 C.11.2.1.3.1, without overflow."""
    return 0.5 * (1.0 + np.tanh(argument / 2))


def _read_window(header: Header) -> tuple[str, float, float] | None:
    """(function, center, width) of the first usable window."""
    function = header.text("VOILUTFunction").upper() or "LINEAR"
    centers, widths = header.decimals("WindowCenter"), header.decimals("WindowWidth")
    minimum = 0.0 if function in ("SIGMOID", "LINEAR_EXACT") else 1.0
    for center, width in zip(centers, widths, strict=False):
        if abs(center) < 1e9 and minimum < width < 1e9:
            return function, center, width
    if centers or widths:
        header.flags.add("window_invalid")
    return None


def _from_range(modality: _Rescale | _Lookup, found: Range, ends: tuple[int, int]) -> Line | Table:
    outputs = modality(np.arange(ends[0], ends[1] + 1, dtype=np.float64) + found.offset)
    low, high = float(outputs.min()), float(outputs.max())
    return _between(modality, found, low, high) if low < high else Line(found.low, found.high)


def _between(modality: _Rescale | _Lookup, found: Range, low: float, high: float) -> Line | Table:
    """Brightness 0 at output `low`, 1 at output `high`, straight between."""
    if isinstance(modality, _Rescale):
        return Line(modality.unsigned(low, found.offset), modality.unsigned(high, found.offset))
    return _table(lambda stored: (modality(stored) - low) / (high - low), found)


def _table(brightness: Mapping, found: Range) -> Table:
    stored = np.arange(found.high + 1, dtype=np.float64) + found.offset
    return Table(np.rint(np.clip(brightness(stored), 0.0, 1.0) * FULL).astype(np.uint16))


def _contrast(brightness: Line | Table, found: Range) -> float:
    if isinstance(brightness, Table):
        return float(np.ptp(brightness.entries[found.low :])) / FULL
    darkest, brightest = brightness(np.array([found.low, found.high], dtype=np.float64))
    return float(abs(brightest - darkest))


def _invert(brightness: Line | Table) -> Line | Table:
    if isinstance(brightness, Line):
        return Line(brightness.stop, brightness.start)
    return Table(np.uint16(FULL) - brightness.entries)


def _read_lookup(item: Header, inputs: Floats) -> _Lookup | None:
    """The LUT of a sequence item for inputs within the ends of `inputs`; None if descriptor and data do not agree."""
    descriptor, entries = item.words("LUTDescriptor"), np.array(item.words("LUTData"), dtype=np.uint16)
    if len(descriptor) != 3 or not entries.size:
        return None
    count = descriptor[0] or 65536
    if entries.size < count <= 2 * entries.size and descriptor[2] <= 8:
        entries = entries.view(np.uint8).astype(np.uint16)  # entries of 8 bits, two in a word
    if entries.size < count:
        return None
    # Sixteen bits that are negative or unsigned: a table of use begins below the largest input.
    is_negative = descriptor[1] > 32767 and (inputs.min() < 0 or descriptor[1] > inputs.max())
    first = descriptor[1] - 65536 if is_negative else descriptor[1]
    return _Lookup(first, entries[:count].astype(np.float64))


def _first(header: Header, keyword: str, default: float) -> float:
    return next(iter(header.decimals(keyword)), default)

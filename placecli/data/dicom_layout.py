"""How the header lays out the pixels, checked before a byte of them is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from placecli.config import PreprocessConfig
from placecli.data.dicom_codes import refuse
from placecli.data.dicom_header import Header

MIN_SIDE: Final = 16
SMALL_SIDE: Final = 128
MAX_ASPECT: Final = 4.0

GRAYSCALE: Final = ("MONOCHROME1", "MONOCHROME2")
COLOUR: Final = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")


@dataclass(frozen=True, slots=True)
class Layout:
    """Stored frame: geometry and sample format. `photometric` "" where the file does not tell a usable one.

    `row_to_column` is the height of a pixel over its width.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    is_planar: bool
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    row_to_column: float

    @property
    def bytes_per_frame(self) -> int:
        # Uncompressed 4:2:2 stores two luminance samples for each pair of chrominance samples.
        samples = 2 if self.photometric in ("YBR_FULL_422", "YBR_PARTIAL_422") else self.samples
        return self.rows * self.columns * samples * self.bits_allocated // 8


def read_layout(header: Header, rules: PreprocessConfig) -> Layout:
    """The layout, or InputRefused: size, number of frames, colour and bit depth are judged here, from the header alone."""
    rows, columns = header.integer("Rows") or 0, header.integer("Columns") or 0
    check_size(columns, rows, rules)
    frames = max(1, header.number("NumberOfFrames") or 1)
    if frames > 1 and rules.multi_frame == "reject":
        raise refuse("multi_frame")
    if frames > 1:
        header.flags.add("frames_dropped")
    samples = header.integer("SamplesPerPixel") or 1
    photometric = _photometric(header, samples)
    if samples > 1 and rules.colour == "reject":
        raise refuse("colour")
    if samples > 1:
        header.flags.add("colour_reduced")
    allocated, stored, high_bit = _bits(header)
    if min(rows, columns) < SMALL_SIDE:
        header.flags.add("image_small")
    return Layout(
        rows=rows,
        columns=columns,
        frames=frames,
        samples=samples,
        photometric=photometric,
        is_planar=(header.integer("PlanarConfiguration") or 0) == 1,
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=high_bit,
        is_signed=header.integer("PixelRepresentation") == 1,
        row_to_column=_row_to_column(header),
    )


def check_size(width: int, height: int, rules: PreprocessConfig) -> None:
    """Raises InputRefused for a picture without size, too small to show anything, or larger than the preset allows."""
    if width <= 0 or height <= 0:
        raise refuse("size_missing")
    if width * height > rules.max_megapixels * 1e6:
        raise refuse("image_too_large", f"{width} x {height} pixels are above preprocess.max_megapixels")
    if min(width, height) < MIN_SIDE:
        raise refuse("image_too_small", f"{width} x {height} pixels: a side is shorter than {MIN_SIDE}")


def _photometric(header: Header, samples: int) -> str:
    photometric = header.text("PhotometricInterpretation").upper().replace(" ", "")
    if samples == 3 and photometric in COLOUR:
        return photometric
    if samples != 1 or photometric in COLOUR or photometric.startswith("PALETTE"):
        raise refuse("photometric_unsupported")
    if photometric in GRAYSCALE:
        return photometric
    header.flags.add("photometric_missing")
    return ""


def _bits(header: Header) -> tuple[int, int, int]:
    allocated = header.integer("BitsAllocated") or 0
    if allocated not in (8, 16):
        raise refuse("bit_depth_unsupported", f"Bits Allocated is {allocated}, 8 and 16 are read")
    stored = header.integer("BitsStored") or 0
    if not stored:
        header.flags.add("bits_stored_missing")
        return allocated, allocated, allocated - 1
    high_bit = header.integer("HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    if stored > allocated or high_bit >= allocated:
        raise refuse("bit_depth_unsupported")
    if high_bit < stored - 1:
        header.flags.add("high_bit_invalid")
        high_bit = stored - 1
    return allocated, stored, high_bit


def _row_to_column(header: Header) -> float:
    """Height of a pixel over its width, 1.0 where it is not given or absurd."""
    for keyword in ("PixelAspectRatio", "ImagerPixelSpacing", "PixelSpacing"):
        values = header.decimals(keyword)
        if len(values) != 2 or not values[0] > 0 or not values[1] > 0:
            continue
        ratio = values[0] / values[1]
        if not 1 / MAX_ASPECT <= ratio <= MAX_ASPECT:
            header.flags.add("aspect_invalid")
            continue
        if abs(ratio - 1) > 0.005:  # less than half a pixel in a store of 200
            header.flags.add("pixels_not_square")
            return ratio
        return 1.0
    return 1.0

"""Made-up radiographs as DICOM files in every transfer syntax that can be encoded here, for the tests of the reader."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1 = "1.2.840.10008.1.2.4.70"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K = "1.2.840.10008.1.2.4.203"

RAW = (IMPLICIT, EXPLICIT, DEFLATED, BIG_ENDIAN)
LOSSLESS = (
    *RAW,
    RLE,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS,
    JPEG_2000_LOSSLESS,
    HTJ2K_LOSSLESS,
)
LOSSY = (JPEG_BASELINE, JPEG_EXTENDED, JPEG_LS_NEAR, JPEG_2000, HTJ2K)

COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"


def draw_picture(rows: int = 40, columns: int = 32, bits: int = 12) -> NDArray[np.uint16]:
    """A slanted gradient over nearly all of the range with a bright box on it and a dark one; uint16 [rows, columns]."""
    down, across = np.mgrid[:rows, :columns].astype(np.float64)
    values = 0.05 + 0.8 * (2 * down / rows + across / columns) / 3
    values[rows // 4 : rows // 2, columns // 4 : columns // 2] = 0.97
    values[rows // 2 : 3 * rows // 4, columns // 2 : 3 * columns // 4] = 0.02
    return np.rint(values * ((1 << bits) - 1)).astype(np.uint16)


def make_dicom(
    stored: NDArray[Any],
    syntax: str = EXPLICIT,
    bits: int = 12,
    values: Mapping[str, Any] | None = None,
    pixel_data: bytes | None = None,
    overlay: NDArray[np.uint8] | None = None,
) -> bytes:
    """The bytes of a file that holds `stored`: [h, w], or [h, w, 3] for colour; integers of 8 or 16 bits.

    `values` sets header elements by keyword, None removes one. `pixel_data` replaces the encoded pixels. `overlay`,
    0 and 1, becomes overlay plane 6000.
    """
    allocated = 8 if bits <= 8 else 16
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = COMPUTED_RADIOGRAPHY, "2.25.7"
    meta.TransferSyntaxUID = syntax
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID, data.StudyInstanceUID = COMPUTED_RADIOGRAPHY, "2.25.7", "2.25.8"
    data.PatientID, data.Modality, data.BodyPartExamined, data.ViewPosition = "patient", "CR", "CHEST", "PA"
    data.Rows, data.Columns = stored.shape[:2]
    data.SamplesPerPixel = 1 if stored.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if stored.ndim == 2 else "RGB"
    if stored.ndim == 3:
        data.PlanarConfiguration = 0
    data.BitsAllocated, data.BitsStored, data.HighBit = allocated, bits, bits - 1
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.PixelData = pixel_data if pixel_data is not None else encode(stored, syntax, bits)
    data["PixelData"].VR = "OW" if syntax in RAW and (allocated == 16 or syntax == IMPLICIT) else "OB"
    data["PixelData"].is_undefined_length = syntax not in RAW
    if overlay is not None:
        data.add_new(0x60000010, "US", overlay.shape[0])
        data.add_new(0x60000011, "US", overlay.shape[1])
        data.add_new(0x60000040, "CS", "G")
        data.add_new(0x60000050, "SS", [1, 1])
        data.add_new(0x60000100, "US", 1)
        data.add_new(0x60000102, "US", 0)
        data.add_new(0x60003000, "OW", np.packbits(overlay.ravel(), bitorder="little").tobytes())
    for keyword, value in (values or {}).items():
        if value is None:
            delattr(data, keyword)
        else:
            setattr(data, keyword, value)
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def write(path: Path, stored: NDArray[Any], syntax: str = EXPLICIT, bits: int = 12, **values: Any) -> Path:
    """`make_dicom` into a file; its path comes back."""
    path.write_bytes(make_dicom(stored, syntax, bits, values))
    return path


def encode(stored: NDArray[Any], syntax: str, bits: int) -> bytes:
    """Pixel Data: raw bytes, or one encapsulated frame."""
    if syntax in RAW:
        plain = stored.astype(np.uint8 if bits <= 8 else f"{'>' if syntax == BIG_ENDIAN else '<'}u2")
        return plain.tobytes() + b"\0" * (plain.nbytes % 2)
    return encapsulate([compress(stored, syntax, bits)])


def compress(stored: NDArray[Any], syntax: str, bits: int) -> bytes:
    """One compressed picture; signed values as two's complement of `bits` bits, as DICOM asks for."""
    samples = stored.view(f"u{stored.dtype.itemsize}") & ((1 << bits) - 1)
    samples = samples.astype(np.uint8 if bits <= 8 else np.uint16)
    match syntax:
        case "1.2.840.10008.1.2.5":
            return run_length(samples)
        case "1.2.840.10008.1.2.4.50":
            return bytes(imagecodecs.jpeg8_encode(samples, level=95))
        case "1.2.840.10008.1.2.4.51":
            return bytes(imagecodecs.jpeg8_encode(samples, level=98, bitspersample=bits))
        case "1.2.840.10008.1.2.4.57" | "1.2.840.10008.1.2.4.70":
            return bytes(imagecodecs.ljpeg_encode(samples, bitspersample=bits))
        case "1.2.840.10008.1.2.4.80":
            return bytes(imagecodecs.jpegls_encode(samples))
        case "1.2.840.10008.1.2.4.81":
            return bytes(imagecodecs.jpegls_encode(samples, level=2))
        case "1.2.840.10008.1.2.4.90":
            return bytes(
                imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k", bitspersample=bits)
            )
        case "1.2.840.10008.1.2.4.91":
            return bytes(
                imagecodecs.jpeg2k_encode(samples, level=60, reversible=False, codecformat="j2k", bitspersample=bits)
            )
        case "1.2.840.10008.1.2.4.201":
            return bytes(imagecodecs.htj2k_encode(samples, reversible=True))
        case "1.2.840.10008.1.2.4.203":
            return bytes(imagecodecs.htj2k_encode(samples, level=0.0005, reversible=False))
    raise ValueError(syntax)


def run_length(samples: NDArray[Any]) -> bytes:
    """PS3.5 annex G: 16 little-endian words, then one PackBits segment a byte plane, high bytes first, colours apart."""
    colours = [samples] if samples.ndim == 2 else [samples[..., index] for index in range(3)]
    planes = [
        (colour >> shift & 0xFF).astype(np.uint8)
        for colour in colours
        for shift in range(8 * samples.itemsize - 8, -1, -8)
    ]
    segments = [b"".join(bytes(imagecodecs.packbits_encode(row.tobytes())) for row in plane) for plane in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    starts = 64 + np.cumsum([0, *(len(segment) for segment in segments[:-1])])
    return np.array([len(segments), *starts, *[0] * (15 - len(starts))], "<u4").tobytes() + b"".join(segments)


def lookup_item(first: int, entries: NDArray[np.uint16], bits: int, vr: str = "US") -> Sequence:
    """A Modality or VOI LUT Sequence of one item."""
    item = Dataset()
    item.add_new(0x00283002, vr, [len(entries) & 0xFFFF, first, bits])
    item.ModalityLUTType = "US"
    item.add_new(0x00283006, "OW", entries.astype("<u2").tobytes())
    return Sequence([item])

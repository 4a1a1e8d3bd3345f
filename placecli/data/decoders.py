"""One compressed picture -> its samples, by the decoder that its first bytes ask for.

Pillow: JPEG baseline and extended with 8 bits, JPEG 2000 (the only decoder at hand that can stop at a lower
resolution). imagecodecs: JPEG with 12 bits, JPEG lossless, JPEG-LS, HTJ2K and DICOM's run lengths. These raise on
damaged streams; time, memory and a crash are for the expendable worker around them.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from placecli.data import codestream
from placecli.data.codestream import StreamInfo
from placecli.data.dicom_codes import refuse

DECODER_ERRORS: Final = (
    ValueError,
    TypeError,
    RuntimeError,  # the base of imagecodecs' errors
    OSError,  # Pillow's, for a stream that ends early
    SyntaxError,  # Pillow's, for a broken file
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
MAX_COMPRESSION: Final = 2000
"""Bytes of pixels over bytes of stream; real radiographs stay below 150."""
PLAUSIBLE_ANYWAY: Final = 16 << 20
"""Pictures of fewer bytes are decoded however well they are compressed."""

END_MARK: Final = b"\xff\xd9"
"""Of JPEG (EOI) and JPEG 2000 (EOC); no coded data holds it. Without it some decoders fill up with grey, and that of
JPEG-LS may search for seconds."""


@contextmanager
def refusing_damage() -> Iterator[None]:
    """Turns what decoders raise into InputRefused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the size was checked against the preset's own limit
        try:
            yield
        except MemoryError:
            raise refuse("decoder_memory") from None
        except DECODER_ERRORS:
            raise refuse("pixels_corrupt") from None


def check_compression(num_stream_bytes: int, num_pixel_bytes: int) -> None:
    """Raises InputRefused for a small stream that claims a huge picture, before memory is taken for it."""
    if num_pixel_bytes > max(PLAUSIBLE_ANYWAY, MAX_COMPRESSION * num_stream_bytes):
        raise refuse("compression_implausible")


def decode_stream(stream: bytes, info: StreamInfo, is_rgb: bool, halvings: int) -> NDArray[Any]:
    """Samples [h, w] or [h, w, 3], uint8 or uint16, `info.precision` bits, signed ones raised by half their range.

    JPEG 2000 comes at `1 / 2**halvings` of its size, rounded up; all else needs 0 halvings. Eight-bit JPEG and JPEG
    2000 in colour come as luminance, unless `is_rgb` says that the three components of a JPEG are red, green and
    blue. Raises InputRefused.
    """
    check_compression(len(stream), info.width * info.height * info.components * (2 if info.precision > 8 else 1))
    if info.kind in ("jpeg", "jpeg12", "jpeg-lossless") and codestream.has_zero_run(stream):
        raise refuse("pixels_corrupt", "the compressed image data has a hole of zero bytes")
    if info.kind in ("jpeg12", "jpeg-ls", "htj2k") and stream.rfind(END_MARK, len(stream) // 2) < 0:
        raise refuse("pixels_corrupt", "the compressed image data ends before its end mark")
    with refusing_damage():
        match info.kind:
            case "jpeg":
                values = _decode_jpeg(stream, is_rgb)
            case "jpeg12":
                values = imagecodecs.jpeg8_decode(stream)
            case "jpeg-lossless":
                values = imagecodecs.ljpeg_decode(stream)
            case "jpeg-ls":
                values = imagecodecs.jpegls_decode(stream)
            case "jpeg-2000":
                values = _decode_jpeg_2000(stream, info, halvings)
            case "htj2k":
                values = _raise_signed(imagecodecs.htj2k_decode(stream), info)
    factor = 1 << halvings
    if values.shape[:2] != (-(-info.height // factor), -(-info.width // factor)) or values.dtype.kind != "u":
        raise refuse("size_mismatch")
    return values


def decode_run_lengths(stream: bytes, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """DICOM RLE -> [samples, h, w]; the colours are apart, whatever Planar Configuration says. Raises InputRefused."""
    count = shape[0] * shape[1] * shape[2]
    check_compression(len(stream), count * dtype.itemsize)
    with refusing_damage():
        values = np.frombuffer(imagecodecs.dicomrle_decode(stream, dtype), dtype)
    if values.size < count:
        raise refuse("pixels_corrupt", "the run-length data ends before the image does")
    return values[:count].reshape(shape)


def _decode_jpeg(stream: bytes, is_rgb: bool) -> NDArray[Any]:
    with Image.open(io.BytesIO(stream), formats=("JPEG",)) as image:
        # Without an Adobe or JFIF marker Pillow takes three components for YCbCr; the header may know better.
        if is_rgb and not {"adobe_transform", "jfif"} & image.info.keys():
            image.draft("YCbCr", image.size)
            return np.asarray(image)
        return np.asarray(image if image.mode == "L" else image.convert("L"))


def _decode_jpeg_2000(stream: bytes, info: StreamInfo, halvings: int) -> NDArray[Any]:
    with Image.open(io.BytesIO(stream), formats=("JPEG2000",)) as image:
        if halvings:
            _set_halvings(image, info, halvings)
        if info.components > 1:
            return np.asarray(image.convert("L"))
        values = np.asarray(image)
    # Pillow moves samples up to the top of their container.
    return values >> (values.dtype.itemsize * 8 - info.precision)


def _set_halvings(image: ImageFile.ImageFile, info: StreamInfo, halvings: int) -> None:
    # Pillow's own `reduce` rounds half down where JPEG 2000 rounds up, and then calls the stream broken.
    size = -(-info.width >> halvings), -(-info.height >> halvings)
    tile = image.tile[0]
    codec, _, layers, descriptor, length = tile.args  # type: ignore[misc,str-unpack]
    image.tile = [tile._replace(extents=(0, 0, *size), args=(codec, halvings, layers, descriptor, length))]
    image._size = size


def _raise_signed(values: NDArray[Any], info: StreamInfo) -> NDArray[Any]:
    if values.dtype.kind != "i":
        return values
    half = 1 << (info.precision - 1)
    return (values.astype(np.int32) + half).astype(np.uint16 if info.precision > 8 else np.uint8)

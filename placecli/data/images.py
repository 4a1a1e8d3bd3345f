"""Image files of any format that data sets come in -> 8-bit grayscale, and the geometry of the store's square frame."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from placecli.config import PreprocessConfig
from placecli.data import codestream, dicom
from placecli.data.decoders import refusing_damage
from placecli.data.dicom_codes import refuse
from placecli.data.dicom_file import SNIFFED_BYTES, is_dicom_start
from placecli.data.dicom_layout import SMALL_SIDE, check_size
from placecli.data.intensity import PERCENTILES, Line
from placecli.data.radiograph import Radiograph
from placecli.data.resampling import fit_size, reduce_area, to_uint8
from placecli.records import Box

__all__ = ["Radiograph", "fit_square", "read_image", "read_inside", "read_mask", "scale_boxes"]

DICOM_SUFFIXES: Final = (".dcm", ".dicom", ".dic")
_MAGIC: Final[dict[bytes, Literal["PNG", "JPEG"]]] = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}


def read_image(path: Path, size: int, rules: PreprocessConfig) -> Radiograph:
    """The radiograph in a DICOM, PNG or JPEG file, longest side `size`; the content decides, not the name.

    PNG and JPEG are taken as bright = dense. Eight-bit values are kept as they are; deeper ones are stretched from
    their minimum to their maximum. A file named .dcm that is not DICOM is refused. Raises InputRefused.
    """
    start = _read_start(path)
    if is_dicom_start(start):
        return dicom.read_dicom(path, size, rules)
    if not start:
        raise refuse("empty_file")
    picture = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    if path.suffix.lower() in DICOM_SUFFIXES:
        found = f"a {picture} picture" if picture else "nothing that is known"
        raise refuse("not_dicom", f"the file is named as DICOM and holds {found}")
    if picture is None:
        raise refuse("unknown_format")
    flags: set[str] = set()
    values = _decode_picture(path, picture, rules, flags)
    height, width = values.shape
    if min(width, height) < SMALL_SIDE:
        flags.add("image_small")
    brightness = _brightness(values, rules.intensity)
    reduced = reduce_area(values, *fit_size(width, height, 1.0, size))
    return Radiograph(to_uint8(reduced, brightness.start, brightness.stop), (width, height), {}, tuple(sorted(flags)))


def fit_square(pixels: NDArray[np.uint8], size: int) -> tuple[NDArray[np.uint8], tuple[int, int, int, int]]:
    """uint8 [h, w] -> (uint8 [size, size] with black around, content (x0, y0, x1, y1)): centred, longest side `size`."""
    height, width = pixels.shape
    if max(height, width) != size:
        width, height = fit_size(width, height, 1.0, size)
        pixels = np.rint(reduce_area(pixels, width, height)).astype(np.uint8)
    left, top = (size - width) // 2, (size - height) // 2
    square = np.zeros((size, size), np.uint8)
    square[top : top + height, left : left + width] = pixels
    return square, (left, top, left + width, top + height)


def scale_boxes(
    boxes: Sequence[Box], original_size: tuple[int, int], content: tuple[int, int, int, int]
) -> tuple[Box, ...]:
    """Boxes in pixels of the file -> boxes in pixels of the store's square frame.

    `original_size` is `Radiograph.original_size`; `content` comes from `fit_square`.
    """
    left, top, right, bottom = content
    across, down = (right - left) / original_size[0], (bottom - top) / original_size[1]
    return tuple(
        Box(box.label, left + box.x * across, top + box.y * down, box.width * across, box.height * down)
        for box in boxes
    )


def read_mask(path: Path, size: int) -> NDArray[np.uint8]:
    """uint8 [size, size], 255 inside and 0 outside, in the frame that `fit_square` gives the mask's image.

    A pixel of the result is inside when half of it is; a mask too thin for that keeps every pixel it touches. Raises
    InputRefused.
    """
    inside = read_inside(path)
    height, width = inside.shape
    covered = reduce_area(inside, *fit_size(width, height, 1.0, size))
    threshold = 127.5 if covered.max() >= 127.5 else 0.0
    square, _ = fit_square(((covered > threshold) * 255).astype(np.uint8), size)
    return square


def read_inside(path: Path) -> NDArray[np.uint8]:
    """uint8 [h, w] of a mask's file, 255 inside and 0 outside. Raises InputRefused.

    A PNG mask is inside where it is not 0, a JPEG one above 127 (compression blurs its zeros).
    """
    start = _read_start(path)
    picture = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    if picture is None:
        raise refuse("unknown_format", "the mask is not PNG or JPEG")
    values = _decode_picture(path, picture, PreprocessConfig(), set())
    return ((values > (127 if picture == "JPEG" else 0)) * 255).astype(np.uint8)


def _read_start(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(SNIFFED_BYTES)
    except FileNotFoundError:
        raise refuse("file_missing") from None
    except OSError:
        raise refuse("file_unreadable") from None


def _decode_picture(
    path: Path, picture: Literal["PNG", "JPEG"], rules: PreprocessConfig, flags: set[str]
) -> NDArray[Any]:
    """uint8 or uint16 [h, w]. Size, frames and colour are judged before the pixels are decoded."""
    if picture == "JPEG" and codestream.has_zero_run(path.read_bytes()):
        raise refuse("pixels_corrupt", "the compressed image data has a hole of zero bytes")
    try:
        with refusing_damage(), Image.open(path, formats=(picture,)) as image:
            check_size(*image.size, rules)
            if getattr(image, "n_frames", 1) > 1 and rules.multi_frame == "reject":
                raise refuse("multi_frame")
            if image.mode not in ("1", "L", "LA", "I", "I;16", "I;16B"):
                if rules.colour == "reject":
                    raise refuse("colour")
                flags.add("colour_reduced")
            if image.getexif().get(0x0112, 1) != 1:
                flags.add("exif_rotated")
                return _to_gray(ImageOps.exif_transpose(image))
            return _to_gray(image)
    except zlib.error:
        raise refuse("pixels_corrupt") from None


def _to_gray(image: Image.Image) -> NDArray[Any]:
    if image.mode.startswith("I"):
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
    return np.asarray(image if image.mode == "L" else image.convert("L"))


def _brightness(values: NDArray[Any], mode: Literal["header", "minmax", "percentile"]) -> Line:
    if mode == "header" and values.dtype == np.uint8:
        return Line(0, 255)
    low, high = float(values.min()), float(values.max())
    if mode == "percentile":
        inner = np.percentile(values[::4, ::4], PERCENTILES)
        low, high = (float(inner[0]), float(inner[1])) if inner[0] < inner[1] else (low, high)
    if low == high:
        raise refuse("pixels_constant")
    return Line(low, high)

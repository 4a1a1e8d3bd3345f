"""The stable words of image input: why a file was refused, and what was repaired or doubted in one that was read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from placecli.records import InputRefused

REASONS: Final[Mapping[str, str]] = {
    "bit_depth_unsupported": "Bits Allocated, Bits Stored and High Bit do not describe whole 8-bit or 16-bit samples",
    "colour": "the image has colour and the preset refuses colour",
    "compression_implausible": "the compressed data is too short for a picture of the declared size",
    "decoder_memory": "the decoder needs more memory than a worker may take",
    "empty_file": "the file has zero bytes",
    "file_missing": "there is no file at this place",
    "file_unreadable": "the file system gives an error when the file is read, or it is not a regular file",
    "header_invalid": "the DICOM header cannot be parsed",
    "header_truncated": "the file ends inside the DICOM header",
    "image_too_large": "rows times columns is above preprocess.max_megapixels",
    "image_too_small": "a side of the image is shorter than 16 pixels",
    "multi_frame": "the file holds several frames and the preset refuses them",
    "no_pixel_data": "the DICOM file has no Pixel Data element",
    "not_chest": "the header says that this is not a chest radiograph of a person",
    "not_dicom": "the file is not DICOM although it is named so",
    "photometric_unsupported": "Photometric Interpretation is neither grayscale, RGB nor YBR",
    "pixels_constant": "all pixels have one value",
    "pixels_corrupt": "the compressed image data is damaged",
    "pixels_truncated": "the file ends inside the image data",
    "pixels_wrong_length": "Rows and Columns need more bytes than Pixel Data declares",
    "size_missing": "Rows or Columns is absent or zero",
    "size_mismatch": "the compressed picture has another size than Rows and Columns say",
    "transfer_syntax_unsupported": "no decoder for the compression of this file",
    "unknown_format": "the content is not DICOM, PNG or JPEG",
}
"""Every code with which reading an image can be refused, and what it means."""

FLAGS: Final[Mapping[str, str]] = {
    "aspect_invalid": "pixel spacing or aspect ratio beyond 4 to 1: ignored, pixels taken as square",
    "bits_stored_missing": "Bits Stored absent: Bits Allocated used",
    "burned_in_annotation": "the header says that text is burned into the pixels",
    "colour_reduced": "colour reduced to luminance",
    "decimal_repaired": "a decimal string was not valid and its leading number was used",
    "exif_rotated": "turned upright as its EXIF orientation says",
    "for_processing": "raw detector data (Presentation Intent Type FOR PROCESSING), not prepared for display",
    "frames_dropped": "only the first of several frames was read",
    "high_bit_invalid": "High Bit is below the highest of Bits Stored: ignored",
    "image_small": "the shorter side of the image is below 128 pixels",
    "lut_invalid": "a lookup table of the file is not usable: ignored",
    "modality_missing": "Modality absent: taken as a radiograph",
    "not_chest": "the header says that this is not a chest radiograph of a person, and the preset keeps it",
    "orientation_unusual": "Patient Orientation says mirrored or upside down: pixels left as stored",
    "padding_blackened": "pixels of Pixel Padding Value at the frame's edge were set to black",
    "photometric_missing": "Photometric Interpretation absent or unknown: polarity decided from the picture",
    "pixels_excess": "Pixel Data is longer than the image: the rest was ignored",
    "pixels_not_square": "pixels were not square: stretched so that they are",
    "preamble_missing": "no DICM preamble: read as a bare data set",
    "presentation_lut_ignored": "a Presentation LUT Sequence was ignored",
    "rescale_invalid": "Rescale Slope is zero or not a number: rescale ignored",
    "transfer_syntax_wrong": "the file is encoded otherwise than its Transfer Syntax says: read as it is",
    "unused_bits_set": "bits above Bits Stored were set and were cleared",
    "window_invalid": "the window is not usable (width below its minimum, or not a number): ignored",
    "window_useless": "the window or table leaves nearly no contrast in this image: ignored",
}
"""Every word that a radiograph can carry, and what it means."""


def refuse(code: str, sentence: str = "") -> InputRefused:
    """The error for `code`; `sentence` replaces its general meaning. KeyError for a code that is not in REASONS."""
    return InputRefused(code, sentence or REASONS[code])

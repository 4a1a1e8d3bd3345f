"""DICOM files that the test writes itself: each encoding and each transform against the formula of the standard."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
import small_dicom
from dicom_reading import assert_shows, read
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from small_dicom import EXPLICIT, draw_picture, lookup_item, make_dicom

from placecli.config import PreprocessConfig
from placecli.data.dicom_file import parse_dicom
from placecli.data.dicom_layout import read_layout
from placecli.data.dicom_pixels import read_frame

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")  # pydicom's, when it writes them

PICTURE = draw_picture()


def stored_values(content: bytes) -> NDArray[np.int64]:
    file = parse_dicom(content)
    frame = read_frame(file, read_layout(file.header, PreprocessConfig()), 0)
    return frame.values.astype(np.int64) + frame.offset


def show(stored: NDArray[Any], brightness: Callable[[float], float]) -> NDArray[np.float64]:
    """Grey levels 0 to 255, value by value in plain Python."""
    table = {value: 255.0 * min(1.0, max(0.0, brightness(value))) for value in np.unique(stored).tolist()}
    return np.vectorize(table.__getitem__, otypes=[float])(stored)


def between(low: float, high: float) -> Callable[[float], float]:
    return lambda value: (value - low) / (high - low)


def whole_range(stored: NDArray[Any]) -> Callable[[float], float]:
    return between(float(stored.min()), float(stored.max()))


def linear(center: float, width: float) -> Callable[[float], float]:
    """PS3.3 C.11.2.1.2.1, y from 0 to 1."""

    def window(x: float) -> float:
        if x <= center - 0.5 - (width - 1) / 2:
            return 0.0
        if x > center - 0.5 + (width - 1) / 2:
            return 1.0
        return (x - (center - 0.5)) / (width - 1) + 0.5

    return window


def linear_exact(center: float, width: float) -> Callable[[float], float]:
    """PS3.3 C.11.2.1.3.2."""

    def window(x: float) -> float:
        if x <= center - width / 2:
            return 0.0
        return 1.0 if x > center + width / 2 else (x - center) / width + 0.5

    return window


def sigmoid(center: float, width: float) -> Callable[[float], float]:
    """PS3.3 C.11.2.1.3.1."""
    return lambda x: 1 / (1 + math.exp(-4 * (x - center) / width))


# Transfer syntaxes


@pytest.mark.parametrize("is_signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("bits", [8, 10, 12, 15, 16])
@pytest.mark.parametrize("syntax", small_dicom.LOSSLESS)
def test_lossless_syntaxes_keep_every_value(syntax: str, bits: int, is_signed: bool) -> None:
    picture = draw_picture(bits=bits)
    stored = picture.astype(np.uint8 if bits == 8 else np.uint16)
    if is_signed:
        stored = (picture.astype(np.int32) - (1 << (bits - 1))).astype(np.int8 if bits == 8 else np.int16)
    content = make_dicom(stored, syntax, bits)
    np.testing.assert_array_equal(stored_values(content), stored)
    radiograph = read(content)
    assert_shows(radiograph, show(stored, whole_range(stored)))
    assert radiograph.flags == ("image_small",)
    assert radiograph.header["transfer_syntax"] == syntax


@pytest.mark.parametrize("syntax", small_dicom.LOSSY)
def test_lossy_syntaxes_come_close(syntax: str) -> None:
    bits = 8 if syntax == small_dicom.JPEG_BASELINE else 12
    stored = draw_picture(bits=bits).astype(np.uint8 if bits == 8 else np.uint16)
    radiograph = read(make_dicom(stored, syntax, bits))
    assert np.abs(radiograph.pixels - show(stored, whole_range(stored))).mean() < 1.0
    assert radiograph.flags == ("image_small",)


@pytest.mark.parametrize("syntax", [small_dicom.JPEG_2000_LOSSLESS, small_dicom.HTJ2K_LOSSLESS])
def test_a_lower_resolution_is_the_same_picture(syntax: str) -> None:
    """Sharp edges overshoot at a lower resolution; no value may wrap around."""
    stored, values = draw_picture(333, 257, 16), {"WindowCenter": "32768", "WindowWidth": "65536"}
    plain, halved = (read(make_dicom(stored, each, 16, values), 64).pixels.astype(int) for each in (EXPLICIT, syntax))
    assert plain.shape == halved.shape == (64, 49)
    assert np.abs(plain - halved).mean() < 2.0
    assert np.abs(plain - halved).max() < 60


def test_a_signed_code_stream_is_read_as_such() -> None:
    stored = (PICTURE.astype(np.int32) - 2048).astype(np.int16)
    stream = bytes(imagecodecs.jpeg2k_encode(stored, level=0, reversible=True, codecformat="j2k", bitspersample=12))
    content = make_dicom(stored, small_dicom.JPEG_2000_LOSSLESS, pixel_data=encapsulate([stream]))
    np.testing.assert_array_equal(stored_values(content), stored)


def test_fragments_of_one_frame_are_joined() -> None:
    stream = small_dicom.compress(PICTURE, small_dicom.JPEG_LS, 12)
    data = encapsulate([stream], fragments_per_frame=5)
    np.testing.assert_array_equal(
        stored_values(make_dicom(PICTURE, small_dicom.JPEG_LS, pixel_data=data)),
        PICTURE,
    )


@pytest.mark.parametrize(
    ("declared", "actual"),
    [
        (small_dicom.IMPLICIT, small_dicom.EXPLICIT),
        (small_dicom.EXPLICIT, small_dicom.IMPLICIT),
        (small_dicom.JPEG_LOSSLESS, small_dicom.EXPLICIT),
        (small_dicom.JPEG_2000, small_dicom.JPEG_LS),
        (small_dicom.EXPLICIT, small_dicom.JPEG_LOSSLESS),
        (small_dicom.EXPLICIT, small_dicom.BIG_ENDIAN),
        (small_dicom.JPEG_LS, small_dicom.BIG_ENDIAN),
        (small_dicom.BIG_ENDIAN, small_dicom.EXPLICIT),
        (small_dicom.BIG_ENDIAN, small_dicom.IMPLICIT),
        (small_dicom.DEFLATED, small_dicom.EXPLICIT),
        (small_dicom.IMPLICIT, small_dicom.RLE),
        (small_dicom.JPEG_2000, small_dicom.RLE),
        ("1.2.840.10008.1.2.4.92", small_dicom.JPEG_2000),
    ],
)
def test_a_wrong_transfer_syntax_is_seen_through(declared: str, actual: str) -> None:
    # Both UIDs padded to one length, so that no length in the file changes.
    content = make_dicom(PICTURE, actual)
    old, new = actual.encode(), declared.encode()
    length = len(old) + len(old) % 2
    start = content.index(b"\x02\x00\x10\x00UI") + 8
    end = start + length
    value = new + b"\0" * (len(new) % 2)
    grown = len(value) - length
    group = int.from_bytes(content[140:144], "little") + grown
    changed = content[:140] + group.to_bytes(4, "little") + content[144 : start - 2]
    changed += len(value).to_bytes(2, "little") + value + content[end:]
    np.testing.assert_array_equal(stored_values(changed), stored_values(content))
    assert "transfer_syntax_wrong" in read(changed).flags


def test_a_missing_meta_group_or_preamble_costs_nothing() -> None:
    for syntax in (small_dicom.IMPLICIT, EXPLICIT, small_dicom.BIG_ENDIAN):
        content = make_dicom(PICTURE, syntax)
        body = content[144 + int.from_bytes(content[140:144], "little") :]
        for changed, flags in ((body, {"preamble_missing"}), (content[:132] + body, set())):
            np.testing.assert_array_equal(stored_values(changed), PICTURE)
            assert set(read(changed).flags) - {"image_small"} == flags


def test_compressed_pixel_data_of_defined_length_or_without_a_table() -> None:
    content = make_dicom(PICTURE, small_dicom.JPEG_LS)
    start = content.index(b"\xe0\x7f\x10\x00OB") + 8
    length = struct.pack("<I", len(content) - start - 4)
    np.testing.assert_array_equal(stored_values(content[:start] + length + content[start + 4 :]), PICTURE)
    table = content.index(b"\xfe\xff\x00\xe0", start)
    picture = content.index(b"\xfe\xff\x00\xe0", table + 8)
    np.testing.assert_array_equal(stored_values(content[:table] + content[picture:]), PICTURE)


# Modality transform, VOI transform, polarity


@pytest.mark.parametrize(
    ("function", "formula"), [("LINEAR", linear), ("LINEAR_EXACT", linear_exact), ("SIGMOID", sigmoid), (None, linear)]
)
@pytest.mark.parametrize(("center", "width"), [(2000.0, 1500.0), (600.5, 301.0), (3000.0, 9000.0)])
def test_windows(function: str | None, formula: Any, center: float, width: float) -> None:
    values = {"WindowCenter": [center, 5.0], "WindowWidth": [width, 2.0]} | (
        {"VOILUTFunction": function} if function else {}
    )
    assert_shows(read(make_dicom(PICTURE, values=values)), show(PICTURE, formula(center, width)))


@pytest.mark.parametrize(("slope", "intercept"), [("2", "-1024"), ("0.5", "100.25"), ("-1", "4095")])
def test_a_window_is_in_rescaled_units(slope: str, intercept: str) -> None:
    values = {"RescaleSlope": slope, "RescaleIntercept": intercept, "WindowCenter": "1200", "WindowWidth": "1800"}
    expected = show(PICTURE, lambda x: linear(1200, 1800)(float(slope) * x + float(intercept)))
    assert_shows(read(make_dicom(PICTURE, values=values)), expected)


@pytest.mark.parametrize("slope", ["3", "-3"])
def test_without_a_window_the_rescaled_range_is_shown(slope: str) -> None:
    expected = show(PICTURE, whole_range(PICTURE))
    values = {"RescaleSlope": slope, "RescaleIntercept": "7"}
    assert_shows(read(make_dicom(PICTURE, values=values)), expected if slope == "3" else 255 - expected)


def curve(length: int, highest: int) -> NDArray[np.uint16]:
    return np.rint(highest * np.linspace(0, 1, length) ** 2).astype(np.uint16)


@pytest.mark.parametrize("syntax", [small_dicom.IMPLICIT, small_dicom.EXPLICIT, small_dicom.BIG_ENDIAN])
def test_a_modality_table_comes_before_the_window(syntax: str) -> None:
    entries = curve(3000, 4095)
    item = lookup_item(500, entries if syntax != small_dicom.BIG_ENDIAN else entries.byteswap(), 12)
    values = {"ModalityLUTSequence": item, "WindowCenter": "1500", "WindowWidth": "2000", "RescaleSlope": "9"}

    def brightness(x: float) -> float:
        return linear(1500, 2000)(float(entries[min(max(int(x) - 500, 0), 2999)]))

    assert_shows(read(make_dicom(PICTURE, syntax, values=values)), show(PICTURE, brightness))


def test_a_voi_table_goes_before_the_window() -> None:
    entries = curve(2000, 65535)
    values = {"VOILUTSequence": lookup_item(1000, entries, 16), "WindowCenter": "9", "WindowWidth": "9"}
    expected = show(PICTURE, lambda x: entries[min(max(int(x) - 1000, 0), 1999)] / 65535)
    assert_shows(read(make_dicom(PICTURE, values=values)), expected)


@pytest.mark.parametrize("low", [-700, 300])
def test_a_voi_table_may_begin_below_zero(low: int) -> None:
    """Outputs of the modality transform are signed, also where this picture has no negative one."""
    entries = curve(4096, 4095)
    stored = np.maximum(PICTURE, low + 1024).astype(np.uint16)
    values = {"RescaleIntercept": "-1024", "RescaleSlope": "1", "VOILUTSequence": lookup_item(-1024, entries, 12, "SS")}
    assert_shows(read(make_dicom(stored, values=values)), show(stored, lambda x: entries[int(x)] / 4095))


def test_a_voi_table_of_eight_bits_has_two_entries_a_word() -> None:
    entries = curve(4096, 255).astype(np.uint8)
    values = {"VOILUTSequence": lookup_item(0, entries.view("<u2"), 8)}
    values["VOILUTSequence"][0][0x00283002].value = [4096, 0, 8]
    assert_shows(read(make_dicom(PICTURE, values=values)), show(PICTURE, lambda x: entries[int(x)] / 255))


def test_bits_of_a_table_that_its_entries_do_not_use_are_not_believed() -> None:
    values = {"VOILUTSequence": lookup_item(0, curve(4096, 4095), 16)}
    expected = show(PICTURE, lambda x: curve(4096, 4095)[int(x)] / 4095)
    assert_shows(read(make_dicom(PICTURE, values=values)), expected)


def test_a_voi_table_whose_data_is_too_short_gives_way_to_the_window() -> None:
    item = lookup_item(0, curve(100, 255), 16)
    item[0][0x00283002].value = [4000, 0, 16]
    values = {"VOILUTSequence": item, "WindowCenter": "2000", "WindowWidth": "1500"}
    radiograph = read(make_dicom(PICTURE, values=values))
    assert_shows(radiograph, show(PICTURE, linear(2000, 1500)))
    assert "lut_invalid" in radiograph.flags


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"WindowCenter": "2000", "WindowWidth": "0"}, "window_invalid"),
        ({"WindowCenter": "2000", "WindowWidth": "-5"}, "window_invalid"),
        ({"WindowCenter": "2000"}, "window_invalid"),
        ({"WindowCenter": "90000", "WindowWidth": "10"}, "window_useless"),
        ({"WindowCenter": "2000", "WindowWidth": "900000"}, "window_useless"),
        ({"RescaleSlope": "0", "RescaleIntercept": "5"}, "rescale_invalid"),
    ],
)
def test_an_unusable_transform_gives_way_to_the_range_of_the_pixels(values: dict[str, str], flag: str) -> None:
    radiograph = read(make_dicom(PICTURE, values=values))
    assert_shows(radiograph, show(PICTURE, whole_range(PICTURE)))
    assert flag in radiograph.flags


def test_the_first_usable_window_counts() -> None:
    values = {"WindowCenter": ["2000", "1500"], "WindowWidth": ["0", "1000"]}
    assert_shows(read(make_dicom(PICTURE, values=values)), show(PICTURE, linear(1500, 1000)))


def test_intensity_modes_leave_the_window_out() -> None:
    content = make_dicom(PICTURE, values={"WindowCenter": "2000", "WindowWidth": "100"})
    assert_shows(read(content, intensity="minmax"), show(PICTURE, whole_range(PICTURE)))
    low, high = np.percentile(PICTURE[::4, ::4], [0.5, 99.5])
    shown = read(content, intensity="percentile").pixels
    assert np.abs(shown - show(PICTURE, between(low, high))).max() < 3


@pytest.mark.parametrize(
    ("values", "is_inverted"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
        ({"PresentationLUTShape": "IDENTITY"}, False),
        ({"PhotometricInterpretation": "monochrome2"}, False),
    ],
)
@pytest.mark.parametrize("window", [{}, {"WindowCenter": "2000", "WindowWidth": "1500", "VOILUTFunction": "SIGMOID"}])
def test_polarity(values: dict[str, str], is_inverted: bool, window: dict[str, str]) -> None:
    plain = show(PICTURE, sigmoid(2000, 1500) if window else whole_range(PICTURE))
    assert_shows(read(make_dicom(PICTURE, values=values | window)), 255 - plain if is_inverted else plain)

"""DICOM files that the test writes itself: padding, odd bits, pixel shape, overlays, colour, frames, and what is no chest."""

from __future__ import annotations

from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import small_dicom
from dicom_reading import assert_shows, read, refusal
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from small_dicom import EXPLICIT, draw_picture, make_dicom

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR:UserWarning")  # pydicom's, when it writes them

PICTURE = draw_picture()


def stretch(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255


PLAIN = stretch(PICTURE, PICTURE.min(), PICTURE.max())


# Padding


def padded(value: int, dtype: Any = np.uint16, *, low: int = 100) -> NDArray[Any]:
    """The picture, raised above `low`, with 4 rows above and 6 columns on the left of the padding value."""
    frame = np.full((40, 32), value, dtype)
    frame[4:, 6:] = PICTURE[4:, 6:].astype(np.int64) // 2 + low
    return frame


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("value", [0, 4095])
def test_padding_is_black_and_does_not_count(value: int, photometric: str) -> None:
    stored = padded(value)
    content = make_dicom(stored, values={"PixelPaddingValue": value, "PhotometricInterpretation": photometric})
    radiograph = read(content)
    inner = stored[4:, 6:]
    expected = stretch(stored, inner.min(), inner.max())
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    expected[:4] = expected[:, :6] = 0
    assert_shows(radiograph, expected)
    assert "padding_blackened" in radiograph.flags


def test_padding_may_be_a_range() -> None:
    stored = padded(0)
    stored[:2] = 60
    values = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 60}
    expected = stretch(stored, stored[4:, 6:].min(), stored[4:, 6:].max())
    expected[:4] = expected[:, :6] = 0
    assert_shows(read(make_dicom(stored, values=values)), expected)


def test_padding_may_be_negative() -> None:
    stored = padded(-2000, np.int16, low=-1000)
    content = make_dicom(stored, values={"PixelPaddingValue": -2000})
    expected = stretch(stored, stored[4:, 6:].min(), stored[4:, 6:].max())
    expected[:4] = expected[:, :6] = 0
    assert_shows(read(content), expected)


def test_the_padding_value_inside_the_body_is_left_alone() -> None:
    stored = padded(0)
    stored[20:24, 16:20] = 0
    radiograph = read(make_dicom(stored, values={"PixelPaddingValue": 0, "PhotometricInterpretation": "MONOCHROME1"}))
    assert radiograph.pixels[20:24, 16:20].min() == 255
    assert not radiograph.pixels[:4].any()


def test_a_padding_value_that_nothing_has_changes_nothing() -> None:
    radiograph = read(make_dicom(PICTURE, values={"PixelPaddingValue": 4095}))
    assert_shows(radiograph, PLAIN)
    assert "padding_blackened" not in radiograph.flags


# Bits


def test_bits_above_the_stored_ones_are_cleared() -> None:
    noise = np.random.default_rng(0).integers(0, 16, PICTURE.shape, dtype=np.uint16) << 12
    radiograph = read(make_dicom(PICTURE | noise))
    assert_shows(radiograph, PLAIN)
    assert "unused_bits_set" in radiograph.flags


def test_the_high_bit_may_be_the_highest() -> None:
    noise = np.random.default_rng(0).integers(0, 16, PICTURE.shape, dtype=np.uint16)
    assert_shows(read(make_dicom(PICTURE << 4 | noise, values={"HighBit": 15})), PLAIN)


def test_missing_bits_stored_are_all_bits() -> None:
    radiograph = read(make_dicom(PICTURE, values={"BitsStored": None, "HighBit": None}))
    assert_shows(radiograph, PLAIN)
    assert "bits_stored_missing" in radiograph.flags


def test_a_high_bit_below_the_stored_ones_is_ignored() -> None:
    radiograph = read(make_dicom(PICTURE, values={"BitsStored": 16, "HighBit": 11}))
    assert_shows(radiograph, PLAIN)
    assert "high_bit_invalid" in radiograph.flags


@pytest.mark.parametrize(
    "values",
    [{"BitsAllocated": 32}, {"BitsAllocated": 1}, {"BitsStored": 17}, {"HighBit": 16}, {"BitsAllocated": None}],
)
def test_bits_that_make_no_samples_are_refused(values: dict[str, Any]) -> None:
    assert refusal(make_dicom(PICTURE, values=values)).code == "bit_depth_unsupported"


# Shape of pixels


@pytest.mark.parametrize(
    "values",
    [
        {"ImagerPixelSpacing": ["0.8", "0.4"]},
        {"PixelSpacing": ["0.4", "0.2"]},
        {"PixelAspectRatio": ["2", "1"]},
        {"PixelAspectRatio": ["2", "1"], "ImagerPixelSpacing": ["0.4", "0.4"]},
    ],
)
def test_pixels_that_are_not_square_are_stretched(values: dict[str, Any]) -> None:
    """Every other row left out and said to be twice as high: the picture has its height again."""
    whole = draw_picture(160, 128)
    radiograph = read(make_dicom(whole[::2], values=values), 80)
    square = read(make_dicom(whole), 80)
    assert radiograph.pixels.shape == square.pixels.shape == (80, 64)
    assert np.abs(radiograph.pixels.astype(int) - square.pixels).mean() < 2
    assert "pixels_not_square" in radiograph.flags
    assert radiograph.original_size == (128, 80)


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        ({"PixelAspectRatio": ["9", "1"]}, {"aspect_invalid"}),
        ({"ImagerPixelSpacing": ["0", "0"]}, set()),
        ({"ImagerPixelSpacing": ["0.2", "0.2"]}, set()),
        ({"PixelAspectRatio": ["1", "-1"]}, set()),
    ],
)
def test_absurd_and_equal_ratios_leave_the_pixels_alone(values: dict[str, Any], flags: set[str]) -> None:
    radiograph = read(make_dicom(PICTURE, values=values))
    assert_shows(radiograph, PLAIN)
    assert set(radiograph.flags) - {"image_small"} == flags


# Beside the picture


def test_overlays_and_icons_are_ignored() -> None:
    icon = Dataset()
    icon.Rows = icon.Columns = 16
    icon.BitsAllocated, icon.PixelData = 8, bytes(range(256))
    values = {"IconImageSequence": Sequence([icon]), "BurnedInAnnotation": "NO"}
    content = make_dicom(PICTURE, values=values, overlay=np.ones(PICTURE.shape, np.uint8))
    assert b"\x00\x60\x00\x30OW" in content
    assert_shows(read(content), PLAIN)


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned_in_annotation"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for_processing"),
        ({"PatientOrientation": ["L", "H"]}, "orientation_unusual"),
        ({"PatientOrientation": ["R", "F"]}, "orientation_unusual"),
        ({"Modality": None}, "modality_missing"),
        ({"PresentationLUTSequence": small_dicom.lookup_item(0, PICTURE[0], 12)}, "presentation_lut_ignored"),
    ],
)
def test_doubts_are_flagged_and_pixels_left(values: dict[str, Any], flag: str) -> None:
    radiograph = read(make_dicom(PICTURE, values=values))
    assert_shows(radiograph, PLAIN)
    assert flag in radiograph.flags


def test_longer_pixel_data_is_cut() -> None:
    radiograph = read(make_dicom(PICTURE, pixel_data=PICTURE.tobytes() + b"\xff" * 100))
    assert_shows(radiograph, PLAIN)
    assert "pixels_excess" in radiograph.flags


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"Rows": 0}, "size_missing"),
        ({"Columns": None}, "size_missing"),
        ({"Rows": 15}, "image_too_small"),
        ({"Rows": 80}, "pixels_wrong_length"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "photometric_unsupported"),
        ({"SamplesPerPixel": 4}, "photometric_unsupported"),
        ({"PixelData": None}, "no_pixel_data"),
    ],
)
def test_headers_that_give_no_picture_are_refused(values: dict[str, Any], code: str) -> None:
    assert refusal(make_dicom(PICTURE, values=values)).code == code


def test_one_value_everywhere_is_refused() -> None:
    assert refusal(make_dicom(np.full((40, 32), 7, np.uint16))).code == "pixels_constant"


# Colour and frames

COLOURS = np.stack([draw_picture(bits=8), draw_picture(bits=8)[::-1], draw_picture(bits=8)[:, ::-1]], -1).astype(
    np.uint8
)


def luminance(colours: NDArray[np.uint8]) -> NDArray[np.float64]:
    """ITU-R BT.601."""
    return np.rint(colours @ np.array([0.299, 0.587, 0.114]))


def encoded_colours(name: str) -> bytes:
    match name:
        case "interleaved":
            return make_dicom(COLOURS, bits=8)
        case "planar":
            planes = np.moveaxis(COLOURS, -1, 0).tobytes()
            return make_dicom(COLOURS, bits=8, values={"PlanarConfiguration": 1}, pixel_data=planes)
        case "run lengths":
            return make_dicom(COLOURS, small_dicom.RLE, 8, {"PlanarConfiguration": 1})
        case "YBR":
            converted = cv2.cvtColor(COLOURS, cv2.COLOR_RGB2YCrCb)[..., [0, 2, 1]]
            return make_dicom(converted, bits=8, values={"PhotometricInterpretation": "YBR_FULL"})
        case "YBR 4:2:2":
            converted = cv2.cvtColor(COLOURS, cv2.COLOR_RGB2YCrCb)
            pairs = np.stack(
                [converted[:, ::2, 0], converted[:, 1::2, 0], converted[:, ::2, 2], converted[:, ::2, 1]], -1
            )
            values = {"PhotometricInterpretation": "YBR_FULL_422"}
            return make_dicom(COLOURS, bits=8, values=values, pixel_data=pairs.tobytes())
        case "JPEG":
            values = {"PhotometricInterpretation": "YBR_FULL_422"}
            data = encapsulate([bytes(imagecodecs.jpeg8_encode(COLOURS, level=98))])
            return make_dicom(COLOURS, small_dicom.JPEG_BASELINE, 8, values, data)
    data = encapsulate([bytes(imagecodecs.jpeg2k_encode(COLOURS, level=0, reversible=True, codecformat="j2k"))])
    values = {"PhotometricInterpretation": "YBR_RCT"}
    return make_dicom(COLOURS, small_dicom.JPEG_2000_LOSSLESS, 8, values, data)


@pytest.mark.parametrize("name", ["interleaved", "planar", "run lengths", "YBR", "YBR 4:2:2", "JPEG", "JPEG 2000"])
def test_colour_becomes_luminance_or_is_refused(name: str) -> None:
    content, grey = encoded_colours(name), luminance(COLOURS)
    radiograph = read(content)
    assert_shows(radiograph, stretch(grey, grey.min(), grey.max()), 12 if name == "JPEG" else 2.5)
    assert "colour_reduced" in radiograph.flags
    assert refusal(content, colour="reject").code == "colour"


@pytest.mark.parametrize("syntax", [EXPLICIT, small_dicom.RLE, small_dicom.JPEG_LS])
@pytest.mark.parametrize("fragments", [1, 3])
def test_several_frames_are_refused_or_the_first_is_taken(syntax: str, fragments: int) -> None:
    frames = [PICTURE, PICTURE[::-1].copy()]
    if syntax == EXPLICIT:
        data = b"".join(frame.tobytes() for frame in frames)
    else:
        streams = [small_dicom.compress(frame, syntax, 12) for frame in frames]
        data = encapsulate(streams, fragments_per_frame=fragments)
    content = make_dicom(PICTURE, syntax, values={"NumberOfFrames": "2"}, pixel_data=data)
    assert refusal(content).code == "multi_frame"
    radiograph = read(content, multi_frame="first")
    assert_shows(radiograph, PLAIN)
    assert "frames_dropped" in radiograph.flags


# What is no chest radiograph of a person


def coded(keyword: str, meaning: str) -> dict[str, Any]:
    item = Dataset()
    item.CodeMeaning = meaning
    return {keyword: Sequence([item])}


@pytest.mark.parametrize(
    "values",
    [
        {"Modality": "CT"},
        {"Modality": "OT"},
        {"BodyPartExamined": "ABDOMEN"},
        {"BodyPartExamined": "C-SPINE"},
        {"BodyPartExamined": "", "StudyDescription": "LEFT KNEE AP"},
        {"BodyPartExamined": "", **coded("AnatomicRegionSequence", "Hand")},
        {"PatientSpeciesDescription": "Canis lupus familiaris"},
        coded("PatientSpeciesCodeSequence", "Felis catus"),
        {"SeriesDescription": "CANINE THORAX LATERAL"},
        {"InstitutionName": "Example Veterinary Clinic"},
        {"ConversionType": "SD"},
    ],
    ids=lambda values: " ".join(values),
)
def test_what_is_no_chest_is_refused_or_flagged(values: dict[str, Any]) -> None:
    content = make_dicom(PICTURE, values=values)
    refused = refusal(content)
    assert refused.code == "not_chest"
    assert not any(str(value) in refused.message for value in values.values() if isinstance(value, str) and value)
    radiograph = read(content, not_chest="flag")
    assert_shows(radiograph, PLAIN)
    assert "not_chest" in radiograph.flags


@pytest.mark.parametrize(
    "values",
    [
        {"BodyPartExamined": "THORAX"},
        {"BodyPartExamined": "chest"},
        {"BodyPartExamined": ""},
        {"BodyPartExamined": "", "StudyDescription": "CHEST AND ABDOMEN"},
        {"BodyPartExamined": "", **coded("AnatomicRegionSequence", "Chest")},
        {"Modality": "DX"},
        {"PatientSpeciesDescription": "Homo sapiens"},
        {"ConversionType": "WSD"},
    ],
    ids=lambda values: " ".join(values),
)
def test_chests_are_kept(values: dict[str, Any]) -> None:
    assert "not_chest" not in read(make_dicom(PICTURE, values=values)).flags

"""Numbers and texts of a header: whatever the bytes are, something plain comes back and nothing is raised."""

from __future__ import annotations

import logging.handlers
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from placecli.data.dicom_header import MAX_VALUE_CHARACTERS, Header

WINDOW_CENTER, ROWS, FRAMES, DESCRIPTION, LUT_DATA = 0x00281050, 0x00280010, 0x00280008, 0x00081030, 0x00283006
NUMBERS = st.floats(-1e12, 1e12)


def header_of(tag: int, value: bytes | None, *, is_little_endian: bool = True) -> Header:
    """A header of one element, still the bytes of the file; their VR unknown, as with implicit VR."""
    dataset = Dataset()
    length = len(value) if value is not None else 0
    dataset[Tag(tag)] = RawDataElement(Tag(tag), None, length, value, 0, True, is_little_endian, True)
    return Header(dataset, set())


@given(st.lists(NUMBERS, min_size=1, max_size=5), st.sampled_from(["{:g}", "{:.6f}", "{:+.3e}", " {:f} "]))
def test_decimals_written_in_any_valid_way_are_read_as_they_are(numbers: list[float], form: str) -> None:
    texts = [form.format(number) for number in numbers]
    header = header_of(WINDOW_CENTER, "\\".join(texts).encode())
    assert header.decimals("WindowCenter") == [float(text) for text in texts]
    assert header.flags == set()


@given(st.integers(-9999, 9999), st.integers(0, 999), st.sampled_from(["px", " HU", "mm\0", "'"]))
def test_a_decimal_with_a_comma_or_a_unit_is_repaired_and_flagged(whole: int, fraction: int, unit: str) -> None:
    for text in (f"{whole},{fraction:03d}", f"{whole}.{fraction:03d}{unit}", f"{whole},{fraction:03d}{unit}"):
        header = header_of(WINDOW_CENTER, text.encode())
        assert header.decimals("WindowCenter") == [float(f"{whole}.{fraction:03d}")]
        assert header.flags == {"decimal_repaired"}


@given(st.binary(max_size=80))
def test_any_bytes_give_numbers_or_nan(value: bytes) -> None:
    header = header_of(WINDOW_CENTER, value)
    numbers = header.decimals("WindowCenter")
    assert all(isinstance(number, float) for number in numbers)
    assert len(numbers) <= value.count(b"\\") + 1
    number = header_of(FRAMES, value).number("NumberOfFrames")
    assert number is None or isinstance(number, int)


@pytest.mark.parametrize("text", ["", " ", "\0\0"])
def test_an_empty_decimal_is_none(text: str) -> None:
    assert header_of(WINDOW_CENTER, text.encode()).decimals("WindowCenter") == []


@pytest.mark.parametrize("text", ["abc", "--5", "nan", "inf", "-"])
def test_words_are_no_decimals(text: str) -> None:
    assert all(math.isnan(number) for number in header_of(WINDOW_CENTER, text.encode()).decimals("WindowCenter"))


@pytest.mark.parametrize(("text", "number"), [("1", 1), (" 12 ", 12), ("2.0", 2), ("1e999", None), ("x", None)])
def test_whole_numbers(text: str, number: int | None) -> None:
    assert header_of(FRAMES, text.encode()).number("NumberOfFrames") == number


@given(st.integers(0, 65535), st.booleans(), st.binary(max_size=4))
def test_words_of_sixteen_bits(value: int, is_little_endian: bool, tail: bytes) -> None:
    packed = struct.pack("<H" if is_little_endian else ">H", value)
    assert header_of(ROWS, packed + tail, is_little_endian=is_little_endian).integer("Rows") == value
    assert header_of(ROWS, packed[:1]).integer("Rows") is None


@given(st.lists(st.integers(0, 65535), max_size=20), st.booleans())
def test_tables(values: list[int], is_little_endian: bool) -> None:
    packed = struct.pack(f"{'<' if is_little_endian else '>'}{len(values)}H", *values)
    assert header_of(LUT_DATA, packed, is_little_endian=is_little_endian).words("LUTData") == values


@given(st.binary(max_size=200))
def test_texts_are_one_short_printable_line(value: bytes) -> None:
    text = header_of(DESCRIPTION, value).text("StudyDescription")
    assert len(text) <= MAX_VALUE_CHARACTERS
    assert text == " ".join(text.split())
    assert text.isprintable()


@given(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=MAX_VALUE_CHARACTERS))
def test_plain_texts_are_kept(text: str) -> None:
    assert header_of(DESCRIPTION, text.encode() + b" ").text("StudyDescription") == text


@pytest.mark.parametrize("value", [b"Doe\x1bzz^Jane", b"\x1b$)C\xff\xff Doe"])
def test_a_text_in_no_known_alphabet_is_read_without_a_word_about_it(
    value: bytes, recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warnings and log lines of pydicom may quote the value; a program's own handler is at the root."""
    lines = logging.handlers.BufferingHandler(1000)
    monkeypatch.setattr(logging.getLogger(), "handlers", [lines])
    assert "Doe" in header_of(DESCRIPTION, value).text("StudyDescription")
    assert not recwarn.list
    assert not lines.buffer


def test_what_is_absent_is_empty() -> None:
    header = Header(Dataset(), set())
    assert "Rows" not in header
    assert header.integer("Rows") is header.number("NumberOfFrames") is None
    assert header.decimals("WindowCenter") == header.words("LUTData") == header.items("VOILUTSequence") == []
    assert header.text("Modality") == ""

"""Values of a DICOM header: read one by one from the raw bytes, so that one bad value never costs the file."""

from __future__ import annotations

import logging
import math
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Literal

from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

PARSE_ERRORS: Final = (
    ValueError,  # includes UnicodeError
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    NotImplementedError,
    RecursionError,
    EOFError,
    OSError,  # pydicom's, where the bytes of a sequence end too early
    struct.error,
    BytesLengthException,
    InvalidDicomError,
)
"""What pydicom raises on bytes that are not what they claim to be."""

WHITELIST: Final = {
    "patient_id": "PatientID",
    "study_id": "StudyInstanceUID",
    "image_id": "SOPInstanceUID",
    "accession": "AccessionNumber",
    "modality": "Modality",
    "body_part": "BodyPartExamined",
    "photometric": "PhotometricInterpretation",
    "manufacturer": "Manufacturer",
}
"""Header values that leave this package, beside `view` (normalised) and `transfer_syntax`. Nothing else does."""

MAX_VALUE_CHARACTERS: Final = 64

logging.getLogger("pydicom").propagate = False  # its lines quote header values
_LEADING_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")
_VALID_DECIMAL = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


@contextmanager
def silenced() -> Iterator[None]:
    """Without the warnings of pydicom, which quote header values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


class Header:
    """One data set. `flags` collects what had to be repaired; nested items share it."""

    def __init__(self, dataset: Dataset, flags: set[str]) -> None:
        self._dataset = dataset
        self.flags = flags

    def text(self, keyword: str) -> str:
        """The value as one line without control characters, at most 64 characters; "" if absent or unreadable."""
        value = self._value(keyword)
        if isinstance(value, bytes):
            value = self._decode(keyword, value)
        elif value is None or isinstance(value, Sequence):
            value = ""
        line = "".join(character if character.isprintable() else " " for character in str(value))
        return " ".join(line.split())[:MAX_VALUE_CHARACTERS].strip()

    def integer(self, keyword: str) -> int | None:
        """The first value of a US or SS element as an unsigned number; None if absent or empty."""
        value = self._value(keyword)
        if isinstance(value, bytes):
            return int.from_bytes(value[:2], self._byte_order(keyword)) if len(value) >= 2 else None
        try:
            return None if value is None else int(value) & 0xFFFF
        except (ValueError, TypeError):
            return None

    def number(self, keyword: str) -> int | None:
        """The first value of an IS element; None if absent or not a number."""
        values = self.decimals(keyword)
        return int(values[0]) if values and math.isfinite(values[0]) else None

    def decimals(self, keyword: str) -> list[float]:
        """All values of a DS element, NaN for one without any number. "550,5" and "1024px" are repaired and flagged."""
        return [self._decimal(part) for part in self._line(keyword).split("\\")] if self._line(keyword) else []

    def items(self, keyword: str) -> list[Header]:
        """The items of a sequence; none if it is absent or cannot be parsed."""
        try:
            with silenced():
                value = self._dataset[keyword].value if keyword in self._dataset else None
                return [Header(item, self.flags) for item in value] if isinstance(value, Sequence) else []
        except PARSE_ERRORS:
            return []

    def words(self, keyword: str) -> list[int]:
        """A lookup table or its descriptor as unsigned 16-bit numbers; none if absent."""
        value = self._value(keyword)
        if isinstance(value, bytes):
            order = "<" if self._byte_order(keyword) == "little" else ">"
            return list(struct.unpack(f"{order}{len(value) // 2}H", value[: len(value) // 2 * 2]))
        if isinstance(value, int):
            return [value & 0xFFFF]
        try:
            return [] if value is None else [int(number) & 0xFFFF for number in value]
        except (ValueError, TypeError):
            return []

    def __contains__(self, keyword: str) -> bool:
        return _tag(keyword) in self._dataset

    def _value(self, keyword: str) -> Any:
        """Raw bytes where the element has not been parsed yet, else its value, else None."""
        try:
            with silenced():
                element = self._dataset.get_item(_tag(keyword))
        except PARSE_ERRORS:  # absent, or parsed at once because it is a sequence or of unknown length
            return None
        return element.value if element is not None else None

    def _byte_order(self, keyword: str) -> Literal["little", "big"]:
        element = self._dataset.get_item(_tag(keyword))
        return "little" if not isinstance(element, RawDataElement) or element.is_little_endian else "big"

    def _decode(self, keyword: str, value: bytes) -> str:
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii").strip("\0 ")
        try:
            with silenced():
                return str(self._dataset[keyword].value)
        except PARSE_ERRORS:
            return value.decode("latin-1")

    def _line(self, keyword: str) -> str:
        value = self._value(keyword)
        if value is None or isinstance(value, Sequence):
            return ""
        if isinstance(value, bytes):
            return value[:1024].decode("latin-1").strip("\0 ")
        if isinstance(value, str):
            return value
        return "\\".join(str(part) for part in value) if hasattr(value, "__iter__") else str(value)

    def _decimal(self, text: str) -> float:
        stripped = text.strip("\0 ")
        if _VALID_DECIMAL.fullmatch(stripped):
            return float(stripped)
        found = _LEADING_NUMBER.match(stripped)
        if not found:
            return math.nan
        self.flags.add("decimal_repaired")
        return float(found.group().replace(",", "."))


def _tag(keyword: str) -> BaseTag:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return BaseTag(tag)

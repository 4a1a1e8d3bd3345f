"""Who an image belongs to: pseudonyms, ids for files that carry none, and the split of a patient."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

from placecli.records import PlaceError

Kind = Literal["patient", "study", "image", "source"]

MIN_KEY_BYTES: Final = 16
_DIGITS = 16


class Pseudonyms:
    """Keyed hashes in place of ids: HMAC-SHA256, 64 bits in hexadecimal; without a key, ids stay as they are.

    The kind is part of the hashed message, so one number used as patient and as study gives two pseudonyms. The
    same key and id give the same pseudonym in every run, which lets the holder of the key join tables later.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    @property
    def is_active(self) -> bool:
        return self._key is not None

    def of(self, kind: Kind, value: str) -> str:
        """The pseudonym of `value`, or `value` itself without a key."""
        return value if self._key is None else self._digest(kind, value)

    def key_check(self) -> str:
        """A word that tells two keys apart and nothing about either; "" without a key."""
        return "" if self._key is None else self._digest("key check", "")

    def _digest(self, kind: str, value: str) -> str:
        message = f"placecli {kind}\0{value}".encode("utf-8", "surrogateescape")
        return hmac.new(self._key or b"", message, hashlib.sha256).hexdigest()[:_DIGITS]


def read_key(path: Path | None) -> Pseudonyms:
    """Pseudonyms under the secret in that file (line breaks at its end do not count), or none for None.

    Raises PlaceError for a file that cannot be read or holds fewer than 16 bytes.
    """
    if path is None:
        return Pseudonyms(None)
    try:
        key = Path(path).read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise PlaceError(f"--pseudonymize {path}: {error.strerror}; name a file that holds a secret") from None
    if len(key) < MIN_KEY_BYTES:
        raise PlaceError(
            f"--pseudonymize {path}: {len(key)} bytes are too few for a secret (at least {MIN_KEY_BYTES});"
            f" make one with: head -c 32 /dev/urandom > {path}"
        )
    return Pseudonyms(key)


def split_of(patient_id: str, seed: int, validate_fraction: float, test_fraction: float) -> str:
    """The split of a patient where the release gives none: SHA-256 of seed and id as a number in [0, 1).

    The first `test_fraction` of that range is test, the next `validate_fraction` validate, the rest train. It
    depends on nothing else, so patients keep their split when others come or go.
    """
    digest = hashlib.sha256(f"{seed}\0{patient_id}".encode("utf-8", "surrogateescape")).digest()
    position = int.from_bytes(digest[:8], "big") / 2.0**64
    if position < test_fraction:
        return "test"
    return "validate" if position < test_fraction + validate_fraction else "train"


def complete_ids(
    image_id: str, study_id: str, patient_id: str, content: Callable[[], str]
) -> tuple[str, str, str, tuple[str, ...]]:
    """(image, study, patient) ids with the missing ones filled, and a flag for each that was.

    `content` gives a hash of the file's bytes and is asked only when needed. A missing image or study id is that
    hash; a missing patient id comes from the study, if it is known, so that a study stays in one split.
    """
    flags = []
    if not patient_id:
        flags.append("patient_id_missing")
        known = f"study\0{study_id}" if study_id else f"content\0{content()}"
        patient_id = f"patient-{_short(known)}"
    if not study_id:
        flags.append("study_id_missing")
        study_id = f"study-{_short(content())}"
    if not image_id:
        flags.append("image_id_missing")
        image_id = f"image-{_short(content())}"
    return image_id, study_id, patient_id, tuple(flags)


class OneSplitPerPatient:
    """Watches (patient, split) pairs and knows which patients were seen in two splits."""

    def __init__(self) -> None:
        self._splits: dict[str, str] = {}
        self._conflicts: dict[str, None] = {}

    def see(self, patient_id: str, split: str) -> None:
        if self._splits.setdefault(patient_id, split) != split:
            self._conflicts[patient_id] = None

    def split(self, patient_id: str) -> str:
        """The split this patient was seen in, or ""."""
        return self._splits.get(patient_id, "")

    @property
    def num_in_two(self) -> int:
        """How many patients were seen in more than one split."""
        return len(self._conflicts)

    def check(self, pseudonyms: Pseudonyms) -> None:
        """Raises PlaceError if a patient is in two splits; its cause, which --debug shows, names at most five of them.

        Pseudonyms name no one and stand in the message itself.
        """
        if self._conflicts:
            count = len(self._conflicts)
            shown = ", ".join(pseudonyms.of("patient", patient) for patient in list(self._conflicts)[:5])
            shown += f" and {count - 5} more" if count > 5 else ""
            who = f": {shown}" if pseudonyms.is_active else " (`place --debug ...` names them)"
            raise PlaceError(
                f"{count} patient(s) are in two splits{who};"
                " correct the split table of the release: one patient belongs to one split"
            ) from LookupError(shown)


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]

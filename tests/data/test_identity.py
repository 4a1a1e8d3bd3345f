"""Pseudonyms, splits of patients and ids for files without any."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.data.identity import OneSplitPerPatient, Pseudonyms, complete_ids, read_key, split_of
from placecli.records import SPLITS, PlaceError

KEY = b"0123456789abcdef"


def test_a_pseudonym_is_the_documented_hmac() -> None:
    expected = hmac.new(KEY, b"placecli patient\x0010000032", hashlib.sha256).hexdigest()[:16]
    assert Pseudonyms(KEY).of("patient", "10000032") == expected


def test_kinds_and_keys_are_apart_and_no_key_changes_nothing() -> None:
    names = Pseudonyms(KEY)
    assert len({names.of(kind, "1") for kind in ("patient", "study", "image", "source")}) == 4
    assert names.of("patient", "1") != Pseudonyms(KEY[::-1]).of("patient", "1")
    assert names.key_check() != Pseudonyms(KEY[::-1]).key_check()
    assert Pseudonyms(None).of("patient", "1") == "1"
    assert Pseudonyms(None).key_check() == ""


def test_the_key_file_counts_without_its_last_line_break(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\r\n")
    assert read_key(tmp_path / "key").key_check() == Pseudonyms(KEY).key_check()
    assert not read_key(None).is_active


@pytest.mark.parametrize("content", [b"", b"short", b"fifteen bytes..\n"])
def test_a_short_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(PlaceError, match="too few for a secret"):
        read_key(tmp_path / "key")


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match="nowhere: No such file"):
        read_key(tmp_path / "nowhere")


def test_a_split_is_the_documented_hash() -> None:
    digest = hashlib.sha256(b"3\x0010000032").digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    assert split_of("10000032", 3, 0.0, position + 1e-9) == "test"
    assert split_of("10000032", 3, 2e-9, position - 1e-9) == "validate"
    assert split_of("10000032", 3, 0.0, position - 1e-9) == "train"


def test_split_fractions_hold_over_many_patients() -> None:
    counts = Counter(split_of(str(number), 0, 0.1, 0.2) for number in range(20_000))
    # Four standard deviations of a binomial count of 20,000.
    assert abs(counts["test"] - 4000) < 4 * (20_000 * 0.2 * 0.8) ** 0.5
    assert abs(counts["validate"] - 2000) < 4 * (20_000 * 0.1 * 0.9) ** 0.5
    assert sum(counts[split] for split in SPLITS) == 20_000


@given(st.text(), st.integers())
@settings(deadline=None)
def test_no_fractions_mean_training_only(patient: str, seed: int) -> None:
    assert split_of(patient, seed, 0.0, 0.0) == "train"


def test_known_ids_stay_and_the_content_is_not_read() -> None:
    def refuse() -> str:
        raise AssertionError("the content was asked for")

    assert complete_ids("i", "s", "p", refuse) == ("i", "s", "p", ())
    image, study, patient, flags = complete_ids("i", "s", "", refuse)
    assert (image, study, flags) == ("i", "s", ("patient_id_missing",))
    assert patient == complete_ids("other", "s", "", refuse)[2]
    assert patient != complete_ids("i", "t", "", refuse)[2]


def test_missing_ids_come_from_the_content() -> None:
    first, second = (complete_ids("", "", "", lambda content=content: content) for content in ("a", "b"))
    assert first[3] == ("patient_id_missing", "study_id_missing", "image_id_missing")
    assert len({*first[:3], *second[:3]}) == 6
    assert first == complete_ids("", "", "", lambda: "a")


def test_patients_in_two_splits_are_named_five_at_most() -> None:
    splits = OneSplitPerPatient()
    for number in range(7):
        splits.see(f"patient{number}", "train")
        splits.see(f"patient{number}", "test")
        splits.see(f"patient{number}", "test")
    splits.see("fine", "validate")
    assert splits.split("fine") == "validate"
    assert splits.split("unknown") == ""
    with pytest.raises(PlaceError, match=r"^7 patient\(s\) are in two splits \(`place --debug ...` names") as refusal:
        splits.check(Pseudonyms(None))
    assert "patient0" not in str(refusal.value)
    assert str(refusal.value.__cause__) == "patient0, patient1, patient2, patient3, patient4 and 2 more"
    with pytest.raises(PlaceError, match=r"two splits: ([0-9a-f]{16}, ){4}[0-9a-f]{16} and 2 more;"):
        splits.check(Pseudonyms(os.urandom(32)))


def test_no_conflict_is_no_error_and_the_first_one_is() -> None:
    splits = OneSplitPerPatient()
    splits.see("a", "train")
    splits.see("a", "train")
    splits.check(Pseudonyms(None))
    splits.see("a", "test")
    with pytest.raises(PlaceError):
        splits.check(Pseudonyms(None))

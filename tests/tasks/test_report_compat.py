"""R2Gen's cleaning on its traps, its vocabulary, and the references that it scores against."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placecli.tasks.report_compat import Source, clean, count_words, reference_words


@pytest.mark.parametrize(
    ("report", "iu_xray", "mimic"),
    [
        ("", " .", " ."),
        ("Heart normal.", "heart normal .", None),
        # An item's number goes, a word that ends in "1. " loses it too, and the stop with it.
        ("1. Clear. 2. No effusion. 3. At T11. 5.5 cm", "clear . no effusion . at t155 cm .", None),
        ("A nodule 2. An effusion", "a nodule . an effusion .", None),
        # The range from ":" to "[" takes < = > @, hyphens stay.
        ("a<b=c>d@e:f;g[h]i {j} left-sided (k)", "abcdefghi j left-sided k .", None),
        ('"a/b" it\'s c\\d 10%, x&y_z!?*+^', "ab its cd 10 xyz .", None),
        # Sentences left empty stay as stray stops.
        ("No change. . Clear.  ", "no change .  . clear .", None),
        # Runs are halved a fixed number of times.
        ("A.. B.... C" + 9 * "." + " D", "a . b . c . d .", "a . b . c . d ."),
        ("No   space\n\n___ year", "no   space\n\n year .", "no space  year ."),
        ("XXXX XXXX-XXXX", "xxxx xxxx-xxxx .", None),
    ],
)
def test_cleaning_byte_for_byte(report: str, iu_xray: str, mimic: str | None) -> None:
    assert clean(report, "iu-xray") == iu_xray
    assert clean(report, "mimic") == (iu_xray if mimic is None else mimic)


@given(st.text(alphabet='..  1234 \n_-/"<=>@[](){}:;ABcx,', max_size=60), st.sampled_from(["iu-xray", "mimic"]))
def test_cleaned_text_has_only_what_the_class_leaves(report: str, source: Source) -> None:
    cleaned = clean(report, source)
    assert cleaned.endswith(" .")
    assert cleaned == cleaned.lower()
    assert not set(cleaned.replace(" . ", " ").removesuffix(" .")) & set('.,_/"<=>@[](){}:;')


def test_rare_words_and_what_lies_past_the_limit_are_lost() -> None:
    train = ["Heart normal. Heart normal. Lungs clear.", "Heart large."]
    assert count_words(train, "iu-xray", 2) == (".", "<unk>", "heart", "normal")
    known = count_words(train, "iu-xray", 2)
    assert reference_words("Heart clear. Lungs", "iu-xray", known, 60) == ["heart", "<unk>", ".", "<unk>", "."]
    assert reference_words("Heart clear. Lungs", "iu-xray", known, 4) == ["heart", "<unk>", "."]


def test_the_real_annotation_is_cleaned_as_r2gen_cleans_it(real_data: Callable[[str], Path]) -> None:
    """The digests are of what the published tokenizer gives; the store's collapsing of white space changes nothing."""
    annotation = json.loads((real_data("iu_xray_r2gen") / "annotation.json").read_text("utf-8"))
    reports = [entry["report"] for split in ("train", "val", "test") for entry in annotation[split]]
    assert all(report == " ".join(report.split()) for report in reports)
    for source in ("iu-xray", "mimic"):
        joined = "\n".join(clean(report, source) for report in reports)  # type: ignore[arg-type]
        assert (
            hashlib.sha256(joined.encode()).hexdigest()
            == "759eaa7cb463703ccc2d01ab3c87b32373fead40c6b567dabccac11d0d64ce79"
        )
    words = count_words([entry["report"] for entry in annotation["train"]], "iu-xray", 3)
    assert (
        hashlib.sha256(" ".join(words).encode()).hexdigest()
        == "a44c51ebbf077ddf05b748cf9bf17b18b66b02e416a43402c907a2334bc9d04b"
    )

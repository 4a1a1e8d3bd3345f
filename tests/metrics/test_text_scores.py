"""BLEU, ROUGE-L, CIDEr and METEOR 1.5 against goldens of pycocoevalcap, itself where installed, and plain formulas."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from placecli.metrics import bleu, cider, meteor_statistics, rouge
from placecli.metrics.bootstrap import estimate

GOLDENS = json.loads((Path(__file__).resolve().parent / "goldens" / "text.json").read_text("utf-8"))
CANDIDATES = [report["words"].split() for report in GOLDENS["reports"]]
REFERENCES = [[text.split() for text in report["reference_words"]] for report in GOLDENS["reports"]]


def random_set(seed: int, size: int = 12) -> tuple[list[list[str]], list[list[list[str]]]]:
    generator = np.random.default_rng(seed)

    def text(shortest: int = 1) -> list[str]:
        return [f"w{i}" for i in generator.integers(0, 9, generator.integers(shortest, 14))]

    references = [[text() for _ in range(generator.integers(1, 4))] for _ in range(size)]
    copies = [own[0][:3] + text() if generator.random() < 0.6 else text() for own in references]
    return copies, references


def as_peer(candidates: list[list[str]], references: list[list[list[str]]]) -> tuple[dict, dict]:
    wanted = {i: [" ".join(words) for words in own] for i, own in enumerate(references)}
    return wanted, {i: [" ".join(words)] for i, words in enumerate(candidates)}


def test_goldens_of_pycocoevalcap() -> None:
    counts = bleu.count(CANDIDATES, REFERENCES)
    assert [bleu.bleu(counts, k) for k in (1, 2, 3, 4)] == pytest.approx(GOLDENS["bleu"], abs=1e-12)
    assert rouge.rouge_l(CANDIDATES, REFERENCES) == pytest.approx(GOLDENS["rouge_l"]["cases"], abs=1e-12)
    set_counts = cider.count(CANDIDATES, REFERENCES)
    assert cider.cider_d_of_cases(set_counts) == pytest.approx(GOLDENS["cider"]["cases"], abs=1e-12)
    assert cider.cider_d(set_counts) == pytest.approx(GOLDENS["cider"]["corpus"], abs=1e-12)


def test_goldens_of_meteor_1_5() -> None:
    golden = GOLDENS["meteor"]
    statistics = [line.split() for line in golden["statistics"]]
    assert meteor_statistics.meteor_of_cases(statistics) == pytest.approx(golden["cases"], abs=1e-12)
    assert meteor_statistics.meteor(statistics) == pytest.approx(golden["corpus"], abs=1e-12)
    # An equal pair is among the goldens: without its rule the corpus would score less.
    assert 1.0 in golden["cases"]
    weights = np.zeros((2, len(golden["cases"])))
    weights[0, 3] = 2
    found = meteor_statistics.meteor(statistics, weights)
    assert found[0] == pytest.approx(golden["cases"][3])
    assert np.isnan(found[1])
    with pytest.raises(ValueError, match="23"):
        meteor_statistics.meteor([[1.0, 2.0]])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_equal_pycocoevalcap_on_random_texts(seed: int) -> None:
    pytest.importorskip("pycocoevalcap.bleu.bleu", reason="pycocoevalcap is not installed")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    candidates, references = random_set(seed)
    wanted, found = as_peer(candidates, references)
    counts = bleu.count(candidates, references)
    assert [bleu.bleu(counts, k) for k in (1, 2, 3, 4)] == pytest.approx(
        Bleu(4).compute_score(wanted, found, verbose=0)[0], abs=1e-12
    )
    assert rouge.rouge_l(candidates, references) == pytest.approx(Rouge().compute_score(wanted, found)[1], abs=1e-12)
    own = cider.cider_d_of_cases(cider.count(candidates, references))
    assert own == pytest.approx(Cider().compute_score(wanted, found)[1], abs=1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_weights_equal_a_set_that_is_written_out(seed: int) -> None:
    candidates, references = random_set(seed)
    weights = np.random.default_rng(seed).integers(0, 3, (3, len(candidates)))
    weights[:, 0] += 1
    bleus = bleu.bleu(bleu.count(candidates, references), 4, weights)
    counts = cider.count(candidates, references)
    clipped, plain = cider.cider_d(counts, weights), cider.cider(counts, weights)
    for row, *values in zip(weights, bleus, clipped, plain, strict=True):
        drawn = np.repeat(np.arange(len(candidates)), row)
        repeated = [candidates[i] for i in drawn], [references[i] for i in drawn]
        recounted = cider.count(*repeated)
        expected = bleu.bleu(bleu.count(*repeated)), cider.cider_d(recounted), cider.cider(recounted)
        assert values == pytest.approx(expected, abs=1e-12)


def naive_cider(candidates: list[list[str]], references: list[list[list[str]]]) -> float:
    """The formula of Vedantam et al. 2015, word for word, times 10."""

    def counts(words: list[str], k: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(words[i : i + k]) for i in range(len(words) - k + 1))

    total = 0.0
    for k in (1, 2, 3, 4):
        frequency = Counter(g for own in references for g in {g for words in own for g in counts(words, k)})

        def vector(words: list[str], k: int = k, frequency: Counter = frequency) -> dict[tuple[str, ...], float]:
            idf = {g: math.log(len(references) / max(1, frequency[g])) for g in counts(words, k)}
            return {g: n * idf[g] for g, n in counts(words, k).items()}

        for candidate, own in zip(candidates, references, strict=True):
            for words in own:
                a, b = vector(candidate), vector(words)
                norm = math.hypot(*a.values()) * math.hypot(*b.values())
                total += sum(a[g] * b.get(g, 0.0) for g in a) / norm / len(own) if norm else 0.0
    return 10 * total / 4 / len(candidates)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_plain_cider_equals_the_formula(seed: int) -> None:
    candidates, references = random_set(seed)
    found = cider.cider(cider.count(candidates, references))
    assert found == pytest.approx(naive_cider(candidates, references), abs=1e-9)


def test_cider_closed_forms() -> None:
    references = [[["a", "b", "c", "d"]], [["e", "f", "g", "h"]]]
    equal = cider.count([own[0] for own in references], references)
    assert cider.cider_d(equal) == pytest.approx(10.0)
    assert cider.cider(equal) == pytest.approx(10.0)
    longer = cider.count([["a", "b", "c", "d"] * 2, ["e", "f", "g", "h"]], references)
    assert cider.cider_d_of_cases(longer)[0] < 10 * math.exp(-16 / 72)
    # One case alone: every word is in every reference, idf is 0 and nothing can be told apart.
    assert cider.cider_d(cider.count([["a"]], [[["a"]]])) == 0.0
    assert np.isnan(cider.cider_d(equal, [[0.0, 0.0]])).all()


def test_cider_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = cider.count(CANDIDATES, REFERENCES)
    weights = np.random.default_rng(0).integers(0, 3, (20, len(CANDIDATES)))
    whole = cider.cider_d(counts, weights)
    monkeypatch.setattr(cider, "_BLOCK", 1)
    assert np.array_equal(cider.cider_d(counts, weights), whole)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
@settings(max_examples=200, deadline=None)
def test_longest_common_subsequence_equals_the_table(first: list[str], second: list[str]) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
    assert rouge.longest_common_subsequence(first, second) == table[-1, -1]


def test_empty_texts() -> None:
    counts = bleu.count([[], ["a"]], [[["a"]], [["a"]]])
    assert bleu.bleu(counts, 1) == pytest.approx(math.exp(1 - 2))
    assert bleu.bleu(bleu.count([[]], [[["a"]]]), 1) == 0.0
    assert rouge.rouge_l([[], [], ["a"]], [[["a"]], [[]], [[]]]).tolist() == [0.0, 1.0, 0.0]
    assert cider.cider_d_of_cases(cider.count([[], ["a"]], [[["a"]], [["b"]]])).tolist() == [0.0, 0.0]


def test_sacrebleu_agrees_where_the_definitions_do() -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="sacrebleu is not installed")
    # Both are corpus BLEU; sacrebleu without its tokenizer and smoothing, on sets where every order has a match.
    for seed in range(20):
        candidates, references = random_set(seed)
        counts = bleu.count(candidates, references)
        if not (counts.matched.sum(axis=0) > 0).all():
            continue
        widest = max(len(own) for own in references)
        streams = [[" ".join(own[min(i, len(own) - 1)]) for own in references] for i in range(widest)]
        found = sacrebleu.corpus_bleu(
            [" ".join(c) for c in candidates], streams, tokenize="none", smooth_method="none", force=True
        )
        assert bleu.bleu(counts) * 100 == pytest.approx(found.score, abs=1e-6)


def test_rouge_score_agrees_where_the_definitions_do() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is not installed")
    peer = scorer.RougeScorer(["rougeL"], use_stemmer=False)
    # It takes the plain F (beta 1) of one reference, in words of letters and digits.
    for seed in range(20):
        candidates, references = random_set(seed)
        expected = [
            peer.score(" ".join(own[0]), " ".join(c))["rougeL"].fmeasure
            for c, own in zip(candidates, references, strict=True)
        ]
        found = rouge.rouge_l(candidates, [own[:1] for own in references], beta=1.0)
        assert found == pytest.approx(expected, abs=1e-12)


def test_intervals_of_corpus_scores() -> None:
    counts = cider.count(CANDIDATES, REFERENCES)
    patients = np.arange(len(CANDIDATES)) // 2
    found = estimate(lambda w: cider.cider_d(counts, w), patients, replicates=300)
    assert found.low < found.value < found.high
    assert (found.n, found.num_patients) == (len(CANDIDATES), 8)


@pytest.mark.parametrize(
    ("candidates", "references", "word"),
    [
        (["the heart"], [[["the"]]], "tokenize"),
        ([["the"]], [["the heart"]], "tokenize"),
        ([["the"]], [[]], "no reference"),
        ([["the"]], [], "candidates"),
        ([], [], "candidates"),
    ],
)
def test_refuses_what_is_no_set_of_words(candidates: list, references: list, word: str) -> None:
    for function in (bleu.count, cider.count, rouge.rouge_l):
        with pytest.raises(ValueError, match=word):
            function(candidates, references)
    with pytest.raises(ValueError, match="1 to 4"):
        bleu.bleu(bleu.count([["a"]], [[["a"]]]), 5)

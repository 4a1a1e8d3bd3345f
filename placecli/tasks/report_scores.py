"""How good written reports are: text scores, clean and as the field counts them, and agreement of their findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from placecli.config import ReportGenerationConfig
from placecli.data.reports import normalize_sentence, split_sentences, text_key
from placecli.data.store import Store
from placecli.metrics import bleu, cider
from placecli.metrics.bootstrap import Statistic
from placecli.metrics.clinical.agreement import clinical_f1, outcomes
from placecli.metrics.clinical.labeler import label_reports
from placecli.metrics.meteor import meteor_exact_stem
from placecli.metrics.meteor_statistics import meteor
from placecli.metrics.retrieval import weighted_mean
from placecli.metrics.rouge import rouge_l
from placecli.metrics.tokenization import tokenize
from placecli.records import PlaceError, Row
from placecli.tasks import meteor_java, report_compat
from placecli.tasks.evaluation import Findings, Measure, Resampling
from placecli.tasks.report_text import Vocabulary, one_per_study, raw_text, reference_text
from placecli.tasks.use import Prediction

Words = list[str]
COMPAT: Final = "compat_"
"""Before the names of scores that are counted as R2Gen counts them."""
NEAREST: Final = "nearest_study_id"
"""Of a prediction: the train study whose image is most like it; its report is a baseline."""


@dataclass(frozen=True, slots=True)
class Cases:
    """References of the rows that are scored, as text and as words; words as R2Gen has them; labels float [n, 14]."""

    rows: Sequence[Row]
    words: list[list[Words]]
    compat_words: list[list[Words]]
    labels: NDArray[np.float64]
    clean_compat: Callable[[str], Words]


def score_reports(
    predictions: Sequence[Prediction],
    store: Store,
    rows: Sequence[Row],
    config: ReportGenerationConfig,
    protocol: str,
    resampling: Resampling,
) -> Findings:
    """Scores of the predictions of these rows, the most frequent train report as chance, and the nearest image's report.

    Names without a prefix are against the whole report; `compat_` names are against R2Gen's cleaned and cut reference and
    come with either protocol, alone under "compat". Raises PlaceError for a prediction that is missing.
    """
    matched = match_reports(predictions, rows)
    train = one_per_study(store.select("train"), config.sections)
    cases = _cases(rows, train, config)
    written = [str(prediction["report"]) for prediction in matched]
    patients = [row.patient_id for row in rows]
    kinds = ("compat",) if protocol == "compat" else ("clean", "compat")

    metrics = {
        name: resampling.measure(statistic, patients)
        for name, statistic in _statistics(written, cases, kinds, with_java=True).items()
    }
    once = np.ones((1, len(rows)))
    frequent = most_frequent_report(train, config.sections)
    chance = {
        name: float(np.asarray(statistic(once))[0])
        for name, statistic in _statistics([frequent] * len(rows), cases, kinds, with_java=False).items()
    }
    metrics |= _nearest(matched, train, cases, kinds, resampling, config.sections)
    return Findings(len(rows), metrics, chance, _counts(matched, written, rows, config))


def match_reports(predictions: Sequence[Prediction], rows: Sequence[Row]) -> list[Prediction]:
    """The prediction of each row, by its image, else its study, else a `query` that is the path of its file.

    Raises PlaceError where a report or all of these lack, or a row has none.
    """
    found: dict[str, Prediction] = {}
    asked: dict[str, list[tuple[tuple[str, ...], Prediction]]] = {}
    for number, prediction in enumerate(predictions, start=1):
        if "report" not in prediction or not {"image_id", "study_id", "query"} & prediction.keys():
            missing = "report" if "report" not in prediction else "image_id"
            raise PlaceError(f'predictions, line {number}: no "{missing}"; docs/reports.md shows the form')
        for kind in ("study", "image"):
            if prediction.get(f"{kind}_id") is not None:
                found[f"{kind} {prediction[f'{kind}_id']}"] = prediction
        if parts := PurePath(str(prediction.get("query") or "")).parts:
            asked.setdefault(parts[-1], []).append((parts, prediction))
    matched = [_match(row, found, asked) for row in rows]
    lacking = sum(each is None for each in matched)
    if lacking:
        raise PlaceError(
            f"predictions: {lacking} of {len(rows)} studies of the split have no report; write one for every study, an"
            " empty one included, so that nothing is scored by leaving it out, and name it by the store's image_id"
        )
    return [each for each in matched if each is not None]


def _match(
    row: Row, found: Mapping[str, Prediction], asked: Mapping[str, list[tuple[tuple[str, ...], Prediction]]]
) -> Prediction | None:
    by_id = found.get(f"image {row.image_id}") or found.get(f"study {row.study_id}")
    source = PurePath(row.source).parts
    if by_id is not None or not source:
        return by_id
    # A path ends with what the store knows of it, which is relative to the root of the release.
    return next((each for parts, each in asked.get(source[-1], ()) if parts[-len(source) :] == source), None)


def words_for_score(
    written: Sequence[str], rows: Sequence[Row], vocabulary: Vocabulary, config: ReportGenerationConfig
) -> tuple[list[Words], list[list[Words]]]:
    """Candidates and references as words, in the way that the model was trained for."""
    if config.cleaning == "compat":
        known, source = frozenset(vocabulary.tokens), config.compat_source
        texts = [raw_text(row, config.sections) for row in rows]
        references = [[report_compat.reference_words(text, source, known, config.max_tokens)] for text in texts]
        return [report.split() for report in written], references
    return [tokenize(report) for report in written], [[tokenize(reference_text(row, config.sections))] for row in rows]


def most_frequent_report(train: Sequence[Row], sections: Sequence[str]) -> str:
    """The train report that says what most others say too; of its wordings the first in alphabetical order."""
    texts = {row.study_id: reference_text(row, sections) for row in train}
    keys = {study: text_key(split_sentences(text)) for study, text in texts.items()}
    if not keys:
        return ""
    counts = Counter(keys.values())
    best = max(sorted(counts), key=lambda key: counts[key])
    return min(texts[study] for study, key in keys.items() if key == best)


def _cases(rows: Sequence[Row], train: Sequence[Row], config: ReportGenerationConfig) -> Cases:
    source, sections = config.compat_source, config.sections
    min_count, limit = report_compat.MIN_COUNT[source], report_compat.MAX_TOKENS[source]
    known = frozenset(report_compat.count_words((raw_text(r, sections) for r in train), source, min_count))
    texts = [reference_text(row, sections) for row in rows]

    def compat(text: str) -> Words:
        # A model of R2Gen's words writes them as they are scored, "<unk>" included; any other text has to be cleaned.
        return text.split() if config.cleaning == "compat" else report_compat.clean(text, source).split()

    return Cases(
        rows,
        [[tokenize(text)] for text in texts],
        [[report_compat.reference_words(raw_text(row, sections), source, known, limit)] for row in rows],
        label_reports(texts),
        compat,
    )


def _statistics(written: Sequence[str], cases: Cases, kinds: Sequence[str], *, with_java: bool) -> dict[str, Statistic]:
    """By name, what makes a score of case weights [R, n]."""
    found: dict[str, Statistic] = {}
    texts: dict[str, tuple[Sequence[Words], Sequence[Sequence[Words]]]] = {}
    if "clean" in kinds:
        candidates = [tokenize(text) for text in written]
        texts[""] = candidates, cases.words
        stems = meteor_exact_stem(candidates, cases.words)
        found["meteor_exact_stem"] = lambda w: np.asarray(weighted_mean(stems, w))
        agreed = outcomes(label_reports(written), cases.labels, "present")
        for name in ("f1_micro_14", "f1_macro_14", "f1_micro_5", "f1_macro_5"):
            found[name] = _clinical(agreed, name)
    if "compat" in kinds:
        texts[COMPAT] = [cases.clean_compat(text) for text in written], cases.compat_words
    for prefix, (own, references) in texts.items():
        found |= {prefix + name: each for name, each in _text_statistics(own, references).items()}
    if with_java and meteor_java.is_available():
        found |= {f"{prefix}meteor": each for prefix, each in _meteor(texts).items()}
    return found


def _text_statistics(candidates: Sequence[Words], references: Sequence[Sequence[Words]]) -> dict[str, Statistic]:
    counted, weighed = bleu.count(candidates, references), cider.count(candidates, references)
    common = rouge_l(candidates, references)
    found: dict[str, Statistic] = {f"bleu_{order}": _bleu(counted, order) for order in range(1, bleu.MAX_ORDER + 1)}
    found["rouge_l"] = lambda w: np.asarray(weighted_mean(common, w))
    found["cider_d"] = lambda w: np.asarray(cider.cider_d(weighed, w))
    return found


def _meteor(texts: Mapping[str, tuple[Sequence[Words], Sequence[Sequence[Words]]]]) -> dict[str, Statistic]:
    """The program reads a segment at a time and takes seconds to start: once for all of the texts."""
    candidates = [words for some, _ in texts.values() for words in some]
    references = [words for _, some in texts.values() for words in some]
    parts = np.split(meteor_java.measure_segments(candidates, references), len(texts))
    return {prefix: _meteor_of(part) for prefix, part in zip(texts, parts, strict=True)}


def _meteor_of(segments: NDArray[np.float64]) -> Statistic:
    return lambda weights: np.asarray(meteor(segments, weights))


def _bleu(counted: bleu.BleuCounts, order: int) -> Statistic:
    return lambda weights: np.asarray(bleu.bleu(counted, order, weights))


def _clinical(agreed: NDArray[np.int8], name: str) -> Statistic:
    return lambda weights: np.asarray(clinical_f1(agreed, weights)[name])


def _nearest(
    matched: Sequence[Prediction],
    train: Sequence[Row],
    cases: Cases,
    kinds: Sequence[str],
    resampling: Resampling,
    sections: Sequence[str],
) -> dict[str, Measure]:
    """Scores of the train report of the nearest image, as `name[nearest image]`, where the predictions name it."""
    texts = {row.study_id: reference_text(row, sections) for row in train}
    studies = [str(prediction.get(NEAREST)) for prediction in matched]
    if not all(study in texts for study in studies):
        return {}
    statistics = _statistics([texts[study] for study in studies], cases, kinds, with_java=False)
    patients = [row.patient_id for row in cases.rows]
    return {f"{name}[nearest image]": resampling.measure(each, patients) for name, each in statistics.items()}


def _counts(
    matched: Sequence[Prediction], written: Sequence[str], rows: Sequence[Row], config: ReportGenerationConfig
) -> Mapping[str, Any]:
    references = [reference_text(row, config.sections) for row in rows]
    sentences = [each for prediction in matched for each in prediction.get("sentences", ())]
    judged = [each["contradicted"] for each in sentences if each.get("contradicted") is not None]
    counts = {
        "patients": len({row.patient_id for row in rows}),
        "studies": len(rows),
        "empty_reports": sum(not text.strip() for text in written),
        "distinct_reports": len(set(written)),
        "distinct_reference_reports": len(set(references)),
        "distinct_sentences": _distinct(written),
        "distinct_reference_sentences": _distinct(references),
        "words_per_report": round(float(np.mean([len(tokenize(text)) for text in written])), 2),
        "reference_words_per_report": round(float(np.mean([len(tokenize(text)) for text in references])), 2),
    }
    if judged:
        counts |= {"judged_sentences": len(judged), "contradicted_sentences": sum(judged)}
    return counts


def _distinct(texts: Sequence[str]) -> int:
    return len({normalize_sentence(sentence) for text in texts for sentence in split_sentences(text)} - {""})

"""Does a model read the side, the denial and the site of a finding, or only its name?

A report is altered in one sentence so that it becomes false of its image; the share of cases in which the true report
scores higher is the figure, and guessing gives one half.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from placecli.data.store import Store
from placecli.engine.checkpoint import LoadedRun
from placecli.records import Row
from placecli.tasks.embed import ImageVectors, TextVectors, embed_images, embed_texts
from placecli.tasks.scores import observation_scores, trained_score

Alteration = Literal["side", "denial", "site"]
ALTERATIONS: tuple[Alteration, ...] = ("side", "denial", "site")

_SIDES = {"left": "right", "right": "left"}
_SITES = {
    "upper": "lower",
    "lower": "upper",
    "apex": "base",
    "base": "apex",
    "apical": "basilar",
    "basilar": "apical",
}
_DENIALS = (
    (r"^There (is|are) no (evidence of )?(?=\w)", r"There \1 "),
    (r"^There (is|are) (an? )?(?!no\b)(?=\w)", r"There \1 no "),
    (r"^No (evidence of )?(\w)", r"\2"),
    (r"\b(is|are) not (seen|noted|present|identified)\b", r"\1 \2"),
    (r"\b(is|are) (seen|noted|present|identified)\b", r"\1 not \2"),
)


def alter(sentence: str, alteration: Alteration) -> str | None:
    """The sentence with side or site exchanged, or stated for denied and the reverse; None where that cannot be done
    without doubt: no such word, or several that differ."""
    match alteration:
        case "side":
            return _exchange(sentence, _SIDES)
        case "site":
            return _exchange(sentence, _SITES)
        case "denial":
            for pattern, replacement in _DENIALS:
                changed, count = re.subn(pattern, replacement, sentence, count=1)
                if count:
                    return changed[:1].upper() + changed[1:]
            return None


def altered_reports(rows: Sequence[Row], alteration: Alteration) -> list[tuple[int, tuple[str, ...]]]:
    """(index of the row, its report with one sentence altered) for each sentence that can be altered.

    Left out where the report already says the altered sentence, which is then no falsehood.
    """
    cases = []
    for index, row in enumerate(rows):
        for place, sentence in enumerate(row.sentences):
            changed = alter(sentence, alteration)
            if changed is not None and changed not in row.sentences:
                cases.append((index, (*row.sentences[:place], changed, *row.sentences[place + 1 :])))
    return cases


def score_alterations(run: LoadedRun, store: Store, split: str) -> Mapping[str, float]:
    """By alteration `true_over_altered`, the share of cases in which the true report scores higher (ties count one
    half), `another_image`, the same share where each study is asked with the image of another one, `image_gain`, the
    first less the second, and the number of cases.

    A text encoder may prefer denials, or one side, whatever the image: most sentences of real reports are denials, and
    models as drawn reach 0.3 to 0.7 there. Only `image_gain` is owed to the image. The score is the one that the run
    learnt: of observations with PCMA, else of global embeddings.
    """
    rows = [row for row in store.select(split) if row.sentences]
    score = _Scorer(run, embed_images(run, store.images(rows)))
    everyone = np.arange(len(rows))
    # Rows of one patient stand together: half a split away lies another one.
    others = np.roll(everyone, len(rows) // 2)
    own_texts = embed_texts(run, [row.sentences for row in rows])
    true = {"true_over_altered": score(everyone, own_texts), "another_image": score(others, own_texts)}
    result: dict[str, float] = {}
    for alteration in ALTERATIONS:
        cases = altered_reports(rows, alteration)
        if not cases:
            continue
        owners = np.asarray([owner for owner, _ in cases])
        texts = embed_texts(run, [report for _, report in cases])
        shares = {}
        for name, asked in (("true_over_altered", owners), ("another_image", others[owners])):
            altered, whole = score(asked, texts), true[name][owners]
            shares[name] = float(np.mean((whole > altered) + 0.5 * (whole == altered)))
        result |= {f"{name}_{alteration}": share for name, share in shares.items()}
        result[f"image_gain_{alteration}"] = shares["true_over_altered"] - shares["another_image"]
        result[f"cases_{alteration}"] = float(len(cases))
    return result


class _Scorer:
    """The score that the run learnt, of image `owners[n]` with text n, float64 [n]."""

    def __init__(self, run: LoadedRun, images: ImageVectors) -> None:
        self._images = images
        self._temperature = run.preset.pretrain.objective.match_temperature
        self._is_global = trained_score("observation", run.preset.pretrain.objective) == "global"

    def __call__(self, owners: NDArray[np.int64], texts: TextVectors) -> NDArray[np.float64]:
        images = self._images
        if self._is_global:
            return np.einsum("nd,nd->n", images.embedding[owners], texts.embedding).astype(np.float64)
        scored = np.zeros(len(owners))
        for owner in np.unique(owners):
            mine = np.flatnonzero(owners == owner)
            seen = images.observations[owner : owner + 1]
            scored[mine] = observation_scores(seen, texts.observations[mine], texts.mask[mine], self._temperature)[0]
        return scored


def _exchange(sentence: str, partners: Mapping[str, str]) -> str | None:
    words = re.findall(r"\w+", sentence.lower())
    found = {word for word in words if word in partners}
    if len(found) != 1:
        return None
    old = found.pop()
    pattern = re.compile(rf"\b{old}\b", re.IGNORECASE)
    return pattern.sub(lambda hit: _like(hit.group(), partners[old]), sentence)


def _like(word: str, partner: str) -> str:
    return partner.capitalize() if word[0].isupper() else partner

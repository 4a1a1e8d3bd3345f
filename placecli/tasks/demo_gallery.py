"""Three unseen patients of the demo: what is retrieved for each, what of it is true, and where each finding is seen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.config import Preset
from placecli.data import images
from placecli.data.phantom import make_study
from placecli.data.phantom_files import ANNOTATIONS
from placecli.data.reports import normalize_sentence
from placecli.data.store import Store
from placecli.engine.checkpoint import LoadedRun
from placecli.metrics.grounding import pointing_game, resize_bilinear
from placecli.records import Box, PlaceError, Row
from placecli.tasks.embed import embed_images_with_maps
from placecli.tasks.figures import Panel as Overlay
from placecli.tasks.figures import draw_overlay
from placecli.tasks.grounding import Case, best_prompt, cases_of, label_maps
from placecli.tasks.page import MarkedSentence, Panel, PatientResult, RetrievedReport, Verdict
from placecli.tasks.prompts import embed_prompts, prompts_of
from placecli.tasks.queries import image_queries
from placecli.tasks.retrieve import answers
from placecli.tasks.search import Answer

PICTURE_SIZE: Final = 384
PANEL_SIZE: Final = 256
NUM_RETRIEVED: Final = 3
MAXIMUM_PANELS: Final = 6


@dataclass(frozen=True, slots=True)
class DemoGallery:
    """A finished demo folder as the gallery needs it."""

    root: Path
    store: Store
    run: LoadedRun
    config: Preset

    def patients(self) -> tuple[PatientResult, ...]:
        """The first `config.demo.num_shown` test patients with at least two planted findings: taken as they come."""
        rows = choose_rows(self.store.select("test"), self.config.demo.num_shown)
        queries = image_queries(self.root / "phantoms" / row.source for row in rows)
        found = answers(
            self.run.path,
            queries,
            top_k=NUM_RETRIEVED,
            gallery=self.store.path,
            split="train",
            config=self.config.retrieve,
            device=str(next(self.run.model.parameters()).device),
        )
        by_study = {row.study_id: row for row in self.store.select("train")}
        return tuple(self._patient(row, answer, by_study) for row, answer in zip(rows, found, strict=True))

    def _patient(self, row: Row, answer: object, by_study: dict[str, Row]) -> PatientResult:
        if not isinstance(answer, Answer):
            raise PlaceError(
                f"demo: the phantom of study {row.study_id} could not be read back; remove the folder and rerun"
            )
        planted = frozenset(label for label, value in row.labels.items() if value == 1)
        path = self.root / "phantoms" / row.source
        picture, content = images.fit_square(
            images.read_image(path, PICTURE_SIZE, self.config.preprocess).pixels, PICTURE_SIZE
        )
        x0, y0, x1, y1 = content
        retrieved = tuple(
            RetrievedReport(
                hit.rank,
                hit.score,
                hit.study_id,
                judge_sentences(by_study[hit.study_id], planted, self.config.demo.seed),
            )
            for hit in answer.hits
        )
        panels = tuple(self._panels(row, picture, content))
        return PatientResult(
            row.study_id, picture[y0:y1, x0:x1], row.sentences, tuple(sorted(planted)), retrieved, panels
        )

    def _panels(self, row: Row, picture: NDArray[np.uint8], content: tuple[int, int, int, int]) -> Iterator[Panel]:
        """Each planted finding beside the map of the sentences that state it, as `place evaluate` judges them."""
        pixels = self.store.images([row])
        mask = self.store.masks([row])[0] if row.mask_row >= 0 else None
        cases = cases_of(row, self.store.size, mask, sorted(row.labels))
        prompts = embed_prompts(self.run, [case.label for case in cases], self.config.evaluate.prompts, 64)
        vectors, seen = embed_images_with_maps(self.run, pixels)
        temperature = self.run.preset.pretrain.objective.match_temperature
        for case in cases[:MAXIMUM_PANELS]:
            textual = prompts[case.label].positive
            heat = label_maps(textual, vectors.observations[0], seen.attention[0], seen.grid, temperature)
            best = best_prompt(textual, vectors.observations[0], temperature) or 0
            sentence = prompts_of(case.label, self.config.evaluate.prompts).positive[best]
            yield draw_panel(case, heat, sentence, picture, self._planted(row, case.label), content)

    def _planted(self, row: Row, label: str) -> NDArray[np.bool_]:
        """bool [PICTURE_SIZE, PICTURE_SIZE]: the pixels that the findings of this label changed."""
        root = self.root / "phantoms"
        with (root / ANNOTATIONS).open(encoding="utf-8") as lines:
            study = next(each for each in map(json.loads, lines) if each["study_id"] == row.study_id)
        masks = [
            images.read_mask(root / finding["mask"], PICTURE_SIZE)
            for finding in study["findings"]
            if finding["label"] == label
        ]
        return np.asarray(np.bitwise_or.reduce(masks) > 0)


def choose_rows(rows: Sequence[Row], count: int) -> list[Row]:
    """The first `count` rows with two planted findings or more, one a patient, in the store's order."""
    chosen: dict[str, Row] = {}
    for row in rows:
        if len({box.label for box in row.boxes}) >= 2 and len(chosen) < count:
            chosen.setdefault(row.patient_id, row)
    return list(chosen.values())


def judge_sentences(row: Row, planted: frozenset[str], seed: int) -> tuple[MarkedSentence, ...]:
    """The sentences of a retrieved report, each held against what was planted in the query image.

    What a sentence claims is known from the phantom that it was written for (made again from `seed`), not guessed
    from its words. A sentence that affirms a planted finding agrees; one that affirms an absent finding or denies a
    planted one contradicts; the rest, true denials among it, is left as it is.
    """
    numbers = re.fullmatch(r"P(\d+)-S(\d+)", row.study_id)
    if numbers is None:
        raise PlaceError(f"demo: study {row.study_id} is no phantom of this folder; remove the folder and rerun")
    report = make_study(seed, int(numbers[1]) - 1, int(numbers[2]) - 1).report
    claims = {normalize_sentence(statement.text): statement for statement in (*report.findings, *report.impression)}
    marked = []
    for sentence in row.sentences:
        statement = claims.get(normalize_sentence(sentence))
        verdict: Verdict = ""
        if statement is not None and (statement.affirms - planted or statement.denies & planted):
            verdict = "contradicts"
        elif statement is not None and statement.affirms:
            verdict = "agrees"
        marked.append(MarkedSentence(sentence, verdict))
    return tuple(marked)


def draw_panel(
    case: Case,
    heat: NDArray[np.float32],
    sentence: str,
    picture: NDArray[np.uint8],
    planted: NDArray[np.bool_],
    content: tuple[int, int, int, int],
) -> Panel:
    """The planted region in outline, and the map in colour with its maximum marked, over the picture's content.

    `picture` uint8 and `planted` bool [H, H] are in one frame that the map `heat` [rows, cols] covers.
    """
    x0, y0, x1, y1 = content
    gray, nothing = picture[y0:y1, x0:x1], np.zeros((1, 1), np.float32)
    full = resize_bilinear(heat, picture.shape)[y0:y1, x0:x1]
    peak = find_peak(heat, picture.shape[0], content)
    return Panel(
        title=case.label,
        sentence=sentence,
        planted=draw_overlay(gray, Overlay("", nothing, mask=planted[y0:y1, x0:x1]), PANEL_SIZE),
        heat=draw_overlay(gray, Overlay("", full, box=peak), PANEL_SIZE),
        is_hit=pointing_game(heat, case.region),
    )


def find_peak(heat: NDArray[np.float32], size: int, content: tuple[int, int, int, int]) -> Box:
    """The cell that holds the maximum of a map over a frame of `size` pixels, in fractions of `content`."""
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    x0, y0, x1, y1 = content
    width, height = size / heat.shape[1], size / heat.shape[0]
    left, top = (float(column) * width - x0) / (x1 - x0), (float(row) * height - y0) / (y1 - y0)
    return Box("", left, top, width / (x1 - x0), height / (y1 - y0))

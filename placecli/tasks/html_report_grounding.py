"""Heat-maps beside the marks of readers for the evaluation page: the best, the middle and the worst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from placecli.metrics.grounding import mass_inside, pointing_game
from placecli.records import Row
from placecli.tasks.demo_gallery import find_peak
from placecli.tasks.embed import embed_images_with_maps
from placecli.tasks.figures import Panel, crop_to_content, draw_overlay
from placecli.tasks.grounding import Case as Marked
from placecli.tasks.grounding import best_prompt, cases_of, label_maps
from placecli.tasks.html_report_calls import NUM_SHOWN, PANEL, ids_of
from placecli.tasks.html_report_content import Case, Cases, Shown
from placecli.tasks.material import PretrainedMaterial
from placecli.tasks.prompts import embed_prompts, prompts_of

NUM_SEARCHED: Final = 400
"""Marked images among which the best and the worst heat-maps are looked for."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A marked finding, its map, the share of the map inside the mark, and the words that were asked."""

    inside: float
    row: Row
    marked: Marked
    heat: NDArray[np.float32]
    words: str


def grounding_cases(material: PretrainedMaterial, labels: Sequence[str], ids: bool) -> tuple[Cases, ...]:
    """By the share of the map that lies inside the mark, among the first marked images of the split.

    `labels` are those that the evaluation was scored on. No patient comes twice in a group, and no label while there are
    others.
    """
    found, num_images = _find(material, labels)
    if not found:
        return ()
    found.sort(key=lambda each: -each.inside)
    middle = sorted(found, key=lambda each: abs(each.inside - found[len(found) // 2].inside))
    note = (
        f"The first {num_images} marked images of the split were looked through; best is the largest share of the map inside"
        " the mark. Warm colours: where the model sees the sentence. Thick blue square: the map's strongest cell. Thin green"
        " line: what a reader marked."
    )
    groups = (("The best heat-maps", found), ("In the middle", middle), ("The worst heat-maps", found[::-1]))
    return tuple(
        Cases(title, "" if number else note, tuple(_draw(material, each, ids) for each in _varied(group)))
        for number, (title, group) in enumerate(groups)
    )


def _find(material: PretrainedMaterial, labels: Sequence[str]) -> tuple[list[_Found], int]:
    gallery, config, run = material.gallery, material.config, material.run
    rows = [row for row in gallery.rows(np.arange(len(gallery))) if _is_marked(row, labels)][:NUM_SEARCHED]
    prompts = embed_prompts(run, labels, config.prompts, config.batch_size)
    store, temperature = gallery.store, run.preset.pretrain.objective.match_temperature
    found: list[_Found] = []
    for first in range(0, len(rows), config.batch_size):
        part = rows[first : first + config.batch_size]
        vectors, seen = embed_images_with_maps(run, store.images(part), batch_size=config.batch_size)
        for i, row in enumerate(part):
            mask = None if row.boxes or row.mask_row < 0 else store.masks([row])[0]
            for case in cases_of(row, store.size, mask, labels):
                textual = prompts[case.label].positive
                heat = label_maps(textual, vectors.observations[i], seen.attention[i], seen.grid, temperature)
                best = best_prompt(textual, vectors.observations[i], temperature) or 0
                words = prompts_of(case.label, config.prompts).positive[best]
                found.append(_Found(mass_inside(heat, case.region), row, case, heat, words))
    return found, len(rows)


def _is_marked(row: Row, labels: Sequence[str]) -> bool:
    """Whether a finding has a box, or a mask that can only be its: an image without a finding has an empty one."""
    if row.boxes:
        return any(box.label in labels for box in row.boxes)
    positive = [label for label, value in row.labels.items() if value == 1]
    return row.mask_row >= 0 and len(positive) == 1 and positive[0] in labels


def _varied(found: Sequence[_Found]) -> list[_Found]:
    """The first few of as many labels as there are, each of another patient."""
    chosen: list[_Found] = []
    patients: set[str] = set()
    for is_strict in (True, False):
        for each in found:
            labels = {one.marked.label for one in chosen}
            if len(chosen) < NUM_SHOWN and each.row.patient_id not in patients:
                if is_strict and each.marked.label in labels:
                    continue
                chosen.append(each)
                patients.add(each.row.patient_id)
    return chosen


def _draw(material: PretrainedMaterial, found: _Found, ids: bool) -> Case:
    store, row, case = material.gallery.store, found.row, found.marked
    x0, y0, x1, y1 = row.content
    image = store.images([row])[0][y0:y1, x0:x1]
    panel = Panel(
        "",
        crop_to_content(found.heat, row.content, store.size),
        box=find_peak(found.heat, store.size, row.content),
        mask=case.region[y0:y1, x0:x1],
    )
    verdict = "points inside" if pointing_game(found.heat, case.region) else "points outside"
    label = case.label.replace("_", " ")
    shown = Shown(
        draw_overlay(image, panel, PANEL),
        f"Radiograph with a heat-map for {label}; it {verdict} the marked region",
        f"Asked for “{found.words}” Its strongest cell {verdict}; {100 * found.inside:.0f} % of the map lies inside.",
    )
    return Case(label, (shown,), ids=ids_of(row) if ids else "")

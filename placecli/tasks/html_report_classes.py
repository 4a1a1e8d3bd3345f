"""Retrieval by class for the evaluation page: images, and those that are found for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from placecli.data.exclusive_sets import exclusive_sets
from placecli.tasks.evaluation import Evaluation
from placecli.tasks.html_report_calls import draw_plain, ids_of
from placecli.tasks.html_report_content import Case, Cases, Shown
from placecli.tasks.material import PretrainedMaterial
from placecli.tasks.scores import global_scores

NUM_FOUND: Final = 5
NUM_EACH: Final = 2
"""Queries shown of the best, the middle and the worst."""


def class_cases(evaluation: Evaluation, material: PretrainedMaterial, ids: bool) -> tuple[Cases, ...]:
    """Queries of the first set that was drawn, with the images that come first, by how many of those share the class."""
    images, of_class, classes = drawn_images(evaluation, material)
    nearest = nearest_images(evaluation, material, images)
    share = (of_class[nearest] == of_class[:, None]).mean(axis=1)
    order = np.argsort(-share, kind="stable")
    middle = sorted(order.tolist(), key=lambda query: abs(share[query] - share[order[len(order) // 2]]))
    rows = material.gallery.rows(images)
    store = material.gallery.store

    def draw(query: int) -> Case:
        name = classes[of_class[query]].replace("_", " ")
        shown = [Shown(draw_plain(store, rows[query]), f"Radiograph that was asked about, {name}", f"Asked: {name}")]
        for rank, hit in enumerate(nearest[query].tolist(), start=1):
            other = classes[of_class[hit]].replace("_", " ")
            verdict = "same class" if of_class[hit] == of_class[query] else "other class"
            shown.append(
                Shown(draw_plain(store, rows[hit]), f"Found at place {rank}, {other}", f"{rank}. {other}, {verdict}")
            )
        right = int((of_class[nearest[query]] == of_class[query]).sum())
        title = f"{name}: {right} of the first {nearest.shape[1]} images share the class"
        return Case(title, tuple(shown), ids=ids_of(rows[query]) if ids else "")

    note = (
        "Image to image, by the cosine of the global embeddings: the image that was asked about and the first that were"
        f" found among the {len(images)} drawn" + (", other patients only." if evaluation.protocol == "clean" else ".")
    )
    groups = (
        ("The best queries", order.tolist()),
        ("In the middle", middle),
        ("The worst queries", order[::-1].tolist()),
    )
    return tuple(
        Cases(title, "" if number else note, tuple(draw(query) for query in _varied(queries, of_class)), is_wide=True)
        for number, (title, queries) in enumerate(groups)
    )


def _varied(queries: Sequence[int], of_class: NDArray[np.int64]) -> list[int]:
    """The first few, each of another class."""
    firsts = {int(of_class[query]): query for query in reversed(queries)}
    return [query for query in queries if firsts[int(of_class[query])] == query][:NUM_EACH]


def drawn_images(
    evaluation: Evaluation, material: PretrainedMaterial
) -> tuple[NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    """The first set as the evaluation drew it: places in the gallery [M], class of each [M], names of the classes."""
    counts = evaluation.findings.counts
    section, gallery = material.config.class_retrieval, material.gallery
    classes, per_class = tuple(counts["pools"]), int(counts["per_class"])
    needs_report = section.texts == "reports" and section.text_data is None
    rows = gallery.rows(np.arange(len(gallery)))
    usable = [i for i, row in enumerate(rows) if row.labels and (row.sentences or not needs_report)]
    members = exclusive_sets([rows[i].labels for i in usable], classes, per_class, counts["seeds"][0])
    images = np.asarray([usable[i] for name in classes for i in members[name]])
    return images, np.repeat(np.arange(len(classes)), per_class), classes


def nearest_images(
    evaluation: Evaluation, material: PretrainedMaterial, images: NDArray[np.int64]
) -> NDArray[np.int64]:
    """int64 [M, k]: the places, within `images`, of those that come first for each; itself, and in `clean` its patient's
    others, left out."""
    embedding = material.gallery.images.take(images).embedding
    likeness = global_scores(embedding, embedding).astype(float)
    same: NDArray[Any] = np.eye(len(images), dtype=bool)
    if evaluation.protocol == "clean":
        patients = _patients(material, images)
        same = patients[:, None] == patients[None, :]
    likeness[same] = -np.inf
    fewest = int((~same).sum(axis=1).min())
    return np.argsort(-likeness, axis=1, kind="stable")[:, : min(NUM_FOUND, fewest)]


def _patients(material: PretrainedMaterial, images: Sequence[int] | NDArray[np.int64]) -> NDArray[np.str_]:
    return np.asarray([row.patient_id for row in material.gallery.rows(np.asarray(images))])

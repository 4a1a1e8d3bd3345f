"""The texts that retrieval by class looks among: reports of the images drawn, of another store, or prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from placecli.config import EvaluateConfig
from placecli.data.exclusive_sets import exclusive_sets
from placecli.data.store import open_store
from placecli.engine.checkpoint import LoadedRun
from placecli.metrics.clinical.labeler import label_report
from placecli.records import Row
from placecli.tasks.embed import Progress, TextVectors
from placecli.tasks.evaluation import Protocol
from placecli.tasks.gallery import INDEX, Gallery, open_gallery
from placecli.tasks.prompts import embed_prompts

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Texts:
    """N texts and the classes that each carries, bool [N, C]."""

    vectors: TextVectors
    carried: NDArray[np.bool_]


class TextSource(Interface):
    """Where the texts of a set come from."""

    def draw(self, images: Integers, of_class: Integers, seed: int) -> Texts:
        """The texts of the set of one seed, whose images and classes are given."""


def open_texts(
    run: LoadedRun,
    gallery: Gallery,
    config: EvaluateConfig,
    classes: Sequence[str],
    per_class: int,
    protocol: Protocol,
    progress: Progress | None,
) -> TextSource:
    """The source that `evaluate.class_retrieval` names. Raises PlaceError for a store of texts that cannot be opened."""
    section = config.class_retrieval
    if section.texts == "prompts":
        vectors = embed_prompts(run, classes, config.prompts, config.batch_size)
        return _Prompts([vectors[name].positive for name in classes])
    if section.text_data is None:
        return _Reports(gallery, len(classes), is_merged=protocol == "clean")
    store = open_store(section.text_data)
    other = open_gallery(
        run, store, section.text_split, cache=run.path / INDEX, batch_size=config.batch_size, progress=progress
    )
    rows = other.rows(np.arange(len(other)))
    labels = labels_of_reports(rows)
    usable = [i for i, row in enumerate(rows) if row.sentences and labels[i]]
    return _OtherReports(
        _Reports(other, len(classes), is_merged=protocol == "clean"),
        usable,
        [labels[i] for i in usable],
        tuple(classes),
        per_class,
    )


def labels_of_reports(rows: Sequence[Row]) -> list[Mapping[str, float]]:
    """The labels of the rows; of a store without any, those that our labeler reads in the reports."""
    if any(row.labels for row in rows):
        return [row.labels for row in rows]
    return [{name: float(state) for name, state in label_report(" ".join(row.sentences)).items()} for row in rows]


@dataclass(frozen=True, slots=True)
class _Prompts:
    vectors: list[TextVectors]

    def draw(self, images: Integers, of_class: Integers, seed: int) -> Texts:
        of_prompt = np.repeat(np.arange(len(self.vectors)), [len(each) for each in self.vectors])
        joined = TextVectors(
            *(np.concatenate([getattr(each, name) for each in self.vectors]) for name in TextVectors.__slots__)
        )
        return Texts(joined, np.eye(len(self.vectors), dtype=bool)[of_prompt])


@dataclass(frozen=True, slots=True)
class _Reports:
    """The reports of the images; merged: equal ones once, carrying the classes of all their images."""

    gallery: Gallery
    num_classes: int
    is_merged: bool

    def draw(self, images: Integers, of_class: Integers, seed: int) -> Texts:
        wording = self.gallery.text_of_image[images]
        carried = np.eye(self.num_classes, dtype=bool)[of_class]
        if not self.is_merged:
            return Texts(self.gallery.texts.take(wording), carried)
        _, first, number = np.unique(self.gallery.group_of_text[wording], return_index=True, return_inverse=True)
        merged = np.zeros((len(first), self.num_classes), bool)
        np.logical_or.at(merged, number, carried)
        return Texts(self.gallery.texts.take(wording[first]), merged)


@dataclass(frozen=True, slots=True)
class _OtherReports:
    """Reports of another store, drawn by its labels as the images are by theirs."""

    reports: _Reports
    usable: list[int]
    labels: list[Mapping[str, float]]
    classes: tuple[str, ...]
    per_class: int

    def draw(self, images: Integers, of_class: Integers, seed: int) -> Texts:
        members = exclusive_sets(self.labels, self.classes, self.per_class, seed)
        chosen = np.asarray([self.usable[i] for name in self.classes for i in members[name]])
        return self.reports.draw(chosen, np.repeat(np.arange(len(self.classes)), self.per_class), seed)

"""Ranking a gallery: candidates by the global index, then the chosen score, then the sentences of the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from placecli.config import RetrieveConfig
from placecli.data.reports import split_sentences
from placecli.engine.checkpoint import LoadedRun
from placecli.records import Hit, PlaceError, Reject, Row
from placecli.tasks.embed import ImageVectors, TextVectors, device_of, embed_images_with_maps, embed_texts
from placecli.tasks.gallery import Gallery
from placecli.tasks.index import open_index, search
from placecli.tasks.matching import Found, SeenImage, match_sentences
from placecli.tasks.queries import Query, QueryImage, read_images
from placecli.tasks.scores import Score, combine, observation_scores

Target = Literal["reports", "images"]

NUM_SENTENCES: Final = 5
"""Sentences of a hit that are returned, best first."""
_MARGIN: Final = 64
"""Candidates beyond top_k, so that equal scores at its edge are ordered by id."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One query's hits, best first, and for each its sentences with their maps and the image they were sought in."""

    query: Query
    hits: tuple[Hit, ...]
    found: tuple[tuple[Found, ...], ...]
    seen: tuple[SeenImage, ...]


@dataclass(frozen=True, slots=True)
class _AskedImage:
    query: Query
    embedding: NDArray[np.float32]
    seen: SeenImage


@dataclass(frozen=True, slots=True)
class _AskedText:
    query: Query
    sentences: tuple[str, ...]
    vectors: TextVectors


class Searcher:
    """One run, one gallery, one score."""

    def __init__(self, run: LoadedRun, gallery: Gallery, config: RetrieveConfig, score: Score) -> None:
        self._run, self._gallery, self._config, self._score = run, gallery, config, score
        self._temperature = run.preset.pretrain.objective.match_temperature
        image_ids = np.asarray(gallery.store.rows.column("image_id"), dtype=object)[gallery.positions]
        # Place of each gallery image in the order of ids: ties are broken by it.
        self._id_order = np.argsort(np.argsort(image_ids.astype(str), kind="stable"), kind="stable")
        self._text_of_group, self._image_of_group = self._groups()
        self._indices: dict[Target, Any] = {}

    def answer(self, queries: Sequence[Query | Reject], top_k: int, to: Target | None) -> list[Answer | Reject]:
        """An Answer or a Reject for each query, in their order."""
        return [
            each if isinstance(each, Reject) else self._answer_one(each, top_k, to) for each in self._encode(queries)
        ]

    def _answer_one(self, asked: _AskedImage | _AskedText, top_k: int, to: Target | None) -> Answer:
        target: Target = to or ("reports" if isinstance(asked, _AskedImage) else "images")
        if isinstance(asked, _AskedText):
            if target == "reports":
                raise PlaceError("a text finds images: leave --to reports out, or ask with an image")
            images, scores = self._images_for_text(asked, top_k)
        elif target == "reports":
            images, scores = self._reports_for_image(asked, top_k)
        else:
            images, scores = self._images_for_image(asked, top_k)
        rows = self._gallery.rows(images)
        if isinstance(asked, _AskedImage):
            seen = (asked.seen,) * len(rows)
            found = tuple(self._match(row, image, asked.seen) for row, image in zip(rows, images, strict=True))
        else:
            seen = self._look_at(rows)
            found = tuple(self._match_text(asked, each) for each in seen)
        hits = tuple(
            Hit(
                asked.query.name,
                rank,
                float(scores[rank - 1]),
                row.study_id,
                row.image_id,
                report_text(row),
                tuple(item.match for item in found[rank - 1]),
            )
            for rank, row in enumerate(rows, start=1)
        )
        return Answer(asked.query, hits, found, seen)

    def _reports_for_image(self, asked: _AskedImage, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        if not len(self._text_of_group):
            raise PlaceError(f"{self._gallery.store.path}: holds no reports; look for images with --to images")
        groups, of_global = self._candidates("reports", asked.embedding, top_k)
        texts = self._gallery.texts.take(self._text_of_group[groups])

        def of_observation() -> NDArray[np.float32]:
            observations = asked.seen.observations[None]
            device = device_of(self._run)
            scores = observation_scores(observations, texts.observations, texts.mask, self._temperature, device)
            return np.asarray(scores[0])

        images = self._image_of_group[groups]
        return self._rank(images, self._final(of_global, of_observation), top_k)

    def _images_for_text(self, asked: _AskedText, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        return self._rank_images(asked.vectors.embedding[0], asked.vectors.observations, asked.vectors.mask, top_k)

    def _images_for_image(self, asked: _AskedImage, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        # The query's visual observations stand where a text's sentences stand.
        observations = asked.seen.observations[None]
        return self._rank_images(asked.embedding, observations, np.ones(observations.shape[:2], bool), top_k)

    def _rank_images(
        self, embedding: NDArray[np.float32], wanted: NDArray[Any], mask: NDArray[np.bool_], top_k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        images, of_global = self._candidates("images", embedding, top_k)

        def of_observation() -> NDArray[np.float32]:
            observations = self._gallery.images.observations[images]
            scores = observation_scores(observations, wanted, mask, self._temperature, device_of(self._run))
            return np.asarray(scores[:, 0])

        return self._rank(images, self._final(of_global, of_observation), top_k)

    def _final(self, of_global: NDArray[np.float32], of_observation: Any) -> NDArray[np.float64]:
        """Scores of the candidates by the chosen score; `of_observation` is called only when it is needed."""
        if self._score == "global":
            return of_global.astype(np.float64)
        if self._score == "observation":
            return np.asarray(of_observation(), np.float64)
        return combine(of_global, of_observation())

    def _rank(
        self, images: NDArray[np.int64], scores: NDArray[np.float64], top_k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        order = np.lexsort((self._id_order[images], -scores))[:top_k]
        return images[order], scores[order]

    def _candidates(
        self, target: Target, embedding: NDArray[np.float32], top_k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions (of text groups or images) to be scored, and their global scores."""
        index = self._index(target)
        total, rerank = index.ntotal, max(self._config.rerank, top_k)
        depth = top_k + _MARGIN if self._score == "global" else (total if total <= rerank else rerank)
        scores, positions = search(index, embedding[None], depth)
        is_found = positions[0] >= 0
        return positions[0][is_found], scores[0][is_found]

    def _index(self, target: Target) -> Any:
        if target not in self._indices:
            gallery, kind = self._gallery, self._config.index
            images, texts = gallery.images.embedding, gallery.texts.embedding[self._text_of_group]
            vectors = images if target == "images" else texts
            # Recall is measured as the index is used: across the two modalities.
            queries = texts if target == "images" and len(texts) else images
            file = None if gallery.folder is None else gallery.folder / f"{target}-{kind}.faiss"
            self._indices[target] = open_index(file, vectors, kind, queries)
        return self._indices[target]

    def _groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each set of equal reports the wording that stands for it, and its image with the smallest id."""
        gallery = self._gallery
        text_of_group = np.unique(gallery.group_of_text, return_index=True)[1].astype(np.int64)
        image_of_group = np.full(len(text_of_group), -1, np.int64)
        for image in np.argsort(-self._id_order):
            text = gallery.text_of_image[image]
            if text >= 0:
                image_of_group[gallery.group_of_text[text]] = image
        return text_of_group, image_of_group

    def _match(self, row: Row, image: int, seen: SeenImage) -> tuple[Found, ...]:
        text = int(self._gallery.text_of_image[image])
        if text < 0:
            return ()
        vectors = self._gallery.texts
        return match_sentences(
            row.sentences, vectors.observations[text], vectors.mask[text], seen, self._temperature, NUM_SENTENCES
        )

    def _match_text(self, asked: _AskedText, seen: SeenImage) -> tuple[Found, ...]:
        vectors = asked.vectors
        return match_sentences(
            asked.sentences, vectors.observations[0], vectors.mask[0], seen, self._temperature, NUM_SENTENCES
        )

    def _look_at(self, rows: Sequence[Row]) -> tuple[SeenImage, ...]:
        pixels = self._gallery.store.images(rows)
        return self._see(pixels, [row.content for row in rows])[1]

    def _see(
        self, pixels: NDArray[np.uint8], contents: Sequence[tuple[int, int, int, int]]
    ) -> tuple[ImageVectors, tuple[SeenImage, ...]]:
        vectors, maps = embed_images_with_maps(self._run, pixels, batch_size=self._config.batch_size)
        seen = tuple(
            SeenImage(pixels[i], content, vectors.observations[i], maps.attention[i], maps.grid)
            for i, content in enumerate(contents)
        )
        return vectors, seen

    def _encode(self, queries: Sequence[Query | Reject]) -> list[_AskedImage | _AskedText | Reject]:
        with_image = [query for query in queries if isinstance(query, Query) and query.image is not None]
        encoded = iter(self._encode_images(with_image))
        return [
            query if isinstance(query, Reject) else self._encode_text(query) if query.image is None else next(encoded)
            for query in queries
        ]

    def _encode_images(self, queries: Sequence[Query]) -> list[_AskedImage | Reject]:
        preset = self._run.preset.preprocess
        images = read_images([query.image for query in queries if query.image is not None], preset.size, preset)
        good = [image for image in images if isinstance(image, QueryImage)]
        if not good:
            return [image for image in images if isinstance(image, Reject)]
        vectors, seen = self._see(np.stack([image.pixels for image in good]), [image.content for image in good])
        places = iter(range(len(good)))
        return [
            image if isinstance(image, Reject) else _AskedImage(query, vectors.embedding[i := next(places)], seen[i])
            for query, image in zip(queries, images, strict=True)
        ]

    def _encode_text(self, query: Query) -> _AskedText | Reject:
        sentences = split_sentences(query.text or "") or ((query.text or "").strip(),)
        vectors = embed_texts(self._run, [sentences])
        if not vectors.mask.any():
            return Reject(query.name, "text_unknown", "the model's tokenizer knows no word of this text")
        return _AskedText(query, sentences, vectors)


def report_text(row: Row) -> str:
    """Findings and impression of a row, each on a line of its own; its sentences where it has neither."""
    return "\n".join(part for part in (row.findings, row.impression) if part) or " ".join(row.sentences)

"""Vectors of a real model: they do not depend on the batch, and match what training reads."""

from __future__ import annotations

import numpy as np
import torch

from placecli.data.pairs import Pairs
from placecli.data.store import Store
from placecli.engine.checkpoint import LoadedRun
from placecli.tasks.embed import embed_images_with_maps, embed_texts


def test_images_do_not_depend_on_the_batch(run: LoadedRun, store: Store) -> None:
    images = store.images(store.select("test"))
    whole, maps = embed_images_with_maps(run, images, batch_size=64)
    single, _ = embed_images_with_maps(run, images, batch_size=1)
    assert np.allclose(whole.embedding, single.embedding, atol=1e-5)
    assert np.allclose(whole.observations, single.observations, atol=1e-5)
    assert np.allclose(np.linalg.norm(whole.embedding, axis=1), 1, atol=1e-5)
    assert maps.attention.shape == (len(images), 8, maps.grid[0] * maps.grid[1])
    assert np.allclose(maps.attention.sum(axis=2), 1, atol=1e-5)


def test_texts_do_not_depend_on_the_batch_and_keep_their_order(run: LoadedRun, store: Store) -> None:
    texts = [row.sentences for row in store.select("train") if row.sentences]
    whole, single = embed_texts(run, texts, batch_size=64), embed_texts(run, texts, batch_size=1)
    assert np.allclose(whole.embedding, single.embedding, atol=1e-5)
    assert np.allclose(whole.observations, single.observations, atol=1e-5)
    assert whole.mask.sum(axis=1).tolist() == [len(text) for text in texts]
    assert not whole.observations[~whole.mask].any()


def test_texts_are_read_as_in_training(run: LoadedRun, store: Store) -> None:
    model = run.preset.pretrain.model
    pairs = Pairs(
        store, store.select("test"), run.tokenizer, max_tokens=model.max_tokens, max_sentences=model.max_sentences
    )
    batch = pairs.batch(np.arange(len(pairs)))
    with torch.inference_mode():
        trained = run.model.encode_text(batch.tokens, batch.attention, batch.sentence_index)
    found = embed_texts(run, [row.sentences for row in pairs.rows])
    assert np.allclose(found.embedding, trained.embedding.numpy(), atol=1e-5)
    slots = trained.mask.shape[1]
    assert np.array_equal(found.mask[:, :slots], trained.mask.numpy())


def test_limits_cut_sentences_and_an_unknown_text_has_none(run: LoadedRun) -> None:
    found = embed_texts(run, [["No pneumothorax."] * 9, [""]])
    assert found.mask[0].sum() == run.preset.pretrain.model.max_sentences
    assert not found.mask[1].any()

